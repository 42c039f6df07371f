"""Per-head results that the authors published, beside those of a run (experiments.md (c) 5 to 10).

The file is a CSV table, a row per model and head, with the columns of `COLUMNS`: means over a head's top tokens, signs
as here (`logit_diff` is ablated minus clean). Published values come without uncertainty, and the heads of a model are
all there are, no sample: correlations and slopes have no interval.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.analysis.schema import REFERENCE_AGREEMENT, REFERENCE_HEADS
from selfrepair.claims.statistics import OF_HEADS, Heads
from selfrepair.core.tables import Column, empty, frame

ALIASES = {"gpt2": "gpt2-small"}  # what reference files call a model, where users often call it something else
COLUMNS = {
    "model": pl.String,
    "percentile": pl.Float64,
    "layer": pl.Int16,
    "head": pl.Int16,
    "logit_diff": pl.Float64,
    "direct_effect": pl.Float64,
    "ablated_direct_effect": pl.Float64,
    "self_repair_from_ln": pl.Float64,
    "self_repair_from_heads": pl.Float64,
    "self_repair_from_layers": pl.Float64,
    "percent_ln_of_de": pl.Float64,
}
# The quantity of `EFFECTS` that each published one is.
QUANTITIES = {
    "direct_effect": pl.col("direct_effect"),
    "ablated_direct_effect": pl.col("ablated_direct_effect"),
    "delta_logit": pl.col("logit_diff"),
    "self_repair": pl.col("logit_diff") - (pl.col("ablated_direct_effect") - pl.col("direct_effect")),
    "repair_norm": pl.col("self_repair_from_ln"),
    "repair_attention": pl.col("self_repair_from_heads"),
    "repair_mlp": pl.col("self_repair_from_layers"),
}
# How well the authors agree with themselves: correlation over the 144 heads of Pythia-160M of the published values with
# those of an earlier run of the same script in their Git history (rows of 400 tokens then; later settings unknown).
AUTHORS_PEARSON = {
    "direct_effect": 0.93,
    "ablated_direct_effect": 0.98,
    "delta_logit": 0.81,
    "repair_norm": 0.77,
    "repair_attention": 0.77,
    "repair_mlp": 0.77,
}
AUTHORS_WORDS = (
    "Of Pythia-160M the authors' Git history holds an earlier run of the same script. Over its 144 heads it correlates "
    "with the published one at .98 for ablated direct effects, .93 for direct effects, .81 for changes of the logit "
    "and .77 for each part of self-repair: no replication can be expected to come closer."
)
PARTS = ["self_repair", "repair_norm", "repair_attention", "repair_mlp"]
NORM_SHARE, NORM_SHARE_CLAIM = "penultimate_norm_share", "norm-share-mean"
# Statistics that need more than top tokens of heads, which is all that the file holds.
NOT_PUBLISHED = (
    *("unfiltered_repair", "heavy_tail", "noisily_repaired", "scale_falls"),
    *("overcorrected", "mirror_of_overcorrection", "overcorrection_beyond_mirror"),
)
MODELS = {
    "model": Column(pl.String, "", "name of the model in the run"),
    "published_as": Column(pl.String, "", "its name in the reference file; null where it is not compared"),
    "heads": Column(pl.Int64, "heads", "heads compared"),
    "reason": Column(pl.String, "", "why it is not compared; null where it is"),
}
PUBLISHED = {
    "model": Column(pl.String, "", "model of the reference file"),
    "statistic": Column(pl.String, "", "function of selfrepair.claims.heads"),
    "value": Column(pl.Float64, "as statistic", "the statistic of the published values, top tokens"),
}
PUBLISHED_NORM_SHARE = {
    "model": Column(pl.String, "", "model, or mean of those above"),
    "recomputed": Column(
        pl.Float64, "ratio", f"{NORM_SHARE} of the reference file; null where the file lacks the model"
    ),
    "quoted": Column(pl.Float64, "ratio", "the same as config/claims.yaml quotes it"),
    "paper_text": Column(pl.Float64, "ratio", "what the paper says of it, a mean over models"),
}


@dataclass(frozen=True)
class Comparison:
    """Tables of `REFERENCE_HEADS`, `REFERENCE_AGREEMENT` and `MODELS`."""

    heads: pl.DataFrame
    agreement: pl.DataFrame
    models: pl.DataFrame


def read_reference(path: Path, top_fraction: float) -> pl.DataFrame:
    """Read the published results at a share of top tokens; columns model, layer, head, percent_ln_of_de, `QUANTITIES`.

    Raises:
        ValueError: a column or that share is missing or there twice, a value is no finite number or a direct effect
            is zero (the message names row and column), or a model's rows are not all its heads once.
    """
    try:
        table = pl.read_csv(path, infer_schema=False, glob=False)
        header = pl.read_csv(path, infer_schema=False, glob=False, has_header=False, n_rows=1).row(0)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} is no CSV file ({error})") from error
    if missing := sorted(set(COLUMNS) - set(table.columns)):
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise ValueError(f"{path} has the column {twice[0]} twice; remove one")
    for name, dtype in COLUMNS.items():
        values = table[name].cast(dtype, strict=False)
        usable = (
            values.is_not_null() if dtype == pl.String or dtype.is_integer() else values.is_finite().fill_null(False)
        )
        if name == "direct_effect":
            usable &= values != 0
        if not usable.all():
            row = usable.arg_min()
            raise ValueError(
                f"{path}, row {row + 2}, {name}: {table[name][row]!r} can't be used; correct it or remove the row"
            )
    table = table.select(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items())
    chosen = table.filter((pl.col("percentile") - top_fraction).abs() < 1e-9)
    if chosen.is_empty():
        known = ", ".join(map(str, table["percentile"].unique().sort()))
        raise ValueError(
            f"{path} has results for top shares of {known}, not for `analysis.top_fraction` {top_fraction}"
        )
    if chosen.select("model", "layer", "head").is_duplicated().any():
        raise ValueError(f"{path} holds a head twice; remove one")
    for (model,), rows in chosen.group_by("model", maintain_order=True):
        n_layers, n_heads = (rows[name].max() + 1 for name in ("layer", "head"))
        if rows.height != n_layers * n_heads or rows.select(pl.min_horizontal("layer", "head").min()).item() < 0:
            raise ValueError(
                f"{path} has {rows.height} heads of {model}, the last of layer {n_layers - 1} and with the number "
                f"{n_heads - 1}: all heads of a model are needed, from L0H0, and no others; correct it"
            )
    return chosen.select("model", "layer", "head", "percent_ln_of_de", **QUANTITIES).sort("model", "layer", "head")


def compare(heads: dict[str, pl.DataFrame], published: pl.DataFrame) -> Comparison:
    """Join a run's heads with the published ones by model, layer and head, and describe how far they agree.

    Args:
        heads: `STATISTICS` per head by model, resample ablation.
        published: of `read_reference`.
    """
    listed: list[tuple[str, str | None, int, str | None]] = []
    joined = [empty(REFERENCE_HEADS)]
    for name, table in heads.items():
        published_as = name if name in published["model"] else ALIASES.get(name, name)
        other = published.filter(model=published_as)
        means = table.filter((pl.col("tokens") == "top") & (pl.col("statistic") == "mean"))
        if reason := _reason(table, published_as, other):
            listed.append((name, None, 0, reason))
            continue
        joined.append(_joined(means, published_as, other))
        listed.append((name, published_as, joined[-1].height // len(QUANTITIES), None))
    pairs = pl.concat(joined)
    models = pl.DataFrame(listed, schema={name: column.dtype for name, column in MODELS.items()}, orient="row")
    return Comparison(pairs, _agreement(pairs), models)


def _reason(table: pl.DataFrame, published_as: str, other: pl.DataFrame) -> str | None:
    """Why a model can't be compared."""
    if other.is_empty():
        return f"the reference file has no {published_as}"
    own, there = (set(t.select("layer", "head").unique().rows()) for t in (table, other))
    n_layers = other["layer"].max() + 1
    if table["n_layers"][0] != n_layers or not own <= there:
        return f"the {published_as} of the reference file has other layers ({n_layers}) or heads"
    return None


