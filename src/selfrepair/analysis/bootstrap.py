"""Statistics over samples of documents, and their 95 % intervals.

Tokens of one document are not independent, so the bootstrap draws whole documents. All statistics of a run share the
same samples: differences between heads or quantities are as precise as the data allow.

An interval lies between percentiles of the replicates, as in Efron's BCa (1987) without its correction of the median,
which costs coverage here. Its percentiles are accelerated by the skewness of what single documents contribute, which
the jackknife shows, and expanded as by Hesterberg (2015) for the few documents that there are: with as many degrees of
freedom as the kurtosis of the contributions leaves, by matching moments (Satterthwaite 1946). What each step is worth
is in docs/method.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.ablation.reselection import bootstrap_draws, jackknife

LEVEL = 0.95  # of all intervals
NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)
# The same quantile of Student's t, by powers of 1 / degrees of freedom (Abramowitz and Stegun 1964, 26.7.5).
STUDENT = (NORMAL, 2.372271, 2.822499, 2.555850, 1.589534)
BLOCK = 32  # tokens that the search of a median counts together
LARGEST = 2**25  # elements of an array of weights; beyond, samples are taken in parts

_cumulative = np.vectorize(NormalDist().cdf, otypes=[float])


@dataclass(frozen=True)
class Draws:
    """Samples of a run's documents: all of them, bootstrap replicates, and those with each fold left out (`jackknife`).

    Attributes:
        documents: ascending.
        weights: how often a sample holds each document.
        replicates: how many samples are bootstrap replicates.
    """

    documents: Int[np.ndarray, " document"]
    weights: Int[np.ndarray, "sample document"]
    replicates: int

    @staticmethod
    def of(documents: pl.Series, replicates: int, seed: int) -> "Draws":
        """Draw from all documents of a series, which may hold them several times."""
        names = documents.drop_nulls().unique().sort().to_numpy()
        samples = [np.ones((1, len(names)), np.int64), bootstrap_draws(len(names), replicates, seed)]
        return Draws(names, np.vstack([*samples, jackknife(len(names))]), replicates)

    def at(self, documents: pl.Series) -> Int[np.ndarray, " token"]:
        """Columns of `weights` that documents have."""
        return np.searchsorted(self.documents, documents.to_numpy())

    def estimate(self, samples: Float[np.ndarray, " sample *item"]) -> "Estimate":
        """An estimate of what was computed on each sample."""
        return Estimate(samples, self.replicates)


@dataclass(frozen=True)
class Estimate:
    """A statistic of each item, on every sample of documents (`Draws`); NaN where it is not defined."""

    samples: Float[np.ndarray, " sample *item"]
    replicates: int

    @property
    def value(self) -> Float[np.ndarray, " *item"]:
        """The statistic of the run."""
        return self.samples[0]

    @property
    def interval(self) -> tuple[Float[np.ndarray, " *item"], Float[np.ndarray, " *item"]]:
        """Lower and upper end of the 95 % interval, for statistics that change smoothly with the text.

        NaN where a single fold of documents decides whether there is a statistic at all.
        """
        z, skew = expanded(self.degrees), self.acceleration
        return self._quantile(_cumulative(-z / (1 + skew * z))), self._quantile(_cumulative(z / (1 - skew * z)))

    @property
    def percentiles(self) -> tuple[Float[np.ndarray, " *item"], Float[np.ndarray, " *item"]]:
        """Plain percentiles of the replicates: the 95 % interval of a statistic that jumps, such as a place."""
        low, high = (self._quantile(np.full(self.value.shape, p)) for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return low, high

    def interval_of_share(
        self, independent: Float[np.ndarray, " *item"]
    ) -> tuple[Float[np.ndarray, " *item"], Float[np.ndarray, " *item"]]:
        """Lower and upper end of the 95 % interval of a share of tokens: Wilson's (1927) score interval.

        Its number of tokens is that of independent ones which would vary as the replicates do.

        Args:
            independent: that number where the share is 0 or 1 and replicates say nothing: documents (`effective`).
        """
        sure = (self.value <= 0) | (self.value >= 1) | ~(self._variance > 0)
        n = np.where(sure, independent, self._independent)
        degrees = np.where(sure, np.maximum(independent - 1, 2), self.degrees)
        return wilson(self.value, n, student(degrees))

    def interval_of_heads(self, heads: int) -> tuple[Float[np.ndarray, " *item"], Float[np.ndarray, " *item"]]:
        """Lower and upper end of the 95 % interval of a share of heads.

        The wider at each end of the replicates' percentiles and of Wilson's score interval, with as many heads as would
        vary as the replicates do, or as there are if fewer.
        """
        n = np.minimum(np.where(self._variance > 0, self._independent, heads), heads)
        n = np.where((self.value <= 0) | (self.value >= 1), heads, n)
        low, high = wilson(self.value, n, np.full(self.value.shape, NORMAL))
        least, most = self.percentiles
        return np.fmin(low, least), np.fmax(high, most)

    @property
    def degrees(self) -> Float[np.ndarray, " *item"]:
        """Degrees of freedom that the variance of the statistic is known with, from 2 to one less than the folds."""
        change = self._influence
        folds = len(change)
        with np.errstate(divide="ignore", invalid="ignore"):
            kurtosis = (change**4).sum(0) / np.square(np.square(change).sum(0))  # over the number of folds
            degrees = 2 / (kurtosis - 1 / max(folds, 1))
        return np.clip(np.where(np.isfinite(degrees), degrees, np.inf), 2, max(folds - 1, 2))

    @property
    def acceleration(self) -> Float[np.ndarray, " *item"]:
        """Skewness of what folds contribute, as BCa takes it; at most 1/6."""
        change = self._influence
        with np.errstate(divide="ignore", invalid="ignore"):
            skewness = (change**3).sum(0) / np.square(change).sum(0) ** 1.5 / 6
        return np.where(np.isfinite(skewness), skewness, 0.0)

    def mean(self, axis: int) -> "Estimate":
        """Unweighted mean over an axis of the items (the heads of a layer, say)."""
        return Estimate(self.samples.mean(axis + 1), self.replicates)

    def map(self, function: Callable[[Float[np.ndarray, " sample *item"]], np.ndarray]) -> "Estimate":
        """What a function makes of the items, sample by sample."""
        return Estimate(function(self.samples), self.replicates)

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.samples - other.samples, self.replicates)

    def __getitem__(self, items: object) -> "Estimate":
        return Estimate(self.samples[:, *(items if isinstance(items, tuple) else (items,))], self.replicates)

    @property
    def _drawn(self) -> Float[np.ndarray, " replicate *item"]:
        return self.samples[1 : self.replicates + 1]

    @property
    def _influence(self) -> Float[np.ndarray, " fold *item"]:
        """How much each fold of documents adds to the statistic."""
        left_out = self.samples[self.replicates + 1 :]
        return left_out.mean(0) - left_out if len(left_out) else left_out

    @property
    def _variance(self) -> Float[np.ndarray, " *item"]:
        known = np.isfinite(self._drawn)
        n, drawn = known.sum(0), np.where(known, self._drawn, 0)
        deviation = np.where(known, drawn - drawn.sum(0) / np.maximum(n, 1), 0)
        return np.square(deviation).sum(0) / np.maximum(n - 1, 1)

    @property
    def _independent(self) -> Float[np.ndarray, " *item"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.value * (1 - self.value) / self._variance

    def _quantile(self, share: Float[np.ndarray, " *item"]) -> Float[np.ndarray, " *item"]:
        """Quantile of the replicates of each item at its own share of them; NaN if a fold alone has the item."""
        ordered = np.sort(self._drawn, axis=0)  # NaN last
        place = share * np.maximum(np.isfinite(ordered).sum(0) - 1, 0)
        below = np.floor(place).astype(int)
        ends = (np.take_along_axis(ordered, np.minimum(at, len(ordered) - 1)[None], 0)[0] for at in (below, below + 1))
        low, high = ends
        between = place - below
        quantile = np.where(between > 0, low + between * (high - low), low)
        known = len(self._influence) > 1 and np.isfinite(self._influence).all(0)
        return np.where(known, quantile, np.nan)


def student(degrees: Float[np.ndarray, " *item"]) -> Float[np.ndarray, " *item"]:
    """0.975 quantile of Student's t distribution; from two degrees of freedom on."""
    return np.polynomial.polynomial.polyval(1 / degrees, STUDENT)


def expanded(degrees: Float[np.ndarray, " *item"]) -> Float[np.ndarray, " *item"]:
    """Size of the normal quantiles between which an interval's percentiles lie: wider than 1.96 for few documents."""
    return student(degrees) * np.sqrt((degrees + 1) / degrees)


def wilson(
    share: Float[np.ndarray, " *item"], n: Float[np.ndarray, " *item"], z: Float[np.ndarray, " *item"]
) -> tuple[Float[np.ndarray, " *item"], Float[np.ndarray, " *item"]]:
    """Ends of the score interval of a share of `n` independent observations at a quantile z."""
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def effective(tokens: Float[np.ndarray, " document *item"]) -> Float[np.ndarray, " *item"]:
    """Kish's (1965) effective number of documents: how many of equal length would tell as much of a mean; 0 of none.

    Args:
        tokens: by document.
    """
    squares = np.square(tokens).sum(0)
    return np.divide(np.square(tokens.sum(0)), squares, out=np.zeros_like(squares), where=squares > 0)


def ratio_of_sums(
    numerator: Float[np.ndarray, " document *item"], denominator: Float[np.ndarray, "document *#item"], draws: Draws
) -> Estimate:
    """Sum over documents of the numerator divided by that of the denominator; a mean where the latter counts tokens.

    A sample whose denominator is zero (none of its documents has a token) does not count towards the interval.
    """
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return draws.estimate(ratio(np.tensordot(draws.weights, numerator, 1), np.tensordot(draws.weights, denominator, 1)))


def ratio(
    numerator: Float[np.ndarray, " sample *item"], denominator: Float[np.ndarray, " sample *item"]
) -> Float[np.ndarray, " sample *item"]:
    """Quotient; NaN where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = numerator / denominator
    return np.where(np.isfinite(quotient), quotient, np.nan)


def median(
    values: Float[np.ndarray, " token"], weights: Int[np.ndarray, "token sample"]
) -> Float[np.ndarray, " sample"]:
    """Median over tokens, each of which a sample holds so many times (the lower of two middle ones); NaN of none.

    Blocks of tokens are counted first, then the tokens of the block with the middle.
    """
    order = np.argsort(values, kind="stable")
    n_blocks = -(-len(order) // BLOCK)
    counts = np.zeros((n_blocks * BLOCK, weights.shape[1]), weights.dtype)
    counts[: len(order)] = weights[order]
    blocks = counts.reshape(n_blocks, BLOCK, -1)
    passed = blocks.sum(1).cumsum(0)  # tokens up to the end of each block
    half, sample = passed[-1], np.arange(weights.shape[1])
    block = np.minimum((passed * 2 < half).sum(0), n_blocks - 1)
    before = np.where(block > 0, passed[block - 1, sample], 0)
    within = blocks[block, :, sample].cumsum(1) + before[:, None]
    middle = np.minimum(block * BLOCK + (within * 2 < half[:, None]).sum(1), len(order) - 1)
    return np.where(half > 0, values[order[middle]].astype(np.float64), np.nan)
