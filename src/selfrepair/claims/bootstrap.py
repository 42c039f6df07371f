"""Statistics of heads on a run and on its bootstrap replicates (`heads.py`)."""

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.ablation.chosen_heads import NOT_BY_REPAIR
from selfrepair.ablation.schema import FREQUENT_RANKS
from selfrepair.analysis.bootstrap import PERCENTILES, Estimate, bootstrap_draws, ratio_of_sums
from selfrepair.analysis.by_document import sum_by_document
from selfrepair.analysis.head_estimates import (
    Described,
    HeadSums,
    estimates_of_heads,
    estimates_of_layers,
    sum_by_head,
    sum_top_tokens,
)
from selfrepair.claims.neurons import Neurons
from selfrepair.claims.schema import HEAD_STATISTICS, NEURON_STATISTICS
from selfrepair.claims.statistics import OF_HEADS, OF_NEURONS
from selfrepair.claims.tables import Heads
from selfrepair.core.tables import empty, frame

Draws = Int[np.ndarray, "replicate document"]
Columns = dict[str, Float[np.ndarray, "sample item"]]  # by name; the first sample is the run, the others are replicates


def head_statistics(model: str, tokens: pl.DataFrame, sums: pl.DataFrame, replicates: int, seed: int) -> pl.DataFrame:
    """Compute each statistic of `OF_HEADS` with its 95 % interval (`HEAD_STATISTICS`).

    A statistic's interval is that of its values on the replicates, each of which draws whole documents: what heads and
    layers have in common is drawn together, and choices such as the best layer are made anew. The choice of the top
    tokens is held fixed.

    Args:
        tokens: token rows of all shards of resample ablation (`ablated_tokens`).
        sums: document sums of all shards (`document_sums`).
        replicates: of the bootstrap, whose draws are those of `experiments.self_repair.summarise`.
    """
    documents = np.sort(sums["document"].unique().to_numpy())
    draws = bootstrap_draws(len(documents), replicates, seed)
    n_layers = tokens.schema["repair_mlp_by_layer"].size
    top = tokens.filter("selected")
    sets = [sum_by_head(table, documents) for table in (sum_top_tokens(top), sums)]
    columns = [samples for by_head in sets for samples in _samples(by_head, draws)]
    columns[0] |= _of_tokens(top, sets[0], draws)
    keys = [keys for by_head in sets for keys in _keys(by_head, model, n_layers)]
    values = np.array([_statistics(keys, columns, sample) for sample in range(replicates + 1)])
    again = pl.DataFrame(values[1:], schema=list(OF_HEADS)).fill_nan(None)
    low, high = (again.quantile(percentile / 100, "linear").row(0) for percentile in PERCENTILES)
    same = {"model": model, "n_layers": n_layers, "heads": len(sets[0].heads)}
    rows = {"statistic": list(OF_HEADS), "value": values[0], "low": low, "high": high}
    return frame(rows | {name: [value] * len(OF_HEADS) for name, value in same.items()}, HEAD_STATISTICS)


def _statistics(keys: list[pl.DataFrame], columns: list[Columns], sample: int) -> list[float]:
    tables = [
        key.with_columns(pl.Series(name, values[sample], nan_to_null=True) for name, values in of_set.items())
        for key, of_set in zip(keys, columns, strict=True)
    ]
    return [function(Heads(*tables)) for function in OF_HEADS.values()]


