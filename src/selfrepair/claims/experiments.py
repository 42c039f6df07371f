"""Statistics of claims about iterative inference, read from the tables of its experiments."""

import polars as pl

from selfrepair.claims.tables import Measured, Tables

OWN = "own"  # output that was added to the stream (`ADDITIONS`)


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


def _only(rows: pl.DataFrame) -> Measured:
    (row,) = rows.select("value", "low", "high").rows()
    return Measured(*row)
