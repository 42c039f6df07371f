"""The README's picture and its table of findings, from a finished run."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.claims.verdicts import HELD
from selfrepair.core.files import write_atomically, write_text
from selfrepair.report.arms import family_found, plain
from selfrepair.report.claims_table import by_model, read_claims
from selfrepair.report.findings import ABOVE, BELOW, read_found

BEGIN, END = "<!-- findings -->", "<!-- /findings -->"
PARTS = {"late-norm-part": "norm", "late-attention-part": "later attention", "late-mlp-part": "MLPs"}
SHOWN = (  # ids of claims, in the order of the table
    "repair-exists",
    "repair-is-imperfect",
    "early-breakage",
    "peak-is-late",
    "scale-falls",
    "noise",
    "overcorrection",
    "erasure-neuron",
    "sparse-neurons",
)


def write_readme(
    claims: Path,
    found: Path,
    picture: Path,
    readme: Path,
    shown: Path,
    studies: list[Path] = [],  # noqa: B006
    family: list[Path] = [],  # noqa: B006
) -> None:
    """Write the table of findings between the README's markers, and copy its picture.

    Args:
        claims: claims.json of the run.
        found: findings.csv of the run.
        picture: PNG of the run's figure.
        readme: README to write anew.
        shown: the README's copy of the picture.
        studies: claims.json of other runs, whose models get a column each.
        family: differences, onset and evidence of a controlled family, as Parquet.

    Raises:
        ValueError: the README does not hold the markers once each, in order.
    """
    judged = {claim["id"]: claim for claim in read_claims(claims)}
    kept, of_run = by_model(studies), read_found(found)
    of_studies = beyond(of_run, kept)
    of_family = [family_found(*map(pl.read_parquet, family))] if family else []
    tables = [findings([judged[name] for name in SHOWN], kept), of_studies]
    of_repairers = [repairers(of_run, name) for name in kept]
    block = "\n\n".join([*map(parts, map(read_claims, studies)), *filter(None, of_repairers), *tables, *of_family])
    write_text(readme, with_block(readme.read_text(), block))
    write_atomically(shown, lambda temporary: shutil.copyfile(picture, temporary))


def findings(claims: list[dict[str, Any]], kept: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A Markdown table: the finding, the paper's number, ours, that of shuffled weights, and where it holds.

    Args:
        kept: `claims_table.by_model` of other runs: these models come first, with the verdict on each.
    """
    titles = ["claim of the paper", "its value", *kept, _own(kept), "shuffled weights", "held in"]
    lines = [
        "| " + " | ".join(titles) + " |",
        "|---|---:|" + "---|" * len(kept) + "---:|---:|---|",
    ]
    for claim in claims:
        others, models = claim["others"], claim["models"]
        held = f"{len(others[HELD])} of {others['models']}"
        there = "" if claim["paper_value"] is None else f"{claim['paper_value']:.2f}"
        of_studies = [_judged(of_model.get(claim["id"])) for of_model in kept.values()]
        numbers = [_span([model[name] for model in models]) for name in ("value", "null")]
        lines.append("| " + " | ".join([claim["wording"], there, *of_studies, *numbers, held]) + " |")
    return "\n".join(lines)


def beyond(found: pl.DataFrame, names: Iterable[str] = ()) -> str:
    """A Markdown table of what the studies beyond the paper found, and how often it differs from shuffled weights.

    Args:
        found: `findings.FOUND`.
        names: models that get a column each; the others share one.
    """
    titles = ["beyond the paper", *names, _own(names), "shuffled weights", "differs from these in"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 2) + "---|"]
    others = ~pl.col("model").is_in(list(names))
    for (short,), rows in found.filter("primary").group_by("short", maintain_order=True):
        measured = rows.drop_nulls("value")
        of_models = [measured.filter(model=name) for name in names] + [measured.filter(others)]
        differing = sum(outcome in (ABOVE, BELOW) for outcome in measured["outcome"])
        numbers = [*(_span(of["value"].to_list()) for of in of_models), _span(measured["null"].to_list())]
        lines.append(f"| {short[0].upper()}{short[1:]}. | {' | '.join(numbers)} | {differing} of {len(measured)} |")
    return "\n".join(lines)


def _own(names: Iterable[str]) -> str:
    return "small models" if names else "these models"


def parts(study: list[dict[str, Any]]) -> str:
    """What makes the repair in a model of another run, beside the published values: a paragraph."""
    shares = {claim["id"]: claim for claim in study if claim["id"] in PARTS}
    first = {name: claim["models"][0] for name, claim in shares.items()}
    ours = ", ".join(f"{what} {_span([first[name]['value']])}" for name, what in PARTS.items())
    theirs = ", ".join(_span([shares[name]["paper_value"]]) for name in PARTS)
    low, high = first["late-mlp-part"]["low"], first["late-norm-part"]["high"]
    ending = ": there the norm does most, here the MLPs." if None not in (low, high) and low > high else "."
    return (
        f"**Who repairs.** In `{first['late-mlp-part']['model']}` the parts of self-repair, relative to the direct "
        f"effect of the heads of the later half, are: {ours}. The published values are {theirs}{ending}"
    )


def repairers(found: pl.DataFrame, model: str) -> str:
    """Whether the same later heads repair all heads, and on other distributions: a paragraph; none if not measured.

    Args:
        found: `findings.FOUND`.
    """
    of_model = found.filter(model=model).drop_nulls(["value", "low", "high"])
    shares = {(row["statistic"], row["tokens"]): plain(row) for row in of_model.to_dicts()}
    if ("strongest_of_others", "top") not in shares:
        return ""
    elsewhere = [
        f"{tokens} {shares['strongest_own', tokens]} and {share}"
        for (statistic, tokens), share in shares.items()
        if statistic == "strongest_on_first" and ("strongest_own", tokens) in shares
    ]
    return (
        f"**Who repairs whom.** In `{model}` the later head that responds most to an ablated one makes "
        f"{shares['strongest_share', 'top']} of all positive changes of later heads. The head that responds most to "
        f"*other* ablated heads makes {shares['strongest_of_others', 'top']} of them: as much, if the same few repair "
        "all."
        + (
            f" On other text: the strongest there, and the strongest on prose: {'; '.join(elsewhere)}."
            if elsewhere
            else ""
        )
    )


def _judged(entry: dict[str, Any] | None) -> str:
    return "" if entry is None else f"{_span([entry['value']])}, {entry['verdict']}"


def _span(values: list[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    ends = (f"{value:.2f}".replace("-0.00", "0.00") for value in (known[:1] + known[-1:]))
    return " to ".join(dict.fromkeys(ends)) or "not measured"


def with_block(text: str, block: str) -> str:
    """The text with `block` between the markers.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"the page must hold {BEGIN} and after it {END}, once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"
