"""How the final norm repairs: its scale before and after an ablation, and the logit's change split in other orders.

Definitions: experiments.md a.9, a.13, pitfall:split-order; method.md section 2. With s, s' and s_own the scales of the
clean stream, of the ablated one and of the clean one with only the head changed, u = logit - bias, and primes for the
ablated pass:

    clean scale     delta_logit = own + attention + mlp + u' (1 - s'/s)        parts are r.v/s, the norm acts last
    ablated scale   delta_logit = (own + attention + mlp) s/s' + u (s/s' - 1)  parts are r.v/s', the norm acts first
    midpoint        the mean of both

The norm's part of the first is that of the head alone, (u + own)(s/s_own - 1), and the rest, which needs the
responders.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from selfrepair.analysis.bootstrap import bootstrap_draws, ratio_of_sums
from selfrepair.analysis.by_document import Grouping, group_heads, sum_by_document
from selfrepair.analysis.schema import NORM, NORM_HISTOGRAM, RATIO_BIN
from selfrepair.core.tables import frame

NUMBERS = [
    *("logit", "scale", "ablated_scale", "own_scale", "direct_effect", "ablated_direct_effect"),
    *("repair_norm", "repair_attention", "repair_mlp"),
]
READ = ["layer", "head", "row", "pos", "document", "selected", "control", *NUMBERS]
PARTS = ["own", "attention", "mlp", "norm"]
NORM_PARTS = ["norm_own", "norm_responders"]  # of the accounting with the clean scale
CLEAN, ABLATED, MIDPOINT = "clean scale", "ablated scale", "midpoint"
ACCOUNTINGS = [CLEAN, ABLATED, MIDPOINT]
TOKENS = {"top": "selected", "control": "control"}


@dataclass(frozen=True)
class NormSummary:
    """Tables of `NORM` and `NORM_HISTOGRAM`."""

    norm: pl.DataFrame
    norm_histogram: pl.DataFrame


def norm_of_files(
    model: str, ablation: str, tokens: list[Path], clean: pl.DataFrame, replicates: int, seed: int
) -> NormSummary:
    """`summarise_norm` of the Parquet files of an ablation's token rows; of these only the columns `READ` are read."""
    n_layers = pl.read_parquet_schema(tokens[0])["repair_mlp_by_layer"].size
    return summarise_norm(model, ablation, n_layers, pl.read_parquet(tokens, columns=READ), clean, replicates, seed)


def summarise_norm(
    model: str,
    ablation: str,
    n_layers: int,
    tokens: pl.DataFrame,
    clean: pl.DataFrame,
    replicates: int,
    seed: int,
) -> NormSummary:
    """Summarise what an ablation does to the final norm, for every head of a model and groups of them.

    Args:
        tokens: token rows of all shards, with the columns `READ` (`ablated_tokens`).
        clean: clean tokens of the run (`CLEAN_TOKENS`).
        replicates: of the bootstrap; documents are drawn from all of the run.
    """
    bias = clean.select("row", "pos", "bias")
    documents = np.sort(clean["document"].unique().to_numpy())
    draws = bootstrap_draws(len(documents), replicates, seed)
    grouping = group_heads(sorted(tokens.select("layer", "head").unique().rows()), n_layers)
    labels = {"model": model, "ablation": ablation, "n_layers": n_layers}
    sums, histograms = {name: [] for name in TOKENS}, []
    # Layer by layer, as the parts take several times the room of what they are made from.
    for layer in sorted({layer for layer, _ in grouping.heads}):
        parts = split_norm(tokens.filter(layer=layer).join(bias, on=["row", "pos"], how="left"))
        heads = [head for head in grouping.heads if head[0] == layer]
        for name, flag in TOKENS.items():
            chosen = parts.filter(flag)
            sums[name].append(sum_by_document(chosen, _SUMMED, heads, documents))
            histograms.append(_histogram(labels | {"tokens": name}, chosen))
    tables = []
    for name, by_layer in sums.items():
        columns = {column: np.hstack([layer[column] for layer in by_layer]) for column in ("n", *_SUMMED)}
        of_groups = {column: values @ grouping.members for column, values in columns.items()}
        tables.append(_describe(labels | {"tokens": name}, grouping, of_groups, draws))
    return NormSummary(pl.concat(tables), pl.concat(histograms))


