"""Tables of the paper: the models, self-repair of each layer, and the heads with the largest direct effects.

Each function returns the rows (for CSV) and the same as LaTeX. Definitions: experiments.md a.6 to a.11.
"""

from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.ablation.schema import EFFECTS
from selfrepair.analysis.overview import printable, read_models
from selfrepair.analysis.wide import read_wide
from selfrepair.claims.verdicts import PAPER, UNMEASURED
from selfrepair.core.tables import Column, frame
from selfrepair.report.latex import MISSING, LatexColumn, escape, number, table
from selfrepair.tokens.contexts import ARROW

TOP_HEADS = 10
ERASURE_SHOWN = 3  # erasure neurons of a head in LaTeX
JUDGED = 9  # models, each a column, for which the claims in LaTeX have room on a turned page
UPRIGHT = 3  # and on an upright one
WIDTHS = (70, 47)  # points that columns of claims take: the published value and the verdict, and one model
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
)
HEADS = (
    _MODEL
    | {"name": Column(pl.String, "", "layer and head, such as L3H5; largest mean direct effect first")}
    | _means("direct_effect", "ablated_direct_effect", "delta_logit")
    | _SPLIT
)
CLAIMS = {
    "id": Column(pl.String, "", "name of the claim; one row per claim and model"),
    "source": Column(pl.String, "", "where the paper says so"),
    "identity": Column(pl.Boolean, "", "made true by the architecture, not counted as a claim"),
    "exploratory": Column(pl.Boolean, "", "not confirmed to be in the paper, not counted as a claim"),
    "statistic": Column(pl.String, "", "function of claim_statistics that decides it; null where none does"),
    "unit": Column(pl.String, "", "unit of the values"),
    "rule": Column(pl.String, "", "when the claim holds"),
    "paper_value": Column(pl.Float64, "as unit", "published value, or mean of published values"),
    "verdict": Column(pl.String, "", "on the claim, by the paper's models"),
    "model": Column(pl.String, "", "model of the run; null where the claim was measured on none"),
    "role": Column(pl.String, "", "paper's model or other model"),
    "value": Column(pl.Float64, "as unit", "the statistic"),
    "low": Column(pl.Float64, "as unit", "lower end of its 95 % interval"),
    "high": Column(pl.Float64, "as unit", "upper end of it"),
    "model_verdict": Column(pl.String, "", "on this model alone"),
    "interval_agrees": Column(
        pl.Boolean, "", "whether both ends of the interval give the same answer; null where there is none"
    ),
}

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
    renamed = {"model": "model", "layer": "layer", "clipped_share": "clipped_share_self_repair"}
    renamed |= {f"share{end}": f"share_self_repair{end}" for end in ("", "_low", "_high")}
    rows = _renamed(wide, LAYERS, renamed)
    columns = [
        LatexColumn("layer", "Layer", "integer"),
        LatexColumn("direct_effect", "DE"),
        LatexColumn("delta_logit", r"$\Delta\ell$"),
        *REPAIR,
        LatexColumn("share", "SR/DE", decimals=2),
        LatexColumn("clipped_share", "clipped", decimals=2),
    ]
    spans = [("", 1), ("Mean (logits)", 4), ("Split of SR (logits)", 3), ("Share of DE", 2)]
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
    rows = _renamed(named, HEADS, {"model": "model", "name": "name"})
    columns = [
        LatexColumn("name", "Head", "code", align="l"),
        LatexColumn("direct_effect", "clean"),
        LatexColumn("ablated_direct_effect", "ablated"),
        LatexColumn("delta_logit", r"$\Delta\ell$"),
        *REPAIR,
    ]
    spans = [("", 1), ("DE (logits)", 2), ("Mean (logits)", 3), ("Split of SR (logits)", 3)]
    return rows, table(columns, _by_model(rows), spans, environment="longtable")


def claims(judged: list[dict[str, Any]]) -> Table:
    """Claims and verdicts (`claims.evaluate`): one row per claim in LaTeX, one per claim and model in the CSV.

    What is not counted as a claim, claims that no statistic decides, and of more than `JUDGED` models those beyond, the
    paper's first, are in the CSV only.
    """
    long = [
        claim
        | {name: entry.get(name) for name in ("model", "role", "value", "low", "high", "interval_agrees")}
        | {"model_verdict": entry.get("verdict")}
        for claim in judged
        for entry in claim["models"] or [{}]
    ]
    rows_of_csv = frame({name: [row[name] for row in long] for name in CLAIMS}, CLAIMS)
    decided = [claim for claim in judged if claim["statistic"] and not claim["identity"] and not claim["exploratory"]]
    names = judged_models(decided)
    rest = rf"\dimexpr0.86\linewidth-{WIDTHS[0] + WIDTHS[1] * len(names)}pt\relax"
    columns = [
        LatexColumn("wording", "Claim", "tex", align=rf">{{\raggedright\arraybackslash}}p{{{rest}}}"),
        LatexColumn("rule", "Holds if", "tex", align=r">{\raggedright\arraybackslash}p{0.14\linewidth}"),
        LatexColumn("paper_value", "Paper", decimals=2),
        LatexColumn("verdict", "Verdict", "tex", align=r">{\raggedright\arraybackslash}p{30pt}"),
        *(LatexColumn(name, rf"\rotatebox{{90}}{{\texttt{{{escape(name)}}}}}", "tex") for name in names),
    ]
    rows = [
        claim
        | {name: escape(claim[name]) for name in ("wording", "rule")}
        | {"verdict": MISSING if claim["verdict"] == UNMEASURED else claim["verdict"]}
        | dict.fromkeys(names, "--")
        | {entry["model"]: _judged(entry) for entry in claim["models"]}
        for claim in decided
    ]
    return rows_of_csv, table(columns, [(None, [row]) for row in rows], environment="longtable")


def judged_models(claims: list[dict[str, Any]]) -> list[str]:
    """Models that the claims in LaTeX have columns for: the first `JUDGED`, the paper's before others."""
    roles = {entry["model"]: entry["role"] for claim in claims for entry in claim["models"]}
    return sorted(roles, key=lambda model: roles[model] != PAPER)[:JUDGED]


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


def _judged(entry: dict[str, Any]) -> str:
    mark = {True: r"$\checkmark$", False: r"$\times$", None: ""}[entry["holds"]]
    if entry["interval_agrees"] is False:
        mark = f"({mark})"
    return rf"{number(entry['value'], 3)}\,\makebox[1.6em][l]{{{mark}}}"


def _renamed(wide: pl.DataFrame, schema: dict[str, Column], renamed: dict[str, str]) -> pl.DataFrame:
    """Take the columns of a schema; those that `renamed` does not find are means."""
    return wide.select(pl.col(renamed.get(name, f"mean_{name}")).alias(name) for name in schema)


def _by_model(rows: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    grouped = rows.partition_by("model", maintain_order=True)
    return [(rf"\texttt{{{escape(group['model'][0])}}}", group.to_dicts()) for group in grouped]
