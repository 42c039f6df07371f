"""Models of a named size with random weights: what a measurement costs does not depend on what a model has learnt."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.models.folded import FoldedModel, Layer
from selfrepair.models.folded_files import converted
from selfrepair.models.precision import Precision

DEVIATION = 0.02  # of weights, as the three families are initialised
ROTARY_SHARE = 0.25  # of a head's dimensions, in the Pythia models


@dataclass(frozen=True)
class Shape:
    """Size of a language model; `gpt_neox` runs attention and MLP in parallel, the MLP of `llama` is gated.

    `n_kv_heads` is only of `llama`; None for as many as heads.
    """

    family: Literal["gpt2", "gpt_neox", "llama"]
    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    max_positions: int
    n_kv_heads: int | None = None


SHAPES = {  # the paper's models
    "gpt2-small": Shape("gpt2", 12, 12, 768, 3072, 50257, 1024),
    "pythia-160m": Shape("gpt_neox", 12, 12, 768, 3072, 50304, 2048),
    "gpt2-medium": Shape("gpt2", 24, 16, 1024, 4096, 50257, 1024),
    "pythia-410m": Shape("gpt_neox", 24, 16, 1024, 4096, 50304, 2048),
    "pythia-1b": Shape("gpt_neox", 16, 8, 2048, 8192, 50304, 2048),
    "gpt2-large": Shape("gpt2", 36, 20, 1280, 5120, 50257, 1024),
    "llama-7b": Shape("llama", 32, 32, 4096, 11008, 32000, 2048),
}


def save_random_model(shape: Shape, folder: Path) -> None:
    """Write a Hugging Face model directory with Hugging Face's own initial weights, the same ones every time."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(shape.family, **_config(shape))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)


def random_folded(
    name: str, shape: Shape, device: str = "cpu", precision: Precision = "float32", biases: bool = False
) -> FoldedModel:
    """Make a folded model without a Hugging Face one; on the device `meta` it has shapes and no values.

    Beside the model in its precision a layer in float32 is in memory at most.

    Args:
        biases: whether biases are random too; zero, if not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rest, layers = _folded(name, shape, device, biases)
        kept = tuple(converted(layer, precision, device) for layer in layers)
    return replace(rest.in_precision(precision), layers=kept)


def random_rows(d_vocab: int, rows: int, length: int) -> Int[Tensor, "row pos"]:
    """Rows of random tokens after the same first token, the same ones every time."""
    body = torch.randint(1, d_vocab, (rows, length - 1), generator=torch.Generator().manual_seed(0))
    return torch.cat([torch.zeros(rows, 1, dtype=torch.long), body], dim=1)


def row_before(rows: int) -> Int[Tensor, " row"]:
    """For each row of a batch the row that replaces it: the one before, the last for the first."""
    return torch.arange(rows).roll(1)


def _config(shape: Shape) -> dict[str, Any]:
    common = {"vocab_size": shape.d_vocab, "bos_token_id": 0, "eos_token_id": 0}
    if shape.family == "gpt2":
        return common | {
            "n_layer": shape.n_layers,
            "n_head": shape.n_heads,
            "n_embd": shape.d_model,
            "n_inner": shape.d_mlp,
            "n_positions": shape.max_positions,
        }
    rotary = {"rotary_pct": ROTARY_SHARE} if shape.family == "gpt_neox" else {}
    grouped = {"num_key_value_heads": shape.n_kv_heads} if shape.n_kv_heads else {}
    return common | {
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_mlp,
        "max_position_embeddings": shape.max_positions,
        **rotary,
        **grouped,
    }


def _folded(name: str, shape: Shape, device: str, biases: bool) -> tuple[FoldedModel, Iterator[Layer]]:
    """The model without its layers, and the layers, made as they are taken."""
    d_model, d_mlp, d_head = shape.d_model, shape.d_mlp, shape.d_model // shape.n_heads
    n_kv_heads = shape.n_kv_heads or shape.n_heads
    qkv = (shape.n_heads + 2 * n_kv_heads) * d_head

    def weight(*size: int) -> Float[Tensor, "..."]:
        return DEVIATION * torch.randn(size, device=device)

    def bias(size: int) -> Float[Tensor, "..."]:
        return weight(size) if biases else torch.zeros(size, device=device)

    def layer() -> Layer:
        gated = shape.family == "llama"
        return Layer(
            W_QKV=weight(d_model, qkv),
            b_QKV=bias(qkv),
            W_O=weight(shape.n_heads, d_head, d_model),
            b_O=bias(d_model),
            W_in=weight(d_model, d_mlp),
            b_in=bias(d_mlp),
            W_gate=weight(d_model, d_mlp) if gated else None,
            b_gate=bias(d_mlp) if gated else None,
            W_out=weight(d_mlp, d_model),
            b_out=bias(d_model),
            attention_scale=d_head**-0.5,
            window=None,
        )

    turned = int(d_head * ROTARY_SHARE) if shape.family == "gpt_neox" else d_head
    frequencies = 10000 ** -(torch.arange(0, turned, 2, device=device) / turned)
    learnt = shape.family == "gpt2"
    rest = FoldedModel(
        name=name,
        family=shape.family,
        n_heads=shape.n_heads,
        n_kv_heads=n_kv_heads,
        d_head=d_head,
        parallel=shape.family == "gpt_neox",
        activation={"gpt2": "gelu_new", "gpt_neox": "gelu", "llama": "silu"}[shape.family],
        eps=1e-5,
        rotary_factor=1.0,
        max_positions=shape.max_positions,
        W_E=weight(shape.d_vocab, d_model),
        W_pos=weight(shape.max_positions, d_model) if learnt else None,
        inverse_frequencies=None if learnt else frequencies,
        W_U=weight(d_model, shape.d_vocab),
        b_U=bias(shape.d_vocab),
        layers=(),
    )
    return rest, (layer() for _ in range(shape.n_layers))
