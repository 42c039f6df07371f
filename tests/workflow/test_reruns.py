"""Partial reruns: what a change touches runs again, and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import CONFIG, Clone, fresh_clone

BEFORE_ABLATION = {"sample_tokens", "fold_model", "measure_clean"}
MEASURING = BEFORE_ABLATION | {
    *(
        "ablate_heads",
        "measure_lens",
        "measure_loss",
        "measure_neurons",
        "measure_partners",
        "measure_iterative",
        "check_norm",
    ),
    *("measure_held", "measure_estimates", "measure_distributions"),
}
SUMMARIES = {"summarise_heads", "summarise_neurons"}
CITING = {"write_report", "record_costs", "write_macros", "paper_source", "typeset_paper", "record_crate", "all"}


Edit = Callable[[str], str]


def append(text: str) -> str:
    return text + "\n# an edit\n"


def test_editing_a_figure_reruns_that_figure_and_what_cites_it(finished: Clone) -> None:
    finished.edit("src/selfrepair/figures/responders.py", append)
    plan = finished.plan()
    assert plan["figure_responders"] == 1
    assert set(plan) <= {"figure_responders"} | CITING


def test_editing_the_ablation_reruns_it_and_all_after_it_only(finished: Clone) -> None:
    finished.edit("src/selfrepair/ablation/sweep.py", append)
    plan = finished.plan()
    assert plan["ablate_heads"] == 20 and plan["summarise_heads"] == 4
    assert {"figure_self_repair_by_depth", "table_heads", "check_claims", "write_report"} <= set(plan)
    assert not BEFORE_ABLATION & set(plan)


@pytest.mark.parametrize(
    "file",
    [
        "src/selfrepair/figures/theme.py",
        "src/selfrepair/claims/heads.py",
        "src/selfrepair/report/tables.py",
        "src/selfrepair/artifact/record.py",
        "workflow/report/captions.yaml",
    ],
)
def test_an_edit_of_a_later_stage_measures_nothing_again(finished: Clone, file: str) -> None:
    finished.edit(file, append)
    plan = finished.plan()
    assert plan and not (MEASURING | SUMMARIES) & set(plan)


@pytest.mark.parametrize("file", ["heads.py", "head_estimates.py", "schema.py"])
def test_an_edit_of_a_statistic_or_a_column_measures_nothing_again(finished: Clone, file: str) -> None:
    finished.edit(f"src/selfrepair/analysis/{file}", append)
    plan = finished.plan()
    assert "summarise_heads" in plan and not MEASURING & set(plan)


def test_a_release_reruns_nothing(finished: Clone) -> None:
    finished.edit("pyproject.toml", lambda text: text.replace('version = "0.1.0"', 'version = "0.2.0"'))
    assert finished.plan() == {}


def test_device_memory_and_the_order_of_heads_measure_nothing_again(finished: Clone) -> None:
    def change(config: dict) -> None:
        config["device"], config["memory"] = "auto", 3000
        config["models"]["tiny-pythia"]["heads"].reverse()

    plan = finished.plan(finished.configure("elsewhere.yaml", change))
    assert "record_run" in plan and not (MEASURING | SUMMARIES) & set(plan)


def test_changing_the_top_fraction_keeps_tokens_and_models(finished: Clone) -> None:
    config = finished.configure("top.yaml", lambda c: c["analysis"].update(top_fraction=0.05))
    plan = finished.plan(config)
    assert plan["measure_clean"] == 4 and plan["ablate_heads"] == 20
    assert not {"sample_tokens", "fold_model"} & set(plan)


def test_adding_a_model_runs_that_model_and_what_spans_models(finished: Clone) -> None:
    path = "workflow/resources/models/tiny-llama"
    config = finished.configure("more.yaml", lambda c: c["models"].update({"tiny-llama": {"path": path}}))
    plan = finished.plan(config)
    for rule in ("sample_tokens", "fold_model", "measure_clean"):
        assert plan[rule] == 2, "of the model and its null twin"
    assert plan["ablate_heads"] == 10 and plan["figure_self_repair_by_depth"] == 1


def test_touching_everything_reruns_nothing(finished: Clone) -> None:
    for path in finished.root.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts and "results" not in path.parts:
            os.utime(path)
    assert finished.plan() == {}


@pytest.mark.parametrize(
    ("file", "change", "rule"),
    [
        ("src/selfrepair/ablation/sweep.py", append, "ablate_heads"),
        ("src/selfrepair/figures/responders.py", append, "figure_responders"),
        ("workflow/resources/models/tiny-gpt2/tokenizer_config.json", lambda text: text + "\n", "sample_tokens"),
        ("config/claims.yaml", append, "check_claims"),
    ],
)
def test_content_decides_whatever_the_time_of_a_file(finished: Clone, file: str, change: Edit, rule: str) -> None:
    finished.edit(file, change)
    os.utime(finished.root / file, (1e9, 1e9))  # as `cp -p`, `rsync -a` and `tar` set it
    assert rule in finished.plan()


def test_large_files_are_known_by_content_too(finished: Clone) -> None:
    weights = finished.root / "workflow/resources/models/tiny-gpt2/model.safetensors"
    stored = bytearray(weights.read_bytes())
    stored[-1] ^= 1
    weights.unlink()  # the clone links what is large
    weights.write_bytes(stored)
    os.utime(weights, (1e9, 1e9))
    assert finished.plan()["fold_model"] == 2, "of the model and its twin"


def test_an_archive_unpacked_in_a_fresh_clone_reruns_nothing(finished_run: Clone, tmp_path: Path) -> None:
    archive = tmp_path / "run.tar"
    subprocess.run(["tar", "-cf", archive, "results/test", ".snakemake/metadata"], cwd=finished_run.root, check=True)
    clone = fresh_clone(tmp_path / "elsewhere" / "clone")
    subprocess.run(["tar", "-xf", archive], cwd=clone.root, check=True)
    assert clone.plan() == {}


def test_retrained_models_are_trained_once_and_by_nothing_that_is_measured(clone: Clone) -> None:
    """The rule that trains the shipped models, for a few steps, and that no change of the measurement calls it."""
    short = {"steps: 6500": "steps: 12", "warmup_steps: 300": "warmup_steps: 3", "checkpoints: 12": "checkpoints: 3"}
    for old, new in short.items():
        clone.edit("config/training.yaml", lambda text, old=old, new=new: text.replace(old, new))
    target = "results/test/analysis/tiny-gpt2/resample/heads.parquet"
    training = {"train_tokenizer", "train_model"}
    assert training < set(clone.plan(targets=[target], retrain=True))
    done = clone.run(target, retrain=True)
    assert done.returncode == 0, done.stdout
    checkpoints = (clone.root / "results/test/trained/tiny-gpt2/checkpoints").iterdir()
    assert sorted(path.name for path in checkpoints) == ["step-000001", "step-000003", "step-000012"]
    assert clone.plan(targets=[target], retrain=True) == {}

    clone.edit("src/selfrepair/ablation/sweep.py", append)
    clone.edit(CONFIG, lambda text: text.replace("top_fraction: 0.02", "top_fraction: 0.05"))
    plan = clone.plan(targets=[target], retrain=True)
    assert "measure_clean" in plan and not (training | {"sample_tokens", "fold_model"}) & set(plan)

    clone.edit("config/training.yaml", lambda text: text.replace("learning_rate: 0.003", "learning_rate: 0.002"))
    assert "train_model" in clone.plan(targets=[target], retrain=True)


def test_a_model_of_a_hub_is_fetched_at_its_revision(clone: Clone) -> None:
    hub = {"hub": "owner/some.model", "revision": "0" * 40}
    config = clone.configure("hub.yaml", lambda c: c["models"].update({"some.model": hub}))
    plan = clone.plan(config)
    assert plan["fetch_model"] == 1 and plan["sample_tokens"] == plan["fold_model"] == 2 * 3


def test_a_corpus_of_a_hub_is_fetched_at_its_revision(clone: Clone) -> None:
    def change(config: dict) -> None:
        config["corpora"]["some-text"] = {"hub": "owner/text", "revision": "0" * 40, "text": "text"}
        config["tokens"] = {"corpus": "some-text", "rows": 24, "row_length": 64}

    assert clone.plan(clone.configure("hub.yaml", change))["fetch_corpus"] == 1


def test_a_deleted_figure_is_made_again(finished: Clone) -> None:
    shutil.rmtree(finished.root / "results/test/figures")
    assert finished.plan()["figure_responders"] == 1


def test_a_deleted_table_is_made_again(finished: Clone) -> None:
    (finished.root / "results/test/analysis/models.csv").unlink()
    (finished.root / "results/test/analysis/tiny-gpt2/zero/heads.csv").unlink()
    assert {"model_overview", "summarise_heads"} <= set(finished.plan())