def _joined(means: pl.DataFrame, published_as: str, other: pl.DataFrame) -> pl.DataFrame:
    long = other.unpivot(
        list(QUANTITIES), index=["layer", "head"], variable_name="quantity", value_name="published"
    ).with_columns(published_as=pl.lit(published_as))
    renamed = means.rename({"value": "measured", "low": "measured_low", "high": "measured_high"})
    pairs = renamed.join(long, on=["layer", "head", "quantity"], how="inner", maintain_order="left")
    return pairs.select(pl.col(name).cast(column.dtype) for name, column in REFERENCE_HEADS.items())


def _agreement(pairs: pl.DataFrame) -> pl.DataFrame:
    measured, published = pl.col("measured"), pl.col("published")
    described = [
        pl.len().cast(pl.Int64).alias("n_heads"),
        pl.corr(measured, published).alias("pearson"),
        pl.corr(measured, published, method="spearman").alias("spearman"),
        pl.col("quantity")
        .first()
        .replace_strict(AUTHORS_PEARSON, default=None)
        .cast(pl.Float64)
        .alias("authors_pearson"),
        (pl.cov(measured, published) / published.var()).alias("slope"),
        (measured - published).pow(2).mean().sqrt().alias("rms_difference"),
        measured.mean().alias("measured"),
        published.mean().alias("published"),
    ]
    key = ["model", "published_as", "quantity"]
    whole = pairs.group_by(key, maintain_order=True).agg(described).with_columns(layer=pl.lit(None, pl.Int16))
    by_layer = pairs.group_by([*key, "layer"], maintain_order=True).agg(described)
    both = pl.concat([table.select(list(REFERENCE_AGREEMENT)) for table in (whole, by_layer)])
    # Of one head, or of equal values, there is no correlation.
    finite = [pl.when(pl.col(n).is_finite()).then(n).alias(n) for n in ("pearson", "spearman", "slope")]
    return both.with_columns(finite)


