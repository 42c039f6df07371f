"""What jobs ask of a machine or a cluster: memory, GPUs, time; and what the profile and the lock for clusters say."""

from pathlib import Path

import pytest
import torch
import yaml
from pin_environments import canonical, locked_versions
from safetensors.torch import save_file
from settings import BASE_MB, UNKNOWN_WEIGHTS_MB, Settings
from workflow_rules import workflow_rules

ROOT = Path(__file__).parents[2]


def settings(model: dict, **config: object) -> Settings:
    return Settings(
        {"retrain": False, "device": "cpu", "models": {"some": model}, "null_twins": {"rows": 0}} | config,
        "results/some",
    )


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 1), ("auto", 1)])
def test_a_measuring_job_takes_a_gpu_unless_on_the_cpu(device: str, gpus: int) -> None:
    assert settings({}, device=device).gpus == gpus


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_memory_follows_the_size_of_the_model_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    for shard in range(2):
        save_file({"w": torch.zeros(5000, 100, dtype=dtype)}, tmp_path / f"model-{shard}.safetensors")
    some = settings({"path": str(tmp_path)})
    assert some.memory_mb("some") == BASE_MB + 3 * 4
    assert some.memory_mb("some", 2) == 2 * some.memory_mb("some")


def test_memory_of_a_model_that_is_not_there_yet_is_a_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings({"hub": "owner/some"}, memory="auto").memory_mb("some") == BASE_MB + 3 * UNKNOWN_WEIGHTS_MB


def test_configured_memory_is_used_and_grows_with_each_attempt() -> None:
    some = settings({"path": "no/such"}, memory=7000)
    assert [some.memory_mb("some", attempt) for attempt in (1, 2)] == [7000, 14000]


def test_jobs_that_hold_a_model_ask_for_its_memory_and_a_gpu() -> None:
    holding = {rule.name: rule.resources for rule in workflow_rules() if "ancient" in rule.flags}
    assert {"measure_clean", "ablate_heads", "measure_neurons", "check_norm"} <= set(holding)
    for name, resources in holding.items():
        assert {"gpu", "device", "memory", "mem_mb"} <= set(resources), name


def test_every_job_of_a_cluster_says_how_much_memory_and_time_it_takes() -> None:
    default = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())["default-resources"]
    assert default["mem_mb"] >= 1000 and default["runtime"] >= 10


def test_the_profile_for_slurm_leaves_the_default_one_in_force() -> None:
    default, slurm = (
        yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text()) for name in ("default", "slurm")
    )
    assert slurm["executor"] == "slurm" and slurm["retries"] == 1
    assert not set(default) & set(slurm), "where both set a key, profiles/default wins"


def test_the_lock_for_clusters_adds_to_the_other_lock() -> None:
    main, added = (locked_versions(ROOT / f"envs/{name}.lock") for name in ("requirements", "cluster"))
    assert canonical("snakemake-executor-plugin-slurm") in added
    assert {name: pins for name, pins in added.items() if name in main and not pins <= main[name]} == {}
