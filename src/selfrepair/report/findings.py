"""What the studies beyond the paper found: every statistic of config/studies.yaml, beside the null twin's."""

from pathlib import Path

import polars as pl
import yaml

from selfrepair.analysis.schema_beyond import FINDINGS
from selfrepair.core.tables import Column
from selfrepair.models.directory import twins
from selfrepair.report.latex import LatexColumn, escape, table

ABOVE, BELOW, WITHIN = "above the null", "below the null", "not told from the null"
UNMEASURED, NO_NULL = "not measured", "no null"
FOUND = {
    "question": Column(pl.String, "", "what the study asks"),
    "short": Column(pl.String, "", "what its primary statistic is, in short"),
    "study": FINDINGS["study"],
    "statistic": FINDINGS["statistic"],
    "primary": Column(pl.Boolean, "", "whether it is the one that answers, which was fixed before the study was run"),
    **{name: FINDINGS[name] for name in ("model", "tokens", "value", "low", "high")},
    **{
        f"null{end}": Column(pl.Float64, "of the statistic", f"{what} of the model with shuffled weights")
        for end, what in (("", "the statistic"), ("_low", "lower end"), ("_high", "upper end"))
    },
    "outcome": Column(
        pl.String,
        "",
        f"{ABOVE}, {BELOW}: the two 95 % intervals lie apart; {WITHIN}: they do not; {NO_NULL}: no such model, or "
        "the statistic is not defined there",
    ),
    "n_documents": FINDINGS["n_documents"],
}


def table_of_findings(studies: Path, findings: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Set the findings of all studies, those that answer first.

    Args:
        studies: config/studies.yaml.
        findings: `FINDINGS` of models and of their null twins.

    Returns:
        rows of `FOUND`, and as LaTeX those of primary statistics that were measured.

    Raises:
        ValueError: a statistic is not in the file of studies, where it has to be before it is measured.
    """
    described = yaml.safe_load(studies.read_text())["studies"]
    order = [(s["id"], name) for s in described for name in (s["primary"], *s.get("secondary", {}))]
    measured = findings.select("study", "statistic").unique().rows()
    if unknown := sorted(set(measured) - set(order)):
        raise ValueError(f"{studies} does not say what {', '.join(map('/'.join, unknown))} is")
    of = twins(findings["model"].unique().to_list())
    numbers = ["value", "low", "high"]
    finite = findings.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)) for name in numbers)
    null = finite.filter(pl.col("model").is_in(list(of))).select(
        pl.col("model").replace(of),
        "study",
        "statistic",
        "tokens",
        *(pl.col(name).alias("null" if name == "value" else f"null_{name}") for name in numbers),
    )
    rows = finite.filter(~pl.col("model").is_in(list(of))).join(
        null, on=["model", "study", "statistic", "tokens"], how="left", maintain_order="left"
    )
    place = {pair: index for index, pair in enumerate(order)}
    outcome = (
        pl.when(pl.col("low").is_null())
        .then(pl.lit(UNMEASURED))
        .when(pl.col("null_low").is_null())
        .then(pl.lit(NO_NULL))
        .when(pl.col("low") > pl.col("null_high"))
        .then(pl.lit(ABOVE))
        .when(pl.col("high") < pl.col("null_low"))
        .then(pl.lit(BELOW))
        .otherwise(pl.lit(WITHIN))
    )
    pairs = rows.select("study", "statistic").rows()
    sorted_rows = rows.with_columns(
        outcome=outcome,
        place=pl.Series([place[pair] for pair in pairs], dtype=pl.Int64),
        primary=pl.col("statistic") == pl.col("study").replace_strict({s["id"]: s["primary"] for s in described}),
        short=pl.col("study").replace_strict({s["id"]: s["short"] for s in described}),
        question=pl.col("study").replace_strict({s["id"]: s["question"] for s in described}),
    ).sort("place", maintain_order=True)
    found = sorted_rows.select(pl.col(name).cast(column.dtype) for name, column in FOUND.items())
    return found, _latex(found.filter("primary", pl.col("outcome") != UNMEASURED))


def read_found(path: Path) -> pl.DataFrame:
    """Read the CSV file of `FOUND`."""
    return pl.read_csv(path, schema={name: column.dtype for name, column in FOUND.items()})


def _latex(rows: pl.DataFrame) -> str:
    columns = [
        LatexColumn("model", "Model", "code", align="l"),
        LatexColumn("tokens", "on", "tex", align="l"),
        LatexColumn("value", "value", decimals=2),
        LatexColumn("value", r"95\,\% interval", "interval", decimals=2),
        LatexColumn("null", "value", decimals=2),
        LatexColumn("null", r"95\,\% interval", "interval", decimals=2),
        LatexColumn("outcome", "Outcome", "tex", align="l"),
    ]
    spans = [("", 2), ("Trained", 2), ("Shuffled weights", 2), ("", 1)]
    named = rows.with_columns(value_low="low", value_high="high")
    groups = named.partition_by("study", maintain_order=True)
    headed = [(escape(group["question"][0]), [_escaped(row) for row in group.to_dicts()]) for group in groups]
    return table(columns, headed, spans, "longtable")


def _escaped(row: dict) -> dict:
    return row | {name: escape(row[name]) for name in ("tokens", "outcome")}
