"""Statistics of heads in every sample of a run's documents (`heads.py`)."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.ablation.chosen_heads import NOT_BY_REPAIR
from selfrepair.ablation.schema_neurons import FREQUENT_RANKS
from selfrepair.analysis.bootstrap import Draws, Estimate, effective
from selfrepair.analysis.by_document import Head, Selection, Totals, totals
from selfrepair.analysis.head_estimates import (
    CLIPPED,
    EFFECTS,
    Described,
    estimates_of_heads,
    estimates_of_layers,
    sum_top_tokens,
)
from selfrepair.claims.neurons import Neurons
from selfrepair.claims.schema import HEAD_STATISTICS, NEURON_STATISTICS
from selfrepair.claims.statistics import OF_HEADS, OF_NEURONS, SHARES_OF_HEADS, SHARES_OF_TOKENS
from selfrepair.claims.tables import Heads
from selfrepair.core.tables import empty, frame

Columns = dict[str, Float[np.ndarray, "sample item"]]  # by name
OF_TOKENS = {
    "self_repair_squared": pl.col("self_repair").cast(pl.Float64).pow(2),
    "share_scale_falls": pl.col("ablated_scale") < pl.col("scale"),
    "share_overcorrected": pl.col("delta_logit") > 0,  # self-repair above the loss of direct effect
    "share_mirrored": pl.col("delta_logit") < 2 * (pl.col("delta_logit") - pl.col("self_repair")),  # below minus that
}


def head_statistics(
    model: str,
    tokens: pl.DataFrame,
    sums: pl.DataFrame,
    clean: pl.DataFrame,
    top_fraction: float,
    replicates: int,
    seed: int,
) -> pl.DataFrame:
    """Compute each statistic of `OF_HEADS` with its 95 % interval (`HEAD_STATISTICS`).

    A statistic is computed on each sample of documents: what heads and layers have in common is drawn together, and
    choices such as the best layer, and the top tokens, are made anew.

    Args:
        tokens: token rows of all shards of resample ablation (`ablated_tokens`).
        sums: document sums of all shards (`document_sums`).
        clean: clean tokens of the run (`CLEAN_TOKENS`).
        top_fraction: share of tokens that are a head's top tokens.
        replicates: of the bootstrap, whose draws are those of `analysis.heads.summarise`.
    """
    selection = Selection.of(clean["document"], top_fraction, replicates, seed)
    heads = sorted(sums.select("layer", "head").unique().rows())
    n_layers = tokens.schema["repair_mlp_by_layer"].size
    top = sum_top_tokens(tokens, heads, selection, **OF_TOKENS)
    sets = [top, totals(sums, [*EFFECTS, *CLIPPED], heads, selection.draws)]
    columns = [samples for of_set in sets for samples in _samples(of_set, heads)]
    columns[0] |= _of_tokens(top)
    keys = _keys(heads, model, n_layers) * 2
    samples = range(len(selection.draws.weights))
    values = selection.draws.estimate(np.array([_statistics(keys, columns, sample) for sample in samples]))
    late = np.array([2 * layer >= n_layers for layer, _ in heads])
    independent = effective(top.tokens[:, late].sum(1))
    counts = {"all": len(heads), "late": int(late.sum())}
    ends = [_interval(name, values[index], independent, counts) for index, name in enumerate(OF_HEADS)]
    low, high = (pl.Series(end).fill_nan(None) for end in zip(*ends, strict=True))
    same = {"model": model, "n_layers": n_layers, "heads": len(heads)}
    rows = {"statistic": list(OF_HEADS), "value": values.value, "low": low, "high": high}
    return frame(rows | {name: [value] * len(OF_HEADS) for name, value in same.items()}, HEAD_STATISTICS)


def _interval(
    name: str, estimate: Estimate, documents: Float[np.ndarray, ""], heads: dict[str, int]
) -> tuple[float, float]:
    """Ends of the interval that suits the kind of a statistic; NaN where it is not defined.

    Args:
        documents: effective number of them behind a share of tokens.
        heads: how many a share of heads is of.
    """
    if name in SHARES_OF_HEADS:
        ends = estimate.interval_of_heads(heads[SHARES_OF_HEADS[name]])
    elif name in SHARES_OF_TOKENS:
        ends = estimate.interval_of_share(documents)
    else:
        ends = estimate.interval
    low, high = map(float, ends)
    return low, high


def _statistics(keys: list[pl.DataFrame], columns: list[Columns], sample: int) -> list[float]:
    tables = [
        key.with_columns(pl.Series(name, values[sample], nan_to_null=True) for name, values in of_set.items())
        for key, of_set in zip(keys, columns, strict=True)
    ]
    return [function(Heads(*tables)) for function in OF_HEADS.values()]


def _keys(heads: list[Head], model: str, n_layers: int) -> list[pl.DataFrame]:
    """What tells heads, and layers, apart."""
    of_heads = pl.DataFrame(heads, schema=["layer", "head"], orient="row")
    of_layers = of_heads.select(pl.col("layer").unique().sort())
    return [t.with_columns(model=pl.lit(model), n_layers=pl.lit(n_layers)) for t in (of_heads, of_layers)]


def _samples(of_set: Totals, heads: list[Head]) -> tuple[Columns, Columns]:
    """Columns of the heads and of the layers, named as by `analysis.wide`."""
    of_heads = estimates_of_heads(of_set)
    return _columns(of_heads), _columns(estimates_of_layers(of_set, heads, of_heads))


def _columns(described: dict[str, Described]) -> Columns:
    return {
        f"{statistic}_{quantity}": estimate.samples[..., column]
        for statistic, (quantities, estimate, _) in described.items()
        for column, quantity in enumerate(quantities)
    }


def _of_tokens(top: Totals) -> Columns:
    """Of the top tokens of each head: the standard deviation of self-repair, and shares of tokens."""
    means = {name: top.ratio([name]).samples[..., 0] for name in ("self_repair", *OF_TOKENS)}
    variance = np.maximum(means.pop("self_repair_squared") - means.pop("self_repair") ** 2, 0)
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
    the documents of all heads together; the choice of the top tokens is held fixed. Without such a head, or where the
    run looks at other MLPs than the last, there are no rows.

    Args:
        tokens: token rows of single neurons (`NEURON_TOKENS`).
        chosen: `CHOSEN_HEADS` of the model.
        clean: `CLEAN_TOKENS` of the run, of all of whose documents a replicate draws.
        heads: `HEAD_STATISTICS`, for the number of layers.
    """
    draws = Draws.of(clean["document"], replicates, seed)
    last = tokens.filter("by_direct_effect", mlp_layer=heads["n_layers"][0] - 1)
    unselected = chosen.filter(pl.col("reason").is_in(NOT_BY_REPAIR)).select("layer", "head").unique()
    rows_of = {head: last.filter(layer=head[0], head=head[1]) for head in sorted(unselected.rows())}
    rows_of = {head: rows for head, rows in rows_of.items() if len(rows)}
    of_heads = {head: _neurons(rows, draws) for head, rows in rows_of.items()}
    documents = {head: _effective([rows], draws) for head, rows in rows_of.items()}
    documents[None, None] = _effective(rows_of.values(), draws)
    listed = []
    for name, function in OF_NEURONS.items() if of_heads else ():
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = {head: function(neurons) for head, neurons in of_heads.items()}
        samples[None, None] = np.mean(list(samples.values()), axis=0)
        for head, values in samples.items():
            estimate = draws.estimate(values)
            listed.append((model, *head, name, float(estimate.value), *_interval(name, estimate, documents[head], {})))
    table = pl.DataFrame(listed, schema=list(NEURON_STATISTICS), orient="row") if listed else empty(NEURON_STATISTICS)
    return frame(table.to_dict(), NEURON_STATISTICS)


