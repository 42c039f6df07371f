"""What measuring one million tokens takes for each of the paper's models: arithmetic, extrapolated time, memory."""

from dataclasses import fields

import polars as pl
from torch import Tensor

from selfrepair.benchmark.flops import sweep_flops
from selfrepair.benchmark.random_model import SHAPES, random_folded
from selfrepair.benchmark.schema import COSTS
from selfrepair.core.tables import frame
from selfrepair.models.folded import FoldedModel

TOKENS = 1_000_000
POSITIONS = 127  # scored in a row of 128 tokens, as in the paper
FLOAT32 = 4  # bytes
H100_TFLOPS = {"h100_float32_hours": 40, "h100_tf32_hours": 200}  # assumed: method.md section 3


def extrapolate_costs(methods: pl.DataFrame) -> pl.DataFrame:
    """Return a row of `COSTS` for each of the paper's models.

    Args:
        methods: rows of `METHODS`; the slowest sweep among them stands for every model on this machine.
    """
    gflops = methods.filter(method="sweep")["gflops"].min()
    rows = []
    for name, shape in SHAPES.items():
        model = random_folded(name, shape, "meta")
        heads = shape.n_layers * shape.n_heads
        flops = sweep_flops(model, POSITIONS)
        total = flops * TOKENS * heads
        runs = heads + 2  # the clean row, and the one that replaces it
        rows.append(
            {
                "model": name,
                "heads": heads,
                "mflop": flops / 1e6,
                "pflop": total / 1e15,
                "hours": total / (gflops * 1e9) / 3600,
                "weights_gb": FLOAT32 * count_weights(model) / 1e9,
                "stream_gb": FLOAT32 * runs * POSITIONS * shape.d_model / 1e9,
                **{column: total / (rate * 1e12) / 3600 for column, rate in H100_TFLOPS.items()},
            }
        )
    return frame(pl.DataFrame(rows).to_dict(), COSTS)


def count_weights(model: FoldedModel) -> int:
    """Number of weights that a folded model holds."""
    values = [getattr(model, field.name) for field in fields(model)]
    values += [getattr(layer, field.name) for layer in model.layers for field in fields(layer)]
    return sum(value.numel() for value in values if isinstance(value, Tensor))
