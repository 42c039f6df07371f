"""The estimate of how long a run takes."""

import re
from pathlib import Path

import polars as pl

from selfrepair.benchmark import estimate
from tests.helpers.small_run import RUN, make_run


def said(folder: Path, measured: list[str], jobs: int = 0, cores: int = 1, studies: int = 0, texts: int = 0) -> str:
    output = folder / "estimate.txt"
    estimate.estimate_run(
        models=[folder / "folded"],
        sampled=[RUN / "tokens/m"],
        clean=[RUN / "ablation/m/clean"],
        measured=measured,
        study_rows=studies,
        distribution_rows=texts,
        jobs=jobs,
        cores=cores,
        memory_mb=2000,
        output=output,
        heads=["m=L0H1", "other=L9H9"],
    )
    return output.read_text()


def test_an_estimate_counts_ablations_jobs_and_cores(zoo, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(make_run(zoo, tmp_path))
    ticks = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(estimate.time, "process_time", lambda: next(ticks))  # each look an hour later
    once, twice = said(tmp_path, ["m=all"]), said(tmp_path, ["m=all", "m=all", "other=all"])
    # All rows are timed in an hour; a quarter is for what else is measured.
    assert once == (
        "about 1 h 15 min with 1 jobs at a time, of at most 2.0 GB each; with tokens_per_shard: 7 a kill loses five "
        "minutes at most\n"
    )
    assert twice.startswith("about 2 h 30 min")
    rows = len(pl.read_parquet(RUN / "tokens/m/rows.parquet"))
    assert said(tmp_path, [], texts=rows).startswith("about 1 h 15 min"), "all rows once more"
    assert said(tmp_path, [], studies=rows).startswith("about 5 h 0 min")
    # Of three layers, one head that passes through all of them is timed; units pass through two times 3, 2 and 1.
    assert said(tmp_path, ["m=units-all"]).startswith("about 5 h 0 min")
    assert said(tmp_path, [], jobs=200, cores=2).startswith("about 6 min with 2 jobs")


def test_the_time_is_that_of_the_machine(zoo, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(make_run(zoo, tmp_path))
    assert re.match(r"about 1 min ", said(tmp_path, ["m=selected"]))
