"""How the cost of a sweep grows with layers, heads, tokens and the length of rows, beside what arithmetic predicts."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from selfrepair.ablation.measure import measure
from selfrepair.benchmark.flops import sweep_flops
from selfrepair.benchmark.memory import peak_memory
from selfrepair.benchmark.random_model import Shape, random_folded, random_rows, row_before
from selfrepair.benchmark.schema import GROWTH
from selfrepair.core.tables import frame

BATCH_TOKENS = 1024  # rows of a batch times their length


@dataclass(frozen=True)
class Point:
    """One measurement; `axis` says what makes it differ from the base, which begins every axis."""

    axis: str
    shape: Shape
    rows: int
    length: int

    @property
    def batch_rows(self) -> int:
        return max(2, BATCH_TOKENS // self.length)


BASE = Point("base", Shape("gpt2", 6, 8, 256, 1024, 1000, 512), rows=8, length=128)


def points(
    base: Point = BASE,
    layers: Sequence[int] = (2, 4, 12, 24),
    heads: Sequence[int] = (2, 4, 16, 32),
    rows: Sequence[int] = (16, 32, 64),
    lengths: Sequence[int] = (16, 32, 64, 256, 512),
) -> list[Point]:
    """The base, then each axis. Heads share the width of the model; short rows come in larger batches."""
    tokens = base.rows * base.length
    return [
        base,
        *(replace(base, axis="layers", shape=replace(base.shape, n_layers=n)) for n in layers),
        *(replace(base, axis="heads", shape=replace(base.shape, n_heads=n)) for n in heads),
        *(replace(base, axis="tokens", rows=n) for n in rows),
        *(replace(base, axis="row_length", rows=max(2, tokens // n), length=n) for n in lengths),
    ]


def measure_growth(measured: list[Point], rounds: int) -> pl.DataFrame:
    """Time the sweep at every point, in rounds over all points; return a row of `GROWTH` for each.

    Args:
        measured: points, the base first.
    """
    seconds: list[list[float]] = [[] for _ in measured]
    for done in range(rounds):
        for point, times in zip(measured, seconds, strict=True):
            times.append(_seconds(point))
            print(f"round {done + 1}: {point.axis}, {times[-1]:.2f} s", flush=True)
    models = [random_folded(point.axis, point.shape, "meta") for point in measured]
    table = {
        "axis": [point.axis for point in measured],
        "layers": [point.shape.n_layers for point in measured],
        "heads": [point.shape.n_heads for point in measured],
        "tokens": [point.rows * (point.length - 1) for point in measured],
        "row_length": [point.length for point in measured],
        "seconds": [statistics.median(times) for times in seconds],
        "mflop": [sweep_flops(m, p.length - 1) / 1e6 for m, p in zip(models, measured, strict=True)],
        "memory_mb": [peak_memory(p.shape, "sweep", p.rows, p.batch_rows, p.length) for p in measured],
    }
    per_head = pl.col("seconds") / (pl.col("tokens") * pl.col("layers") * pl.col("heads"))
    timed = pl.DataFrame(table).with_columns(us=1e6 * per_head)
    rated = timed.with_columns(gflops=1e3 * pl.col("mflop") / pl.col("us"))
    predicted = rated.with_columns(predicted_us=1e3 * pl.col("mflop") / pl.col("gflops").first())
    return frame(predicted.to_dict(), GROWTH)


def _seconds(point: Point) -> float:
    model = random_folded(point.axis, point.shape)
    tokens = random_rows(point.shape.d_vocab, point.rows, point.length)
    measure(model, tokens[:2], row_before(2))  # first calls are slower
    start = time.perf_counter()
    for batch in tokens.split(point.batch_rows):
        measure(model, batch, row_before(len(batch)), batch_rows=point.batch_rows)
    return time.perf_counter() - start


def growth(rounds: int) -> pl.DataFrame:
    """Time the sweep as layers, heads, tokens and the length of rows grow (`GROWTH`)."""
    return measure_growth(points(), rounds)
