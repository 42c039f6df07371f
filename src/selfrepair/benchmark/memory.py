"""Peak memory of one method, in a process of its own (Linux).

What loading took is given back before and does not count: the peak is of the measurement, with libraries and weights.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from selfrepair.ablation.measure import measure
from selfrepair.benchmark.authors import AuthorsProcedure
from selfrepair.benchmark.effects import boot_bridge
from selfrepair.benchmark.hooks import LeanHooks
from selfrepair.benchmark.random_model import Shape, random_folded, random_rows, row_before, save_random_model

PATCHING = {"hooks": LeanHooks, "authors": AuthorsProcedure}


def peak_memory(shape: Shape, method: str, rows: int, batch_rows: int, length: int) -> float:
    """Peak of the resident memory, in MB, of measuring random rows batch by batch.

    Args:
        method: `sweep`, which ablates every head, or one of `PATCHING`, which ablate one head in each batch.

    Raises:
        subprocess.CalledProcessError: the process failed.
    """
    numbers = map(str, (rows, batch_rows, length, torch.get_num_threads()))
    command = [sys.executable, "-m", "selfrepair.benchmark.memory", json.dumps(asdict(shape)), method, *numbers]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return float(done.stdout.splitlines()[-1])


def _main(shape: Shape, method: str, rows: int, batch_rows: int, length: int, threads: int) -> None:
    torch.set_num_threads(threads)
    if method == "sweep":
        model = random_folded("random", shape)
    else:
        with tempfile.TemporaryDirectory() as folder:
            save_random_model(shape, Path(folder))
            bridge = boot_bridge(Path(folder))
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    for tokens in random_rows(shape.d_vocab, rows, length).split(batch_rows):
        source = row_before(len(tokens))
        if method == "sweep":
            measure(model, tokens, source, batch_rows=batch_rows)
        else:
            PATCHING[method](bridge, tokens, source).ablate(shape.n_layers // 2, 0)
    status = Path("/proc/self/status").read_text()
    kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(kibibytes * 1024 / 1e6)


if __name__ == "__main__":
    _main(Shape(**json.loads(sys.argv[1])), sys.argv[2], *map(int, sys.argv[3:]))
