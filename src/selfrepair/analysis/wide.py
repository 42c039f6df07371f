"""Read tables of `STATISTICS` back: one row per head or layer, one column per statistic of a quantity."""

from pathlib import Path

import polars as pl


def wide(table: pl.DataFrame, tokens: str) -> pl.DataFrame:
    """Spread statistics over columns.

    Args:
        table: rows of `STATISTICS` of one kind (heads or layers).
        tokens: `top` or `all`.

    Returns:
        one row per (model, layer, head), sorted, with `<statistic>_<quantity>` (unit as in the table) and the ends of
        its interval, `<statistic>_<quantity>_low` and `_high`. `n_tokens`, `n_documents` and `n_effective` are those of
        the means.
    """
    index = ["model", "n_layers", "layer", "head"]
    named = table.filter(pl.col("tokens") == tokens).with_columns(
        name=pl.col("statistic") + "_" + pl.col("quantity"),
    )
    spread = named.pivot("name", index=index, values=["value", "low", "high"], maintain_order=True)
    names = named["name"].unique(maintain_order=True).to_list()
    ends = {f"{end}_{name}": f"{name}_{end}" for name in names for end in ("low", "high")}
    # Medians over all tokens are of the control sample, which is smaller.
    counts = (
        named.filter(statistic="mean")
        .select(*index, "n_tokens", "n_documents", "n_effective")
        .unique(maintain_order=True)
    )
    counted = counts.join(spread, on=index, nulls_equal=True, maintain_order="left")
    return counted.rename({f"value_{name}": name for name in names} | ends).sort(
        "model", "layer", "head", maintain_order=True
    )


def read_wide(paths: list[Path], tokens: str) -> pl.DataFrame:
    """Read the tables of several models and spread each; models stay in the order of the paths."""
    return pl.concat([wide(pl.read_parquet(path), tokens) for path in paths])
