"""The workflow through Slurm: the same results as on one machine, also when jobs are held up, lost or out of memory.

`make test-slurm` starts a Slurm of one node, runs this and stops it.
"""

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import Clone, environment, fresh_clone

CONFIG = "slurm.yaml"
RESULTS = Path("results/test")
HEADS = [str(RESULTS / f"analysis/{model}/resample/heads.parquet") for model in ("tiny-gpt2", "tiny-pythia")]
TABLES = [*HEADS, str(RESULTS / "analysis/models.csv"), str(RESULTS / "report/run.json")]
PYTHIA = HEADS[1]
CLEAN = str(RESULTS / "ablation/tiny-pythia/clean/tokens.parquet")
ONCE_A_MODEL = [
    "measure_clean",
    "measure_lens",
    "measure_loss",
    "measure_neurons",
    "measure_partners",
    "measure_held",
    "measure_estimates",
    "measure_distributions",
    "measure_iterative",
    "check_norm",
]
LOG = RESULTS / "logs/ablate_heads.tiny-pythia.resample.0.log"


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> None:
    """Run on the tests' own cluster only: nodes are drained and jobs cancelled."""
    if shutil.which("scontrol") is None or "= selfrepair\n" not in slurm("scontrol show config"):
        pytest.skip("the tests' Slurm does not answer: `make test-slurm` starts it")


def one_ablation(config: dict) -> None:
    """With `auto` jobs ask for a GPU, of which the node has stand-ins: torch sees none and runs on the CPU."""
    config["device"] = "auto"
    config["ablation"]["kinds"] = ["resample"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with a run on this machine, without Slurm; not to be changed, tests copy it."""
    clone = fresh_clone(tmp_path_factory.mktemp("local") / "clone")
    clone.configure(CONFIG, one_ablation)
    done = clone.run(*TABLES, config=CONFIG)
    assert done.returncode == 0, done.stdout[-8000:]
    return clone


@pytest.fixture(scope="module")
def through_slurm(local: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """The same run through Slurm from the start, and what it said."""
    clone = fresh_clone(tmp_path_factory.mktemp("slurm") / "clone")
    clone.configure(CONFIG, one_ablation)
    return clone, finish(submit(clone, *TABLES))


@pytest.fixture
def before_ablation(local: Clone, tmp_path: Path) -> Clone:
    """A clone in which two jobs of ablation and one of analysis are left to do."""
    clone = local.copy(tmp_path / "clone")
    shutil.rmtree(clone.root / RESULTS / "ablation/tiny-pythia/resample")
    (clone.root / PYTHIA).unlink()
    (clone.root / LOG).unlink()
    return clone


@pytest.fixture
def before_measuring(before_ablation: Clone) -> Clone:
    shutil.rmtree((before_ablation.root / CLEAN).parent)
    return before_ablation


def test_a_run_through_slurm_gives_the_local_tables(local: Clone, through_slurm: tuple[Clone, str]) -> None:
    clone, said = through_slurm
    assert same_tables(clone, local, *HEADS)
    assert "profiles/slurm and workflow specific profile profiles/default" in said
    jobs = int(re.search(r"(\d+) of \1 steps \(100%\) done", said).group(1))
    assert said.count("has been submitted with SLURM jobid") == jobs


def test_measuring_jobs_get_a_gpu_each(through_slurm: tuple[Clone, str]) -> None:
    clone, said = through_slurm
    jobs = [slurm(f"scontrol --details show job {job}") for job in re.findall(r"SLURM jobid (\d+) ", said)]
    with_gpu = [re.search(r"Comment=rule_([a-z]+_[a-z]+)", job)[1] for job in jobs if "JOB_GRES=gpu:1" in job]
    assert Counter(with_gpu) == {**dict.fromkeys(ONCE_A_MODEL, 2), "ablate_heads": 4}
    for log in (clone.root / RESULTS / "logs").glob("ablate_heads.*.log"):
        assert re.search(r"running on (cpu, as torch sees no GPU|cuda:0, of 1 in sight)\n", log.read_text())


def test_a_run_outlasts_a_drained_node(local: Clone, tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path / "clone")
    clone.configure(CONFIG, one_ablation)
    running = submit(clone, PYTHIA)
    wait_for(running, lambda: "RUNNING" in states())
    slurm("scontrol update nodename=ALL state=drain reason=test")
    wait_for(running, lambda: states() == {"PENDING"})
    slurm("scontrol update nodename=ALL state=resume")
    finish(running)
    assert same_tables(clone, local, PYTHIA)


def test_a_requeued_job_runs_again(before_ablation: Clone, local: Clone) -> None:
    running = submit(before_ablation, PYTHIA)
    job = ablation_at_work(running, before_ablation)
    slurm(f"scontrol requeue {job}")
    said = finish(running)
    assert "Restarts=1" in slurm(f"scontrol show job {job}")
    assert "Error" not in said
    assert same_tables(before_ablation, local, PYTHIA)


def test_a_cancelled_job_is_submitted_again(before_ablation: Clone, local: Clone) -> None:
    running = submit(before_ablation, PYTHIA)
    job = ablation_at_work(running, before_ablation)
    slurm(f"scancel {job}")
    said = finish(running)
    assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in said
    assert "Error in rule ablate_heads" in said and "Trying to restart job" in said
    assert same_tables(before_ablation, local, PYTHIA)


def test_a_job_out_of_memory_is_killed_and_submitted_with_more(before_measuring: Clone, local: Clone) -> None:
    before_measuring.edit(CONFIG, lambda text: text + "memory: 400\n")
    said = finish(submit(before_measuring, CLEAN))
    assert "Error in rule measure_clean" in said and "Trying to restart job" in said
    assert set(re.findall(r" mem_mb=(\d+)", said)) == {"400", "800"}
    killed = re.search(r"\S+/slurm_logs/\S+\.log(?= \(check log)", said)[0]
    assert "exceeded memory limit" in Path(killed).read_text()
    assert same_tables(before_measuring, local, CLEAN)


def test_a_run_that_ended_for_want_of_memory_goes_on_with_more(before_measuring: Clone, local: Clone) -> None:
    before_measuring.edit(CONFIG, lambda text: text + "memory: 200\n")
    said = finish(submit(before_measuring, CLEAN), code=1)
    assert "Error in rule measure_clean" in said and said.count("Trying to restart job") == 1
    before_measuring.edit(CONFIG, lambda text: text.replace("memory: 200", "memory: 2000"))
    finish(submit(before_measuring, CLEAN))
    assert same_tables(before_measuring, local, CLEAN)


def submit(clone: Clone, *arguments: str) -> subprocess.Popen:
    """Start a run through Slurm, as on a cluster but for a quicker look at the jobs."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *arguments),
            *("--slurm-init-seconds-before-status-checks", "2", "--configfile", CONFIG),
        ],
        cwd=clone.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


