"""Self-repair per head and per layer (experiments.md a.8 to a.11; figure 1 and the per-head scatter).

Shares are reported both as the ratio of sums and as the paper's per-token mean clipped to [0, 1]; they disagree,
since clipping turns noise into repair (experiments.md pitfall:clipped-shares).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from selfrepair.analysis.by_document import Selection, counted, long_table, medians, totals
from selfrepair.analysis.head_estimates import (
    CLIPPED,
    EFFECTS,
    Described,
    estimates_of_heads,
    estimates_of_layers,
    sum_top_tokens,
)
from selfrepair.analysis.schema import RESPONDERS, STATISTICS


@dataclass(frozen=True)
class Summary:
    """Tables of `STATISTICS` per head and per layer, and of `RESPONDERS`."""

    heads: pl.DataFrame
    layers: pl.DataFrame
    responders: pl.DataFrame


def summarise(
    model: str,
    ablation: str,
    tokens: pl.DataFrame,
    sums: pl.DataFrame,
    clean: pl.DataFrame,
    top_fraction: float,
    replicates: int,
    seed: int,
) -> Summary:
    """Summarise the ablation of every head of a model.

    Args:
        tokens: token rows of all shards (`ablated_tokens`).
        sums: document sums of all shards (`document_sums`).
        clean: clean tokens of the run (`CLEAN_TOKENS`).
        top_fraction: share of tokens that are a head's top tokens.
        replicates: of the bootstrap.

    Returns:
        for the top tokens and for all tokens: mean, median, share (ratio of sums) and clipped share of each effect,
        with 95 % intervals clustered by document; documents are drawn from all of the run, and every replicate selects
        its own top tokens. The median over all tokens is that of the control sample. In a layer, means, medians and
        clipped shares are unweighted means over its heads, a share is the ratio of the sums over its heads.
    """
    selection = Selection.of(clean["document"], top_fraction, replicates, seed)
    draws = selection.draws
    heads = sorted(sums.select("layer", "head").unique().rows())
    top, every = sum_top_tokens(tokens, heads, selection), totals(sums, [*EFFECTS, *CLIPPED], heads, draws)
    control = tokens.filter("control")
    of_top = Described(EFFECTS, medians(tokens, EFFECTS, heads, draws, selection), top.tokens)
    of_control = Described(EFFECTS, medians(control, EFFECTS, heads, draws), totals(control, [], heads, draws).tokens)
    n_layers = tokens.schema["repair_mlp_by_layer"].size
    layers = [(layer, None) for layer in sorted({layer for layer, _ in heads})]
    per_head, per_layer, responders = [], [], []
    for name, summed, middle, table in (
        ("top", top, of_top, tokens.filter("selected").with_columns(n=1)),
        ("all", every, of_control, sums),
    ):
        labels = {"model": model, "ablation": ablation, "n_layers": n_layers, "tokens": name}
        of_heads = estimates_of_heads(summed, middle)
        per_head.append(_describe(labels, of_heads, heads))
        per_layer.append(_describe(labels, estimates_of_layers(summed, heads, of_heads), layers))
        responders.append(_responders(labels, table))
    return Summary(pl.concat(per_head), pl.concat(per_layer), pl.concat(responders))


def _describe(
    labels: dict[str, str | int], described: dict[str, Described], items: Sequence[tuple[int, int | None]]
) -> pl.DataFrame:
    """Write estimates of each item (a head, or a layer with None for the head) as rows of `STATISTICS`."""
    index: dict[str, Sequence[object]] = {"layer": [layer for layer, _ in items], "head": [head for _, head in items]}
    return pl.concat(
        long_table(STATISTICS, labels | {"statistic": statistic}, index, quantities, estimate, counted(n))
        for statistic, (quantities, estimate, n) in described.items()
    )


def _responders(labels: dict[str, str | int], table: pl.DataFrame) -> pl.DataFrame:
    """Mean response of every later layer to the ablation of every head.

    Args:
        table: sums over tokens, and `n`, their number.
    """
    n_layers = table.schema["repair_mlp_by_layer"].size
    long = []
    for part in ("attention", "mlp"):
        column = pl.col(f"repair_{part}_by_layer")
        means = [(column.arr.get(i).cast(pl.Float64).sum() / pl.col("n").sum()).alias(str(i)) for i in range(n_layers)]
        wide = table.group_by("layer", "head").agg(means)
        long.append(
            wide.unpivot(index=["layer", "head"], variable_name="later_layer").with_columns(
                pl.lit(part).alias("part"), pl.col("later_layer").cast(pl.Int16)
            )
        )
    named = {name: pl.lit(value) for name, value in labels.items() if name in RESPONDERS}
    rows = pl.concat(long).with_columns(**named)
    ordered = rows.sort("layer", "head", "part", "later_layer").with_columns(
        pl.col("layer", "head").cast(pl.Int16), pl.col("value").cast(pl.Float64)
    )
    return ordered.select(list(RESPONDERS))