def split_norm(tokens: pl.DataFrame) -> pl.DataFrame:
    """Add to token rows with `bias`: `ratio` of clean and ablated scale, and the parts of delta_logit (logits).

    Parts are named `<part>_<accounting>`, as `own_clean scale`; the norm's are `norm_own` and `norm_responders`.
    """
    wide = tokens.with_columns(pl.col(*NUMBERS, "bias").cast(pl.Float64))
    ratio = pl.col("scale") / pl.col("ablated_scale")
    unbiased = pl.col("logit") - pl.col("bias")
    own = pl.col("ablated_direct_effect") - pl.col("direct_effect")
    by_clean_scale = {"own": own, "attention": pl.col("repair_attention"), "mlp": pl.col("repair_mlp")}
    norm_own = (unbiased + own) * (pl.col("scale") / pl.col("own_scale") - 1)
    clean = by_clean_scale | {"norm": pl.col("repair_norm")}
    ablated = {name: part * ratio for name, part in by_clean_scale.items()} | {"norm": unbiased * (ratio - 1)}
    return wide.with_columns(
        ratio=ratio,
        above_1=ratio > 1,
        norm_own=norm_own,
        norm_responders=pl.col("repair_norm") - norm_own,
        **{f"{name}_{CLEAN}": part for name, part in clean.items()},
        **{f"{name}_{ABLATED}": part for name, part in ablated.items()},
        **{f"{name}_{MIDPOINT}": (clean[name] + ablated[name]) / 2 for name in PARTS},
    )


_SPLIT = {(name, accounting): f"{name}_{accounting}" for accounting in ACCOUNTINGS for name in PARTS}
_SPLIT |= {(name, CLEAN): name for name in NORM_PARTS}
_SUMMED = ["ratio", "above_1", "direct_effect", *_SPLIT.values()]


def _describe(
    labels: dict[str, str | int], grouping: Grouping, sums: dict[str, np.ndarray], draws: np.ndarray
) -> pl.DataFrame:
    wanted = [(None, "scale_ratio", "mean", "ratio", "n"), (None, "scale_ratio", "above_1", "above_1", "n")]
    for (quantity, accounting), column in _SPLIT.items():
        wanted += [(accounting, quantity, "mean", column, "n")]
        wanted += [(accounting, quantity, "share", column, "direct_effect")]
    tokens = sums["n"].sum(0).astype(int).tolist()
    documents = (sums["n"] > 0).sum(0).tolist()
    tables = []
    for accounting, quantity, statistic, column, over in wanted:
        estimate = ratio_of_sums(sums[column], sums[over], draws)
        low, high = estimate.interval
        same = labels | {"accounting": accounting, "quantity": quantity, "statistic": statistic}
        columns = {name: [value] * len(grouping.groups) for name, value in same.items()}
        columns |= {name: [getattr(group, name) for group in grouping.groups] for name in ("heads", "layer", "head")}
        columns |= {"value": estimate.value, "low": low, "high": high, "n_tokens": tokens, "n_documents": documents}
        tables.append(frame(columns, NORM))
    return pl.concat(tables)


def _histogram(labels: dict[str, str | int], tokens: pl.DataFrame) -> pl.DataFrame:
    bins = (pl.col("ratio") / RATIO_BIN).floor().cast(pl.Int32).alias("bin")
    counts = tokens.group_by("layer", "head", bins).agg(pl.len().alias("count")).sort("layer", "head", "bin")
    named = {name: [labels[name]] * len(counts) for name in ("model", "ablation", "tokens")}
    return frame(counts.to_dict() | named, NORM_HISTOGRAM)
