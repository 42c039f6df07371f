"""What an ablated head's output is replaced by: another row's, nothing, or its mean (experiments.md a.7)."""

from typing import Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor

Ablation = Literal["resample", "zero", "mean"]
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)


def replacement(
    ablation: Ablation,
    z: Float[Tensor, "place n_heads d_head"],
    source: Int[Tensor, " token"],
    head: Int[Tensor, " token"],
    mean_z: Float[Tensor, "n_heads d_head"],
) -> Float[Tensor, "token d_head"]:
    """Return what replaces z of the given head at each token.

    `resample` takes z of the place `source`: the same position of another row. `zero` is of the bias-free z, as in the
    paper: the value bias stays in `b_O`. `mean` is one vector per head, over all tokens of the run, the first position
    included.
    """
    if ablation == "resample":
        return z[source, head]
    if ablation == "zero":
        return z.new_zeros(len(head), z.shape[-1])
    return mean_z.to(z)[head]
