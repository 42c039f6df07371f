"""The results of a run that are kept with the code, under results/studies/<name>/, and a new run against them."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from selfrepair.artifact.crate import CrateError, read_crate
from selfrepair.core.files import sha256, whole_folder, write_atomically, write_text
from selfrepair.report.claims_table import read_claims
from selfrepair.report.findings import read_found
from selfrepair.report.html import duration
from selfrepair.report.readme import beyond, findings

KEPT = (
    *("report/claims.json", "report/run.json", "report/costs.csv", "report/explorer.html", "ro-crate-metadata.json"),
    *("tables/*.csv", "analysis/models.csv", "analysis/*/*/norm.parquet", "analysis/*/*/head_statistics.parquet"),
    *("analysis/*/*/heads.parquet", "analysis/*/*/layers.parquet", "analysis/*/neurons/statistics.parquet"),
    *("figures/norm_share.png", "figures/norm_scale.*.png", "figures/effect_scatter.*.resample.png"),
    *("figures/self_repair_by_depth.*.png", "figures/repair_*.resample.png", "figures/responders.resample.png"),
    *("figures/noise.*.png", "figures/erasure_scatter.*.png"),
    # Beyond the paper.
    *("analysis/*/*/findings.parquet", "analysis/*/layers/units.parquet", "analysis/*/hand-off/sparsity.parquet"),
    *("analysis/*/threshold/thresholds.parquet", "analysis/*/loss/losses.parquet"),
    "analysis/*/distributions/accuracy.parquet",
    *("figures/layer_units.png", "figures/hand_off_*.png", "figures/threshold.png", "figures/attribution.png"),
    *("figures/distributions.png", "figures/repairers.png", "figures/loss_saved.png"),
)
FIRST = (  # on the page of the study
    *("figures/self_repair_by_depth.resample.png", "figures/norm_share.png", "figures/layer_units.png"),
    *("figures/threshold.png", "figures/distributions.png", "figures/loss_saved.png"),
)
CLAIMS, VERDICT = "report/claims.json", ("claim", "model", "verdict")
EXPLORER = "report/explorer.html"  # may be too large to be kept
LARGEST = 5_000_000  # bytes of a file that is kept
TOLERANCE = 1e-3  # relative, and absolute in the unit of a column: what another machine's rounding may change
ODD = 0.01  # of a table's numbers that may differ by more: where rounding makes another token a head's last top token


class StudyError(ValueError):
    """A run can't be kept, or differs from what is kept of it; the message says why or in which table."""


def keep_study(run: Path, study: Path, command: str) -> None:
    """Keep a finished run's record, claims, tables, statistics and main figures, and write their page.

    Args:
        run: folder of the finished run.
        study: folder to make anew.
        command: what makes the run.

    Raises:
        StudyError: the run is not finished.
    """
    if not (run / "ro-crate-metadata.json").is_file():
        raise StudyError(f"{run} holds no ro-crate-metadata.json; finish the run first")
    files = {str(file.relative_to(run)): file for pattern in KEPT for file in sorted(run.glob(pattern))}
    large = [name for name, file in files.items() if file.stat().st_size > LARGEST]
    with whole_folder(study) as folder:
        for name in sorted(files.keys() - large):
            write_atomically(folder / name, partial(shutil.copyfile, files[name]))
        write_text(folder / "README.md", _page(folder, command, large))


def _page(study: Path, command: str, large: list[str]) -> str:
    record = json.loads((study / "report/run.json").read_text())
    costs = pl.read_csv(study / "report/costs.csv")
    judged = [c for c in read_claims(study / "report/claims.json") if c["models"] and not c["exploratory"]]
    models = ", ".join(f"`{name}`" for name in record["config"]["models"])
    tokens, machine = record["config"]["tokens"], record["machine"]
    made = f"Made by `{command}` at commit {record['commit']}: {models} on {tokens['rows']} rows"
    took = f"Added up, its jobs took {duration(costs['cpu_time'].sum())} hours of processor time"
    on = f"on {machine['cores']} cores ({machine['processor']})"
    memory = f"{costs['memory'].max() * 2**20 / 1e9:.1f} GB"
    return "\n".join(
        [
            f"# {record['config']['run']}",
            "",
            f"{made} of {tokens['row_length']} tokens of `{tokens['corpus']}`. {took} {on}, and up to {memory} each.",
            "",
            "These are the run's results that are small; the command makes all of them again and compares.",
            *(f"`{name}` is too large to be kept." for name in large),
            "",
            *(f"![{Path(name).stem}]({name})\n" for name in FIRST if (study / name).is_file()),
            *([findings(judged, {}), ""] if judged else []),
            beyond(read_found(study / "tables/findings.csv")),
            "",
        ]
    )


