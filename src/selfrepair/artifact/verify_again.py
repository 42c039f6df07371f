"""Are the results of a finished run what its workflow makes of what was measured? They are made again elsewhere.

The workflow runs in a temporary folder that has the checkout's files and, as links, what the run measured; so it makes
statistics, tables, verdicts and the paper's numbers anew, with the seeds of the run's configuration. Every file is a
link of its own, in a folder of the temporary one: whatever a job wrote would take the link's place, and nothing of the
run is touched. All links are as old as each other and newer than the code, so that Snakemake measures nothing anew.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from selfrepair.artifact.crate import Crate
from selfrepair.artifact.verify import TIMESTAMP, Check
from selfrepair.report.arms import TABLES
from selfrepair.report.macros import write_macros

MEASURED = ("tokens", "models", "ablation", "trained")  # folders whose files are linked
# What models were needed for beside these, and what tells of the run itself.
TAKEN = ("analysis/*/chosen_heads.csv", "analysis/*/*/norm_check.*", "report/run.json", "report/costs.csv")
MADE = ("analysis/", "tables/", "report/claims.json")
MACROS = "paper/macros.tex"
SHOWN = 100  # characters of a line that differs
CLOSE = 1e-6  # relative, and absolute in a column's unit: what another machine's libraries may round otherwise


def check_again(crate: Crate) -> Iterator[Check]:
    """Make again all that follows from the measurement, and compare: a check for each that differs, one of the rest."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in Path.cwd().iterdir():
            if path.name not in ("results", ".snakemake", ".git"):
                (folder / path.name).symlink_to(path)
        again = folder / "results" / crate.run_record["config"]["run"]
        run = crate.root.resolve()
        for name in MEASURED:
            _link_files(run / name, again / name)
        for name in ("hub", "studies"):
            _link_files(run.parent / name, again.parent / name)
        taken = {name for name in crate.files if any(Path(name).match(pattern) for pattern in TAKEN)}
        for name in taken:
            _link(run / name, again / name)
        now = time.time_ns()
        for link in filter(Path.is_symlink, again.parent.rglob("*")):
            os.utime(link, ns=(now, now), follow_symlinks=False)
        names = [name for name in sorted(crate.files.keys() - taken) if name.startswith(MADE)]
        done = _snakemake(folder, crate, [f"{again.relative_to(folder)}/{name}" for name in names])
        if done.returncode:
            yield Check("results made again", f"the workflow failed:\n{done.stdout[-2000:]}")
            return
        _macros(crate, again)  # by the workflow they would take all figures, whose costs they state
        names.append(MACROS)
        differing = {name: problem for name in names if (problem := _difference(crate.path(name), again / name))}
    for name, problem in differing.items():
        yield Check(name, f"made again from what was measured it is another: {problem}")
    yield Check(f"{len(names) - len(differing)} statistics, tables, verdicts and macros are what the measurements give")


def _link_files(folder: Path, link: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file() and file.name != TIMESTAMP:  # without it a folder is as old as itself
            _link(file, link / file.relative_to(folder))


def _link(file: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(file)


def _snakemake(folder: Path, crate: Crate, targets: list[str]) -> subprocess.CompletedProcess:
    """What is there is taken as it is, whatever its time, since nothing is known of how it was made."""
    config = crate.run_record["config"] | {"device": "cpu"}  # no model is run, and no GPU needed
    (folder / "run.json").write_text(json.dumps(config))
    command = ["--cores", "all", "--configfile", "run.json", "--rerun-triggers", "params", "--quiet", "all", "--"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *command, *targets],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _macros(crate: Crate, again: Path) -> None:
    models, config = again / "analysis", crate.run_record["config"]
    heads, layers = (
        [models / name / "resample" / f"{table}.parquet" for name in config["models"]] for table in ("heads", "layers")
    )
    report, kept = again / "report", again.parent / "studies"
    claims, studied = report / "claims.json", [kept / study for study in config.get("studies", [])]
    family = [kept / config["family"] / f"{table}.parquet" for table in TABLES] if "family" in config else []
    write_macros(
        report / "run.json",
        models / "models.csv",
        heads,
        layers,
        claims,
        report / "costs.csv",
        Path("paper/statements.yaml"),
        again / "tables/findings.csv",
        Path("config/studies.yaml"),
        again / MACROS,
        [study / "report/claims.json" for study in studied],
        family,
    )


def _difference(recorded: Path, again: Path) -> str | None:
    """What differs between two files, as far as it is more than rounding; None if nothing does."""
    if recorded.read_bytes() == again.read_bytes():
        return None
    if recorded.suffix not in (".parquet", ".csv"):
        lines = (file.read_text().splitlines() for file in (recorded, again))
        pairs = (pair for pair in zip_longest(*lines, fillvalue="") if pair[0] != pair[1])
        said = next(pairs, None)
        return None if said is None else f"`{said[0][:SHOWN]}` against `{said[1][:SHOWN]}`"
    read = pl.read_parquet if recorded.suffix == ".parquet" else pl.read_csv
    try:
        assert_frame_equal(read(recorded), read(again), rel_tol=CLOSE, abs_tol=CLOSE)
    except AssertionError as difference:
        return str(difference)
    return None
