"""The sweep beside patching one head at a time: time, memory and results, on the same tokens, heads and threads."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.ablation.measure import measure
from selfrepair.benchmark.effects import Effects, boot_bridge, effects_of
from selfrepair.benchmark.flops import sweep_flops
from selfrepair.benchmark.machine import describe_machine, mm_rate
from selfrepair.benchmark.memory import PATCHING, peak_memory
from selfrepair.benchmark.random_model import SHAPES, Shape, random_rows, row_before, save_random_model
from selfrepair.benchmark.schema import MACHINE, METHODS, QUANTITIES
from selfrepair.core.tables import frame
from selfrepair.models.folded import FoldedModel
from selfrepair.models.load import load_model

AGREEMENT = 1e-3  # logits
Heads = list[tuple[int, int]]
# From tokens and sources to seconds per head, as if every head of the model followed, and effects of some heads.
Method = Callable[[Int[Tensor, "row pos"], Int[Tensor, " row"]], tuple[float, list[Effects]]]
T = TypeVar("T")


@dataclass(frozen=True)
class Compared:
    """Tables of `METHODS` and of the `MACHINE` that they were measured on."""

    methods: pl.DataFrame
    machine: pl.DataFrame


def compare_models(models: list[str], rows: int, row_length: int, heads: int, rounds: int) -> Compared:
    """Time the sweep beside patching one head at a time, on models of the paper's sizes with random weights.

    Args:
        models: whose sizes are taken (`SHAPES`).
        heads: heads that the slow methods ablate.
        rounds: of which times are the median.
    """
    methods = pl.concat(compare_methods(name, SHAPES[name], rows, row_length, heads, rounds) for name in models)
    return Compared(methods, frame({name: [value] for name, value in describe_machine().items()}, MACHINE))


def compare_methods(name: str, shape: Shape, rows: int, length: int, n_compared: int, rounds: int) -> pl.DataFrame:
    """Run all methods side by side on a model with random weights, in rounds of one after the other.

    The sweep measures every head. The other methods ablate `n_compared` heads spread over the layers, as what a head
    costs them hardly depends on it; their clean pass counts for its share.

    Args:
        rows: rows of tokens, all in one batch.
        length: tokens of a row.

    Returns:
        a row of `METHODS` for each method, with medians over the rounds.

    Raises:
        ArithmeticError: a quantity of another method differs from the sweep's by more than `AGREEMENT`.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_random_model(shape, Path(folder))
        model, bridge = load_model(folder, name=name), boot_bridge(Path(folder))
    heads = spread_heads(shape, n_compared)
    methods = sweeping(model, heads) | patching(bridge, heads, shape.n_layers * shape.n_heads)
    seconds, rates, effects = _rounds(methods, model, random_rows(shape.d_vocab, rows, length), rounds)
    differences = {method: largest_differences(effects[method], effects["sweep"]) for method in PATCHING}
    check_agreement(differences)
    us = {method: statistics.median(values) * 1e6 for method, values in seconds.items()}
    flops, mm = sweep_flops(model, length - 1), statistics.median(rates)
    gflops = flops / us["sweep"] / 1e3
    of_sweep = {
        "heads": shape.n_layers * shape.n_heads,
        "mflop": flops / 1e6,
        "gflops": gflops,
        "peak_fraction": gflops / mm,
    }
    table = [
        {
            "model": name,
            "method": method,
            "rows": rows,
            "row_length": length,
            "heads": len(heads),
            "us": us[method],
            "us_low": min(seconds[method]) * 1e6,
            "us_high": max(seconds[method]) * 1e6,
            "ratio": us[method] / us["sweep"],
            "mflop": None,
            "gflops": None,
            "mm_gflops": mm,
            "peak_fraction": None,
            "memory_mb": peak_memory(shape, method, rows, rows, length),
            "largest_effect": max(effect.delta_logit.abs().max().item() for effect in effects[method]),
        }
        | {f"difference_{quantity}": differences.get(method, {}).get(quantity) for quantity in QUANTITIES}
        | (of_sweep if method == "sweep" else {})
        for method in methods
    ]
    return frame(pl.DataFrame(table).to_dict(), METHODS)


def sweeping(model: FoldedModel, heads: Heads) -> dict[str, Method]:
    """The sweep; it measures every head and returns the effects of `heads`."""

    def run(tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"]) -> tuple[float, list[Effects]]:
        seconds, m = _timed(partial(measure, model, tokens, source, batch_rows=len(tokens)))
        return seconds / (model.n_layers * model.n_heads), [effects_of(m, *head) for head in heads]

    return {"sweep": run}


def patching(bridge: torch.nn.Module, heads: Heads, n_heads: int) -> dict[str, Method]:
    """The methods that patch one head after the other; they ablate `heads` of the model's `n_heads`."""

    def run(method: type, tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"]) -> tuple[float, list[Effects]]:
        clean, prepared = _timed(partial(method, bridge, tokens, source))
        seconds, effects = zip(*(_timed(partial(prepared.ablate, *head)) for head in heads), strict=True)
        return clean / n_heads + statistics.mean(seconds), list(effects)

    return {name: partial(run, method) for name, method in PATCHING.items()}


def spread_heads(shape: Shape, count: int) -> Heads:
    """(layer, head) of heads in evenly spaced layers, the first and the last among them."""
    layers = [round(i * (shape.n_layers - 1) / max(1, count - 1)) for i in range(count)]
    return [(layer, i % shape.n_heads) for i, layer in enumerate(layers)]


def largest_differences(measured: list[Effects], expected: list[Effects]) -> dict[str, float]:
    """Largest absolute difference of each quantity over heads and tokens, in logits; NaN where a value is."""

    def values(effects: list[Effects], quantity: str) -> Tensor:
        return torch.stack([getattr(effect, quantity) for effect in effects])

    return {q: (values(measured, q) - values(expected, q)).abs().max().item() for q in QUANTITIES}


def check_agreement(differences: dict[str, dict[str, float]]) -> None:
    """Raise ArithmeticError where a quantity of a method differs from the sweep's by more than `AGREEMENT`."""
    for method, by_quantity in differences.items():
        for quantity, size in by_quantity.items():
            if not size <= AGREEMENT:
                raise ArithmeticError(
                    f"{method}: {quantity} differs from the sweep's by {size:.1e} logits (allowed: {AGREEMENT:.0e})"
                )


def _rounds(
    methods: dict[str, Method], model: FoldedModel, tokens: Int[Tensor, "row pos"], rounds: int
) -> tuple[dict[str, list[float]], list[float], dict[str, list[Effects]]]:
    """Seconds per (token, head) of each method and round, rates of `torch.mm` between, and effects of each method."""
    for method in methods.values():
        method(tokens[:2, :16], row_before(2))  # first calls are slower
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    rates, effects = [mm_rate(model)], {}
    for done in range(rounds):
        for name, method in methods.items():
            took, effects[name] = method(tokens, row_before(len(tokens)))
            seconds[name].append(took / tokens[:, 1:].numel())
            rates.append(mm_rate(model))
            print(f"{model.name}, round {done + 1}, {name}: {1e6 * seconds[name][-1]:,.0f} µs", flush=True)
    return seconds, rates, effects


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result