def compare_study(run: Path, study: Path, output: Path) -> None:
    """Compare the statistics, values and verdicts of a run with those that are kept, and list what was compared.

    Args:
        run: folder of the finished run.
        study: folder of what is kept.
        output: text file to write.

    Raises:
        StudyError: what is kept is not what its own record says, the run has other tables, more than `ODD` of a table's
            numbers differ by more than `TOLERANCE`, or verdicts differ.
    """
    if not (study / CLAIMS).is_file():
        raise StudyError(f"nothing is kept in {study}; make it with the target `keep_study`")
    check_kept(study)
    compared = []
    for file in sorted(study.rglob("*.parquet")):
        name = str(file.relative_to(study))
        if not (run / name).is_file():
            raise StudyError(f"{run / name} does not exist, and {study} holds it: the run is of other models")
        compared.append(_agreement(run, study, name, pl.read_parquet(run / name), pl.read_parquet(file)))
    ours, kept = (_claimed(folder / CLAIMS) for folder in (run, study))
    if changed := set(ours.select(VERDICT).rows()) ^ set(kept.select(VERDICT).rows()):
        named = ", ".join(sorted({f"{claim} ({model})" for claim, model, _ in changed}))
        raise StudyError(f"{run / CLAIMS}: verdicts are not those that {study} holds: {named}")
    compared.append(_agreement(run, study, CLAIMS, ours, kept))
    write_text(output, "\n".join([*compared, f"{CLAIMS}: {len(kept)} verdicts agree", ""]))


def check_kept(study: Path) -> None:
    """Check that what is kept of a run is what the record that is kept with it says.

    Raises:
        StudyError: a file was changed, or is not there; or the record can't be read.
    """
    try:
        recorded = read_crate(study).files
    except CrateError as error:
        raise StudyError(f"{error}; or `git checkout -- {study}` restores what was kept") from None
    there = {str(path.relative_to(study)): path for path in study.rglob("*") if path.is_file()}
    due = {name for name in recorded if any(Path(name).match(pattern) for pattern in KEPT)}
    lost = sorted(due - there.keys() - {EXPLORER})
    changed = [name for name in sorted(there.keys() & recorded.keys()) if sha256(there[name]) != recorded[name]]
    for names, what in ((lost, "is missing"), (changed, "is not what the record kept beside it says")):
        if names:
            raise StudyError(f"{study / names[0]} {what}; `git checkout -- {study}` restores it")


def _agreement(run: Path, study: Path, name: str, new: pl.DataFrame, kept: pl.DataFrame) -> str:
    numbers, odd = _differing(new, kept)
    if odd > max(1, ODD * numbers):
        raise StudyError(f"{run / name} is not what {study} holds: {odd} of {numbers} numbers differ")
    return f"{name}: {numbers - odd} of {numbers} numbers agree to {TOLERANCE:g}"


def _differing(new: pl.DataFrame, kept: pl.DataFrame) -> tuple[int, int]:
    """How many numbers a table has, and how many differ; all if it is of other rows."""
    floats = [name for name, kind in kept.schema.items() if kind.is_float()]
    numbers = kept.height * len(floats)
    if new.schema != kept.schema or not new.drop(floats).equals(kept.drop(floats)):
        return numbers, numbers
    ours, theirs = (table.select(floats).to_numpy() for table in (new, kept))
    return numbers, int((~np.isclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)).sum())


def _claimed(claims: Path) -> pl.DataFrame:
    """Verdicts of all models, and the numbers behind them."""
    columns = dict.fromkeys(VERDICT, pl.String) | dict.fromkeys(("value", "low", "high", "null"), pl.Float64)
    said = [{"claim": claim["id"], **entry} for claim in read_claims(claims) for entry in claim["models"]]
    return pl.DataFrame([{name: entry.get(name) for name in columns} for entry in said], schema=columns)
