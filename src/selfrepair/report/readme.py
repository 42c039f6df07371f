"""The README's picture and its table of findings, from a finished run."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from selfrepair.core.files import write_atomically, write_text

BEGIN, END = "<!-- findings -->", "<!-- /findings -->"
SHOWN = (  # ids of claims, in the order of the table
    "repair-exists",
    "size-of-repair",
    "early-breakage",
    "last-layer-norm-part",
    "late-mlp-part",
    "sparse-neurons",
    "erasure-neuron",
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
    """A Markdown table: what the paper says, its number, ours, and in how many models it holds."""
    lines = ["| finding of the paper | there | here | holds in |", "|---|---:|---:|---|"]
    for claim in claims:
        models = [model for model in claim["models"] if model["value"] is not None]
        holding = [model["model"] for model in models if model["holds"]]
        values = sorted(model["value"] for model in models)
        here = f"{values[0]:.2f} to {values[-1]:.2f}" if values else "not measured"
        there = "" if claim["paper_value"] is None else f"{claim['paper_value']:.2f}"
        held = f"{len(holding)} of {len(models)}" + (
            f": {', '.join(holding)}" if 0 < len(holding) < len(models) else ""
        )
        lines.append(f"| {claim['wording']} ({claim['unit']}) | {there} | {here} | {held} |")
    return "\n".join(lines)


def with_block(text: str, block: str) -> str:
    """The text with `block` between the markers.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    if not re.fullmatch(rf"(?:(?!{BEGIN}|{END})[\s\S])*{BEGIN}(?:(?!{BEGIN})[\s\S])*{END}(?:(?!{END})[\s\S])*", text):
        raise ValueError(f"the README must hold {BEGIN} and after it {END}, once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"
