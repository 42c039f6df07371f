"""Tables of the paper: the models, self-repair of each layer, and the heads with the largest direct effects.

Each function returns the rows (for CSV) and the same as LaTeX. Definitions: experiments.md a.6 to a.11.
"""

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from selfrepair.ablation.schema import EFFECTS
from selfrepair.analysis.overview import printable, read_models
from selfrepair.analysis.wide import read_wide
from selfrepair.claims.published import compare, published_norm_share, published_statistics, read_reference
from selfrepair.core.files import write_text
from selfrepair.core.tables import Column, write_table
from selfrepair.report.latex import MISSING, LatexColumn, escape, table
from selfrepair.tokens.contexts import ARROW

TOP_HEADS = 10
ERASURE_SHOWN = 3  # erasure neurons of a head in LaTeX
Table = tuple[pl.DataFrame, str]

PARTS = ["repair_norm", "repair_attention", "repair_mlp"]


def _means(*names: str) -> dict[str, Column]:
    return {n: Column(pl.Float64, "logits", f"mean over top tokens: {EFFECTS[n].meaning}") for n in names}


def _with_interval(name: str, column: Column) -> dict[str, Column]:
    low, high = (
        Column(column.dtype, column.unit, f"{end} end of the 95 % interval of {name}") for end in ("lower", "upper")
    )
    return {name: column, f"{name}_low": low, f"{name}_high": high}


_MODEL = {"model": Column(pl.String, "", "name of the model")}
_EFFECTIVE = {"n_effective": Column(pl.Float64, "documents", "Kish's effective number of documents behind the means")}
_SPLIT = {
    name: column
    for part, mean in _means("self_repair", *PARTS).items()
    for name, column in _with_interval(part, mean).items()
}
LAYERS = (
    _MODEL
    | {"layer": Column(pl.Int16, "index", "layer of the ablated heads, over which means are taken")}
    | _means("direct_effect", "delta_logit")
    | _SPLIT
    | _with_interval("share", Column(pl.Float64, "ratio", "sum of self_repair divided by sum of direct_effect"))
    | {"clipped_share": Column(pl.Float64, "ratio", "mean of their ratio clipped to [0, 1] on each token")}
    | _EFFECTIVE
)
HEADS = (
    _MODEL
    | {"name": Column(pl.String, "", "layer and head, such as L3H5; largest mean direct effect first")}
    | _means("direct_effect", "ablated_direct_effect", "delta_logit")
    | _SPLIT
    | _EFFECTIVE
)
REPAIR = [  # self-repair and its split, as LaTeX columns
    LatexColumn("self_repair", "SR"),
    LatexColumn("self_repair", r"95\,\% interval", "interval"),
    LatexColumn("repair_norm", "norm"),
    LatexColumn("repair_attention", "attention"),
    LatexColumn("repair_mlp", "MLP"),
]


def table_of_models(models_csv: list[Path]) -> Table:
    """`models` of a run's `models.csv`."""
    rows, latex = models(read_models(models_csv[0]))
    return printable(rows), latex


def table_of_layers(layers_of_models: list[Path]) -> Table:
    """`layers` of the Parquet files of each model's layers."""
    return layers(read_wide(layers_of_models, "top"))


def table_of_heads(heads_of_models: list[Path]) -> Table:
    """`heads` of the Parquet files of each model's heads."""
    return heads(read_wide(heads_of_models, "top"))


def models(overview: pl.DataFrame) -> Table:
    """Models of the run (`overview.MODELS`)."""
    columns = [
        LatexColumn("model", "Model", "code", align="l"),
        LatexColumn("family", "Family", "code", align="l"),
        LatexColumn("n_layers", "layers", "integer"),
        LatexColumn("n_heads", "heads", "integer"),
        LatexColumn("d_model", "width", "integer"),
        LatexColumn("d_mlp", "neurons", "integer"),
        LatexColumn("parameters", "Parameters", "integer"),
        LatexColumn("held_out_loss", "model", decimals=2),
        LatexColumn("bigram_loss", "bigram", decimals=2),
        LatexColumn("tokens", "scored", "integer"),
        LatexColumn("top_tokens", "top", "integer"),
        LatexColumn("heads_above_1", "DE${}>1$", "integer"),
        LatexColumn("load_error", "Load error", "scientific"),
    ]
    spans = [("", 2), ("Size", 4), ("", 1), ("Loss (nats/token)", 2), ("Tokens", 2), ("Heads", 1), ("", 1)]
    return overview, table(columns, [(None, overview.to_dicts())], spans)


def layers(wide: pl.DataFrame) -> Table:
    """Self-repair of each layer on top tokens and its split; means over the layer's heads.

    Args:
        wide: layers of all models, from `summaries.wide`.
    """
    same = {name: name for name in ("model", "layer", *_EFFECTIVE)}
    renamed = same | {"clipped_share": "clipped_share_self_repair"}
    renamed |= {f"share{end}": f"share_self_repair{end}" for end in ("", "_low", "_high")}
    rows = _renamed(wide, LAYERS, renamed)
    columns = [
        LatexColumn("layer", "Layer", "integer"),
        LatexColumn("direct_effect", "DE"),
        LatexColumn("delta_logit", r"$\Delta\ell$"),
        *REPAIR,
        LatexColumn("share", "SR/DE", decimals=2),
        LatexColumn("clipped_share", "clipped", decimals=2),
        LatexColumn("n_effective", "docs", decimals=0),
    ]
    spans = [("", 1), ("Mean (logits)", 4), ("Split of SR (logits)", 3), ("Share of DE", 2), ("Effective", 1)]
    return rows, table(columns, _by_model(rows), spans, environment="longtable")


