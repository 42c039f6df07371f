"""One Snakemake at a time in a directory, by locks that the kernel drops when their holder dies, however it dies."""

import fcntl
import time
from pathlib import Path
from typing import TextIO

from snakemake.exceptions import WorkflowError

from selfrepair.core.at_work import JOBS

PATIENCE = 10  # seconds for programs that are being killed
_held: list[TextIO] = []


def hold_lock(path: Path = Path(".snakemake/run.lock")) -> None:
    """Hold the lock until this process ends.

    Raises:
        WorkflowError: another process holds it, or a program of a killed one is still at work.
    """
    path.parent.mkdir(exist_ok=True)
    _held.append(_locked(path, "another Snakemake is at work in this directory; wait until it ends or stop it"))
    left = "a program of a killed Snakemake, or one started by hand, is still at work here; wait for it or stop it"
    _locked(JOBS, left, PATIENCE).close()  # let go at once: the programs of this Snakemake share it


def _locked(path: Path, otherwise: str, patience: float = 0) -> TextIO:
    handle = path.open("a")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise WorkflowError(otherwise) from None
            time.sleep(0.1)
        else:
            return handle
