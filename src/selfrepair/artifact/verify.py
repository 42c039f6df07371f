"""Checks of a finished run, or of an unpacked archive of one, against its record.

`check_files`: every file of the record is there with its SHA-256, and no result lies beside them that the record does
not know. `check_code`: which code the run was made with, and which is here. What the tables hold is looked at by
`verify_tables` and, with the weights, by `verify_rows`.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfrepair.ablation.replacements import Ablation
from selfrepair.artifact.crate import METADATA, Crate
from selfrepair.core.files import git, modifications, sha256
from selfrepair.models.directory import authors_units_measurements

UNRECORDED = ("logs", "benchmarks", "trained")  # folders of a run in which files may lie that no record names
TIMESTAMP = ".snakemake_timestamp"  # Snakemake's, in a folder that it made
PDF = "paper/paper.pdf"  # made wherever a TeX engine is found, so also after the record
HUB_DIRECTORY = ("results", "hub", "models")  # of fetched models; what Snakemake makes is the directory of each


@dataclass(frozen=True)
class Check:
    """What was looked at, and what is wrong with it; None if nothing is."""

    what: str
    problem: str | None = None


def expected(config: dict[str, Any]) -> list[tuple[str, Ablation]]:
    """Model and kind of ablation of each measurement that a configuration asks for, second ones included."""
    kinds, second = config["ablation"]["kinds"], authors_units_measurements(config["models"])
    measured = [(name, kind) for name in config["models"] for kind in kinds]
    return measured + [(name, "resample") for name in second if "resample" in kinds]


def place(row: dict[str, Any]) -> str:
    """Where a token row is: its head, row and position."""
    return f"L{row['layer']}H{row['head']}, row {row['row']}, pos {row['pos']}"


def shards(crate: Crate, model: str, kind: str, table: str) -> list[Path]:
    """Files of a table of the ablation, by shard; none if the record has none."""
    start = f"ablation/{model}/{kind}/{table}-"
    numbers = sorted(int(name[len(start) : -len(".parquet")]) for name in crate.files if name.startswith(start))
    return [crate.path(f"{start}{number}.parquet") for number in numbers]


def check_files(crate: Crate) -> Iterator[Check]:
    """Compare the files of a run and its inputs with the record: a check for each that differs, then one per folder."""
    for kind, listed in (("result", crate.files), ("input", crate.inputs)):
        good: Counter[str] = Counter()
        for name, recorded in sorted(listed.items()):
            path = crate.path(name)
            folder = name.split("/")[0] if kind == "result" else "inputs"
            if not path.is_file():
                yield Check(name, f"this {kind} is missing; {_how_to_restore(path, kind)}")
            elif (actual := sha256(path)) != recorded:
                yield Check(name, f"this {kind} is not what was recorded: SHA-256 is {actual}, not {recorded}")
            else:
                good[folder] += 1
        for folder, count in sorted(good.items()):
            yield Check(f"{folder}: {count} files are as recorded")
    folded: set[str] = set()
    for facts in (name for name in crate.files if name.startswith("models/") and name.endswith("/model.json")):
        try:
            recorded_files = dict(json.loads(crate.path(facts).read_text())["folded_sha256"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield Check(facts, f"it does not say what the folded model is ({error!r})")
            continue
        yield from _folded(crate.path(facts).with_name("folded"), recorded_files)
        folded |= {f"{facts.removesuffix('model.json')}folded/{name}" for name in (*recorded_files, TIMESTAMP)}
    unknown = sorted(name for name in _results(crate.root) if name not in crate.files.keys() | folded)
    if PDF in unknown:
        unknown.remove(PDF)
        yield Check(f"{PDF} was typeset apart from the recorded run: not checked")
    for name in unknown:
        yield Check(name, "the record does not know this file; delete it, or run Snakemake to make the record anew")
    if not unknown:
        yield Check("no other results lie in the run's folder")


def _folded(folder: Path, recorded_files: dict[str, str]) -> Iterator[Check]:
    """Compare a folded model, where it is there, with its checksums."""
    for name, recorded in recorded_files.items() if folder.is_dir() else ():
        if not (folder / name).is_file() or sha256(folder / name) != recorded:
            yield Check(f"{folder / name}", "this is not what was measured; delete the folder, Snakemake folds it anew")


def _how_to_restore(path: Path, kind: str) -> str:
    """What brings a missing file back."""
    if kind == "result":
        return f"`snakemake --cores all -- {path}`, with the configuration of the run, makes it again"
    if path.parts[:2] != HUB_DIRECTORY[:2]:
        return f"put it back to {path}"
    target = Path(*path.parts[:4]) if path.parts[:3] == HUB_DIRECTORY else path
    return f"fetch it, with the configuration of the run: `snakemake --cores all {target}`"


def _results(root: Path) -> Iterator[str]:
    """Paths of everything in a run's folder that has to be in its record."""
    seen: set[str] = set()  # a link may lead back
    for folder, folders, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in (Path(folder, file).relative_to(root) for file in files):
            if name.parts[0] not in UNRECORDED and str(name) != METADATA:
                yield name.as_posix()


def check_code(crate: Crate) -> Check:
    """Say at which commit the run was recorded, and which one is checked out; a difference is no failure."""
    record, here, changed = crate.run_record, git("rev-parse", "HEAD"), modifications()
    recorded = _code(record["commit"], record["modified"], "outside Git")
    return Check(f"code: recorded {recorded}; here {_code(here, bool(changed), 'there is no Git checkout')}")


def _code(commit: str | None, modified: bool | None, without: str) -> str:
    if commit is None:
        return without
    return f"at {commit} with modified files" if modified else f"at {commit}"