def heads(wide: pl.DataFrame, count: int = TOP_HEADS) -> Table:
    """The `count` heads of each model with the largest mean direct effect on their top tokens, largest first.

    Args:
        wide: heads of all models, from `summaries.wide`.
    """
    order = wide["model"].unique(maintain_order=True)
    largest = pl.concat(
        [wide.filter(pl.col("model") == name).sort("mean_direct_effect", descending=True).head(count) for name in order]
    )
    named = largest.with_columns(name=pl.format("L{}H{}", "layer", "head"))
    rows = _renamed(named, HEADS, {name: name for name in ("model", "name", *_EFFECTIVE)})
    columns = [
        LatexColumn("name", "Head", "code", align="l"),
        LatexColumn("direct_effect", "clean"),
        LatexColumn("ablated_direct_effect", "ablated"),
        LatexColumn("delta_logit", r"$\Delta\ell$"),
        *REPAIR,
        LatexColumn("n_effective", "docs", decimals=0),
    ]
    spans = [("", 1), ("DE (logits)", 2), ("Mean (logits)", 3), ("Split of SR (logits)", 3), ("Effective", 1)]
    return rows, table(columns, _by_model(rows), spans, environment="longtable")


def norm_share(rows: pl.DataFrame) -> Table:
    """The norm's share of the direct effect in the last layer but one, as published and in the paper's words.

    Args:
        rows: of `experiments.reference.published_norm_share`; the last is the mean.
    """
    columns = [
        LatexColumn("model", "Model", "code", align="l"),
        LatexColumn("recomputed", "recomputed"),
        LatexColumn("quoted", "quoted"),
        LatexColumn("paper_text", "Paper's text", decimals=2),
    ]
    *models, mean = rows.to_dicts()
    spans = [("", 1), ("Published results", 2), ("", 1)]
    return rows, table(columns, [(None, models), (None, [mean])], spans)


def compare_reference(
    reference: Path, heads: list[Path], claims: Path, top_fraction: float, output: Path, tex: Path, csv: Path
) -> None:
    """Compare the heads of a run with published per-head results, and recompute statistics of the published ones.

    Args:
        reference: CSV file of published per-head results.
        heads: heads.parquet of each model.
        claims: config/claims.yaml, which quotes published values.
        top_fraction: share of tokens that are a head's top tokens.
        output: folder for heads, agreement, models and published.
        tex: LaTeX table of the norm's share to write.
        csv: the same as CSV.

    Raises:
        ValueError: the reference file can't be used.
    """
    published = read_reference(reference, top_fraction)
    compared = compare({table["model"][0]: table for table in map(pl.read_parquet, heads)}, published)
    statistics = published_statistics(published)
    rows, latex = norm_share(published_norm_share(statistics, yaml.safe_load(claims.read_text())["claims"]))
    write_table(compared.heads, output / "heads.parquet")
    write_table(compared.agreement, output / "agreement.parquet")
    for name, table_of_file in (
        ("agreement", compared.agreement),
        ("models", compared.models),
        ("published", statistics),
    ):
        write_table(table_of_file, output / f"{name}.csv")
    write_table(rows, csv)
    write_text(tex, latex)


def erasure_neurons(erasure: pl.DataFrame) -> Table:
    """Neurons that erase and erase less when a head is ablated; LaTeX holds the first of each head's top tokens.

    Args:
        erasure: `ERASURE_NEURONS` of all models.
    """
    shown = erasure.filter((pl.col("token_set") == "direct_effect") & (pl.col("place") < ERASURE_SHOWN))
    rows = [
        row
        | {
            "name": f"L{row['layer']}H{row['head']}",
            "neuron_name": f"{row['mlp_layer']}.{row['neuron']}",
            "percent": 100 * row["value"],
            "percent_low": 100 * row["low"],
            "percent_high": 100 * row["high"],
            "anti": 100 * row["anti_erasing"],
            "context": _context(row["context_1"]),
        }
        for row in shown.to_dicts()
    ]
    columns = [
        LatexColumn("name", "Head", "code", align="l"),
        LatexColumn("neuron_name", "MLP.neuron", "code", align="l"),
        LatexColumn("direct_effect", "clean"),
        LatexColumn("ablated_direct_effect", "ablated"),
        LatexColumn("percent", r"\%", decimals=0),
        LatexColumn("percent", r"95\,\% interval", "interval", decimals=0),
        LatexColumn("anti", r"\%", decimals=0),
        LatexColumn("context", "Text", "tex", align=r">{\raggedright\arraybackslash}p{0.28\linewidth}"),
    ]
    spans = [("", 2), ("DE (logits)", 2), ("Among first 10", 2), ("Erases less", 1), ("Largest change", 1)]
    models = list(dict.fromkeys(row["model"] for row in rows))
    groups = [(rf"\texttt{{{escape(name)}}}", [row for row in rows if row["model"] == name]) for name in models]
    return erasure, table(columns, groups, spans, environment="longtable")


def _context(text: str | None) -> str:
    """Set the text before a prediction, and the predicted token in bold."""
    if text is None:
        return MISSING
    plain = text.encode("ascii", "backslashreplace").decode()
    before, _, predicted = plain.rpartition(ARROW)
    return rf"\texttt{{\footnotesize {escape(before)}}} \textbf{{\texttt{{\footnotesize {escape(predicted)}}}}}"


def _renamed(wide: pl.DataFrame, schema: dict[str, Column], renamed: dict[str, str]) -> pl.DataFrame:
    """Take the columns of a schema; those that `renamed` does not find are means."""
    return wide.select(pl.col(renamed.get(name, f"mean_{name}")).alias(name) for name in schema)


def _by_model(rows: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    grouped = rows.partition_by("model", maintain_order=True)
    return [(rf"\texttt{{{escape(group['model'][0])}}}", group.to_dicts()) for group in grouped]
