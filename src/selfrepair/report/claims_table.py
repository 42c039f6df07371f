"""Verdicts on the paper's claims, as JSON, as CSV and as a LaTeX table."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import yaml

from selfrepair.claims.paper_models import recognise
from selfrepair.claims.tables import HEAD_STATISTICS, OF_TWINS, Tables, read_tables
from selfrepair.claims.verdicts import (
    FAILED,
    HELD,
    PAPER,
    UNDECIDED,
    UNMEASURED,
    Claim,
    Model,
    evaluate,
    expected_by_chance,
)
from selfrepair.core.files import write_text
from selfrepair.core.tables import Column, frame, write_table
from selfrepair.report.latex import MISSING, LatexColumn, escape, number, table

JUDGED = 8  # models, each a column, for which the claims in LaTeX have room on a turned page
UPRIGHT = 3  # models with which the page need not be turned
WIDTHS = (118, 47)  # points that columns of claims take: published value, null and verdicts, and one model
MARKS = {HELD: r"$\checkmark$", FAILED: r"$\times$", UNDECIDED: "?", UNMEASURED: ""}
CLAIMS = {
    "id": Column(pl.String, "", "name of the claim; one row per claim and model"),
    "source": Column(pl.String, "", "where the paper says so"),
    "identity": Column(pl.Boolean, "", "made true by the architecture, not counted as a claim"),
    "exploratory": Column(pl.Boolean, "", "not confirmed to be in the paper, not counted as a claim"),
    "statistic": Column(pl.String, "", "function of selfrepair.claims that decides it; null where none does"),
    "unit": Column(pl.String, "", "unit of the values"),
    "rule": Column(pl.String, "", "which values are as the claim says"),
    "against": Column(pl.String, "", "what its null is"),
    "paper_value": Column(pl.Float64, "as unit", "published value, or mean of published values"),
    "verdict": Column(pl.String, "", "on the claim, by the paper's models"),
    "model": Column(pl.String, "", "model of the run; null where the claim was measured on none"),
    "role": Column(pl.String, "", "paper's model or other model"),
    "value": Column(pl.Float64, "as unit", "the statistic"),
    "low": Column(pl.Float64, "as unit", "lower end of its 95 % interval"),
    "high": Column(pl.Float64, "as unit", "upper end of it"),
    "null": Column(pl.Float64, "as unit", "the statistic where nothing was learned"),
    "beyond_low": Column(pl.Float64, "as unit", "lower end of the 95 % interval of value less null"),
    "beyond_high": Column(pl.Float64, "as unit", "upper end of it"),
    "model_verdict": Column(pl.String, "", "on this model alone"),
    "interval_agrees": Column(
        pl.Boolean, "", "whether the whole interval gives the same answer to the rule; null where there is none"
    ),
}
OF_MODEL = ("model", "role", "value", "low", "high", "null", "beyond_low", "beyond_high", "interval_agrees")


def check_claims(
    claims: Path,
    schema: Path,
    facts: list[Path],
    analyses: list[Path],
    json_output: Path,
    tex: Path,
    csv: Path,
    twins: list[Path] = [],  # noqa: B006
    fetched: list[Path] = [],  # noqa: B006
) -> None:
    """Judge the paper's claims from the summaries of a run.

    Args:
        claims: config/claims.yaml.
        schema: workflow/schemas/claims.schema.yaml.
        facts: model.json of each model.
        analyses: folder of each model's analysis.
        json_output: verdicts to write.
        tex: LaTeX table to write.
        csv: CSV file to write.
        twins: folder of the analysis of each model's twin; none where twins were not measured.
        fetched: records of models that were fetched from a hub, named after them.
    """
    listed = yaml.safe_load(claims.read_text())
    jsonschema.validate(listed, yaml.safe_load(schema.read_text()))
    records = {path.stem: json.loads(path.read_text()) for path in fetched}
    run, recognised = {}, {}
    for index, (path, folder) in enumerate(zip(facts, analyses, strict=True)):
        fact, tables = json.loads(path.read_text()), read_tables(folder)
        known = recognise(fact, records.get(fact["name"]), listed["paper_models"])
        recognised[fact["name"]] = None if known is None else dict(zip(("paper_name", "by"), known, strict=True))
        if _whole(fact, tables):
            twin = read_tables(twins[index], OF_TWINS) if twins else None
            run[fact["name"]] = Model(tables, fact["parallel"], twin, known[0] if known else None)
    entries = [Claim(**entry) for entry in listed["claims"]]
    judged = evaluate(entries, run)
    verdicts = {"claims": judged, "recognised": recognised, "expected_by_chance": expected_by_chance(entries)}
    rows, latex = claims_table(judged)
    write_text(json_output, json.dumps(verdicts, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(tex, latex)
    write_table(rows, csv)


def _whole(fact: dict[str, Any], tables: Tables) -> bool:
    """Whether every head of the model was measured; claims are about whole models."""
    return tables[HEAD_STATISTICS]["heads"][0] == fact["n_layers"] * fact["n_heads"]


def claims_table(judged: list[dict[str, Any]]) -> tuple[pl.DataFrame, str]:
    """Claims and verdicts (`verdicts.evaluate`): one row per claim in LaTeX, one per claim and model in the CSV.

    What is not counted as a claim, claims that no statistic decides, and of more than `JUDGED` models those beyond, the
    paper's first, are in the CSV only.
    """
    decided = _decided(judged)
    names = judged_models(decided)
    rest = rf"\dimexpr0.86\linewidth-{WIDTHS[0] + WIDTHS[1] * len(names)}pt\relax"
    columns = [
        LatexColumn("wording", "Claim", "tex", align=rf">{{\raggedright\arraybackslash}}p{{{rest}}}"),
        LatexColumn("rule", "Holds if", "tex", align=r">{\raggedright\arraybackslash}p{0.14\linewidth}"),
        LatexColumn("paper_value", "Paper", decimals=2),
        LatexColumn("nulls", "Null", "tex", align=r">{\raggedright\arraybackslash}p{34pt}"),
        LatexColumn("verdict", "Paper's models", "tex", align=r">{\raggedright\arraybackslash}p{34pt}"),
        LatexColumn("generalises", "Others", "tex", align=r">{\raggedright\arraybackslash}p{24pt}"),
        *(LatexColumn(name, rf"\rotatebox{{90}}{{\texttt{{{escape(name)}}}}}", "tex") for name in names),
    ]
    rows = [
        claim
        | {name: escape(claim[name]) for name in ("wording", "rule")}
        | {"verdict": MISSING if claim["verdict"] == UNMEASURED else claim["verdict"]}
        | {"generalises": in_others(claim), "nulls": span([entry["null"] for entry in claim["models"]], 2)}
        | dict.fromkeys(names, "--")
        | {entry["model"]: _cell(entry) for entry in claim["models"]}
        for claim in decided
    ]
    return _long(judged), table(columns, [(None, [row]) for row in rows], environment="longtable")


def read_claims(path: Path) -> list[dict[str, Any]]:
    """The judged claims of a run (`verdicts.evaluate`), of its claims.json."""
    return json.loads(path.read_text())["claims"]


def by_model(studies: list[Path]) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each model of other runs (claims.json of each), value and verdict by the claim's id."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for claim in (claim for path in studies for claim in read_claims(path)):
        for entry in claim["models"]:
            found.setdefault(entry["model"], {})[claim["id"]] = entry
    return found


def claims_of_studies(studies: list[Path]) -> tuple[pl.DataFrame, str]:
    """The same of other runs (claims.json of each), with intervals, a model below the other."""
    judged = [claim for path in studies for claim in read_claims(path)]
    columns = [
        LatexColumn("wording", "Claim", "tex", align=r">{\raggedright\arraybackslash}p{0.45\linewidth}"),
        LatexColumn("paper_value", "Paper", decimals=2),
        LatexColumn("value", "Here", decimals=2),
        LatexColumn("value", "Interval", "interval", decimals=2),
        LatexColumn("null", "Null", decimals=2),
        LatexColumn("mark", "", "tex", align="c"),
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for claim in _decided(judged):
        for entry in claim["models"]:
            row = {"wording": escape(claim["wording"]), "paper_value": claim["paper_value"]}
            row |= {"value_low": entry["low"], "value_high": entry["high"], "mark": MARKS[entry["verdict"]]}
            groups.setdefault(rf"\texttt{{{escape(entry['model'])}}}", []).append(entry | row)
    return _long(judged), table(columns, list(groups.items()), environment="longtable")


def _decided(judged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [claim for claim in judged if claim["statistic"] and not claim["identity"] and not claim["exploratory"]]


def _long(judged: list[dict[str, Any]]) -> pl.DataFrame:
    """`CLAIMS`."""
    rows = [
        claim | {name: entry.get(name) for name in OF_MODEL} | {"model_verdict": entry.get("verdict")}
        for claim in judged
        for entry in claim["models"] or [{}]
    ]
    return frame({name: [row[name] for row in rows] for name in CLAIMS}, CLAIMS)


def _cell(entry: dict[str, Any]) -> str:
    return rf"{number(entry['value'], 3)}\,\makebox[1em][l]{{{MARKS[entry['verdict']]}}}"


def in_others(claim: dict[str, Any]) -> str:
    """In how many of the other models a claim held."""
    others = claim["others"]
    return f"{len(others[HELD])} of {others['models']}" if others["models"] else "--"


def span(values: list[float | None], decimals: int) -> str:
    """The smallest and the largest value."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return "--"
    low, high = (number(value, decimals) for value in (known[0], known[-1]))
    return low if low == high else f"{low} to {high}"


def judged_models(claims: list[dict[str, Any]]) -> list[str]:
    """Models that the claims in LaTeX have columns for: the first `JUDGED`, the paper's before others."""
    roles: dict[str, str] = {}
    for entry in (entry for claim in claims for entry in claim["models"]):
        roles[entry["model"]] = PAPER if PAPER in (entry["role"], roles.get(entry["model"])) else entry["role"]
    return sorted(roles, key=lambda model: roles[model] != PAPER)[:JUDGED]
