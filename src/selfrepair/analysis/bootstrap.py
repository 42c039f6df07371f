"""Means, ratios of sums, clipped shares and medians, with bootstrap intervals clustered by document.

Tokens of one document are not independent, so the bootstrap draws whole documents. All statistics of a run share
the same draws: differences between heads or quantities are as precise as the data allow.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A statistic of each item, and the same in every bootstrap replicate (NaN where it is not defined)."""

    value: Float[np.ndarray, " *item"]
    replicates: Float[np.ndarray, " replicate *item"]

    @property
    def interval(self) -> tuple[Float[np.ndarray, " *item"], Float[np.ndarray, " *item"]]:
        """Lower and upper end of the 95 % percentile interval."""
        low, high = np.nanpercentile(self.replicates, PERCENTILES, axis=0)
        return low, high

    def mean(self, axis: int) -> "Estimate":
        """Unweighted mean over an axis of the items (the heads of a layer, say)."""
        return Estimate(self.value.mean(axis), self.replicates.mean(axis + 1))


def bootstrap_draws(n_documents: int, replicates: int, seed: int) -> Int[np.ndarray, "replicate document"]:
    """How often each document is drawn in each replicate: documents drawn with replacement, as many as there are."""
    generator = np.random.default_rng([seed, 2])
    return generator.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=replicates)


def ratio_of_sums(
    numerator: Float[np.ndarray, " document *item"],
    denominator: Float[np.ndarray, "document *#item"],
    draws: Int[np.ndarray, "replicate document"],
) -> Estimate:
    """Sum over documents of the numerator divided by that of the denominator; a mean where the latter counts tokens.

    A replicate whose denominator is zero (none of its documents has a token) does not count towards the interval.
    """
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = numerator.sum(0) / denominator.sum(0)
        replicates = np.tensordot(draws, numerator, 1) / np.tensordot(draws, denominator, 1)
    return Estimate(np.asarray(value), np.where(np.isfinite(replicates), replicates, np.nan))


def median(
    values: Float[np.ndarray, " token"],
    documents: Int[np.ndarray, " token"],
    draws: Int[np.ndarray, "replicate document"],
) -> Estimate:
    """Median over tokens (the lower of two middle ones); in a replicate a token counts as often as its document."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    # Replicates lie innermost, so that sums over tokens run over whole rows of memory.
    weights = np.ascontiguousarray(draws.T, dtype=np.int32)[documents[order]].cumsum(0, dtype=np.int32)
    middle = (weights * 2 < weights[-1]).sum(0)
    replicates = np.where(weights[-1] > 0, ordered[np.minimum(middle, len(ordered) - 1)], np.nan)
    return Estimate(np.asarray(ordered[(len(ordered) - 1) // 2]), replicates)
