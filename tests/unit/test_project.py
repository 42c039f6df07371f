"""The project agrees with itself: lock, rules, configuration, shipped data, documentation."""

import hashlib
import json
import sys
import sysconfig
import tomllib
from pathlib import Path

import polars as pl
import pytest
import yaml
from packaging.requirements import Requirement
from pin_environments import canonical, locked_versions
from test_environments import LOCKED

from selfrepair.models.directory import read_model_info
from selfrepair.report.documentation import results_readme
from selfrepair.tokens.stdlib_corpus import build_python_corpus, standard_library_topics

ROOT = Path(__file__).parents[2]
RESOURCES = ROOT / "workflow/resources"
MODELS = sorted(path for path in (RESOURCES / "models").iterdir() if path.is_dir())


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_what_the_lock_pins_is_within_the_ranges_of_direct_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = map(Requirement, [*project["dependencies"], *(line for extra in extras for line in extra)])
    locked = locked_versions(ROOT / "envs/cluster.lock") | LOCKED
    for requirement in wanted:
        for version in locked[canonical(requirement.name)] if requirement.name != "selfrepair" else ():
            assert requirement.specifier.contains(version), f"{requirement}: the lock has {version}"


def test_results_are_documented_as_they_are() -> None:
    assert (ROOT / "results/README.md").read_text() == results_readme(), "run workflow/scripts/document_results.py"


def test_shipped_corpus_is_the_one_that_was_checked() -> None:
    folder = RESOURCES / "corpora/python-stdlib"
    found = hashlib.sha256((folder / "corpus.parquet").read_bytes()).hexdigest()
    assert (folder / "SHA256SUMS").read_text().split()[0] == found
    assert yaml.safe_load((ROOT / "config/demo.yaml").read_text())["corpora"]["python-stdlib"]["sha256"] == found


def test_shipped_corpus_holds_out_a_tenth_and_labels_prose_and_code() -> None:
    corpus = pl.read_parquet(RESOURCES / "corpora/python-stdlib/corpus.parquet")
    size = corpus.with_columns(size=pl.col("text").str.len_bytes())
    for kind in ("prose", "code"):
        of_kind = size.filter(kind=kind)
        assert of_kind.filter(split="held_out")["size"].sum() >= 0.1 * of_kind["size"].sum()
    assert corpus["document"].is_unique().all()


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:3] != (3, 11, 7), reason="the corpus is of Python 3.11.7's library")
def test_shipped_corpus_is_what_its_rule_builds() -> None:
    built = build_python_corpus(Path(sysconfig.get_path("stdlib")), standard_library_topics())
    assert built.equals(pl.read_parquet(RESOURCES / "corpora/python-stdlib/corpus.parquet"))


def test_three_models_are_shipped_one_per_family() -> None:
    assert {read_model_info(path).family for path in MODELS} == {"gpt2", "gpt_neox", "llama"}
    weights = sum((path / "model.safetensors").stat().st_size for path in MODELS)
    assert weights < 40e6


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_shipped_models_are_whole_and_trained(model: Path) -> None:
    info = read_model_info(model)
    assert info.n_layers >= 6 and info.n_heads >= 8
    summary = json.loads((model / "training.json").read_text())
    assert summary["held_out_loss"] <= summary["held_out_loss_bigram"] - 0.8
    settings = yaml.safe_load((ROOT / "config/training.yaml").read_text())
    assert summary["training"] == {"checkpoints": 0} | settings["common"] | settings["models"][model.name]
    log = pl.read_csv(model / "training.csv")
    assert log["step"][-1] == settings["common"]["steps"]
    assert (model / "tokenizer.json").read_bytes() == (MODELS[0] / "tokenizer.json").read_bytes()


def test_shipped_weights_have_their_checksums() -> None:
    listed = [line.split() for line in (RESOURCES / "models/SHA256SUMS").read_text().splitlines()]
    weights = {str(path.relative_to(RESOURCES / "models")) for path in (RESOURCES / "models").rglob("*.safetensors")}
    assert weights <= {name for _, name in listed}
    for expected, name in listed:
        assert hashlib.sha256((RESOURCES / "models" / name).read_bytes()).hexdigest() == expected, name


def test_training_checkpoints_are_shipped_for_one_model() -> None:
    checkpoints = sorted((RESOURCES / "models").glob("*/checkpoints/step-*"))
    assert len(checkpoints) == 12
    assert sum((path / "model.safetensors").stat().st_size for path in checkpoints) < 40e6
    for path in checkpoints:
        assert read_model_info(path).n_layers >= 6
