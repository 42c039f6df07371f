"""Every rule runs in the conda environment that it names, with the packages of that file and no others.

`make test-conda` runs this with a stand-in for conda, as no channel needs to be reached: it installs the pip pins of
each file, which are all that the rules import, into an environment of its own. It does not try the solver.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from pin_environments import canonical
from workflow_rules import workflow_rules

from selfrepair.claims.published import COLUMNS
from tests.helpers.hub_double import Hub, serving
from tests.unit.test_environments import KINDS, pins
from tests.workflow.conftest import CONFIG, ROOT, Clone, environment, fresh_clone

STANDIN = ROOT / "tests/conda/standin/bin/conda"
RESULTS = "results/test"
PAPER = f"{RESULTS}/paper/paper.pdf"
CORPUS = "results/built/python-stdlib.parquet"
HUB_MODEL = "results/hub/models/remote"
SHIPPED = "workflow/resources/models/tiny-gpt2"
SHORT = {"steps: 6500": "steps: 12", "warmup_steps: 300": "warmup_steps: 3", "checkpoints: 12": "checkpoints: 3"}


@pytest.fixture(scope="module", autouse=True)
def _standin() -> None:
    """The environments take minutes and gigabytes: they are made on demand only."""
    if shutil.which("conda") != str(STANDIN):
        pytest.skip("`make test-conda` runs this")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return fresh_clone(tmp_path / "clone")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which Snakemake keeps the environments, for all clones."""
    return tmp_path_factory.mktemp("conda")


@pytest.fixture(scope="module")
def environments(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Environment of each kind, as Snakemake has made it."""
    clone = fresh_clone(tmp_path_factory.mktemp("clone") / "clone")
    succeed(clone, home, "--conda-create-envs-only", "all", CORPUS, PAPER)
    made = {file.read_text(): file.with_suffix("") for file in home.glob("*.yaml")}
    return {kind: made[(ROOT / f"envs/{kind}.yaml").read_text()] for kind in KINDS}


@pytest.fixture(scope="module")
def finished(home: Path, environments: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with a finished run in the environments, compared with reference values."""
    clone = fresh_clone(tmp_path_factory.mktemp("finished") / "clone")
    heads = [("tiny-gpt2", 0.02, layer, head) for layer in range(6) for head in range(8)]
    scales = (-0.3, 1, 0.1, 0.2, 0.3, 0.1, 0.2)  # of the columns with numbers
    rows = [(*key, *((1 + key[2]) * (2 + key[3]) ** 0.5 * scale for scale in scales)) for key in heads]
    pl.DataFrame(rows, schema=list(COLUMNS), orient="row").write_csv(clone.root / "reference.csv")
    config = clone.configure("conda.yaml", lambda c: c.update(reference="reference.csv"))
    (clone.root / "run.out").write_text(succeed(clone, home, "all", config=config))
    return clone


def test_an_environment_holds_its_pins_and_no_other_package(environments: dict[str, Path]) -> None:
    for kind, prefix in environments.items():
        command = [prefix / "bin/python", "-m", "pip", "list", "--format", "json"]
        listed = json.loads(subprocess.run(command, capture_output=True, check=True, env=environment()).stdout)
        found = {canonical(package["name"]): package["version"].split("+")[0] for package in listed}
        assert found.pop("pip")
        assert found == pins(kind), kind


def test_each_rules_program_starts_in_its_environment(environments: dict[str, Path]) -> None:
    started = set()
    for rule in workflow_rules():
        script, kind = rule.programs[0], rule.environment
        if (script, kind) not in started:
            command = [environments[kind] / "bin/python", script, "--help"]
            own = environment() | {"PYTHONPATH": "src"}
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=own)
            assert done.returncode == 0, f"{rule.name}: {done.stderr}"
            started.add((script, kind))


def test_a_run_uses_the_environments(finished: Clone, environments: dict[str, Path]) -> None:
    said = (finished.root / "run.out").read_text()
    used = {Path(path).name for path in re.findall(r"^Activating conda environment: (\S+)$", said, re.MULTILINE)}
    kinds = {kind for kind, prefix in environments.items() if prefix.name in used}
    assert {"measure", "analyse", "draw"} <= kinds
    assert "Creating conda environment" not in said
    packages = json.loads((finished.root / RESULTS / "report/run.json").read_text())["packages"]
    assert {canonical(name) for name in packages} == {"pip", *pins("measure")}


def test_a_run_gives_the_tables_of_one_without_conda(finished: Clone, clone: Clone) -> None:
    done = clone.run(f"{RESULTS}/report/run.json", f"{RESULTS}/analysis/models.csv")
    assert done.returncode == 0, done.stdout[-8000:]
    tables = list((clone.root / RESULTS).rglob("*.parquet"))
    assert len(tables) > 20
    for path in tables:
        again = finished.root / path.relative_to(clone.root)
        assert pl.read_parquet(path).equals(pl.read_parquet(again)), path.name


def test_models_are_trained_and_the_corpus_is_built(home: Path, environments: dict[str, Path], clone: Clone) -> None:
    for old, new in SHORT.items():
        clone.edit("config/training.yaml", lambda text, old=old, new=new: text.replace(old, new))
    weights = f"{RESULTS}/trained/tiny-gpt2/model.safetensors"
    succeed(clone, home, weights, CORPUS, retrain=True)
    assert (clone.root / weights).stat().st_size > 1e6 and (clone.root / CORPUS).is_file()


def test_a_model_of_a_hub_is_fetched(home: Path, environments: dict[str, Path], clone: Clone, monkeypatch) -> None:
    files = {f.name: f.read_bytes() for f in (clone.root / SHIPPED).iterdir() if f.suffix in (".json", ".safetensors")}
    config = clone.configure("hub.yaml", lambda c: c["models"].update(remote={"hub": "some/tiny"}))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(clone.root / "home"))
    with serving(Hub()) as hub:
        hub.push("models/some/tiny", files)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        succeed(clone, home, HUB_MODEL, config=config)
    assert (clone.root / HUB_MODEL / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_package_that_an_environment_lacks_is_missed(home: Path, clone: Clone) -> None:
    """Otherwise the rules import what Snakemake's own environment holds, and all of this shows nothing."""
    clone.edit("envs/typeset.yaml", lambda text: re.sub(r" +- polars.*\n", "", text) + "      - tqdm==4.70.1\n")
    source = clone.root / RESULTS / "paper/source.zip"
    source.parent.mkdir(parents=True)
    source.touch()
    done = conda(clone, home, PAPER, "--allowed-rules", "typeset_paper")
    assert done.returncode == 1 and "No module named 'polars'" in done.stdout, done.stdout[-3000:]


def conda(clone: Clone, home: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess:
    return clone.run(*arguments, "--sdm", "conda", "--conda-prefix", str(home), **options)


def succeed(clone: Clone, home: Path, *arguments: str, config: str = CONFIG, retrain: bool = False) -> str:
    done = conda(clone, home, *arguments, config=config, retrain=retrain)
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout
