"""What a claim's statistic is where nothing was learned, and how far a model's value lies from that.

The null of most claims is the model's *twin*: the same model with the entries of each weight tensor permuted, measured
in the same way on fewer tokens. Some claims have another: heavy tails are compared with exponentially distributed
importance of as many heads, erasure and overcorrection with a mirror in the same model, which chance would make as
frequent.
"""

import math
from dataclasses import dataclass

import numpy as np

from selfrepair.claims.tables import Measured

TWIN, MIRROR, EXPONENTIAL, NOTHING = "twin", "mirror", "exponential", "nothing"
DRAWS = 10_000  # sets of exponentially distributed importances
LARGEST = 10  # heavy tails: one head in so many
# Of statistics that have one, the mirror and the difference from it.
MIRRORS = {
    "first_neuron_anti_erases": ("mirror_of_first_neuron", "erasure_beyond_mirror"),
    "overcorrected": ("mirror_of_overcorrection", "overcorrection_beyond_mirror"),
}


@dataclass(frozen=True)
class Null:
    """A null with its 95 % interval, and the model's value less the null with its own."""

    null: Measured
    beyond: Measured


def difference(a: Measured, b: Measured) -> Measured:
    """The difference of two independent estimates, with an interval made of both (square-and-add)."""
    value = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None or not math.isfinite(value):
        return Measured(value)
    return Measured(
        value,
        value - math.hypot(a.value - a.low, b.high - b.value),
        value + math.hypot(a.high - a.value, b.value - b.low),
    )


def against(measured: Measured, null: Measured) -> Null:
    """Compare a value with an independent null."""
    return Null(null, difference(measured, null))


def exponential_tail(n_heads: int) -> Measured:
    """Share of the summed importance that the largest tenth of so many heads has, importances being exponential."""
    sizes = np.sort(np.random.default_rng(0).exponential(size=(DRAWS, n_heads)), axis=1)[:, ::-1]
    shares = sizes[:, : math.ceil(n_heads / LARGEST)].sum(1) / sizes.sum(1)
    low, high = np.percentile(shares, (2.5, 97.5))
    return Measured(float(shares.mean()), float(low), float(high))
