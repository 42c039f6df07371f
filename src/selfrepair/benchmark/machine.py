"""The machine that a benchmark runs on, and how fast its matrix products are."""

import os
import platform
import statistics
import time
from importlib.metadata import version

import torch

from selfrepair.artifact.record import processor
from selfrepair.models.folded import FoldedModel

TOKENS = 4096  # that pass a layer together
REPEATS = 5


@torch.no_grad()
def mm_rate(model: FoldedModel) -> float:
    """GFLOP/s of `torch.mm` at the shapes of a layer's four linear maps for `TOKENS` tokens, each at its median time.

    The rate is of the four together, so each counts as much as its FLOP take time.
    """
    layer, flops, seconds = model.layers[0], 0, 0.0
    for weight in (layer.W_QKV, layer.W_O.flatten(0, 1), layer.W_in, layer.W_out):
        tokens = torch.randn(TOKENS, weight.shape[0])
        out = torch.mm(tokens, weight)
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            torch.mm(tokens, weight, out=out)
            times.append(time.perf_counter() - start)
        flops += 2 * TOKENS * weight.numel()
        seconds += statistics.median(times)
    return flops / seconds / 1e9


def describe_machine() -> dict[str, object]:
    """Processor, cores, threads that torch uses, and the versions that timings depend on."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "transformer_lens")},
    }
