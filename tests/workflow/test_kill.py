"""A run that was killed in the middle of ablation goes on with the same command and ends with the same results."""

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

from tests.workflow.conftest import Clone, environment

TARGET = "results/test/analysis/tiny-gpt2/resample/heads.parquet"
ABLATION = "results/test/ablation/tiny-gpt2/resample"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_killed_in_mid_ablation_it_finishes_with_the_same_values(
    finished_run: Clone, finished: Clone, how: signal.Signals
) -> None:
    folder = finished.root / ABLATION
    kept = folder / "tokens-0.parquet"
    for path in [*folder.glob("*-1.parquet"), finished.root / TARGET]:
        path.unlink()
    os.utime(kept, (1, 1))
    running = subprocess.Popen(
        finished.command(TARGET),
        cwd=finished.root,
        start_new_session=True,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = finished.root / "results/test/logs/ablate_heads.tiny-gpt2.resample.1.log"
    log.unlink()
    deadline = time.monotonic() + 120
    while not (log.exists() and "running on" in log.read_text()):  # the job has begun
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, how)
    running.wait()
    assert not (finished.root / TARGET).exists() and not (folder / "tokens-1.parquet").exists()

    again = finished.run(TARGET)
    assert again.returncode == 0, again.stdout
    assert kept.stat().st_mtime == 1, "a finished shard was computed again"
    for path in (finished.root / "results/test").rglob("*.parquet"):
        uninterrupted = finished_run.root / path.relative_to(finished.root)
        assert pl.read_parquet(path).equals(pl.read_parquet(uninterrupted)), path.name
    assert not list(Path(folder).glob(".*.partial"))


@pytest.mark.parametrize(
    ("lock", "how", "said"),
    [
        ("run.lock", fcntl.LOCK_EX, "another Snakemake is at work in this directory"),
        # Otherwise what it writes in the end would be taken for the next run's.
        ("jobs.lock", fcntl.LOCK_SH, "a program of a killed Snakemake, or one started by hand, is still at work here"),
    ],
)
def test_a_run_beside_another_or_what_one_left_is_refused(finished: Clone, lock: str, how: int, said: str) -> None:
    (finished.root / TARGET).unlink()
    with (finished.root / ".snakemake" / lock).open("w") as held:
        fcntl.flock(held, how)
        second = finished.run(TARGET)
    assert second.returncode != 0
    assert said in second.stdout
    assert finished.run(TARGET).returncode == 0
