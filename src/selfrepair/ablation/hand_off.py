"""Which later heads repair an ablated head: sums over its top tokens, taken in the sweep (studies.md, hand-off)."""

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfrepair.ablation.jobs import within
from selfrepair.ablation.schema import hand_off
from selfrepair.core.tables import frame


class HandOffSums:
    """Sums in float64 of the changes of later heads' direct effects, by ablated head and document, over top tokens.

    Args:
        heads: (layer, head) of the ablated heads, in the order of `selected`.
        shape: layers and heads of the model.
        documents: of each token of the rows.
        selected: the top tokens of each head.
        scale: clean scale of each token.
    """

    def __init__(
        self,
        heads: list[tuple[int, int]],
        shape: tuple[int, int],
        documents: Int[Tensor, "row pos"],
        selected: Bool[Tensor, "head row pos"],
        scale: Float[Tensor, "row pos"],
    ) -> None:
        self.heads, self.shape, self.selected, self.scale = heads, shape, selected, scale
        self.documents, self.index = documents.unique(return_inverse=True)
        self.n = torch.stack([self.index[of].bincount(minlength=len(self.documents)) for of in selected])
        self.sums = torch.zeros(len(heads) * len(self.documents), *shape, dtype=torch.float64)
        self._token, self._group, self._by_scale = torch.empty(0, dtype=torch.long), self.index, scale

    @property
    def nbytes(self) -> int:
        """Of the sums and of the table made of them."""
        return 2 * self.sums.nbytes

    def expect(self, head: Int[Tensor, " token"], row: Int[Tensor, " token"], pos: Int[Tensor, " token"]) -> None:
        """Say of each ablated token of the next sweep where it is; heads and rows as numbered here."""
        self._token = self.selected[head, row, pos].nonzero()[:, 0]
        head, row, pos = (of[self._token] for of in (head, row, pos))
        self._group, self._by_scale = head * len(self.documents) + self.index[row, pos], self.scale[row, pos]

    def wanted(self, at: slice) -> Int[Tensor, " wanted"]:
        """The top tokens among some of the sweep's tokens, counted from the first of them."""
        return self._token[within(self._token, at)] - at.start

    def record(self, layer: int, at: slice, change: Float[Tensor, "wanted n_heads"]) -> None:
        """Add a layer's changes at these tokens."""
        here = within(self._token, at)
        by_scale = change.cpu().double() / self._by_scale[here, None]
        self.sums[:, layer].index_add_(0, self._group[here], by_scale)

    def table(self) -> pl.DataFrame:
        """A row of `hand_off` for each ablated head and document that holds a top token of it."""
        count = len(self.documents)
        columns = {
            "layer": np.repeat([layer for layer, _ in self.heads], count),
            "head": np.repeat([head for _, head in self.heads], count),
            "document": np.tile(self.documents.numpy(), len(self.heads)),
            "n": self.n.flatten().numpy(),
            "change": self.sums.flatten(1).numpy(),
        }
        return frame(columns, hand_off(*self.shape)).filter(pl.col("n") > 0)