def published_statistics(published: pl.DataFrame) -> pl.DataFrame:
    """Statistics that decide claims, of the published values themselves (`PUBLISHED`)."""
    rows = []
    for (model,), heads in published.partition_by("model", as_dict=True, maintain_order=True).items():
        tables = _tables(heads)
        values = {name: f(tables) for name, f in OF_HEADS.items() if name not in NOT_PUBLISHED}
        rows += [(model, name, float(value)) for name, value in values.items()]
    return pl.DataFrame(rows, schema={name: column.dtype for name, column in PUBLISHED.items()}, orient="row")


def _tables(heads: pl.DataFrame) -> Heads:
    """Published heads of one model in the form that statistics of a run take."""
    n_layers = heads["layer"].max() + 1
    named = heads.select(
        "model",
        "layer",
        "head",
        pl.lit(n_layers, pl.Int16).alias("n_layers"),
        pl.col("percent_ln_of_de").alias("clipped_share_repair_norm"),
        *(pl.col(name).alias(f"mean_{name}") for name in QUANTITIES),
        *((pl.col(part) / pl.col("direct_effect")).alias(f"share_{part}") for part in PARTS),
    )
    layers = named.group_by("model", "n_layers", "layer", maintain_order=True).mean()
    return Heads(named, layers, named.clear(), layers.clear())


def published_norm_share(statistics: pl.DataFrame, claims: list[dict[str, Any]]) -> pl.DataFrame:
    """The norm's share of the direct effect in the last layer but one as published, beside the paper's words.

    Args:
        statistics: of `published_statistics`.
        claims: entries of `config/claims.yaml`; those that `penultimate_norm_share` decides quote its published values.

    Returns:
        a row per model (`PUBLISHED_NORM_SHARE`), and their means: experiments.md (c) 5 to 5c.
    """
    deciding = [claim for claim in claims if claim["statistic"] == NORM_SHARE]
    (text,) = (claim["paper_value"] for claim in deciding if claim["id"] == NORM_SHARE_CLAIM)
    quoted = {model: value for claim in deciding for model, value in claim.get("paper_values", {}).items()}
    recomputed = dict(statistics.filter(statistic=NORM_SHARE).select("model", "value").rows())
    models = list(dict.fromkeys([*quoted, *recomputed]))
    columns = {
        "model": models,
        "recomputed": [recomputed.get(model) for model in models],
        "quoted": [quoted.get(model) for model in models],
        "paper_text": [None] * len(models),
    }
    table = frame(columns, PUBLISHED_NORM_SHARE)
    mean = table.mean().with_columns(model=pl.lit("mean"), paper_text=pl.lit(text, pl.Float64))
    return pl.concat([table, mean.select(table.columns)])
