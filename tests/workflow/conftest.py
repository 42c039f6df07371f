"""AblationJobs of the workflow in copies of the project, as a new user's clone would be."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs of the workflow take long."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


CONFIG = "config/test.yaml"


class Clone:
    """A copy of the project in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def command(self, *arguments: str, config: str = CONFIG, retrain: bool = False) -> list[str]:
        settings = ["--configfile", config, *(["--config", "retrain=true"] if retrain else [])]
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, *settings]

    def run(self, *arguments: str, config: str = CONFIG, retrain: bool = False) -> subprocess.CompletedProcess:
        """Run Snakemake; standard output and error come together in `stdout`."""
        return subprocess.run(
            self.command(*arguments, config=config, retrain=retrain),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )

    def plan(self, config: str = CONFIG, targets: Sequence[str] = (), retrain: bool = False) -> dict[str, int]:
        """Number of jobs of each rule that Snakemake would run."""
        done = self.run("--dry-run", *targets, config=config, retrain=retrain)
        assert done.returncode == 0, done.stdout
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", done.stdout, re.MULTILINE | re.DOTALL)
        if table is None:
            assert "Nothing to be done" in done.stdout, done.stdout
            return {}
        return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table[1], re.MULTILINE)}

    def edit(self, file: str, change: Callable[[str], str]) -> None:
        path = self.root / file
        changed = change(path.read_text())
        assert changed != path.read_text(), f"the edit of {file} changes nothing"
        path.write_text(changed)

    def configure(self, name: str, change: Callable[[dict], object]) -> str:
        """Write a changed copy of the test configuration and return its path."""
        config = yaml.safe_load((self.root / CONFIG).read_text())
        change(config)
        (self.root / name).write_text(yaml.safe_dump(config))
        return name

    def copy(self, to: Path) -> "Clone":
        shutil.copytree(self.root, to)
        return Clone(to)


def environment() -> dict[str, str]:
    """The tests' environment without what would tell Snakemake of another run."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE_", "PYTEST_"))}


def fresh_clone(to: Path) -> Clone:
    """Copy what a clone would hold: files that Git does not ignore, without the training checkpoints."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if "/checkpoints/" not in name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return Clone(to)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return fresh_clone(tmp_path / "clone")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Clone:
    """A clone with a finished run, made once for all processes of the tests; not to be changed, tests copy it."""
    folder = tmp_path_factory.getbasetemp()
    root = (folder if worker_id == "master" else folder.parent) / "finished"
    with FileLock(f"{root}.lock"):
        if (root / "run.out").exists():
            return Clone(root)
        shutil.rmtree(root, ignore_errors=True)  # of a process that failed
        clone = fresh_clone(root)
        done = clone.run()
        assert done.returncode == 0, done.stdout[-8000:]
        (root / "run.out").write_text(done.stdout)
    return clone


@pytest.fixture
def finished(finished_run: Clone, tmp_path: Path) -> Clone:
    return finished_run.copy(tmp_path / "copy")
