"""The environment of every rule's command."""

import os
import shlex
import sys
from pathlib import Path


def command_prefix(base: str) -> str:
    """Shell lines that come before every command, in place of Snakemake's own.

    A failure anywhere in a pipe is a failure. The package is imported from `src`, nothing is fetched, and `python` is
    the one that runs Snakemake unless a conda environment, activated after this path is set, brings its own.
    """
    here = str(Path(sys.executable).parent)
    if os.environ["PATH"].split(os.pathsep)[0] != here:
        os.environ["PATH"] = os.pathsep.join([here, os.environ["PATH"]])
    variables = {
        "PYTHONPATH": f"{base}/src",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",  # whatever the locale
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # glibc would give large tensors back to the system at once, and fault their pages in again.
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**31),
    }
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"set -euo pipefail; export {exports}; "
