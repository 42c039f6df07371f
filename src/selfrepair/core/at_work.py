"""Programs at work in a directory hold a lock together: they outlive a Snakemake that is killed, and could write on."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

JOBS = Path(".snakemake/jobs.lock")


@contextmanager
def at_work() -> Iterator[None]:
    """Share the lock, if Snakemake works here; the kernel drops it with the process, however that ends."""
    if not JOBS.parent.is_dir():
        yield
        return
    with JOBS.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
