"""The canonical form of a decoder-only language model that everything downstream measures.

Norm gains and biases are folded into the next linear map, so LayerNorm and RMSNorm are one function,

    norm(x) = x / scale(x),   scale(x) = sqrt(mean(x^2) + eps),

value biases are folded into `b_O`, and the unembedding is centred over the vocabulary, so logits have mean zero
at every position (experiments.md a.2; method.md section 1).
"""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import embedding, gelu, relu, scaled_dot_product_attention, silu

ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": lambda x: gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: gelu(x, approximate="tanh"),
    "relu": relu,
    "silu": silu,
    "swish": silu,
}


@dataclass(frozen=True)
class Layer:
    """One block. Absent biases are zero; `W_gate` is None in an MLP that is not gated.

    Attributes:
        W_QKV: queries of all heads, then keys and values of the key-value heads, side by side.
        attention_scale: factor of the attention scores, 1/sqrt(d_head) in most models.
        window: tokens a position attends to, itself included; None for all.
    """

    W_QKV: Float[Tensor, "d_model qkv"]
    b_QKV: Float[Tensor, " qkv"]
    W_O: Float[Tensor, "n_heads d_head d_model"]
    b_O: Float[Tensor, " d_model"]
    W_in: Float[Tensor, "d_model d_mlp"]
    b_in: Float[Tensor, " d_mlp"]
    W_gate: Float[Tensor, "d_model d_mlp"] | None
    b_gate: Float[Tensor, " d_mlp"] | None
    W_out: Float[Tensor, "d_mlp d_model"]
    b_out: Float[Tensor, " d_model"]
    attention_scale: float
    window: int | None


