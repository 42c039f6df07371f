"""The machine that a benchmark runs on, and how fast its matrix products are."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from selfrepair.artifact.record import processor
from selfrepair.models.folded import FoldedModel
from selfrepair.models.precision import linear, stored

TOKENS = 4096  # that pass a layer together, unless said otherwise
REPEATS = 5


@torch.no_grad()
def mm_rate(model: FoldedModel, tokens: int = TOKENS) -> float:
    """GFLOP/s of `torch.mm` at the shapes of a layer's linear maps for some tokens, each at its median time.

    The rate is of all together, so each counts as much as its FLOP take time. On a GPU products are in the model's
    precision, of factors that are stored in it already, and summed in float32; on a CPU they are in float32.
    """
    layer, flops, seconds = model.layers[0], 0, 0.0
    weights = (layer.W_QKV, layer.W_O.flatten(0, 1), layer.W_in, layer.W_gate, layer.W_out)
    for weight in (weight for weight in weights if weight is not None):
        x = torch.randn(tokens, weight.shape[0], device=model.device)
        if x.is_cuda:
            product = partial(linear, stored(x, model.precision), weight, None, model.precision)
        else:
            weight = weight.float()
            product = partial(torch.mm, x, weight, out=torch.mm(x, weight))
        product()  # the first call is slower
        flops += 2 * tokens * weight.numel()
        seconds += statistics.median(seconds_of(product, model.device) for _ in range(REPEATS))
    return flops / seconds / 1e9


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Time of a call, until the device has done what it asks for."""
    if device.type != "cuda":
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    before.record()
    function()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1e3


def describe_machine() -> dict[str, Any]:
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
