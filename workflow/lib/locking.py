"""One Snakemake at a time in a directory, by a lock that the kernel drops when its holder dies, however it dies."""

import fcntl
from pathlib import Path
from typing import TextIO

from snakemake.exceptions import WorkflowError

_held: list[TextIO] = []


def hold_lock(path: Path = Path(".snakemake/run.lock")) -> None:
    """Hold the lock until this process ends.

    Raises:
        WorkflowError: another process holds it.
    """
    path.parent.mkdir(exist_ok=True)
    handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError("another Snakemake is at work in this directory; wait until it ends or stop it") from None
    _held.append(handle)
