"""The README's picture and its table of findings, from a finished run."""

import json
import shutil
from pathlib import Path
from typing import Any

from selfrepair.claims.verdicts import HELD
from selfrepair.core.files import write_atomically, write_text

BEGIN, END = "<!-- findings -->", "<!-- /findings -->"
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


def write_readme(claims: Path, picture: Path, readme: Path, shown: Path) -> None:
    """Write the table of findings between the README's markers, and copy its picture.

    Args:
        claims: claims.json of the run.
        picture: PNG of the run's figure.
        readme: README to write anew.
        shown: the README's copy of the picture.

    Raises:
        ValueError: the README does not hold the markers once each, in order.
    """
    judged = {claim["id"]: claim for claim in json.loads(claims.read_text())["claims"]}
    write_text(readme, with_block(readme.read_text(), findings([judged[name] for name in SHOWN])))
    write_atomically(shown, lambda temporary: shutil.copyfile(picture, temporary))


def findings(claims: list[dict[str, Any]]) -> str:
    """A Markdown table: the finding, the paper's number, ours, that of shuffled weights, and where it holds."""
    lines = [
        "| claim of the paper | its value | these models | shuffled weights | held in |",
        "|---|---:|---:|---:|---|",
    ]
    for claim in claims:
        others, models = claim["others"], claim["models"]
        held = f"{len(others[HELD])} of {others['models']}"
        there = "" if claim["paper_value"] is None else f"{claim['paper_value']:.2f}"
        numbers = (_span([model[name] for model in models]) for name in ("value", "null"))
        lines.append(f"| {claim['wording']} | {there} | {' | '.join(numbers)} | {held} |")
    return "\n".join(lines)


def _span(values: list[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return " to ".join(dict.fromkeys(f"{value:.2f}" for value in (known[0], known[-1]))) if known else "not measured"


def with_block(text: str, block: str) -> str:
    """The text with `block` between the markers.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"the README must hold {BEGIN} and after it {END}, once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"
