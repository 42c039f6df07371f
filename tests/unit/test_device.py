"""Devices: one GPU for each process as long as there are enough, and never a silent fall-back."""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from selfrepair.models import device
from selfrepair.models.device import describe_device, pick_device

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _locks_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(device, "_claimed", {})


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let torch see GPUs of these names, in this order."""

    def see(*names: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: SimpleNamespace(uuid=f"GPU-{names[gpu]}"))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: f"Card {names[int(gpu[len('cuda:') :])]}")

    return see


@pytest.fixture
def job() -> Iterator[Callable[[], tuple[str, multiprocessing.Process]]]:
    """Start a process that picks a device and keeps it; return its device and the process."""
    jobs = []

    def start() -> tuple[str, multiprocessing.Process]:
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=lambda: (theirs.send(pick_device("auto")), theirs.recv()))
        process.start()
        jobs.append((process, ours))
        assert ours.poll(20)
        return ours.recv(), process

    yield start
    for process, _ in jobs:
        process.kill()
        process.join()


def test_the_cpu_is_used_when_asked_for(gpus: Callable[..., None], capsys: pytest.CaptureFixture) -> None:
    gpus("a")
    assert pick_device("cpu") == "cpu"
    assert capsys.readouterr().out == "running on cpu\n"


def test_auto_says_that_there_is_no_gpu(gpus: Callable[..., None], capsys: pytest.CaptureFixture) -> None:
    gpus()
    assert pick_device("auto") == "cpu"
    assert capsys.readouterr().out == "running on cpu, as torch sees no GPU\n"


def test_cuda_without_a_gpu_is_an_error(gpus: Callable[..., None]) -> None:
    gpus()
    with pytest.raises(ValueError, match="set `device` to auto or cpu"):
        pick_device("cuda")


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_process_keeps_its_gpu(gpus: Callable[..., None], wanted: str, capsys: pytest.CaptureFixture) -> None:
    gpus("a", "b")
    assert pick_device(wanted) == pick_device(wanted) == "cuda:0"
    assert capsys.readouterr().out == "running on cuda:0, of 2 in sight\n" * 2


def test_jobs_take_different_gpus_and_the_next_one_shares(
    gpus: Callable[..., None], job: Callable, capfd: pytest.CaptureFixture
) -> None:
    gpus("a", "b")
    assert [job()[0] for _ in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    said = capfd.readouterr().out.splitlines()
    assert said[:2] == [f"running on cuda:{gpu}, of 2 in sight" for gpu in (0, 1)]
    assert said[2] == "running on cuda:0, shared: other jobs have claimed all 2 in sight"


def test_the_gpu_of_a_killed_job_is_free(gpus: Callable[..., None], job: Callable) -> None:
    gpus("a", "b")
    _, first = job()
    assert job()[0] == "cuda:1"
    first.kill()
    first.join()
    assert job()[0] == "cuda:0"


def test_gpus_are_told_apart_by_uuid_and_not_by_number(gpus: Callable[..., None], job: Callable) -> None:
    gpus("a", "b")
    job()
    gpus("b", "a")
    assert job()[0] == "cuda:0", "GPU b, which has another number here"
    gpus("a", "c")
    assert job()[0] == "cuda:1", "GPU a is claimed under whatever number"


def test_devices_have_names(gpus: Callable[..., None]) -> None:
    gpus("a", "b")
    assert describe_device("cuda:1") == "Card b"
    assert describe_device("cpu") == "cpu"
