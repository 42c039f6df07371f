"""Where models run: one GPU for each process, as long as there are enough."""

import fcntl
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import torch

# By GPU. The kernel drops the locks when this process ends, however it ends.
_claimed: dict[str, TextIO] = {}


def pick_device(wanted: str) -> str:
    """Resolve `auto`, `cpu` or `cuda` to `cpu` or a GPU such as `cuda:1`, and say what was chosen.

    Claims the first visible GPU that no other process has claimed, for the life of this one. Only processes that call
    this function, on one machine and with one temporary folder, know of each other.

    Raises:
        ValueError: `cuda` was asked for and there is none.
    """
    if wanted == "cpu":
        device, why = "cpu", ""
    elif torch.cuda.is_available():
        gpus = range(torch.cuda.device_count())
        free = next((gpu for gpu in gpus if _claim(str(torch.cuda.get_device_properties(gpu).uuid))), None)
        if free is None:
            device, why = "cuda:0", f", shared: other jobs have claimed all {len(gpus)} in sight"
        else:
            device, why = f"cuda:{free}", f", of {len(gpus)} in sight"
    elif wanted == "cuda":
        raise ValueError("device: cuda was asked for, but torch sees no GPU; set `device` to auto or cpu")
    else:
        device, why = "cpu", ", as torch sees no GPU"
    print(f"running on {device}{why}", flush=True)
    return device


def check_device(device: str) -> None:
    """Check that torch can compute there.

    Raises:
        ValueError: it can't.
    """
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: {device!r} can't be used ({reason}); use cpu, or cuda where there is a GPU"
        ) from error


def describe_device(device: str) -> str:
    """Name the device: `cpu`, or the GPU's own name."""
    return device if device == "cpu" else torch.cuda.get_device_name(device)


def _claim(uuid: str) -> bool:
    """Lock a GPU's file; say whether this process holds it now."""
    if uuid in _claimed:
        return True
    path = Path(tempfile.gettempdir()) / f"selfrepair-gpu-{uuid}.lock"
    try:
        if not path.exists():
            path.touch(mode=0o644)
        handle = path.open()  # to read: another user's file can be locked, though not written
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    _claimed[uuid] = handle
    return True


def job_record(device: str, precision: str) -> dict[str, str]:
    """Describe what a measuring job ran on: device, number format of its matrix products, version of torch."""
    return {"device": device, "precision": precision, "torch": version("torch")}
