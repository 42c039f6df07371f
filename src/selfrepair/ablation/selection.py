"""Which tokens of a run are kept: exactly the top share of each head's direct effects, and a uniform control sample."""

from typing import Literal, get_args

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Measured = Literal["all", "selected"]  # which tokens of a run are ablated
MEASURED: tuple[Measured, ...] = get_args(Measured)
PENDING = 2**12  # tokens collected before the best are sought anew


class TopTokens:
    """The tokens with the largest signed direct effect of each head, found in one stream (experiments.md a.11).

    Exact, whatever the batches: of equal values the earlier token is kept. Memory holds the kept tokens and about as
    many that wait.
    """

    def __init__(self, heads: int, count: int, device: torch.device | str = "cpu") -> None:
        self.count = count
        self._values: list[Float[Tensor, "head token"]] = [torch.empty(heads, 0, device=device)]
        self._tokens: list[Int[Tensor, "head token"]] = [torch.empty(heads, 0, dtype=torch.long, device=device)]
        self._pending = 0

    def add(self, values: Float[Tensor, "head token"], first: int) -> None:
        """Take in the direct effects of the tokens `first`, `first + 1`, ..., which come after all seen before."""
        self._values.append(values)
        self._tokens.append(torch.arange(first, first + values.shape[1], device=values.device).expand(values.shape))
        self._pending += values.shape[1]
        if self._pending >= max(self.count, PENDING):
            self.best()

    def best(self) -> tuple[Float[Tensor, "head kept"], Int[Tensor, "head kept"]]:
        """The largest values of each head so far, in falling order, and their tokens."""
        values, tokens = torch.cat(self._values, dim=1), torch.cat(self._tokens, dim=1)
        order = values.sort(dim=1, descending=True, stable=True).indices[:, : self.count]
        values, tokens = values.gather(1, order), tokens.gather(1, order)
        self._values, self._tokens, self._pending = [values], [tokens], 0
        return values, tokens


def control_sample(n_rows: int, length: int, count: int, seed: int, whole_rows: bool) -> Int[np.ndarray, " token"]:
    """Draw `count` tokens of `n_rows` rows uniformly without replacement (all, if there are fewer), sorted.

    Args:
        whole_rows: draw rows instead, as many as hold `count` tokens, and take all tokens of them: what is cheaper
            where a row has to be measured for each token in it.
    """
    generator = np.random.default_rng([seed, 1])
    if whole_rows:
        rows = np.sort(generator.permutation(n_rows)[: -(-count // length)])
        return (rows[:, None] * length + np.arange(length)).ravel()
    return np.sort(generator.permutation(n_rows * length)[: min(count, n_rows * length)])


def selected_tokens(
    selected: pl.DataFrame, heads: list[tuple[int, int]], rows: Int[Tensor, " row"], length: int
) -> Bool[Tensor, "head row pos"]:
    """Which tokens of some rows are among each head's top tokens.

    Args:
        selected: `SELECTED`.
        rows: ascending; tokens of other rows do not count.
        length: predicting positions of a row.
    """
    chosen = torch.zeros(len(heads), len(rows), length, dtype=torch.bool)
    by_head = selected.filter(pl.col("row").is_in(rows.tolist())).partition_by("layer", "head", as_dict=True)
    for index, head in enumerate(heads):
        if head in by_head:
            row, pos = (by_head[head][name].to_torch().long() for name in ("row", "pos"))
            chosen[index, torch.searchsorted(rows, row), pos] = True
    return chosen
