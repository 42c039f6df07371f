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
from typing import Any

import polars as pl

from selfrepair.analysis.by_document import Grouping, Selection, Totals, group_heads, top_totals, totals
from selfrepair.analysis.schema import NORM, NORM_HISTOGRAM, RATIO_BIN
from selfrepair.core.tables import frame

NUMBERS = [
    *("logit", "scale", "ablated_scale", "own_scale", "direct_effect", "ablated_direct_effect"),
    *("repair_norm", "repair_attention", "repair_mlp"),
]
READ = ["layer", "head", "row", "pos", "document", "selected", "control", "rank", *NUMBERS]
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
    model: str,
    ablation: str,
    tokens: list[Path],
    clean: pl.DataFrame,
    top_fraction: float,
    replicates: int,
    seed: int,
) -> NormSummary:
    """`summarise_norm` of the Parquet files of an ablation's token rows; of these only the columns `READ` are read."""
    n_layers = pl.read_parquet_schema(tokens[0])["repair_mlp_by_layer"].size
    rows = pl.read_parquet(tokens, columns=READ)
    return summarise_norm(model, ablation, n_layers, rows, clean, top_fraction, replicates, seed)


def summarise_norm(
    model: str,
    ablation: str,
    n_layers: int,
    tokens: pl.DataFrame,
    clean: pl.DataFrame,
    top_fraction: float,
    replicates: int,
    seed: int,
) -> NormSummary:
    """Summarise what an ablation does to the final norm, for every head of a model and groups of them.

    Args:
        tokens: token rows of all shards, with the columns `READ` (`ablated_tokens`).
        clean: clean tokens of the run (`CLEAN_TOKENS`).
        top_fraction: share of tokens that are a head's top tokens.
        replicates: of the bootstrap; documents are drawn from all of the run, and each selects its own top tokens.
    """
    bias = clean.select("row", "pos", "bias")
    selection = Selection.of(clean["document"], top_fraction, replicates, seed)
    grouping = group_heads(sorted(tokens.select("layer", "head").unique().rows()), n_layers)
    labels = {"model": model, "ablation": ablation, "n_layers": n_layers}
    summed: dict[str, list[Totals]] = {name: [] for name in TOKENS}
    histograms = []
    # Layer by layer, as the parts take several times the room of what they are made from.
    for layer in sorted({layer for layer, _ in grouping.heads}):
        parts = split_norm(tokens.filter(layer=layer).join(bias, on=["row", "pos"], how="left"))
        heads = [head for head in grouping.heads if head[0] == layer]
        summed["top"].append(top_totals(parts, _SUMMED, heads, selection))
        summed["control"].append(totals(parts.filter("control"), _SUMMED, heads, selection.draws))
        histograms += [_histogram(labels | {"tokens": name}, parts.filter(flag)) for name, flag in TOKENS.items()]
    tables = [
        _describe(labels | {"tokens": name}, grouping, Totals.joined(by_layer).grouped(grouping.members))
        for name, by_layer in summed.items()
    ]
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


def _describe(labels: dict[str, Any], grouping: Grouping, of_groups: Totals) -> pl.DataFrame:
    wanted: list[tuple[str | None, str, str, str, str]] = [
        (None, "scale_ratio", "mean", "ratio", "n"),
        (None, "scale_ratio", "above_1", "above_1", "n"),
    ]
    for (quantity, by), column in _SPLIT.items():
        wanted += [(by, quantity, "mean", column, "n"), (by, quantity, "share", column, "direct_effect")]
    counts = of_groups.counts
    tables = []
    for accounting, quantity, statistic, column, over in wanted:
        estimate = of_groups.ratio([column], over)[:, 0]
        low, high = estimate.interval_of_share(counts["n_effective"]) if statistic == "above_1" else estimate.interval
        same = labels | {"accounting": accounting, "quantity": quantity, "statistic": statistic}
        columns: dict[str, Any] = {name: [value] * len(grouping.groups) for name, value in same.items()}
        columns |= {name: [getattr(group, name) for group in grouping.groups] for name in ("heads", "layer", "head")}
        columns |= {"value": estimate.value, "low": low, "high": high, **counts}
        tables.append(frame(columns, NORM))
    return pl.concat(tables)


def _histogram(labels: dict[str, Any], tokens: pl.DataFrame) -> pl.DataFrame:
    bins = (pl.col("ratio") / RATIO_BIN).floor().cast(pl.Int32).alias("bin")
    counts = tokens.group_by("layer", "head", bins).agg(pl.len().alias("count")).sort("layer", "head", "bin")
    named = {name: [labels[name]] * len(counts) for name in ("model", "ablation", "tokens")}
    return frame(counts.to_dict() | named, NORM_HISTOGRAM)
