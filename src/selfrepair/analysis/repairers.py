"""Which later heads repair ablated ones: how few make most of it, and whether they repair others, or elsewhere, too."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.analysis.bootstrap import Draws

LARGEST = 2**24  # numbers that are held at once
Means = Float[np.ndarray, "sample head later"]


@dataclass(frozen=True)
class Repairs:
    """Changes of later heads' direct effects on ablated heads' tokens, summed by document, and samples of documents."""

    sums: Float[np.ndarray, "document head later"]
    counts: Float[np.ndarray, "document head"]
    draws: Draws

    @staticmethod
    def of(table: pl.DataFrame, heads: list[tuple[int, int]], draws: Draws) -> "Repairs":
        """Add up a table of `ablation.schema.hand_off`; a document may lie in several shards."""
        sums = np.zeros((len(draws.documents), len(heads), table.schema["change"].size))
        counts = np.zeros(sums.shape[:2])
        at = {head: index for index, head in enumerate(heads)}
        named = np.array([at.get(h, -1) for h in table.select("layer", "head").rows()], dtype=int)
        of = named >= 0
        place = draws.at(table["document"])[of], named[of]
        np.add.at(sums, place, table["change"].to_numpy()[of])
        np.add.at(counts, place, table["n"].to_numpy()[of])
        return Repairs(sums, counts, draws)

    def drawn(self, draws: Draws) -> "Repairs":
        """In other samples of the same documents."""
        return replace(self, draws=draws)

    def halves(self) -> tuple["Repairs", "Repairs"]:
        """Of the documents of even and of odd number, in the same samples."""
        even = self.draws.documents % 2 == 0
        weights = self.draws.weights
        first, second = (replace(self.draws, weights=np.where(of, weights, 0)) for of in (even, ~even))
        return self.drawn(first), self.drawn(second)

    def parts(self) -> Iterator[slice]:
        """All samples, so few at a time that their means fit in memory."""
        step = max(1, LARGEST // max(1, self.sums[0].size))
        return (slice(first, first + step) for first in range(0, len(self.draws.weights), step))

    def means(self, samples: slice) -> Means:
        """Mean change in some samples; 0 where an ablated head has no token."""
        weights = self.draws.weights[samples].astype(np.float64)
        return np.tensordot(weights, self.sums, 1) / np.maximum(weights @ self.counts, 1)[..., None]


def as_measured(means: Means) -> Means:
    """Rank the later heads of each ablated head by what they do for it."""
    return means


def for_others(heads: list[tuple[int, int]], n_heads: int) -> Callable[[Means], Means]:
    """Rank the later heads of each ablated head by their mean change for the other ablated heads before them."""

    def ranked(means: Means) -> Means:
        layers = np.arange(means.shape[-1]) // n_heads
        before = np.array([layer for layer, _ in heads])[:, None] < layers
        others = np.maximum(before.sum(0) - before, 1)
        return np.where(before, (means.sum(1, keepdims=True) - means) / others, 0)

    return ranked


def shares_by_rank(
    pairs: Sequence[tuple[Repairs, Repairs]], by: Callable[[Means], Means] = as_measured
) -> Float[np.ndarray, "sample later"]:
    """Share of positive repair that the strongest 1, 2, ... later heads make, over all ablated heads together.

    Args:
        pairs: where later heads are ranked, and where the share of those with a positive change there is measured; what
            is measured in several pairs is added up.
        by: from means to what ranks.
    """
    shares = []
    for part in pairs[0][0].parts():
        made = [_cumulative(by(ranked.means(part)), measured.means(part)) for ranked, measured in pairs]
        so_far, whole = (np.sum(of, axis=0) for of in zip(*made, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            shares.append(so_far / whole[:, None])
    return np.concatenate(shares)


def _cumulative(
    ranked_by: Means, measured: Means
) -> tuple[Float[np.ndarray, "sample later"], Float[np.ndarray, " sample"]]:
    """What the later heads of rank 1, 2, ... make together, and what all with a positive change make."""
    order = np.argsort(-ranked_by, axis=-1, kind="stable")
    values = np.where(np.take_along_axis(ranked_by, order, -1) > 0, np.take_along_axis(measured, order, -1), 0)
    by_rank = values.sum(1)
    return by_rank.cumsum(-1), by_rank.sum(-1)