def finish(running: subprocess.Popen, code: int = 0) -> str:
    said, _ = running.communicate(timeout=300)
    assert running.returncode == code, said[-8000:]
    return said


def slurm(command: str) -> str:
    return subprocess.run(command.split(), capture_output=True, text=True).stdout


def states() -> set[str]:
    return set(slurm("squeue --noheader --format=%T").split())


def wait_for(running: subprocess.Popen, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert running.poll() is None, running.stdout.read()
        assert time.monotonic() < deadline, slurm("squeue")
        time.sleep(0.2)


def ablation_at_work(running: subprocess.Popen, clone: Clone) -> str:
    """Wait until the program that ablates the first shard has begun; return the id of its job."""
    wait_for(running, (clone.root / LOG).exists)
    jobs = slurm("squeue --noheader --states=RUNNING --format=%i|%k").split()
    return next(job.split("|")[0] for job in jobs if job.endswith("tiny-pythia_resample_0"))


def same_tables(clone: Clone, local: Clone, *targets: str) -> bool:
    """Check that the targets, and what was made on the way to them, are those of the local run, byte for byte."""
    made = {str(path.relative_to(clone.root)) for path in (clone.root / RESULTS).rglob("*.parquet")}
    for path in {*targets, *made}:
        assert (clone.root / path).read_bytes() == (local.root / path).read_bytes(), path
    return True
