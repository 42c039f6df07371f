"""Statistics of claims about single neurons of the last MLP, on top tokens by direct effect, resample ablation.

Tokens are never chosen by what is measured. Each statistic is a number from the token rows of one head, summed by
document and weighted as often as a bootstrap replicate draws the document.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Sums = Float[np.ndarray, " sample"]


@dataclass(frozen=True)
class Neurons:
    """Of one head, in the run (first) and in every bootstrap replicate.

    Attributes:
        n: top tokens.
        erases_less: of them, those on which the neuron with the largest positive change had a negative direct effect.
        adds_less: those on which the neuron with the most negative change had a positive direct effect.
        shares: sum of the shares of all positive change that one neuron in a hundred makes.
        with_shares: top tokens on which there is any positive change.
        frequent: top tokens on which each neuron is among the ten that change most.
    """

    n: Sums
    erases_less: Sums
    adds_less: Sums
    shares: Sums
    with_shares: Sums
    frequent: Float[np.ndarray, "sample neuron"]


def first_neuron_anti_erases(t: Neurons) -> Sums:
    """Share of top tokens on which the neuron that repairs most erased, and erases less."""
    return t.erases_less / t.n


def mirror_of_first_neuron(t: Neurons) -> Sums:
    """Share of top tokens on which the neuron that harms most had a positive direct effect, and has less."""
    return t.adds_less / t.n


def erasure_beyond_mirror(t: Neurons) -> Sums:
    """Share of tokens with erasure less its mirror; zero where large changes only go back towards the mean."""
    return (t.erases_less - t.adds_less) / t.n


def few_neurons_share(t: Neurons) -> Sums:
    """Share of all positive change that the 1 % of neurons with the largest make, mean over top tokens."""
    return t.shares / t.with_shares


def most_frequent_neuron(t: Neurons) -> Sums:
    """Share of top tokens on which the head's most frequent neuron is among the ten that repair most."""
    return t.frequent.max(-1) / t.n
