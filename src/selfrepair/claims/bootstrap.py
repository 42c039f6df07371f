"""Statistics of heads on a run and on its bootstrap replicates (`heads.py`)."""

import numpy as np
import polars as pl
from jaxtyping import Float, Int

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
from selfrepair.analysis.schema import HEAD_STATISTICS
from selfrepair.claims.statistics import OF_HEADS
from selfrepair.claims.tables import Heads
from selfrepair.core.tables import frame

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
    columns[0]["sd_self_repair"] = _spread(top, sets[0], draws)
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


def _spread(top: pl.DataFrame, by_head: HeadSums, draws: Draws) -> Float[np.ndarray, "sample head"]:
    """Standard deviation of self-repair over the top tokens of each head."""
    repair = top.select("layer", "head", "document", pl.col("self_repair").cast(pl.Float64))
    squared = repair.with_columns(squared=pl.col("self_repair").pow(2))
    summed = sum_by_document(squared, ["self_repair", "squared"], by_head.heads, by_head.documents)
    mean, square = (_stacked(ratio_of_sums(summed[name], summed["n"], draws)) for name in ("self_repair", "squared"))
    return np.sqrt(np.maximum(square - mean**2, 0))