def _keys(by_head: HeadSums, model: str, n_layers: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What tells heads, and layers, apart."""
    heads = pl.DataFrame(by_head.heads, schema=["layer", "head"], orient="row")
    layers = pl.DataFrame({"layer": by_head.layers})
    return tuple(table.with_columns(model=pl.lit(model), n_layers=pl.lit(n_layers)) for table in (heads, layers))


def _samples(by_head: HeadSums, draws: Draws) -> tuple[Columns, Columns]:
    """Columns of the heads and of the layers, named as by `summaries.wide`."""
    of_heads = estimates_of_heads(by_head, draws)
    return _columns(of_heads), _columns(estimates_of_layers(by_head, draws, of_heads))


def _columns(described: dict[str, Described]) -> Columns:
    return {
        f"{statistic}_{quantity}": _stacked(estimate)[..., column]
        for statistic, (quantities, estimate, _) in described.items()
        for column, quantity in enumerate(quantities)
    }


def _stacked(estimate: Estimate) -> Float[np.ndarray, " sample *item"]:
    return np.concatenate([estimate.value[None], estimate.replicates])


def _of_tokens(top: pl.DataFrame, by_head: HeadSums, draws: Draws) -> dict[str, Float[np.ndarray, "sample head"]]:
    """Of the top tokens of each head: the standard deviation of self-repair, and shares of tokens."""
    repair = pl.col("self_repair").cast(pl.Float64)
    columns = {
        "repair": repair,
        "squared": repair.pow(2),
        "share_scale_falls": pl.col("ablated_scale") < pl.col("scale"),
        "share_overcorrected": pl.col("delta_logit") > 0,
    }
    rows = top.select("layer", "head", "document", *(expression.alias(name) for name, expression in columns.items()))
    summed = sum_by_document(rows, list(columns), by_head.heads, by_head.documents)
    means = {name: _stacked(ratio_of_sums(summed[name], summed["n"], draws)) for name in columns}
    variance = np.maximum(means.pop("squared") - means.pop("repair") ** 2, 0)
    return means | {"sd_self_repair": np.sqrt(variance)}


def neuron_statistics(
    model: str,
    tokens: pl.DataFrame,
    chosen: pl.DataFrame,
    clean: pl.DataFrame,
    heads: pl.DataFrame,
    replicates: int,
    seed: int,
) -> pl.DataFrame:
    """Compute each statistic of `OF_NEURONS` with its 95 % interval (`NEURON_STATISTICS`).

    There is a row for each head that was not chosen by its repair, and one for their mean, for which a replicate draws
    the documents of all heads together. Without such a head, or where the run looks at other MLPs than the last, there
    are no rows.

    Args:
        tokens: token rows of single neurons (`NEURON_TOKENS`).
        chosen: `CHOSEN_HEADS` of the model.
        clean: `CLEAN_TOKENS` of the run, of all of whose documents a replicate draws.
        heads: `HEAD_STATISTICS`, for the number of layers.
    """
    documents = np.sort(clean["document"].unique().to_numpy())
    draws = np.concatenate([np.ones((1, len(documents)), int), bootstrap_draws(len(documents), replicates, seed)])
    last = tokens.filter("by_direct_effect", mlp_layer=heads["n_layers"][0] - 1)
    unselected = chosen.filter(pl.col("reason").is_in(NOT_BY_REPAIR)).select("layer", "head").unique()
    of_heads = {
        head: _neurons(rows, documents, draws)
        for head in sorted(unselected.rows())
        if len(rows := last.filter(layer=head[0], head=head[1]))
    }
    listed = []
    for name, function in OF_NEURONS.items() if of_heads else ():
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = {head: function(neurons) for head, neurons in of_heads.items()}
        samples[None, None] = np.mean(list(samples.values()), axis=0)
        for head, values in samples.items():
            listed.append((model, *head, name, values[0], *np.nanpercentile(values[1:], PERCENTILES)))
    table = pl.DataFrame(listed, schema=list(NEURON_STATISTICS), orient="row") if listed else empty(NEURON_STATISTICS)
    return frame(table.to_dict(), NEURON_STATISTICS)


def _neurons(rows: pl.DataFrame, documents: Int[np.ndarray, " document"], draws: Draws) -> Neurons:
    """Sums over the token rows of one head, in the run and in every replicate."""
    weights = draws[:, np.searchsorted(documents, rows["document"].to_numpy())].astype(float)
    direct, change = (rows[f"neuron_{name}"].arr.get(0).to_numpy() for name in ("direct_effect", "change"))
    harm, harmful = rows["harmful_change"].to_numpy(), rows["harmful_direct_effect"].to_numpy()
    positive = rows["positive_change"].cast(pl.Float64).to_numpy()
    share = np.divide(rows["top_percent_change"].to_numpy(), positive, out=np.zeros(len(rows)), where=positive > 0)
    first = rows["neuron"].to_numpy()[:, :FREQUENT_RANKS]
    named = np.unique(first[first >= 0])
    among = np.stack([(first == neuron).any(1) for neuron in named], axis=1)
    erases, adds = (direct < 0) & (change > 0), (harmful > 0) & (harm < 0)
    columns = [np.ones(len(rows)), erases, adds, share.clip(0, 1), positive > 0]
    sums = weights @ np.stack(columns, axis=1).astype(float)
    return Neurons(*sums.T, frequent=weights @ among.astype(float))
