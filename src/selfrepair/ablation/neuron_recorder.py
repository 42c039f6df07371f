"""Exact direct effects of single neurons before and after an ablation (experiments.md a.12; method.md section 2).

A neuron writes its activation times its row of `W_out`, so with v the column of the correct next token in the
unembedding

    direct_effect = hidden (W_out v) / scale,    change = (hidden' - hidden) (W_out v) / scale,

and the changes of all neurons of an MLP sum to the change of the MLP's direct effect.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfrepair.models.folded import FoldedModel, Layer
from selfrepair.models.precision import linear


@dataclass(frozen=True)
class NeuronEffects:
    """Neurons of one MLP at some ablated tokens; clean scale, logits.

    Attributes:
        token: places of the tokens among all ablated tokens of the sweep.
        direct_effect: clean direct effect of each neuron.
        change: ablated minus clean direct effect.
        bias: direct effect of the MLP's output bias, which no ablation changes.
    """

    token: Int[Tensor, " wanted"]
    direct_effect: Float[Tensor, "wanted d_mlp"]
    change: Float[Tensor, "wanted d_mlp"]
    bias: Float[Tensor, " wanted"]


class NeuronRecorder:
    """Looks at MLPs of some layers during a sweep, at the tokens that are wanted.

    Args:
        layers: layers whose MLPs are looked at.
        wanted: which of the sweep's ablated tokens, in the order of its jobs.
    """

    def __init__(self, layers: set[int], wanted: Bool[Tensor, " token"]) -> None:
        self.layers, self.wanted = layers, wanted
        self._seen: dict[int, list[tuple[Tensor, ...]]] = {layer: [] for layer in sorted(layers)}

    def record(
        self,
        model: FoldedModel,
        index: int,
        layer: Layer,
        at: slice,
        place: Int[Tensor, " token"],
        hidden: Float[Tensor, "token d_mlp"],
        clean_hidden: Callable[[Int[Tensor, " wanted"]], Float[Tensor, "wanted d_mlp"]],
        v: Float[Tensor, "token d_model"],
    ) -> None:
        """Take in the activations of a chunk of ablated tokens; called by the sweep.

        Args:
            at, place: where the chunk is among all ablated tokens, and where their clean rows are.
            clean_hidden: clean activations at some of these places.
        """
        here = self.wanted[at].nonzero()[:, 0].to(hidden.device)
        clean = clean_hidden(place[here])
        read = linear(v[here], layer.W_out.T, None, model.precision)
        bias = v[here] @ layer.b_out.to(v.dtype)
        self._seen[index].append((here + at.start, clean * read, (hidden[here] - clean) * read, bias, place[here]))

    def effects(self, scale: Float[Tensor, "row pos"]) -> dict[int, NeuronEffects]:
        """What was seen, by layer; tokens before an ablated head's layer are not there.

        Args:
            scale: clean scale, as the sweep returned it.
        """
        of_layer = {}
        for index, parts in self._seen.items():
            if parts:
                token, direct, change, bias, place = (torch.cat(part) for part in zip(*parts, strict=True))
                by_scale = scale.flatten()[place]
                of_layer[index] = NeuronEffects(
                    token.cpu(), direct / by_scale[:, None], change / by_scale[:, None], bias / by_scale
                )
        return of_layer
