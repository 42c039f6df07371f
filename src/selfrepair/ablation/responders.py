"""Later heads as responders, at every token of a sweep; `hand_off` sums them instead."""

import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.ablation.effects import TokenEffects
from selfrepair.models.folded import FoldedModel


class LaterHeads:
    """Keeps the change of every later head's direct effect at every ablated token of a sweep."""

    def __init__(self, model: FoldedModel, n_tokens: int) -> None:
        shape = (n_tokens, model.n_layers, model.n_heads)
        self._change = torch.zeros(shape, dtype=model.dtype, device=model.device)

    def wanted(self, at: slice) -> slice:
        """All of them."""
        return slice(None)

    def record(self, layer: int, at: slice, change: Float[Tensor, "token n_heads"]) -> None:
        """Take in the changes of a layer's heads."""
        self._change[at, layer] = change

    def effects(self, m: TokenEffects) -> Float[Tensor, "token later_layer later_head"]:
        """The changes in logits, with the clean scale of the sweep."""
        return self._change / m.scale.flatten()[m.place.to(m.scale.device), None, None]
