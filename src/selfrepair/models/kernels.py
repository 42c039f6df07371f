"""Steps between the matrix products that a GPU does in one pass over memory each, in Triton; `fused` says what they do.

All compute in float32, and every sum is in the same order each time. Tensors are contiguous, but for `v` of `attend`.
"""

from collections.abc import Callable
from functools import wraps

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

ELEMENTS = 1024  # of a program that goes through all elements
LOG2_E = tl.constexpr(1.4426950408889634)


def _launch(function: Callable) -> Callable:
    """Launch kernels on the GPU that holds the first argument, whichever is the current one."""

    @wraps(function)
    def launched(first: Tensor, *rest: object) -> Tensor:
        with torch.cuda.device_of(first):
            return function(first, *rest)

    return launched


@_launch
def norm(x: Float[Tensor, "token d_model"], eps: float, dtype: torch.dtype) -> Float[Tensor, "token d_model"]:
    tokens, d_model = x.shape
    normed = torch.empty_like(x, dtype=dtype)
    block, warps = _row(d_model)
    _norm[(tokens,)](x, normed, d_model, eps, BLOCK=block, num_warps=warps)
    return normed


@_launch
def add_change(
    resid: Float[Tensor, "token d_model"],
    written: Float[Tensor, "token d_model"],
    clean: Float[Tensor, "place d_model"],
    place: Int[Tensor, " token"],
    v: Float[Tensor, "wanted d_model"],
) -> Float[Tensor, " token"]:
    tokens, d_model = resid.shape
    change = resid.new_empty(tokens)
    block, warps = _row(d_model)
    _add_change[(tokens,)](resid, written, clean, place, v, change, d_model, BLOCK=block, num_warps=warps)
    return change


@_launch
def gate_by_silu(hidden: Float[Tensor, "token d_mlp"], gate: Float[Tensor, "token d_mlp"]) -> Float[Tensor, "..."]:
    _gate_by_silu[(triton.cdiv(hidden.numel(), ELEMENTS),)](hidden, gate, hidden.numel(), BLOCK=ELEMENTS)
    return hidden


