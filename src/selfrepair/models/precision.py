"""The number formats in which a model's matrix products are computed.

Everything else (residual stream, norms, attention scores, dot products with the unembedding) is float32 in all
of them, and float64 in `float64`. Nothing lowers the precision by itself: a model is in float32 until asked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Precision = Literal["float32", "tf32", "bfloat16", "float64"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
TF32_DROPPED_BITS = 13  # of float32's 23 bits of mantissa TF32 keeps 10


def stored(weight: Float[Tensor, "..."], precision: Precision) -> Float[Tensor, "..."]:
    """Bring a weight into the form in which a model of that precision keeps it; biases stay float32 but in float64."""
    if precision == "float64":
        return weight.double()
    if precision == "bfloat16" and weight.ndim > 1:
        return weight.bfloat16()
    return round_to_tf32(weight.float()) if precision == "tf32" and weight.ndim > 1 else weight.float()


def linear(
    x: Float[Tensor, "token d_in"],
    weight: Float[Tensor, "d_in d_out"],
    bias: Float[Tensor, " d_out"] | None,
    precision: Precision,
) -> Float[Tensor, "token d_out"]:
    """x W + b, factors rounded to the precision, products summed in float32 (float64 in `float64`).

    On a CPU, which has no units for them, TF32 and bfloat16 are rounded to and multiplied as float32: the same values
    up to the order of summation, at no gain in speed.
    """
    if precision == "bfloat16" and x.is_cuda:
        product = torch.mm(x.bfloat16(), weight, out_dtype=torch.float32)
        return product if bias is None else product.add_(bias)
    if precision == "bfloat16":
        x, weight = x.bfloat16().float(), weight.float()
    if precision == "tf32" and not x.is_cuda:
        x = round_to_tf32(x)
    with _float32_products("tf32" if precision == "tf32" else "ieee") if x.is_cuda else _as_is():
        return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)


def factor_dtype(x: Float[Tensor, "*shape"], precision: Precision) -> torch.dtype:
    """What `linear` makes of x before it multiplies it."""
    return torch.bfloat16 if precision == "bfloat16" and x.is_cuda else x.dtype


def round_to_tf32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Round float32 values to the nearest that TF32 holds (half away from zero)."""
    half = 1 << (TF32_DROPPED_BITS - 1)
    return ((x.contiguous().view(torch.int32) + half) & -(1 << TF32_DROPPED_BITS)).view(torch.float32)


@contextmanager
def _float32_products(how: str) -> Iterator[None]:
    """Set how the GPU multiplies float32 matrices, whatever else the process has set, and set it back."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = how
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@contextmanager
def _as_is() -> Iterator[None]:
    yield
