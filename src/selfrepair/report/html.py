"""The report of a run: one HTML file with facts, models, claims, figures and costs, loading nothing from elsewhere."""

import csv
import html
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from selfrepair.analysis.overview import MODELS, read_models
from selfrepair.claims.published import AUTHORS_WORDS
from selfrepair.claims.verdicts import HELD
from selfrepair.core.files import write_text
from selfrepair.core.tables import Column
from selfrepair.report.captions import caption_of
from selfrepair.report.claims_table import by_model, in_others

MISSING = "\u2013"
WHOLE = [name for name, column in MODELS.items() if column.dtype == pl.Int64]


@dataclass(frozen=True)
class Figure:
    """A figure of the report: its name, the section it stands in, the SVG element, title and caption."""

    name: str
    section: str
    svg: str
    title: str
    caption: str


@dataclass(frozen=True)
class Shown:
    """A table of the report: its name, the section it stands in, title and caption, columns and cells as text."""

    name: str
    section: str
    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Cost:
    """What the jobs of a rule took: seconds of wall clock, processors and GPUs added up, largest memory (MiB)."""

    rule: str
    jobs: int
    seconds: float
    cpu_seconds: float
    gpu_seconds: float
    max_rss: float


def figure(path: Path, captions: dict[str, dict[str, str]]) -> Figure:
    """Read an SVG file named `kind[.model][.ablation].svg` and its caption, whose title says what the name holds.

    Raises:
        KeyError: there is no caption for this kind of figure.
    """
    section, title, text = caption_of(path, captions)
    return Figure(path.stem, section, inline_svg(path.read_text(), path.stem, title), title, text)


def shown(paths: list[Path], captions: dict[str, dict[str, str]]) -> list[Shown]:
    """Read CSV files; those of one name, of several models, become one table.

    Raises:
        KeyError: there is no caption for a table of this name.
    """
    names = dict.fromkeys(path.stem for path in paths)
    return [_shown(name, [path for path in paths if path.stem == name], captions[name]) for name in names]


def _shown(name: str, paths: list[Path], caption: dict[str, str]) -> Shown:
    table = pl.concat([pl.read_csv(path, infer_schema_length=None) for path in paths])
    cells = [[_cell(value) for value in row] for row in table.rows()]
    return Shown(name, caption["section"], caption["title"], caption["caption"], table.columns, cells)


def _cell(value: str | int | float | bool | None) -> str:
    match value:
        case None:
            return MISSING
        case float():
            return _fixed(value)
        case _:
            return str(value)


def inline_svg(text: str, name: str, title: str) -> str:
    """Make an SVG file an element of a page: no prologue, ids of its own, named for screen readers.

    Raises:
        ValueError: the file is not SVG, or it would load or run something.
    """
    element = re.search(r"<svg\b.*</svg>", text, re.DOTALL)
    if element is None:
        raise ValueError(f"{name}: not an SVG file")
    svg = element.group()
    if re.search(r"<script|@import|(?:href|src)\s*=\s*[\"'](?!#|data:)", svg):
        raise ValueError(f"{name}: the SVG file loads or runs something; figures must be self-contained")
    prefix = re.sub(r"\W", "-", name)
    svg = re.sub(r"\bid=\"", f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r"href=\"#", f'href="#{prefix}-', svg)
    return f'<svg role="img" aria-label="{html.escape(title)}"{svg.removeprefix("<svg")}'


def costs(benchmarks: list[Path], jobs: dict[str, dict[str, str]]) -> list[Cost]:
    """Add up Snakemake's benchmark files by rule, in the order in which rules first appear.

    A file is named `rule[.wildcards].tsv`. Of a job too short to be sampled Snakemake knows the duration only.

    Args:
        jobs: of the record of the run; a job that ran on a GPU held one for as long as it ran.
    """
    by_rule: dict[str, list[dict[str, str]]] = {}
    for path in benchmarks:
        on_gpu = jobs.get(path.stem, {"device": "cpu"})["device"] != "cpu"
        with path.open(newline="") as file:
            rows = [row | {"gpu": row["s"] if on_gpu else "0"} for row in csv.DictReader(file, delimiter="\t")]
        of_twin = " (null twins)" if "-shuffled." in path.name else ""
        by_rule.setdefault(path.name.split(".")[0] + of_twin, []).extend(rows)
    return [
        Cost(
            rule,
            len(rows),
            sum(_float(row["s"]) for row in rows),
            sum(_float(row["cpu_time"]) for row in rows),
            sum(_float(row["gpu"]) for row in rows),
            max((_float(row["max_rss"]) for row in rows), default=0.0),
        )
        for rule, rows in by_rule.items()
    ]


