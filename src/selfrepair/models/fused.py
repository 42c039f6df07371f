"""Steps between the matrix products, each in one pass over memory where a GPU has Triton, else in plain torch.

What lies between the products hardly computes but moves bytes: on a GPU it would take longer than they do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

_plain = False


@contextmanager
def plain_torch() -> Iterator[None]:
    """Do without Triton; for checks."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def norm(x: Float[Tensor, "*batch d_model"], eps: float, dtype: torch.dtype) -> Float[Tensor, "*batch d_model"]:
    """x / sqrt(mean(x^2) + eps), in `dtype`."""
    if kernels := _kernels(x):
        return kernels.norm(x.flatten(0, -2), eps, dtype).view_as(x)
    return rms_norm(x, x.shape[-1:], eps=eps).to(dtype)


def add_change(
    resid: Float[Tensor, "token d_model"],
    written: Float[Tensor, "token d_model"],
    clean: Float[Tensor, "place d_model"],
    place: Int[Tensor, " token"],
    v: Float[Tensor, "wanted d_model"],
) -> Float[Tensor, " token"]:
    """Add what a component writes to the stream, in its place, and return (written - clean).v at each token's place.

    The values of `written` are lost. The first places, those of the wanted rows, are the ones of `v`.
    """
    if kernels := _kernels(resid, written, clean, v):
        return kernels.add_change(resid, written, clean, place, v)
    resid += written
    return written.sub_(clean[place]).mul_(v[place]).sum(-1)


def gated(
    hidden: Float[Tensor, "token d_mlp"], gate: Float[Tensor, "token d_mlp"], act: Callable[[Tensor], Tensor]
) -> Float[Tensor, "token d_mlp"]:
    """hidden act(gate), in place of `hidden`."""
    if act is silu and (kernels := _kernels(hidden, gate)):
        return kernels.gate_by_silu(hidden, gate)
    return hidden.mul_(act(gate))


def attention(
    qkv: Float[Tensor, "row pos qkv"],
    n_heads: int,
    n_kv_heads: int,
    turn: tuple[Float[Tensor, "longest rotated"], Float[Tensor, "longest rotated"]] | None,
    scale: float,
    window: int | None,
) -> Float[Tensor, "row pos n_heads d_head"]:
    """Attention-weighted values of every head; scores and weights are float32.

    Args:
        turn: cosines and sines of the rotary angles of the first positions; None without rotary embedding.
        scale: factor of the scores.
        window: tokens a position attends to, itself included; None for all.
    """
    length, width = qkv.shape[1:]
    d_head, grouped, kernels = width // (n_heads + 2 * n_kv_heads), n_kv_heads != n_heads, _kernels(qkv)
    sizes = [heads * d_head for heads in (n_heads, n_kv_heads)]
    qk, v = qkv.split([sum(sizes), sizes[1]], dim=-1)
    if turn is not None and kernels:
        qk = kernels.rotate(qkv, *turn, n_heads + n_kv_heads, d_head)
    if grouped and kernels:
        return kernels.attend(qk, v, n_heads, d_head, scale, window or length)
    q, k, v = (part.unflatten(-1, (-1, d_head)).transpose(1, 2) for part in (*qk.split(sizes, dim=-1), v))
    if turn is not None and not kernels:
        q, k = (_rotate(part, *(table[:length] for table in turn)) for part in (q, k))
    if grouped and qkv.is_cuda:
        # For groups torch would take products of the precision that the process asks for.
        k, v = (part.repeat_interleave(n_heads // n_kv_heads, dim=1) for part in (k, v))
    mask = _window_mask(length, window, qkv.device) if window is not None and window < length else None
    z = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=k.shape[1] != n_heads
    )
    return z.transpose(1, 2)


def _rotate(x: Float[Tensor, "row head pos d_head"], cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first dimensions of each head, in the half-split layout of Hugging Face."""
    turned, kept = x.split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([turned, kept], dim=-1) if kept.shape[-1] else turned


def _window_mask(length: int, window: int, device: torch.device) -> Bool[Tensor, "query key"]:
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (distance >= 0) & (distance < window)


def _kernels(*tensors: Tensor) -> ModuleType | None:
    """The kernels, if they can work on these tensors."""
    fit = all(x.is_cuda and x.dtype == torch.float32 and x.is_contiguous() for x in tensors)
    return _compiled() if fit and not _plain else None


@cache
def _compiled() -> ModuleType | None:
    """The kernels, or None where they cannot be compiled, which is said."""
    if find_spec("triton") is None:
        return None
    try:
        from selfrepair.models import kernels

        kernels.attend(torch.ones(1, 16, 48, device="cuda"), torch.ones(1, 16, 16, device="cuda"), 2, 16, 1.0, 16)
    except Exception as error:  # whatever is missing or too old: a compiler, headers, the card
        print(f"Triton cannot compile here, so this runs in plain torch, more slowly: {error}", flush=True)
        return None
    return kernels
