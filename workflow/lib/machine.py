"""Can this machine hold the jobs of a run? Asked when they start here, and not on a cluster, whose nodes are others."""

import os
import shutil
from pathlib import Path

from settings import Settings
from snakemake.exceptions import WorkflowError

DEVICES = Path("/dev")
GPUS = ("nvidia[0-9]*", "kfd")  # device files of NVIDIA's and AMD's drivers


def check_machine(settings: Settings) -> None:
    """Check GPU, memory and disk against what models that are there take at the least: their weights.

    Raises:
        WorkflowError: one of them is missing or too small; the message names the key and the fix.
    """
    gpu = any(any(DEVICES.glob(pattern)) for pattern in GPUS)
    if settings.config["device"] == "cuda" and not gpu:
        raise WorkflowError("device: cuda, but this machine has no GPU; write auto or cpu")
    there = [name for name in settings.measured("resample") if Path(settings.directory(name)).is_dir()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
    for name in there:
        needed = settings.weights_mb(name) // (2 if settings.config["precision"] == "bfloat16" else 1)
        if (given := settings.config["memory"]) != "auto" and needed > given:
            raise WorkflowError(f"memory: {given:,} MB do not hold the {needed:,} MB of weights of {name}; raise it")
        if needed > memory and (settings.config["device"] == "cpu" or not gpu):
            raise WorkflowError(
                f"models.{name}: its weights take {needed:,} MB, and this machine has {memory:,} MB of memory; run on "
                "a larger one"
            )
    results = Path(settings.results)
    free = shutil.disk_usage(next(folder for folder in (results, *results.parents) if folder.exists())).free // 10**6
    folded = [name for name in there if (results / "models" / name / "folded").is_dir()]
    if (needed := sum(settings.weights_mb(name) for name in set(there) - set(folded))) > free:
        raise WorkflowError(
            f"run: folded models take {needed:,} MB in {results}, where {free:,} MB are free; make room, or measure "
            "fewer models at a time"
        )