def total(items: list[Cost]) -> Cost:
    """All rules together; memory is that of the largest job."""
    return Cost(
        "total",
        sum(item.jobs for item in items),
        sum(item.seconds for item in items),
        sum(item.cpu_seconds for item in items),
        sum(item.gpu_seconds for item in items),
        max((item.max_rss for item in items), default=0.0),
    )


def flatten(record: dict[str, Any], prefix: str = "") -> dict[str, str | float | None]:
    """Flatten a nested record to dotted keys; lists are joined by commas, other values stay what they are."""
    flat: dict[str, str | float | None] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def report(
    record: dict[str, Any],
    models: pl.DataFrame,
    verdicts: dict[str, Any],
    figures: list[Figure],
    shown_tables: list[Shown],
    spent: list[Cost],
    kept: dict[str, dict[str, dict[str, Any]]],
) -> str:
    """Render the report.

    Args:
        record: of the run; its `packages`, where it has them, are listed apart, its `jobs` are not.
        models: `overview.MODELS`.
        verdicts: claims.json.
        spent: per rule.
        kept: `claims_table.by_model` of other runs.
    """
    environment = Environment(
        loader=PackageLoader("selfrepair.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "whole": _whole,
        "sentence": _sentence,
        "fixed": _fixed,
        "in_others": in_others,
        "span": _span,
        "small": _small,
        "duration": duration,
    }
    facts = {name: value for name, value in record.items() if name not in ("packages", "jobs")}
    claims = verdicts["claims"]
    counted = [c for c in claims if c["statistic"] and not c["identity"] and not c["exploratory"]]
    elsewhere = [claim["others"] for claim in counted if claim["others"]["models"]]
    counts = Counter(claim["verdict"] for claim in counted)
    return environment.get_template("report.html.j2").render(
        title=f"Self-repair in language models: run {record['config']['run']}",
        facts=flatten(facts),
        packages=record.get("packages", {}),
        columns=_headed(MODELS),
        whole=WHOLE,
        models=models.to_dicts(),
        claims=claims,
        kept=kept,
        counts=counts,
        recognised=verdicts["recognised"],
        counted=len(counted),
        by_chance=verdicts["expected_by_chance"],
        generalising=sum(len(others[HELD]) == others["models"] for others in elsewhere),
        judged_elsewhere=len(elsewhere),
        authors_agree=AUTHORS_WORDS,
        sections={
            name: ([f for f in figures if f.section == name], [t for t in shown_tables if t.section == name])
            for name in dict.fromkeys(f.section for f in figures)
        },
        costs=spent,
        total=total(spent),
    )


def duration(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _headed(columns: dict[str, Column]) -> list[tuple[str, str, str, str]]:
    """Name, heading, unit and meaning of each column."""
    return [(name, name.replace("_", " "), column.unit, column.meaning) for name, column in columns.items()]


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _whole(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}".replace(",", "\u202f")


def _sentence(text: str) -> str:
    """Begin with a capital letter and end with a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _fixed(value: float | None, decimals: int = 3) -> str:
    # The sum turns the minus of a rounded zero into plus.
    return MISSING if value is None else f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\u2212")


def _span(values: list[float | None], decimals: int) -> str:
    """The smallest and the largest value."""
    known = sorted(value for value in values if value is not None)
    ends = dict.fromkeys(_fixed(value, decimals) for value in (known[0], known[-1])) if known else [MISSING]
    return " to ".join(ends)


def _small(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1e}".replace("-", "\u2212")


def write_report(
    run_record: Path,
    models: Path,
    claims: Path,
    captions: Path,
    figures: list[Path],
    tables: list[Path],
    spent: Path,
    output: Path,
    studies: list[Path] = [],  # noqa: B006
) -> None:
    """Write the report of a run as one HTML file.

    Args:
        run_record: run.json of record_run.
        models: models.csv of model_overview.
        claims: claims.json of check_claims.
        captions: captions by kind of figure and table, YAML.
        figures: SVG files, in the order of the report.
        tables: CSV files; same name, same table.
        spent: costs.csv of record_costs.
        output: HTML file to write.
        studies: claims.json of other runs, whose models get a column each in the table of claims.
    """
    words, record = yaml.safe_load(captions.read_text()), json.loads(run_record.read_text())
    drawn, of_rules = [figure(path, words) for path in figures], [Cost(*row) for row in pl.read_csv(spent).rows()]
    verdicts = json.loads(claims.read_text())
    kept, listed = by_model(studies), shown(tables, words)
    write_text(output, report(record, read_models(models), verdicts, drawn, listed, of_rules, kept))
