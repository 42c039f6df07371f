"""Choose the heads that single-head experiments look at.

The paper names heads of its own models (experiments.md b); in another model heads are chosen by what was measured.
"""

from pathlib import Path

import polars as pl

from selfrepair.core.tables import Column, frame
from selfrepair.models.directory import parse_head

REASONS = {
    "configured": "named under `highlight_heads` in the configuration; value: mean self-repair on top tokens, logits",
    "most_self_repair": "largest mean self-repair on top tokens, of heads whose mean direct effect there is positive, "
    "logits",
    "most_noise": "largest noise: standard deviation of self-repair over the control tokens divided by the root mean "
    "square of the direct effect there; of heads whose mean direct effect on top tokens is not below the median head's",
    "least_noise": "smallest noise, of the same heads",
    "largest_direct_effect": "largest mean direct effect on top tokens, logits",
    "large_direct_effect": "the same of heads before the last layer, which all later MLPs read, logits",
}
NOT_BY_REPAIR = (
    "configured",
    "largest_direct_effect",
    "large_direct_effect",
)  # reasons that do not look at what ablation does
BY_EFFECT = 2  # heads before the last layer to take for their direct effect
READ = ["layer", "head", "selected", "control", "direct_effect", "self_repair"]
CHOSEN_HEADS = {
    "model": Column(pl.String, "", "name of the model"),
    "layer": Column(pl.Int64, "index", "layer of the head, from 0"),
    "head": Column(pl.Int64, "index", "head within its layer, from 0"),
    "reason": Column(pl.String, "", "; ".join(f"{name}: {meaning}" for name, meaning in REASONS.items())),
    "value": Column(pl.Float64, "logits or ratio", "what the head was chosen by"),
}


def chosen_of_files(model: str, tokens: list[Path], highlight: list[str], count: int) -> pl.DataFrame:
    """`choose_heads` of the Parquet files of token rows; only the columns needed are read.

    Args:
        highlight: heads to take in any case, written as L9H11.
    """
    return choose_heads(model, pl.read_parquet(tokens, columns=READ), list(map(parse_head, highlight)), count)


def choose_heads(model: str, tokens: pl.DataFrame, configured: list[tuple[int, int]], count: int) -> pl.DataFrame:
    """Choose heads of a model (`CHOSEN_HEADS`), reason by reason; a head may be there for several.

    Args:
        tokens: token rows (`ablated_tokens`) of top and of control tokens.
        configured: heads to take in any case, in their order.
        count: heads to take for their self-repair; of those with most and least noise there is one each.

    Raises:
        ValueError: a configured head was not measured.
    """
    of_head = top_means(tokens).join(_noise(tokens), on=["layer", "head"], how="left", maintain_order="left")
    if unknown := sorted(set(configured) - set(of_head.select("layer", "head").rows())):
        named = ", ".join(f"L{layer}H{head}" for layer, head in unknown)
        raise ValueError(f"{model}: {named} under `highlight_heads` was not measured; add it to `heads`, or remove it")
    order = pl.DataFrame(configured, schema={name: of_head.schema[name] for name in ("layer", "head")}, orient="row")
    strong = of_head.filter(pl.col("direct_effect") >= pl.col("direct_effect").median())
    by_reason = {
        "configured": order.join(of_head, on=["layer", "head"], maintain_order="left").with_columns(
            value="self_repair"
        ),
        "most_self_repair": _first(of_head.filter(pl.col("direct_effect") > 0), "self_repair", count),
        "most_noise": _first(strong, "noise", 1),
        "least_noise": _first(strong, "noise", 1, smallest=True),
        "largest_direct_effect": _first(of_head, "direct_effect", 1),
        "large_direct_effect": _first(
            of_head.filter(pl.col("layer") < pl.col("layer").max()), "direct_effect", BY_EFFECT
        ),
    }
    rows = pl.concat(
        [table.select("layer", "head", pl.lit(reason).alias("reason"), "value") for reason, table in by_reason.items()]
    )
    return frame(rows.with_columns(model=pl.lit(model)).to_dict(), CHOSEN_HEADS)


def top_means(tokens: pl.DataFrame) -> pl.DataFrame:
    """Mean direct effect and self-repair on top tokens (logits), by head; heads in their order.

    Args:
        tokens: token rows (`ablated_tokens`).
    """
    means = pl.col("direct_effect", "self_repair").cast(pl.Float64).mean()
    return tokens.lazy().filter("selected").group_by("layer", "head").agg(means).sort("layer", "head").collect()


def most_repaired(tokens: pl.DataFrame, count: int) -> list[tuple[int, int]]:
    """(layer, head) of the heads with the largest mean self-repair on top tokens; of equals the earlier."""
    means = top_means(tokens).sort("self_repair", descending=True, maintain_order=True)
    return means.head(count).select("layer", "head").rows()


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
