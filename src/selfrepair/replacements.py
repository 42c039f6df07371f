"""What an ablated head's output is replaced by: another row's, nothing, or its mean (experiments.md a.7)."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

Ablation = Literal["resample", "zero", "mean"]
ABLATIONS: tuple[str, ...] = get_args(Ablation)


def replacement(
    ablation: Ablation,
    z: Float[Tensor, "row_all pos n_heads d_head"],
    source: Int[Tensor, " row"],
    mean_z: Float[Tensor, "n_heads d_head"],
) -> Float[Tensor, "#row #pos n_heads d_head"]:
    """Return what replaces z of the first `len(source)` rows.

    `resample` takes z of row `source[row]` at the same position. `zero` is of the bias-free z, as in the paper: the
    value bias stays in `b_O`. `mean` is one vector per head, over all tokens of the run, the first position included.
    """
    if ablation == "resample":
        return z[source]
    if ablation == "zero":
        return torch.zeros_like(z[:1, :1])
    return mean_z.to(z)[None, None]
