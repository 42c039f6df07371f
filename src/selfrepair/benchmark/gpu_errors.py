"""Whether a GPU computes what is defined: small random models against patching head by head in float64 on the CPU.

The process asks for TF32 meanwhile where a model does not, and for float32 where it does: what a model is computed in
must be its own precision, whatever else is set.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.clean import clean_pass
from selfrepair.ablation.effects import TokenEffects
from selfrepair.ablation.interventions import add_to_stream, move_layers
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.measure import measure
from selfrepair.ablation.neuron_recorder import NeuronRecorder
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.benchmark.patched import patch_every_head
from selfrepair.benchmark.random_model import Shape, random_folded, random_rows, row_before
from selfrepair.models.folded import FoldedModel
from selfrepair.models.fused import plain_torch
from selfrepair.models.precision import Precision, linear, stored

SHAPES = {
    "gpt2": Shape("gpt2", 3, 4, 256, 1024, 1000, 128),
    "gpt_neox": Shape("gpt_neox", 3, 4, 256, 1024, 1000, 128),
    "llama": Shape("llama", 3, 4, 256, 704, 1000, 128),
    "llama, grouped heads": Shape("llama", 3, 6, 384, 1024, 1000, 128, n_kv_heads=2),
    "llama, wide grouped heads, window": Shape("llama", 3, 4, 512, 1024, 1000, 128, n_kv_heads=2),
    "llama, grouped heads, plain torch": Shape("llama", 3, 6, 384, 1024, 1000, 128, n_kv_heads=2),
}
WINDOW = 24  # tokens
ROWS, LENGTH = 4, 64  # an odd number of positions is scored
# Rotary angles are in float32 in every precision.
LIMITS: dict[Precision, float] = {"float64": 5e-8, "float32": 5e-6, "tf32": 3e-3, "bfloat16": 2e-2}
# The parts are summed in float32, whatever the products are in.
SPLIT: dict[Precision, float] = {"float64": 1e-14, "float32": 2e-6, "tf32": 2e-6, "bfloat16": 2e-6}
# Least and largest error of a product, as shares of its size: an error too small says that the format was another one.
PRODUCTS: dict[Precision, tuple[float, float]] = {
    "float64": (0, 1e-14),
    "float32": (0, 2e-6),
    "tf32": (5e-5, 1e-3),
    "bfloat16": (5e-4, 1e-2),
}
OTHERS = 2e-5  # largest error of what is not a sweep's, in float32
D_IN, D_OUT = 576, 1536  # of the product
PARTS = ("direct_effect", "delta_logit", "delta_direct_effect", "repair_attention", "repair_mlp", "repair_norm")
SCALES = ("ablated_scale", "own_scale")
Row = dict[str, Any]


def product_errors(device: str, precision: Precision) -> list[Row]:
    """Errors of x W and x W + b against float64, root mean squares as shares of the product's."""
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=draw) for size in ((1000, D_IN), (D_IN, D_OUT), (D_OUT,)))
    least, limit = PRODUCTS[precision]
    rows = []
    for quantity, added in (("x W", None), ("x W + b", bias)):
        exact = x.double() @ weight.double() + (0 if added is None else added.double())
        errors = []
        for where in (device, "cpu"):
            with asking_for_another(precision):
                left, right = x.to(dtype_of(precision)).to(where), stored(weight, precision).to(where)
                product = linear(left, right, None if added is None else stored(added, precision).to(where), precision)
            errors.append(((product.cpu().double() - exact).norm() / exact.norm()).item())
        rows.append(_row("product", precision, quantity, errors, least, limit))
    return rows


def sweep_errors(name: str, device: str, precisions: tuple[Precision, ...]) -> Iterator[Row]:
    """Largest errors of every quantity, in whole runs and in cut ones, for a model of `SHAPES`.

    Those of logits are shares of the largest logit, those of scales of the largest scale. `split` is by how much the
    parts miss self-repair; that no token misses it by more than is allowed the sweep checks itself.
    """
    model, tokens, source = _model(name), random_rows(1000, ROWS, LENGTH), row_before(ROWS)
    expected = patch_every_head(model.in_precision("float64"), tokens, source)
    for precision in precisions:
        measured = []
        for where in (device, "cpu"):
            with asking_for_another(precision), _steps(name):
                measured.append(_errors(model.in_precision(precision).to(where), tokens, source, expected))
        for quantity in measured[0]:
            limit = (SPLIT if quantity == "split" else LIMITS)[precision]
            yield _row(name, precision, quantity, [f[quantity] for f in measured], 0, limit)


