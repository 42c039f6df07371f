"""The weights of Hugging Face's families in the canonical form (`folded`): where each family keeps them, and folding.

Which way round a matrix lies is told by its module, and never by its shape.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfrepair.models.families import DECODER, RMS_NORM
from selfrepair.models.folded import Layer

Map = tuple[Float[Tensor, "d_in d_out"], Float[Tensor, " d_out"]]  # weight and bias


@dataclass(frozen=True)
class Parts:
    """Names of the modules within a layer.

    Attributes:
        norms: before attention, and before the MLP.
        qkv: queries, keys and values, in one module or three.
        attention_out: what attention writes with.
        mlp_in: what the MLP reads with; its gate too, if it has one.
        mlp_out: what the MLP writes with.
    """

    norms: tuple[str, str]
    qkv: tuple[str, ...]
    attention_out: str
    mlp_in: tuple[str, ...]
    mlp_out: str


_LLAMA = Parts(
    ("input_layernorm", "post_attention_layernorm"),
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj",
    ("mlp.up_proj", "mlp.gate_proj"),
    "mlp.down_proj",
)
PARTS = {
    "gpt2": Parts(("ln_1", "ln_2"), ("attn.c_attn",), "attn.c_proj", ("mlp.c_fc",), "mlp.c_proj"),
    "gpt_neo": Parts(
        ("ln_1", "ln_2"),
        ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
        "attn.attention.out_proj",
        ("mlp.c_fc",),
        "mlp.c_proj",
    ),
    "gpt_neox": Parts(
        ("input_layernorm", "post_attention_layernorm"),
        ("attention.query_key_value",),
        "attention.dense",
        ("mlp.dense_h_to_4h",),
        "mlp.dense_4h_to_h",
    ),
    "opt": Parts(
        ("self_attn_layer_norm", "final_layer_norm"),
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.out_proj",
        ("fc1",),
        "fc2",
    ),
    **dict.fromkeys((*RMS_NORM, DECODER), _LLAMA),
}
# Module of learned positions, and rows before the first.
POSITIONS = {"gpt2": ("wpe", 0), "gpt_neo": ("wpe", 0), DECODER: ("wpe", 0), "opt": ("embed_positions", 2)}


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The layers of one of Hugging Face's models."""
    return next(module for module in model.modules() if isinstance(module, nn.ModuleList))


def final_norm(model: nn.Module) -> nn.Module | None:
    """The norm before the unembedding; None in an OPT that has none."""
    inside = set(layers_of(model).modules())
    return next((m for m in model.modules() if type(m).__name__.endswith("Norm") and m not in inside), None)


def centres(model: nn.Module) -> bool:
    """Whether what is written to the stream can be centred: every norm centres what it reads, and all is read so."""
    norm = final_norm(model)
    return norm is not None and "RMS" not in type(norm).__name__


def embeddings(model: nn.Module) -> tuple[Float[Tensor, "d_vocab d_model"], Float[Tensor, "position d_model"] | None]:
    """Of tokens, and of positions where they are learned."""
    name, before = POSITIONS.get(model.config.model_type, ("", 0))
    positions = next((m.weight[before:] for at, m in model.named_modules() if name and at.split(".")[-1] == name), None)
    centred = centres(model)
    tokens = _written(model.get_input_embeddings().weight.detach().clone(), centred)
    return tokens, None if positions is None else _written(positions.detach().clone(), centred)


def unembedding(model: nn.Module) -> Map:
    """`W_U` and `b_U` with the final norm folded in, not centred."""
    return _reading(final_norm(model), *_linear(model.get_output_embeddings()))


def layer(model: nn.Module, block: nn.Module, attention_scale: float, window: int | None) -> Layer:
    """Fold a layer: what it reads with takes the norms' gains and biases, what it writes is centred if it can be."""
    config, centred = model.config, centres(model)
    parts = PARTS[config.model_type]
    before_attention, before_mlp = (block.get_submodule(name) for name in parts.norms)
    modules = dict(block.named_modules())
    read = [name for name in parts.mlp_in if name in modules]  # not every MLP has a gate
    linear = {name: _linear(modules[name]) for name in (*parts.qkv, parts.attention_out, *read)}
    maps = [linear[name] for name in parts.qkv]
    W, b = torch.cat([w for w, _ in maps], dim=1), torch.cat([b for _, b in maps])
    n_heads, d_head = config.num_attention_heads, head_size(config)
    if config.model_type == "gpt_neox":  # queries, keys and values of each head side by side
        W, b = (x.unflatten(-1, (n_heads, 3, d_head)).transpose(-3, -2).flatten(-3) for x in (W, b))
    W_QKV, b_QKV = _reading(before_attention, W, b)
    n_kv_heads = (W.shape[1] // d_head - n_heads) // 2
    W_O, b_O = linear[parts.attention_out]
    b_V = b_QKV[-n_kv_heads * d_head :].clone().unflatten(0, (n_kv_heads, d_head))
    b_QKV[-n_kv_heads * d_head :] = 0  # a value bias passes attention unchanged
    b_O = b_O + b_V.repeat_interleave(n_heads // n_kv_heads, dim=0).flatten() @ W_O
    (W_in, b_in), *gate = (_reading(before_mlp, *linear[name]) for name in read)
    W_out, b_out = _linear(block.get_submodule(parts.mlp_out))
    return Layer(
        W_QKV=W_QKV,
        b_QKV=b_QKV,
        W_O=_written(W_O, centred).unflatten(0, (n_heads, d_head)),
        b_O=_written(b_O, centred),
        W_in=W_in,
        b_in=b_in,
        W_gate=gate[0][0] if gate else None,
        b_gate=gate[0][1] if gate else None,
        W_out=_written(W_out, centred),
        b_out=_written(b_out, centred),
        attention_scale=attention_scale,
        window=window,
    )


def head_size(config: Any) -> int:
    """d_head, which some configurations name and the others imply."""
    own = getattr(config, "head_dim", None) if config.model_type in RMS_NORM else None
    return own or config.hidden_size // config.num_attention_heads


def _linear(module: nn.Module) -> Map:
    weight = module.weight.detach()
    W = (weight if type(module).__name__ == "Conv1D" else weight.T).clone(memory_format=torch.contiguous_format)
    bias = getattr(module, "bias", None)
    return W, torch.zeros(W.shape[1], dtype=W.dtype) if bias is None else bias.detach().clone()


def _reading(norm: nn.Module | None, W: Float[Tensor, "d_in d_out"], b: Float[Tensor, " d_out"]) -> Map:
    """A map that reads what a norm of gain one and no bias gives, where it read what `norm` gives."""
    if norm is None or norm.weight is None:
        return W, b
    bias = getattr(norm, "bias", None)
    return norm.weight.detach()[:, None] * W, b if bias is None else b + bias.detach() @ W


def _written(W: Float[Tensor, "*d_in d_model"], centred: bool) -> Float[Tensor, "*d_in d_model"]:
    return W - W.mean(-1, keepdim=True) if centred else W
