"""Statistics of claims about the final norm, single tokens, single neurons and iterative inference."""

import math

import polars as pl

from selfrepair.claims.tables import Measured, Tables

OWN = "own"  # output that was added to the stream (`ADDITIONS`)


def scale_falls(t: Tables) -> Measured:
    """Share of top tokens, heads of the second half, whose final scale is smaller after resample ablation."""
    norm = t["resample/norm"]
    return _only(norm.filter(heads="later half", tokens="top", quantity="scale_ratio", statistic="above_1"))


def overcorrected(t: Tables) -> Measured:
    """Share of top tokens, heads of the second half, whose logit is higher in the ablated pass."""
    return _only(t["noise"].filter(heads="later half", tokens="top", quantity="overcorrected"))


def first_neuron_anti_erases(t: Tables) -> Measured:
    """Share of top tokens on which the neuron that repairs most erased and erases less, mean over chosen heads.

    Neurons of the last MLP, as in the paper; tokens by direct effect, not by the outcome.
    """
    return _of_neurons(t, "first_anti_erasing")


def few_neurons_share(t: Tables) -> Measured:
    """Share of all positive changes that the 1 % of neurons with the largest make, last MLP, mean over chosen heads."""
    return _of_neurons(t, "top_percent_share")


def most_frequent_neuron(t: Tables) -> Measured:
    """Share of top tokens on which a head's most frequent neuron is among the ten of the last MLP that repair most."""
    return _mean(_last_mlp(t, "neurons/frequency").filter(place=0))


def moving_correlation(t: Tables) -> Measured:
    """Correlation over heads of their responses to skipping the layer before and to ablating its strongest head."""
    moving = t["iterative/moving"].filter(tokens="all", quantity="correlation")
    return _only(moving.filter(pl.col("moved_layer").is_null()))


def repression_ratio(t: Tables) -> Measured:
    """New by old direct effect where a head's own output is added once, scale of the perturbed pass, mean of heads."""
    return _repression(t, "perturbed", "ratio")


def heads_repressed(t: Tables) -> Measured:
    """Fraction of heads whose direct effect falls then."""
    return _repression(t, "perturbed", "share_repressed")


def repression_beyond_random(t: Tables) -> Measured:
    """That ratio with the clean scale, less the same for a random direction of equal norm."""
    return _repression(t, "clean", "ratio_beyond_random")


def _repression(t: Tables, scale: str, statistic: str) -> Measured:
    rows = t["iterative/repression"].filter(direction=OWN, strength=1, scale=scale, statistic=statistic)
    return _only(rows.filter(pl.col("layer").is_null()))


def _of_neurons(t: Tables, quantity: str) -> Measured:
    return _mean(_last_mlp(t, "neurons/shares").filter(quantity=quantity))


def _last_mlp(t: Tables, name: str) -> pl.DataFrame:
    """Rows about the last layer's MLP; none where the run looks at others only."""
    return t[name].filter(token_set="direct_effect", mlp_layer=t.n_layers - 1)


def _only(rows: pl.DataFrame) -> Measured:
    (row,) = rows.select("value", "low", "high").rows()
    return Measured(*row)


def _mean(rows: pl.DataFrame) -> Measured:
    """Mean over heads; its interval, as everywhere, of averaged ends."""
    if rows.is_empty():
        return Measured(math.nan)
    return Measured(*(rows[name].mean() for name in ("value", "low", "high")))
