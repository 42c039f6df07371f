"""A run that this machine can't hold ends before its first job, with the key and the fix."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import machine
import pytest
import torch
from machine import check_machine
from safetensors.torch import save_file
from settings import Settings
from snakemake.exceptions import WorkflowError

Usage = namedtuple("Usage", "total used free")
WEIGHTS = 5_000_000  # bytes


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Configuration of a model of five megabytes, on a machine without a GPU."""
    monkeypatch.setattr(machine, "DEVICES", tmp_path / "dev")
    (tmp_path / "model").mkdir()
    save_file({"w": torch.zeros(WEIGHTS // 4)}, tmp_path / "model/model.safetensors")
    models = {"m": {"path": str(tmp_path / "model")}, "not-here": {"hub": "owner/name"}}
    config = {"device": "auto", "precision": "float32", "memory": "auto", "retrain": False}
    return config | {"models": models, "null_twins": {"rows": 4}}


def checked(config: dict, **changes: object) -> None:
    check_machine(Settings(config | changes, "results/r"))


def test_a_machine_that_holds_the_run_passes(run: dict) -> None:
    checked(run)


def test_a_gpu_that_is_not_there_is_named(run: dict, tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="device: cuda, but this machine has no GPU"):
        checked(run, device="cuda")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    checked(run, device="cuda")


def test_weights_larger_than_memory_are_named(run: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 10**6, "SC_PHYS_PAGES": 4}.get)
    with pytest.raises(WorkflowError, match=r"models\.m: its weights take 5 MB, and this machine has 4 MB"):
        checked(run)
    checked(run, precision="bfloat16")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    checked(run)  # the GPU's memory counts


def test_memory_that_does_not_hold_the_weights_is_named(run: dict) -> None:
    with pytest.raises(WorkflowError, match="memory: 4 MB do not hold the 5 MB of weights of m; raise it"):
        checked(run, memory=4)
    checked(run, memory=4, precision="bfloat16")


def test_a_full_disk_is_named(run: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 0, 9 * 10**6))
    with pytest.raises(WorkflowError, match="folded models take 10 MB in results/r, where 9 MB are free"):
        checked(run)  # the model and its twin