@dataclass(frozen=True)
class FoldedModel:
    """A folded model: weights and the few facts needed to run it.

    Attributes:
        name: how the model is called in results.
        family: its Hugging Face `model_type`.
        parallel: attention and MLP of a block both read the block's input (GPT-NeoX); else the MLP reads the
            stream after attention.
        inverse_frequencies: of the rotary embedding, radians per token; None without one.
        rotary_factor: factor of the rotary cosines and sines (1 but for YaRN).
        max_positions: longest row that the model was made for.
    """

    name: str
    family: str
    n_heads: int
    n_kv_heads: int
    d_head: int
    parallel: bool
    activation: str
    eps: float
    rotary_factor: float
    max_positions: int
    W_E: Float[Tensor, "d_vocab d_model"]
    W_pos: Float[Tensor, "position d_model"] | None
    inverse_frequencies: Float[Tensor, " pair"] | None
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"]
    layers: tuple[Layer, ...]

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def d_model(self) -> int:
        return self.W_E.shape[1]

    @property
    def device(self) -> torch.device:
        return self.W_E.device

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "FoldedModel":
        """Return the model with every tensor on `device` in `dtype`; rotary frequencies keep float32 or better."""

        def move(name: str, value: object) -> object:
            if not isinstance(value, Tensor):
                return value
            return value.to(device, None if name == "inverse_frequencies" else dtype)

        def moved(part: "FoldedModel | Layer") -> "FoldedModel | Layer":
            return replace(part, **{f.name: move(f.name, getattr(part, f.name)) for f in fields(part)})

        return replace(moved(self), layers=tuple(moved(layer) for layer in self.layers))

    def embed(self, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        """The residual stream before the first block.

        Raises:
            ValueError: a row is longer than the model's positions.
        """
        length = tokens.shape[1]
        if length > self.max_positions:
            raise ValueError(f"{self.name} has {self.max_positions} positions; a row of {length} does not fit")
        resid = embedding(tokens, self.W_E)
        return resid if self.W_pos is None else resid + self.W_pos[:length]

    def scale(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, " *batch"]:
        """scale(x) = sqrt(mean(x^2) + eps), the divisor of the norm."""
        return (resid.square().mean(-1) + self.eps).sqrt()

    def norm(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return torch.nn.functional.rms_norm(resid, (self.d_model,), eps=self.eps)

    def attention_heads(
        self, layer: Layer, resid: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row pos n_heads d_head"]:
        """z of every head: attention-weighted values, before `W_O` (transformer_lens's `hook_z`, bias-free)."""
        rows, length, _ = resid.shape
        qkv = torch.addmm(layer.b_QKV, self.norm(resid).flatten(0, 1), layer.W_QKV)
        qkv = qkv.view(rows, length, -1, self.d_head).transpose(1, 2)
        q, k, v = qkv.split([self.n_heads, self.n_kv_heads, self.n_kv_heads], dim=1)
        if self.inverse_frequencies is not None:
            cos, sin = self._rotary(length, resid.dtype)
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        windowed = layer.window is not None and layer.window < length
        mask = _window_mask(length, layer.window, resid.device) if windowed else None
        z = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            scale=layer.attention_scale,
            enable_gqa=self.n_kv_heads != self.n_heads,
        )
        return z.transpose(1, 2)

    def attention_out(
        self, layer: Layer, z: Float[Tensor, "row pos n_heads d_head"]
    ) -> Float[Tensor, "row pos d_model"]:
        """What attention writes to the residual stream, its bias included."""
        rows, length = z.shape[:2]
        flat = torch.addmm(layer.b_O, z.reshape(rows * length, -1), layer.W_O.flatten(0, 1))
        return flat.view(rows, length, -1)

    def mlp_hidden(self, layer: Layer, resid: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_mlp"]:
        """Activations of the MLP's neurons (gate times input in gated MLPs)."""
        normed, act = self.norm(resid).flatten(0, 1), ACTIVATIONS[self.activation]
        hidden = torch.addmm(layer.b_in, normed, layer.W_in)
        gate = None if layer.W_gate is None else torch.addmm(layer.b_gate, normed, layer.W_gate)
        hidden = act(hidden) if gate is None else hidden * act(gate)
        return hidden.view(*resid.shape[:2], -1)

    def mlp_out(self, layer: Layer, resid: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """What the MLP writes to the residual stream, its bias included."""
        hidden = self.mlp_hidden(layer, resid)
        return torch.addmm(layer.b_out, hidden.flatten(0, 1), layer.W_out).view(resid.shape)

    def resid_post(
        self, layer: Layer, resid: Float[Tensor, "row pos d_model"], attention: Float[Tensor, "row pos d_model"]
    ) -> tuple[Float[Tensor, "row pos d_model"], Float[Tensor, "row pos d_model"]]:
        """Finish a block: return the stream after it and the MLP's output."""
        mid = resid + attention
        mlp = self.mlp_out(layer, resid if self.parallel else mid)
        return mid + mlp, mlp

    def logits(self, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_vocab"]:
        """Centred logits of every token of the vocabulary; for checks, the measurement never forms them."""
        resid = self.embed(tokens)
        for layer in self.layers:
            attention = self.attention_out(layer, self.attention_heads(layer, resid))
            resid, _ = self.resid_post(layer, resid, attention)
        return self.norm(resid) @ self.W_U + self.b_U

    def _rotary(self, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        positions = torch.arange(length, device=self.device, dtype=self.inverse_frequencies.dtype)
        angles = positions[:, None] * self.inverse_frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return (angles.cos() * self.rotary_factor).to(dtype), (angles.sin() * self.rotary_factor).to(dtype)


def _rotate(x: Float[Tensor, "row head pos d_head"], cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first dimensions of each head, in the half-split layout of Hugging Face."""
    turned, kept = x.split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([turned, kept], dim=-1) if kept.shape[-1] else turned


def _window_mask(length: int, window: int, device: torch.device) -> Tensor:
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (distance >= 0) & (distance < window)


def save_folded(model: FoldedModel, path: Path) -> None:
    """Write the model as one safetensors file; what is not a tensor goes into its metadata."""
    tensors, facts = _parts(model, "")
    layers = [_parts(layer, f"layers.{i}.") for i, layer in enumerate(model.layers)]
    for layer_tensors, _ in layers:
        tensors |= layer_tensors
    facts |= {"layers": [layer_facts for _, layer_facts in layers]}
    save_file(tensors, path, {"selfrepair": json.dumps(facts)})


def load_folded(path: Path, device: str | torch.device = "cpu") -> FoldedModel:
    """Read what `save_folded` wrote."""
    with safe_open(path, "pt", device=str(device)) as file:
        facts = json.loads(file.metadata()["selfrepair"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    layers = []
    for i, layer_facts in enumerate(facts.pop("layers")):
        prefix = f"layers.{i}."
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        layers.append(Layer(**layer_facts, **own))
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("layers.")}
    return FoldedModel(**facts, **own, layers=tuple(layers))


def _parts(part: FoldedModel | Layer, prefix: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    values = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "layers"}
    tensors = {prefix + name: value.contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in values.items() if not isinstance(value, Tensor)}
