"""Self-repair per head and per layer (experiments.md a.8 to a.11; figure 1 and the per-head scatter).

Shares are reported both as the ratio of sums and as the paper's per-token mean clipped to [0, 1]; they disagree,
since clipping turns noise into repair (experiments.md pitfall:clipped-shares).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from selfrepair.analysis.bootstrap import Estimate, bootstrap_draws, median
from selfrepair.analysis.head_estimates import (
    EFFECTS,
    Described,
    HeadSums,
    estimates_of_heads,
    estimates_of_layers,
    sum_by_head,
    sum_top_tokens,
)
from selfrepair.analysis.schema import RESPONDERS, STATISTICS
from selfrepair.core.tables import frame


@dataclass(frozen=True)
class Summary:
    """Tables of `STATISTICS` per head and per layer, and of `RESPONDERS`."""

    heads: pl.DataFrame
    layers: pl.DataFrame
    responders: pl.DataFrame


def summarise(
    model: str, ablation: str, tokens: pl.DataFrame, sums: pl.DataFrame, replicates: int, seed: int
) -> Summary:
    """Summarise the ablation of every head of a model.

    Args:
        tokens: token rows of all shards (`ablated_tokens`).
        sums: document sums of all shards (`document_sums`).
        replicates: of the bootstrap.

    Returns:
        for the top tokens and for all tokens: mean, median, share (ratio of sums) and clipped share of each effect,
        with 95 % intervals clustered by document; documents are drawn from all of the run, the choice of the top tokens
        is held fixed. The median over all tokens is that of the control sample. In a layer, means, medians and clipped
        shares are unweighted means over its heads, a share is the ratio of the sums over its heads.
    """
    top = tokens.filter("selected")
    tables = {"top": sum_top_tokens(top), "all": sums}
    samples = {"top": top, "all": tokens.filter("control")}
    documents = np.sort(sums["document"].unique().to_numpy())  # all of the run, also those without a token that counts
    draws = bootstrap_draws(len(documents), replicates, seed)
    n_layers = tokens.schema["repair_mlp_by_layer"].size
    per_head, per_layer, responders = [], [], []
    for name, table in tables.items():
        by_head = sum_by_head(table, documents)
        labels = {"model": model, "ablation": ablation, "n_layers": n_layers, "tokens": name}
        of_heads = estimates_of_heads(by_head, draws, _medians(samples[name], by_head, draws))
        per_head.append(_describe(labels, of_heads, by_head.heads))
        of_layers = estimates_of_layers(by_head, draws, of_heads)
        per_layer.append(_describe(labels, of_layers, [(layer, None) for layer in by_head.layers]))
        responders.append(_responders(labels, table))
    return Summary(pl.concat(per_head), pl.concat(per_layer), pl.concat(responders))


def _medians(tokens: pl.DataFrame, sums: HeadSums, draws: Int[np.ndarray, "replicate document"]) -> Described:
    by_head = tokens.partition_by("layer", "head", as_dict=True)
    values, replicates, counts = [], [], np.zeros((len(sums.documents), len(sums.heads)))
    for index, head in enumerate(sums.heads):
        rows = by_head[head]
        documents = np.searchsorted(sums.documents, rows["document"].to_numpy())
        np.add.at(counts, (documents, index), 1)
        medians = [median(rows[name].to_numpy(), documents, draws) for name in EFFECTS]
        values.append([m.value for m in medians])
        replicates.append([m.replicates for m in medians])
    return Described(EFFECTS, Estimate(np.array(values), np.moveaxis(np.array(replicates), -1, 0)), counts)


def _describe(
    labels: dict[str, str | int], described: dict[str, Described], items: list[tuple[int, int | None]]
) -> pl.DataFrame:
    """Write estimates of each item (a head, or a layer with None for the head) as rows of `STATISTICS`."""
    rows = []
    for statistic, (quantities, estimate, n) in described.items():
        low, high = estimate.interval
        tokens, documents = n.sum(0).round().astype(int).tolist(), (n > 0).sum(0).tolist()
        for index, (layer, head) in enumerate(items):
            for column, quantity in enumerate(quantities):
                numbers = (float(estimate.value[index, column]), float(low[index, column]), float(high[index, column]))
                rows.append((layer, head, quantity, statistic, *numbers, tokens[index], documents[index]))
    names = ("layer", "head", "quantity", "statistic", "value", "low", "high", "n_tokens", "n_documents")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return frame(columns | {name: [value] * len(rows) for name, value in labels.items()}, STATISTICS)


def _responders(labels: dict[str, str | int], table: pl.DataFrame) -> pl.DataFrame:
    """Mean response of every later layer to the ablation of every head."""
    n_layers = table.schema["repair_mlp_by_layer"].size
    long = []
    for part in ("attention", "mlp"):
        column = pl.col(f"repair_{part}_by_layer")
        means = [(column.arr.get(i).sum() / pl.col("n").sum()).alias(str(i)) for i in range(n_layers)]
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
