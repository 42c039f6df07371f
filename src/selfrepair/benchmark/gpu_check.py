"""Check the measurement on a GPU and time it: `make gpu-check`; minutes, without a network.

Results are written after each step, so that a crash loses none. A broken limit is an error once all is measured.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.memory import allowance, chunk_tokens, tokens_at_once
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.benchmark.flops import sweep_flops
from selfrepair.benchmark.gpu_errors import LIMITS, beyond_limits, other_errors, product_errors, sweep_errors
from selfrepair.benchmark.gpu_errors import SHAPES as SMALL
from selfrepair.benchmark.gpu_page import ERRORS, SPEED, Row, gpu_page, write_rows
from selfrepair.benchmark.machine import mm_rate
from selfrepair.benchmark.random_model import SHAPES, Shape, random_folded, random_rows, row_before
from selfrepair.models.device import describe_device, pick_device
from selfrepair.models.folded import FoldedModel
from selfrepair.models.precision import Precision

LENGTH = 128  # tokens of a row, as in the paper
REPEATS = 4  # of a batch; the first warms up
ENOUGH = 12  # seconds after which a batch is not repeated


@dataclass(frozen=True)
class Case:
    """A model to be timed; a batch holds as many rows as the package would choose, but no more than `rows`."""

    name: str
    shape: Shape
    precision: Precision
    rows: int


SMOLLM2 = Shape("llama", 30, 9, 576, 1536, 49152, 2048, n_kv_heads=3)
CASES = [
    *(Case("gpt2-small", SHAPES["gpt2-small"], precision, 48) for precision in ("float32", "tf32", "bfloat16")),
    *(Case("smollm2-135m", SMOLLM2, precision, 48) for precision in ("float32", "tf32", "bfloat16")),
    Case("llama-7b", SHAPES["llama-7b"], "bfloat16", 3),
    Case("llama-7b", SHAPES["llama-7b"], "tf32", 2),
    Case("llama-7b", SHAPES["llama-7b"], "float32", 1),
]


def check(folder: Path, device: str, cases: Sequence[Case] = CASES, small: Sequence[str] = tuple(SMALL)) -> None:
    """Write `gpu_errors.csv`, `gpu.csv` and the page of both.

    Args:
        small: names of the small models that are compared (`gpu_errors.SHAPES`).

    Raises:
        ArithmeticError: an error is beyond its limit; says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - start:4.0f} s  {what}", flush=True)

    say(f"{describe_device(device)}, torch {torch.__version__}")
    errors: list[Row] = [row for precision in LIMITS for row in product_errors(device, precision)]
    for name in small:
        of_model = [*sweep_errors(name, device, tuple(LIMITS)), *other_errors(name, device)]
        errors += of_model
        worst = {p: max(row["error"] for row in of_model if row["precision"] == p) for p in LIMITS}
        say(f"{name}: largest errors {', '.join(f'{precision} {error:.0e}' for precision, error in worst.items())}")
        _write(folder, errors, [])
    broken = beyond_limits(errors)
    say("; ".join(broken) or "all errors are within their limits")
    speed: list[Row] = []
    for case in cases:
        row = measure_speed(case, device)
        speed.append(row)
        _write(folder, errors, speed)
        say(
            f"{case.name}, {case.precision}: {row['us']:.3g} µs per (token, head), {row['tflops']:.3g} TFLOP/s, "
            f"{row['peak_fraction']:.0%} of torch.mm's"
        )
    if broken:
        raise ArithmeticError("; ".join(broken))


@torch.no_grad()
def measure_speed(case: Case, device: str) -> Row:
    """Time the sweep over one batch; return a row of `gpu_page.SPEED`."""
    model = random_folded(case.name, case.shape, device, case.precision, biases=case.shape.family != "llama")
    tokens, source = random_rows(case.shape.d_vocab, case.rows + 1, LENGTH), row_before(case.rows + 1)
    jobs = _batch(model, case.rows)
    on_gpu, chunk = model.device.type == "cuda", chunk_tokens(model)
    mm = mm_rate(model, chunk)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < ENOUGH:
        start = time.perf_counter()
        sweep(model, tokens, source, "resample", jobs, no_means(model))
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if on_gpu else None
    mm = max(mm, mm_rate(model, chunk)) / 1e3
    seconds = statistics.median(times[1:] or times)
    heads, flops = model.n_layers * model.n_heads, sweep_flops(model, LENGTH - 1)
    rate = flops * jobs.n_tokens / seconds / 1e12
    row = {
        "model": case.name,
        "precision": case.precision,
        "tokens": jobs.n_tokens,
        "seconds": seconds,
        "us": seconds / jobs.n_tokens * 1e6,
        "mflop": flops / 1e6,
        "tflops": rate,
        "mm_tflops": mm,
        "peak_fraction": rate / mm,
        "memory_gb": memory,
        "hours": seconds / jobs.n_tokens * 1e6 * heads / 3600,
        "gpu": describe_device(device),
        "torch": torch.__version__,
    }
    del model
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
    return row


def _batch(model: FoldedModel, rows: int) -> AblationJobs:
    """The first batch of measuring every head in some rows, as large as the package makes it."""
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(rows), LENGTH - 1)
    room = allowance(model.device, None, None, torch.get_num_threads())
    return next(jobs.batches(tokens_at_once(model, jobs, LENGTH - 1, room)))


def _write(folder: Path, errors: list[Row], speed: list[Row]) -> None:
    write_rows(errors, ERRORS, folder / "gpu_errors.csv")
    write_rows(speed, SPEED, folder / "gpu.csv")
    (folder / "gpu.md").write_text(gpu_page(folder))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the tables and the page are written")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu tries the check itself")
    chosen = parser.parse_args()
    check(chosen.folder, pick_device(chosen.device))