@_launch
def rotate(
    qkv: Float[Tensor, "row pos qkv"],
    cos: Float[Tensor, "longest rotated"],
    sin: Float[Tensor, "longest rotated"],
    n_rotated: int,
    d_head: int,
) -> Float[Tensor, "row pos qk"]:
    rows, length, width = qkv.shape
    qk = qkv.new_empty(rows, length, n_rotated * d_head)
    half = cos.shape[1] // 2
    kept = d_head - 2 * half
    heads, pairs = triton.next_power_of_2(n_rotated), triton.next_power_of_2(half)
    blocks = {"HEADS": heads, "PAIRS": pairs, "KEPT": triton.next_power_of_2(kept) if kept else 0}
    warps = min(16, max(1, heads * pairs // 256))
    sizes = (length, width, n_rotated, d_head, half)
    _rotate[(rows * length,)](qkv, qk, cos, sin, *sizes, **blocks, num_warps=warps)
    return qk


@_launch
def attend(
    qk: Float[Tensor, "row pos qk"], v: Float[Tensor, "row pos v"], n_heads: int, d_head: int, scale: float, window: int
) -> Float[Tensor, "row pos n_heads d_head"]:
    rows, length, _ = qk.shape
    z = qk.new_empty(rows, length, n_heads, d_head)
    wide = d_head > 64
    tile = 32 if wide else 64
    sizes = (length, qk.stride(1), v.stride(1), n_heads, v.shape[2] // d_head, d_head, scale, window)
    block = max(16, triton.next_power_of_2(d_head))
    launch = {"num_warps": 2 if wide else 4, "num_stages": 1 if wide else 2}
    _attend[(rows * n_heads * triton.cdiv(length, tile),)](qk, v, z, *sizes, TILE=tile, BLOCK=block, **launch)
    return z


def _row(d_model: int) -> tuple[int, int]:
    """Size of the block that holds a row, and warps that work on it."""
    block = triton.next_power_of_2(d_model)
    return block, min(16, max(1, block // 256))


@triton.jit
def _norm(x, normed, d_model, eps, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    at = tl.program_id(0).to(tl.int64) * d_model + column
    value = tl.load(x + at, mask=column < d_model, other=0.0)
    value = value / tl.sqrt(tl.sum(value * value, axis=0) / d_model + eps)
    tl.store(normed + at, value.to(normed.dtype.element_ty), mask=column < d_model)


@triton.jit
def _add_change(resid, written, clean, place, v, change, d_model, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < d_model
    at = token * d_model + column
    clean_at = tl.load(place + token) * d_model + column
    added = tl.load(written + at, mask=inside, other=0.0)
    tl.store(resid + at, tl.load(resid + at, mask=inside, other=0.0) + added, mask=inside)
    changed = added - tl.load(clean + clean_at, mask=inside, other=0.0)
    tl.store(change + token, tl.sum(changed * tl.load(v + clean_at, mask=inside, other=0.0), axis=0))


@triton.jit
def _gate_by_silu(hidden, gate, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(gate + at, mask=at < size, other=0.0)
    tl.store(hidden + at, tl.load(hidden + at, mask=at < size) * (x / (1 + tl.exp(-x))), mask=at < size)


@triton.jit
def _rotate(
    qkv,
    qk,
    cos,
    sin,
    length,
    width,
    n_rotated,
    d_head,
    half,
    HEADS: tl.constexpr,
    PAIRS: tl.constexpr,
    KEPT: tl.constexpr,
):
    """One token: its queries and keys, in the half-split layout."""
    token = tl.program_id(0).to(tl.int64)
    head, pair = tl.arange(0, HEADS)[:, None], tl.arange(0, PAIRS)[None, :]
    before, after = qkv + token * width + head * d_head, qk + token * n_rotated * d_head + head * d_head
    table_at = (token % length) * 2 * half + pair
    c, s = tl.load(cos + table_at, mask=pair < half), tl.load(sin + table_at, mask=pair < half)
    inside = (head < n_rotated) & (pair < half)
    first, second = tl.load(before + pair, mask=inside), tl.load(before + half + pair, mask=inside)
    tl.store(after + pair, first * c - second * s, mask=inside)
    tl.store(after + half + pair, second * c + first * s, mask=inside)
    if KEPT > 0:
        kept = 2 * half + tl.arange(0, KEPT)[None, :]
        inside = (head < n_rotated) & (kept < d_head)
        tl.store(after + kept, tl.load(before + kept, mask=inside), mask=inside)


@triton.jit
def _attend(
    qk,
    v,
    z,
    length,
    qk_width,
    v_width,
    n_heads,
    n_kv_heads,
    d_head,
    scale,
    window,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A tile of queries of one head in one row; scores in base 2.

    Each product is made of three in TF32, which has the accuracy of float32.
    """
    tiles = tl.cdiv(length, TILE)
    first, of_row = tl.program_id(0) % tiles * TILE, tl.program_id(0) // tiles
    head, row = of_row % n_heads, (of_row // n_heads).to(tl.int64)
    query, column = first + tl.arange(0, TILE), tl.arange(0, BLOCK)
    kv_head = head // (n_heads // n_kv_heads)
    queries = qk + row * length * qk_width + head * d_head
    keys = qk + row * length * qk_width + (n_heads + kv_head) * d_head
    values = v + row * length * v_width + kv_head * d_head
    here = (query[:, None] < length) & (column[None, :] < d_head)
    q = tl.load(queries + query[:, None] * qk_width + column[None, :], mask=here, other=0.0)
    q = q * (scale * LOG2_E)
    largest = tl.full([TILE], -1e30, tl.float32)
    total = tl.zeros([TILE], tl.float32)
    mixed = tl.zeros([TILE, BLOCK], tl.float32)
    start = tl.maximum(first - window + 1, 0) // TILE * TILE
    for tile in range(start, tl.minimum(first + TILE, length), TILE):
        key = tile + tl.arange(0, TILE)
        there = (key[:, None] < length) & (column[None, :] < d_head)
        k = tl.load(keys + key[:, None] * qk_width + column[None, :], mask=there, other=0.0)
        score = tl.dot(q, tl.trans(k), input_precision="tf32x3")
        seen = (key[None, :] <= query[:, None]) & (key[None, :] > query[:, None] - window)
        score = tl.where(seen, score, float("-inf"))
        larger = tl.maximum(largest, tl.max(score, 1))
        weight, shrink = tl.exp2(score - larger[:, None]), tl.exp2(largest - larger)
        total = total * shrink + tl.sum(weight, 1)
        value = tl.load(values + key[:, None] * v_width + column[None, :], mask=there, other=0.0)
        mixed = mixed * shrink[:, None] + tl.dot(weight, value, input_precision="tf32x3")
        largest = larger
    z_at = (row * length + query[:, None]) * n_heads * d_head + head * d_head + column[None, :]
    tl.store(z + z_at, mixed / total[:, None], mask=here)
