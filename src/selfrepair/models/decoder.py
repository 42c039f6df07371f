"""A plain decoder of which each architectural feature is a switch: what the controlled family is trained as.

It is a model of transformers like any other, and a directory of it loads like one. Hugging Face's own classes fix
several features together (Llama: RMSNorm, rotary positions and a gated MLP); here one can differ alone.
"""

from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from selfrepair.models.families import DECODER

NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
Turn = tuple[Float[Tensor, "1 pos d_head"], Float[Tensor, "1 pos d_head"]]  # cosines and sines


@strict
class DecoderConfig(PreTrainedConfig):
    """Features of a `Decoder`; the defaults are those of the family's base.

    Attributes:
        norm: `layer` (LayerNorm) or `rms` (RMSNorm), before attention, before the MLP and before the unembedding.
        final_norm: whether there is one before the unembedding.
        rotary: rotary positions in place of learned ones.
        gated: an MLP with a gate (SwiGLU, with `hidden_act` silu).
        use_parallel_residual: the MLP reads what attention reads.
        dropout: of embeddings, attention weights, and what attention and MLP write.
    """

    model_type = DECODER

    vocab_size: int = 2048
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    intermediate_size: int = 512
    max_position_embeddings: int = 128
    hidden_act: str = "gelu_pytorch_tanh"
    norm: str = "layer"
    final_norm: bool = True
    rotary: bool = False
    gated: bool = False
    use_parallel_residual: bool = False
    dropout: float | int = 0.0
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    rope_parameters: dict | None = None
    bos_token_id: int | None = 0
    eos_token_id: int | None = 0
    pad_token_id: int | None = None

    def validate_architecture(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: heads do not divide the width, or each other; the norm is unknown; RMSNorm without a final one,
                for which what a head writes could not be split exactly.
        """
        kv_heads = self.num_key_value_heads or self.num_attention_heads
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % kv_heads:
            raise ValueError("num_attention_heads must divide hidden_size, and num_key_value_heads divide it")
        if self.norm not in NORMS or (self.norm == "rms" and not self.final_norm):
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, and layer without a final norm")


class Attention(nn.Module):
    """Causal attention with as many keys and values as the configuration says."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, self.dropout = config.hidden_size, config.dropout
        self.d_head = width // config.num_attention_heads
        kv_width = self.d_head * (config.num_key_value_heads or config.num_attention_heads)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, out) for out in (width, kv_width, kv_width))
        self.o_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "row pos d_model"], turn: Turn | None) -> Float[Tensor, "row pos d_model"]:
        read = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (heads.unflatten(-1, (-1, self.d_head)).transpose(1, 2) for heads in read)
        if turn is not None:
            q, k = apply_rotary_pos_emb(q, k, *turn)
        dropout = self.dropout if self.training else 0.0
        z = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=q.shape != k.shape)
        return self.o_proj(z.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two maps and an activation, or three with a gate."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.up_proj, self.down_proj = nn.Linear(width, inner), nn.Linear(inner, width)
        self.gate_proj = nn.Linear(width, inner) if config.gated else None
        self.act = ACT2FN[config.hidden_act]

    def forward(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        up = self.up_proj(x)
        return self.down_proj(self.act(up) if self.gate_proj is None else self.act(self.gate_proj(x)) * up)


class Block(nn.Module):
    """Attention and MLP, each reading the stream through a norm and adding to it; modules are named as in Llama."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (
            NORMS[config.norm](config.hidden_size, eps=config.layer_norm_eps) for _ in range(2)
        )
        self.self_attn, self.mlp = Attention(config), MLP(config)
        self.parallel, self.drop = config.use_parallel_residual, nn.Dropout(config.dropout)

    def forward(self, resid: Float[Tensor, "row pos d_model"], turn: Turn | None) -> Float[Tensor, "row pos d_model"]:
        mid = resid + self.drop(self.self_attn(self.input_layernorm(resid), turn))
        return mid + self.drop(self.mlp(self.post_attention_layernorm(resid if self.parallel else mid)))


class Decoder(PreTrainedModel):
    """The model; its logits are those of `FoldedModel` to float tolerance, but for their mean (`load.load_model`)."""

    config_class = DecoderConfig
    _tied_weights_keys: ClassVar = {"lm_head.weight": "wte.weight"}

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = None if config.rotary else nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.rotary = LlamaRotaryEmbedding(config) if config.rotary else None
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.num_hidden_layers)])
        self.norm = NORMS[config.norm](config.hidden_size, eps=config.layer_norm_eps) if config.final_norm else None
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.wte

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: Int[Tensor, "row pos"], **_: object) -> CausalLMOutput:
        """Logits of the next token at every position; there is no cache, and no padding."""
        resid, positions = self.wte(input_ids), torch.arange(input_ids.shape[1], device=input_ids.device)
        resid = self.drop(resid if self.wpe is None else resid + self.wpe(positions))
        turn = None if self.rotary is None else self.rotary(resid, positions[None])
        for layer in self.layers:
            resid = layer(resid, turn)
        return CausalLMOutput(logits=self.lm_head(resid if self.norm is None else self.norm(resid)))


def register() -> None:
    """Tell transformers' automatic classes of the decoder, so that its directories load like others."""
    AutoConfig.register(DECODER, DecoderConfig, exist_ok=True)
    AutoModelForCausalLM.register(DecoderConfig, Decoder, exist_ok=True)