def _effective(rows: Iterable[pl.DataFrame], draws: Draws) -> Float[np.ndarray, ""]:
    """Effective number of documents behind token rows."""
    places = np.concatenate([draws.at(of_head["document"]) for of_head in rows] or [np.zeros(0, int)])
    return effective(np.bincount(places, minlength=len(draws.documents)).astype(float))


def _neurons(rows: pl.DataFrame, draws: Draws) -> Neurons:
    """Sums over the token rows of one head, in every sample."""
    weights = draws.weights[:, draws.at(rows["document"])].astype(float)
    direct, change = (rows[f"neuron_{name}"].arr.get(0).to_numpy() for name in ("direct_effect", "change"))
    harm, harmful = rows["harmful_change"].to_numpy(), rows["harmful_direct_effect"].to_numpy()
    positive = rows["positive_change"].cast(pl.Float64).to_numpy()
    share = np.divide(rows["top_percent_change"].to_numpy(), positive, out=np.zeros(len(rows)), where=positive > 0)
    first = rows["neuron"].to_numpy()[:, :FREQUENT_RANKS]
    named = np.unique(first[first >= 0])
    among = np.stack([(first == neuron).any(1) for neuron in named], axis=1)
    erases, adds = (direct < 0) & (change > 0), (harmful > 0) & (harm < 0)
    columns = {
        "n": np.ones(len(rows)),
        "erases_less": erases,
        "adds_less": adds,
        "shares": share.clip(0, 1),
        "with_shares": positive > 0,
        "frequent": among,
    }
    return Neurons(**{name: weights @ column.astype(float) for name, column in columns.items()})
