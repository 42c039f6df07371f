"""The canonical form of a decoder-only language model that everything downstream measures.

Norm gains and biases are folded into the next linear map, so LayerNorm and RMSNorm are one function,

    norm(x) = x / scale(x),   scale(x) = sqrt(mean(x^2) + eps),

value biases are folded into `b_O`, and the unembedding is centred over the vocabulary, so logits have mean zero
at every position (experiments.md a.2; method.md section 1).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding, gelu, relu, silu

from selfrepair.models.fused import attention, gated, norm
from selfrepair.models.precision import Precision, factor_dtype, linear, stored

Turn = tuple[Float[Tensor, "longest rotated"], Float[Tensor, "longest rotated"]]  # cosines and sines
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

    @cached_property
    def added(self) -> dict[str, Float[Tensor, " d_out"] | None]:
        """The biases that are to be added; on a GPU, where that takes a pass over memory, only those not zero."""
        biases = {name: getattr(self, name) for name in ("b_QKV", "b_O", "b_in", "b_gate", "b_out")}
        return {name: None if b is None or (b.is_cuda and not b.any()) else b for name, b in biases.items()}


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
        precision: number format of the matrix products.
        W_U_authors: what direct effects are read with, in place of `W_U` and without a division by the final scale,
            where the model is measured in the units of the authors' Llama (pitfall:llama-norm); None for logits.
        final_norm: false where the unembedding reads the stream as it is (an OPT without a final norm). Then the final
            scale is 1, and what is written can't be centred: norms centre what they read instead.
        directory: where the model and its tokenizer were loaded from; None for a folded model from disk.
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
    precision: Precision = "float32"
    W_U_authors: Float[Tensor, "d_model d_vocab"] | None = None
    final_norm: bool = True
    directory: str | None = None

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def heads(self) -> list[tuple[int, int]]:
        """Layer and index of every head, in order."""
        return [(layer, head) for layer in range(self.n_layers) for head in range(self.n_heads)]

    @property
    def d_model(self) -> int:
        return self.W_E.shape[1]

    @property
    def device(self) -> torch.device:
        return self.W_E.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the residual stream and of all that is measured."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def to(self, device: str | torch.device) -> "FoldedModel":
        """Return the model with every tensor on `device`."""
        return self._map(lambda _, value: value.to(device))

    def in_precision(self, precision: Precision) -> "FoldedModel":
        """Return the model with weights stored for that precision, and computing in it; rotary angles stay exact."""
        model = self._map(lambda name, value: value if name == "inverse_frequencies" else stored(value, precision))
        return replace(model, precision=precision)

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> "FoldedModel":
        def changed(part: "FoldedModel | Layer") -> dict[str, Tensor]:
            values = {f.name: getattr(part, f.name) for f in fields(part)}
            return {name: change(name, value) for name, value in values.items() if isinstance(value, Tensor)}

        return replace(self, **changed(self), layers=tuple(replace(layer, **changed(layer)) for layer in self.layers))

    def embed(self, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        """The residual stream before the first block.

        Raises:
            ValueError: a row is longer than the model's positions.
        """
        length = tokens.shape[1]
        if length > self.max_positions:
            raise ValueError(f"{self.name} has {self.max_positions} positions; a row of {length} does not fit")
        resid = embedding(tokens, self.W_E).to(self.dtype)
        return resid if self.W_pos is None else resid + self.W_pos[:length].to(self.dtype)

    def unembedding(
        self, correct: Int[Tensor, "row pos"]
    ) -> tuple[Float[Tensor, "row pos d_model"], Float[Tensor, "row pos"]]:
        """Column of `W_U` and entry of `b_U` of each correct next token."""
        return self.W_U.T[correct].to(self.dtype), self.b_U[correct].to(self.dtype)

    def logit_direction(self, correct: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        """What a component's output is multiplied with for its direct effect on each correct next token."""
        return (self.W_U if self.W_U_authors is None else self.W_U_authors).T[correct].to(self.dtype)

    def direct_scale(self, scale: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """What direct effects are divided by, given the clean scale."""
        return scale if self.W_U_authors is None else torch.ones_like(scale)

    def scale(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, " *batch"]:
        """scale(x) = sqrt(mean(x^2) + eps), the divisor of the final norm."""
        return (resid.square().mean(-1) + self.eps).sqrt() if self.final_norm else torch.ones_like(resid[..., 0])

    def norm(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """norm(x), as the next product reads it."""
        centred = resid if self.final_norm else resid - resid.mean(-1, keepdim=True)
        return norm(centred, self.eps, factor_dtype(resid, self.precision))

    def final(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the unembedding reads."""
        return self.norm(resid) if self.final_norm else resid

    def qkv(self, layer: Layer, resid: Float[Tensor, "token d_model"]) -> Float[Tensor, "token qkv"]:
        """Queries, keys and values that a layer reads off the stream, side by side."""
        return linear(self.norm(resid), layer.W_QKV, layer.added["b_QKV"], self.precision)

    def attend(
        self, layer: Layer, qkv: Float[Tensor, "row pos qkv"], turn: Turn | None = None
    ) -> Float[Tensor, "row pos n_heads d_head"]:
        """z of every head: attention-weighted values, before `W_O` (transformer_lens's `hook_z`, bias-free).

        Args:
            turn: of `rotary`, for so many positions or more, where it is at hand.
        """
        turn = turn or self.rotary(qkv.shape[1])
        return attention(qkv, self.n_heads, self.n_kv_heads, turn, layer.attention_scale, layer.window)

    def attention_heads(
        self, layer: Layer, resid: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row pos n_heads d_head"]:
        """z of every head of a layer (see `attend`) for rows of the residual stream."""
        return self.attend(layer, self.qkv(layer, resid.flatten(0, 1)).unflatten(0, resid.shape[:2]))

    def head_out(self, layer: Layer, head: int, z: Float[Tensor, "token d_head"]) -> Float[Tensor, "token d_model"]:
        """What one head writes to the residual stream."""
        return linear(z, layer.W_O[head], None, self.precision)

    def head_read(self, layer: Layer, v: Float[Tensor, "place d_model"]) -> Float[Tensor, "place n_heads d_head"]:
        """W_O v of every head: a head's z times it is what the head writes along v."""
        read = linear(v, layer.W_O.flatten(0, 1).T, None, self.precision)
        return read.view(len(v), self.n_heads, self.d_head)

    def attention_out(self, layer: Layer, z: Float[Tensor, "*batch n_heads d_head"]) -> Float[Tensor, "*batch d_model"]:
        """What attention writes to the residual stream, its bias included."""
        W_O, b_O = layer.W_O.flatten(0, 1), layer.added["b_O"]
        flat = linear(z.reshape(-1, self.n_heads * self.d_head), W_O, b_O, self.precision)
        return flat.view(*z.shape[:-2], -1)

    def mlp_hidden(self, layer: Layer, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_mlp"]:
        """Activations of the MLP's neurons (gate times input in gated MLPs)."""
        normed, act = self.norm(resid).flatten(0, -2), ACTIVATIONS[self.activation]
        hidden = linear(normed, layer.W_in, layer.added["b_in"], self.precision)
        gate = None if layer.W_gate is None else linear(normed, layer.W_gate, layer.added["b_gate"], self.precision)
        hidden = act(hidden) if gate is None else gated(hidden, gate, act)
        return hidden.view(*resid.shape[:-1], -1)

    def mlp_write(self, layer: Layer, hidden: Float[Tensor, "*batch d_mlp"]) -> Float[Tensor, "*batch d_model"]:
        """What an MLP of these activations writes to the residual stream, its bias included."""
        written = linear(hidden.flatten(0, -2), layer.W_out, layer.added["b_out"], self.precision)
        return written.view(*hidden.shape[:-1], -1)

    def mlp_out(self, layer: Layer, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP writes to the residual stream, its bias included."""
        return self.mlp_write(layer, self.mlp_hidden(layer, resid))

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
        return linear(self.final(resid).flatten(0, 1), self.W_U, self.b_U, self.precision).unflatten(0, tokens.shape)

    def rotary(self, length: int) -> Turn | None:
        """Cosines and sines of the rotary angles at the first positions; None without a rotary embedding."""
        if self.inverse_frequencies is None:
            return None
        positions = torch.arange(length, device=self.device, dtype=self.inverse_frequencies.dtype)
        angles = positions[:, None] * self.inverse_frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return tuple((turn * self.rotary_factor).to(self.dtype) for turn in (angles.cos(), angles.sin()))
