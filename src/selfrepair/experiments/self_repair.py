"""Self-repair per head and per layer (experiments.md a.8 to a.11; figure 1 and the per-head scatter).

Shares are reported both as the ratio of sums and as the paper's per-token mean clipped to [0, 1]; they disagree,
since clipping turns noise into repair (experiments.md P6).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair import schemas, store
from selfrepair.statistics import Estimate, bootstrap_draws, median, ratio_of_sums

EFFECTS = list(schemas.EFFECTS)
PARTS = [name.removeprefix("clipped_") for name in schemas.CLIPPED]  # what a share of the direct effect is taken of
CLIPPED = list(schemas.CLIPPED)


@dataclass(frozen=True)
class Summary:
    """Tables of `schemas.STATISTICS` per head and per layer, and of `schemas.RESPONDERS`."""

    heads: pl.DataFrame
    layers: pl.DataFrame
    responders: pl.DataFrame


@dataclass(frozen=True)
class _Sums:
    """Sums over a set of tokens, by document and head; heads lie as (layer, head) in `heads`."""

    heads: list[tuple[int, int]]
    documents: Int[np.ndarray, " document"]
    n: Float[np.ndarray, "document head"]
    effects: Float[np.ndarray, "document head effect"]
    clipped: Float[np.ndarray, "document head part"]


class _Described(NamedTuple):
    """A statistic of some quantities, per item, and the tokens behind each item by document."""

    quantities: list[str]
    estimate: Estimate
    n: Float[np.ndarray, "document item"]


def summarise(
    model: str, ablation: str, tokens: pl.DataFrame, sums: pl.DataFrame, replicates: int, seed: int
) -> Summary:
    """Summarise the ablation of every head of a model.

    Args:
        tokens: token rows of all shards (`schemas.ablated_tokens`).
        sums: document sums of all shards (`schemas.document_sums`).
        replicates: of the bootstrap.

    Returns:
        for the top tokens and for all tokens: mean, median, share (ratio of sums) and clipped share of each effect,
        with 95 % intervals clustered by document; documents are drawn from all of the run, the choice of the top tokens
        is held fixed. The median over all tokens is that of the control sample. In a layer, means, medians and clipped
        shares are unweighted means over its heads, a share is the ratio of the sums over its heads.
    """
    top = tokens.filter("selected")
    tables = {"top": _sum_by_document(top), "all": sums}
    samples = {"top": top, "all": tokens.filter("control")}
    documents = np.sort(sums["document"].unique().to_numpy())  # all of the run, also those without a token that counts
    draws = bootstrap_draws(len(documents), replicates, seed)
    n_layers = tokens.schema["repair_mlp_by_layer"].size
    per_head, per_layer, responders = [], [], []
    for name, table in tables.items():
        dense = _dense(table, documents)
        labels = {"model": model, "ablation": ablation, "n_layers": n_layers, "tokens": name}
        layers = sorted({layer for layer, _ in dense.heads})
        of_heads = _by_head(dense, draws, _medians(samples[name], dense, draws))
        per_head.append(_describe(labels, of_heads, dense.heads))
        of_layers = _by_layer(dense, draws, of_heads, layers)
        per_layer.append(_describe(labels, of_layers, [(layer, None) for layer in layers]))
        responders.append(_responders(labels, table))
    return Summary(pl.concat(per_head), pl.concat(per_layer), pl.concat(responders))


def _sum_by_document(top: pl.DataFrame) -> pl.DataFrame:
    """Bring token rows into the form of `schemas.document_sums`."""
    effect = pl.col("direct_effect").cast(pl.Float64)
    shares = [
        pl.when(effect == 0).then(0.0).otherwise((pl.col(part) / effect).clip(0, 1)).alias(f"clipped_{part}")
        for part in PARTS
    ]
    n_layers = top.schema["repair_mlp_by_layer"].size
    layered = [
        pl.concat_arr([pl.col(name).arr.get(i).cast(pl.Float64).sum() for i in range(n_layers)]).alias(name)
        for name in schemas.by_layer(n_layers)
    ]
    summed = [pl.col(name).cast(pl.Float64).sum() for name in (*EFFECTS, *CLIPPED)]
    grouped = top.with_columns(shares).group_by("layer", "head", "document", maintain_order=True)
    return grouped.agg(pl.len().cast(pl.Int64).alias("n"), *summed, *layered)


def _dense(table: pl.DataFrame, documents: Int[np.ndarray, " document"]) -> _Sums:
    table = table.sort("layer", "head", "document")
    heads = table.select("layer", "head").unique(maintain_order=True).rows()
    place = {head: index for index, head in enumerate(heads)}
    columns = [place[head] for head in table.select("layer", "head").rows()]
    at = np.searchsorted(documents, table["document"].to_numpy()), columns

    def spread(columns: list[str]) -> Float[np.ndarray, "document head column"]:
        dense = np.zeros((len(documents), len(heads), len(columns)))
        np.add.at(dense, at, table.select(columns).to_numpy())
        return dense

    return _Sums(heads, documents, spread(["n"])[..., 0], spread(EFFECTS), spread(CLIPPED))


def _medians(tokens: pl.DataFrame, sums: _Sums, draws: Int[np.ndarray, "replicate document"]) -> _Described:
    by_head = tokens.partition_by("layer", "head", as_dict=True)
    values, replicates, counts = [], [], np.zeros((len(sums.documents), len(sums.heads)))
    for index, head in enumerate(sums.heads):
        rows = by_head[head]
        documents = np.searchsorted(sums.documents, rows["document"].to_numpy())
        np.add.at(counts, (documents, index), 1)
        found = [median(rows[name].to_numpy(), documents, draws) for name in EFFECTS]
        values.append([m.value for m in found])
        replicates.append([m.replicates for m in found])
    return _Described(EFFECTS, Estimate(np.array(values), np.moveaxis(np.array(replicates), -1, 0)), counts)


def _by_head(sums: _Sums, draws: Int[np.ndarray, "replicate document"], medians: _Described) -> dict[str, _Described]:
    parts = sums.effects[..., [EFFECTS.index(part) for part in PARTS]]
    return {
        "mean": _Described(EFFECTS, ratio_of_sums(sums.effects, sums.n[..., None], draws), sums.n),
        "median": medians,
        "share": _Described(PARTS, ratio_of_sums(parts, sums.effects[..., :1], draws), sums.n),
        "clipped_share": _Described(PARTS, ratio_of_sums(sums.clipped, sums.n[..., None], draws), sums.n),
    }


def _by_layer(
    sums: _Sums,
    draws: Int[np.ndarray, "replicate document"],
    per_head: dict[str, _Described],
    layers: list[int],
) -> dict[str, _Described]:
    members = [[index for index, (at, _) in enumerate(sums.heads) if at == layer] for layer in layers]

    def averaged(described: _Described) -> _Described:
        means = [Estimate(described.estimate.value[m], described.estimate.replicates[:, m]).mean(0) for m in members]
        estimate = Estimate(np.stack([e.value for e in means]), np.stack([e.replicates for e in means], axis=1))
        # Of a layer's heads each has its own tokens: their number is that of one head, their documents are all.
        counts = np.stack([described.n[:, m].sum(1) / len(m) for m in members], axis=1)
        return _Described(described.quantities, estimate, counts)

    by_layer = {name: averaged(described) for name, described in per_head.items()}
    summed = np.stack([sums.effects[:, m].sum(1) for m in members], axis=1)
    parts = summed[..., [EFFECTS.index(part) for part in PARTS]]
    share = ratio_of_sums(parts, summed[..., :1], draws)
    return by_layer | {"share": _Described(PARTS, share, by_layer["share"].n)}


def _describe(
    labels: dict[str, str | int], described: dict[str, _Described], items: list[tuple[int, int | None]]
) -> pl.DataFrame:
    """Write estimates of each item (a head, or a layer with None for the head) as rows of `schemas.STATISTICS`."""
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
    return store.frame(columns | {name: [value] * len(rows) for name, value in labels.items()}, schemas.STATISTICS)


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
    named = {name: pl.lit(value) for name, value in labels.items() if name in schemas.RESPONDERS}
    rows = pl.concat(long).with_columns(**named)
    ordered = rows.sort("layer", "head", "part", "later_layer").with_columns(
        pl.col("layer", "head").cast(pl.Int16), pl.col("value").cast(pl.Float64)
    )
    return ordered.select(list(schemas.RESPONDERS))