def other_errors(name: str, device: str) -> Iterator[Row]:
    """Largest errors of what else is measured, in float32, as shares of the largest value of each."""
    model = _model(name)
    with asking_for_another("float32"), _steps(name):
        expected, *measured = (_others(m) for m in (model.in_precision("float64"), model.to(device), model))
    for quantity, value in expected.items():
        errors = [((f[quantity].cpu().double() - value).abs().max() / value.abs().max()).item() for f in measured]
        yield _row(name, "float32", quantity, errors, 0, OTHERS)


def beyond_limits(rows: list[Row]) -> list[str]:
    """Say which errors are not within their limits; NaN is not."""
    return [
        f"{row['model']}, {row['precision']}: error of {row['quantity']} is {row['error']:.1e}, "
        f"not within {row['least']:.0e} to {row['limit']:.0e}"
        for row in rows
        if not row["least"] <= row["error"] <= row["limit"]
    ]


@contextmanager
def asking_for_another(precision: Precision) -> Iterator[None]:
    """Let the process ask for TF32 where `precision` is not TF32, and for float32 where it is."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee" if precision == "tf32" else "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def _model(name: str) -> FoldedModel:
    model = random_folded(name, SHAPES[name], biases=SHAPES[name].family != "llama")
    if not name.endswith("window"):
        return model
    return replace(model, layers=tuple(replace(layer, window=WINDOW) for layer in model.layers))


def _steps(name: str) -> AbstractContextManager[None]:
    """How what lies between the products is computed."""
    return plain_torch() if name.endswith("plain torch") else nullcontext()


def dtype_of(precision: Precision) -> torch.dtype:
    """Of the residual stream."""
    return torch.float64 if precision == "float64" else torch.float32


def _errors(
    model: FoldedModel, tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"], expected: dict[str, Tensor]
) -> dict[str, float]:
    every = AblationJobs.all_pairs(model.heads, torch.arange(ROWS), LENGTH - 1)
    draw = torch.Generator().manual_seed(1)
    some = every[torch.randperm(len(every), generator=draw)[: len(every) // 2]]
    cut = replace(some, length=torch.randint(1, LENGTH, (len(some),), generator=draw))
    swept = [sweep(model, tokens, source, "resample", jobs, no_means(model)) for jobs in (every, cut)]
    return {
        quantity: max(_error(quantity, measured, expected) for measured in swept)
        for quantity in (*PARTS, *SCALES, "logit", "scale", "split")
    }


def _others(model: FoldedModel) -> dict[str, Tensor]:
    tokens, source = random_rows(1000, ROWS, LENGTH), row_before(ROWS)
    rows, heads = torch.arange(ROWS), torch.zeros(ROWS, dtype=torch.long)
    noise = torch.randn(ROWS, model.d_model, generator=torch.Generator().manual_seed(2))
    jobs = AblationJobs.all_pairs(model.heads, rows, LENGTH - 1)
    recorder = NeuronRecorder({1}, torch.arange(jobs.n_tokens) % 3 == 0)
    swept = sweep(model, tokens, source, "resample", jobs, no_means(model), recorder)
    added = add_to_stream(model, tokens, rows + 2, 1, 1, heads, noise, [-1.0, 2.0])
    return {
        "zero ablation": measure(model, tokens, source, "zero").self_repair,
        "mean ablation": measure(model, tokens, source, "mean").self_repair,
        "direct effects, clean": clean_pass(model, tokens).direct_effect,
        "layers moved": move_layers(model, tokens, source, rows, [1, 2]).moved,
        "vectors added": added.perturbed_scale,
        "neurons": recorder.effects(swept.scale)[1].change,
    }


def _error(quantity: str, measured: TokenEffects, expected: dict[str, Tensor]) -> float:
    size = expected["scale" if quantity in ("scale", *SCALES) else "logit"].abs().max().item()
    if quantity == "split":
        parts = measured.repair_attention.sum(1) + measured.repair_mlp.sum(1) + measured.repair_norm
        return (measured.self_repair - parts).abs().max().item() / size
    difference = getattr(measured, quantity).cpu().double() - _at(quantity, measured, expected[quantity])
    return difference.abs().max().item() / size


def _at(quantity: str, measured: TokenEffects, expected: Tensor) -> Float[Tensor, "..."]:
    """Values in the order of the tokens of a sweep."""
    if quantity in ("logit", "scale"):
        return expected[measured.rows]
    layer, head, row = (
        measured.jobs.per_token(value) for value in (measured.jobs.layer, measured.jobs.head, measured.jobs.row)
    )
    if quantity in ("repair_attention", "repair_mlp"):
        expected = expected.movedim(2, -1)
    return expected[layer, head, row, measured.jobs.pos]


def _row(model: str, precision: Precision, quantity: str, errors: list[float], least: float, limit: float) -> Row:
    error, cpu_error = errors
    return {
        "model": model,
        "precision": precision,
        "quantity": quantity,
        "error": error,
        "cpu_error": cpu_error,
        "least": least,
        "limit": limit,
    }
