"""Choose the heads that single-head experiments look at.

The paper names heads of its own models (experiments.md b); in another model heads are chosen by what was measured.
"""

from pathlib import Path

import polars as pl

from selfrepair.analysis.wide import wide
from selfrepair.core.tables import Column, frame
from selfrepair.models.directory import parse_head

REASONS = {
    "configured": "named under `study` in the configuration; value: mean self-repair on top tokens, logits",
    "most_self_repair": "largest mean self-repair on top tokens, of heads whose mean direct effect there is positive, "
    "logits",
    "most_noise": "largest noise: standard deviation of self-repair over the control tokens divided by the root mean "
    "square of the direct effect there; of heads whose mean direct effect on top tokens is not below the median head's",
    "least_noise": "smallest noise, of the same heads",
    "largest_direct_effect": "largest mean direct effect on top tokens, logits",
}
CHOSEN_HEADS = {
    "model": Column(pl.String, "", "name of the model"),
    "layer": Column(pl.Int64, "index", "layer of the head, from 0"),
    "head": Column(pl.Int64, "index", "head within its layer, from 0"),
    "reason": Column(pl.String, "", "; ".join(f"{name}: {meaning}" for name, meaning in REASONS.items())),
    "value": Column(pl.Float64, "logits or ratio", "what the head was chosen by"),
}


def chosen_of_files(model: str, heads: pl.DataFrame, tokens: list[Path], study: list[str], count: int) -> pl.DataFrame:
    """`choose_heads` of the Parquet files of token rows; only the columns needed are read.

    Args:
        study: heads to take in any case, written as L9H11.
    """
    rows = pl.read_parquet(tokens, columns=["layer", "head", "control", "direct_effect", "self_repair"])
    return choose_heads(model, heads, rows, [parse_head(name) for name in study], count)


def choose_heads(
    model: str, heads: pl.DataFrame, tokens: pl.DataFrame, configured: list[tuple[int, int]], count: int
) -> pl.DataFrame:
    """Choose heads of a model (`CHOSEN_HEADS`), reason by reason; a head may be there for several.

    Args:
        heads: `STATISTICS` of the model's heads.
        tokens: token rows (`ablated_tokens`); the control tokens are read.
        configured: heads to take in any case, in their order.
        count: heads to take for their self-repair; of every other reason there is one.

    Raises:
        ValueError: a configured head was not measured.
    """
    top = wide(heads, "top")
    of_head = top.select("layer", "head", effect=pl.col("mean_direct_effect"), repair=pl.col("mean_self_repair")).join(
        _noise(tokens), on=["layer", "head"], how="left", maintain_order="left"
    )
    unknown = sorted(set(configured) - set(of_head.select("layer", "head").rows()))
    if unknown:
        named = ", ".join(f"L{layer}H{head}" for layer, head in unknown)
        raise ValueError(f"{model}: {named} under `study` was not measured; add it to `heads`, or remove it")
    order = pl.DataFrame(configured, schema=["layer", "head"], orient="row")
    order = order.cast({"layer": of_head.schema["layer"], "head": of_head.schema["head"]})
    strong = of_head.filter(pl.col("effect") >= pl.col("effect").median())
    found = {
        "configured": order.join(of_head, on=["layer", "head"], maintain_order="left").with_columns(value="repair"),
        "most_self_repair": _first(of_head.filter(pl.col("effect") > 0), "repair", count),
        "most_noise": _first(strong, "noise", 1),
        "least_noise": _first(strong, "noise", 1, smallest=True),
        "largest_direct_effect": _first(of_head, "effect", 1),
    }
    rows = pl.concat(
        [table.select("layer", "head", pl.lit(reason).alias("reason"), "value") for reason, table in found.items()]
    )
    return frame(rows.with_columns(model=pl.lit(model)).to_dict(), CHOSEN_HEADS)


def distinct(chosen: pl.DataFrame) -> list[tuple[int, int]]:
    """(layer, head) of the chosen heads, each once, in order."""
    return sorted(set(chosen.select("layer", "head").rows()))


def read_chosen(path: Path) -> pl.DataFrame:
    """Read `chosen_heads.csv`."""
    return pl.read_csv(path, schema={name: column.dtype for name, column in CHOSEN_HEADS.items()})


def _noise(tokens: pl.DataFrame) -> pl.DataFrame:
    """Spread of self-repair over the control tokens, by head, relative to the size of the direct effect."""
    size = pl.col("direct_effect").cast(pl.Float64).pow(2).mean().sqrt()
    spread = pl.col("self_repair").cast(pl.Float64).std(ddof=0)
    by_head = tokens.lazy().filter("control").group_by("layer", "head").agg(noise=spread / size)
    return by_head.filter(pl.col("noise").is_finite()).collect()


def _first(table: pl.DataFrame, column: str, count: int, smallest: bool = False) -> pl.DataFrame:
    """Rows with the largest values of a column; of equal ones the earlier head."""
    ordered = table.drop_nulls(column).sort(column, descending=not smallest, maintain_order=True)
    return ordered.head(count).with_columns(value=column)
