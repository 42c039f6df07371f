"""Fold a model a group of layers at a time, and compare it with Hugging Face on the way."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from selfrepair.models.checkpoint import Checkpoint, run
from selfrepair.models.directory import ModelInfo, check_authors_units, read_model_info
from selfrepair.models.folded import ACTIVATIONS, FoldedModel, Layer

TOLERANCE = 1e-4  # of the largest logit, for log-probabilities against Hugging Face
CHECKED_ROWS, CHECKED_LENGTH = 4, 32  # tokens of the comparison with Hugging Face, unless rows have to be longer
CHECKED_WINDOW = 512  # rows leave attention windows up to this one, and longer ones where what is measured does
GROUP_BYTES = 1_000_000_000  # of float32 weights in a group of layers; folding takes several times that


class Folding:
    """A model being folded: first what is not a layer, then its layers one by one.

    The comparison is on rows as long as those that will be measured (`row_length`), if they are longer than usual.

    Attributes:
        rest: the folded model without its layers, in float32.
        error: of the folded model's log-probabilities against Hugging Face's, relative to the largest logit; known
            once all layers have been taken.

    Raises:
        ModelDirectoryError: as `load_model`.
    """

    error: float

    @torch.no_grad()
    def __init__(self, folder: Path, name: str, authors_units: bool = False, row_length: int = 0) -> None:
        info = read_model_info(folder)
        if authors_units:
            check_authors_units(info.family)
        self._checkpoint = Checkpoint(folder)
        model = self._checkpoint.group(range(0))
        windows = (_window(self._checkpoint.config, index) or 0 for index in range(self.n_layers))
        past = max((window + 8 for window in windows if window <= CHECKED_WINDOW), default=0)
        length = min(info.max_positions, max(CHECKED_LENGTH, row_length, past))
        rows = max(1, CHECKED_ROWS * CHECKED_LENGTH // length)
        self._tokens = torch.randint(
            model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0)
        )
        self._stream, _ = run(model, self._tokens)
        self.rest = _rest(model, folder, info, name, authors_units)
        del model
        gc.collect()

    @property
    def n_layers(self) -> int:
        return self._checkpoint.config.num_hidden_layers

    def layers(self) -> Iterator[Layer]:
        """Fold the layers; only a group of them is in memory, if whoever takes a layer lets go of it.

        Raises:
            ValueError: the last layer has been taken, and `error` is larger than `TOLERANCE`.
        """
        rest, checkpoint, stream = self.rest, self._checkpoint, self._stream
        resid = rest.embed(self._tokens)
        step = max(1, GROUP_BYTES // max(1, checkpoint.layer_bytes))
        for first in range(0, self.n_layers, step):
            stream, layers = self._group(range(first, min(first + step, self.n_layers)), stream)
            gc.collect()  # the modules of the group's bridge refer to each other in circles
            while layers:
                layer = layers.pop(0)
                attention = rest.attention_out(layer, rest.attention_heads(layer, resid))
                resid, _ = rest.resid_post(layer, resid, attention)
                yield layer
                del layer
        expected = run(checkpoint.group(range(0)), self._tokens, stream)[1]
        folded_logits = rest.norm(resid) @ rest.W_U + rest.b_U
        difference = folded_logits.log_softmax(-1) - expected.log_softmax(-1)
        self.error = (difference.abs().max() / expected.abs().max()).item()
        if not self.error <= TOLERANCE:
            raise ValueError(
                f"{checkpoint.folder}: log-probabilities of the folded model differ from Hugging Face's by "
                f"{self.error:.1e} of the largest logit (allowed: {TOLERANCE:.0e})"
            )

    @torch.no_grad()
    def _group(
        self, indices: range, stream: Float[Tensor, "row pos d_model"]
    ) -> tuple[Float[Tensor, "row pos d_model"], list[Layer]]:
        """Run Hugging Face's stream through a group, then fold it."""
        config = self._checkpoint.config
        model = self._checkpoint.group(indices)
        stream, _ = run(model, self._tokens, stream)
        blocks = _folded_bridge(model, self._checkpoint.folder).blocks
        return stream, [
            _layer(block, _attention_scale(config, index, block), _window(config, index))
            for index, block in zip(indices, blocks, strict=True)
        ]


def _rest(model: torch.nn.Module, folder: Path, info: ModelInfo, name: str, authors_units: bool) -> FoldedModel:
    """Fold a model that has no layers; as published, logits are not centred and direct effects lack the norm."""
    config = model.config
    rotary = next((m for m in model.modules() if hasattr(m, "inv_freq")), None)
    frequencies = None if rotary is None else rotary.inv_freq.detach().float().cpu().clone()
    factor = 1.0 if rotary is None else float(rotary.attention_scaling)
    eps_names = ("layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps")
    W_U_authors = model.get_output_embeddings().weight.detach().T.clone() if authors_units else None
    bridge = _folded_bridge(model, folder)
    W_U = bridge.W_U.detach().contiguous()
    b_U = torch.zeros(W_U.shape[1]) if bridge.b_U is None else bridge.b_U.detach()
    if not authors_units:
        W_U -= W_U.mean(1, keepdim=True)
        b_U = b_U - b_U.mean()
    return FoldedModel(
        name=name,
        family=info.family,
        n_heads=info.n_heads,
        n_kv_heads=getattr(config, "num_key_value_heads", None) or info.n_heads,
        d_head=getattr(config, "head_dim", None) or config.hidden_size // info.n_heads,
        parallel=bool(getattr(config, "use_parallel_residual", False)),
        activation=_activation(config),
        eps=next((getattr(config, key) for key in eps_names if hasattr(config, key)), 1e-5),  # OPT: torch's default
        rotary_factor=factor,
        max_positions=info.max_positions,
        W_E=bridge.W_E.detach().contiguous(),
        W_pos=bridge.W_pos.detach().contiguous() if rotary is None else None,
        inverse_frequencies=frequencies,
        W_U=W_U,
        b_U=b_U,
        layers=(),
        W_U_authors=W_U_authors,
    )


def _activation(config: Any) -> str:
    """Of the family's own key: a configuration may hold another's, which Hugging Face does not look at."""
    own = "activation_function" if config.model_type in ("gpt2", "gpt_neo", "opt") else "hidden_act"
    activation = getattr(config, own)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation `{activation}` is not supported; supported are {', '.join(sorted(ACTIVATIONS))}")
    return activation


def _folded_bridge(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """Fold norms and centre what is written to the stream, in place; return transformer_lens's view of the model."""
    # Imported late: transformer_lens takes seconds to import, and only loading needs it.
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerFast

    # The bridge wants a tokenizer, the measurement has token ids already: a directory without one loads too.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")), eos_token="?")
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=model, tokenizer=tokenizer, device="cpu", dtype=torch.float32
    )
    # Both options copy every weight, to do what `_rest` and `_layer` do for all families.
    bridge.enable_compatibility_mode(disable_warnings=True, center_unembed=False, fold_value_biases=False)
    return bridge


def _layer(block: torch.nn.Module, attention_scale: float, window: int | None) -> Layer:
    attn, mlp = block.attn, block.mlp
    n_heads, d_head, d_model = attn.W_O.shape
    n_kv_heads, d_mlp = attn.W_K.shape[0], mlp.W_out.shape[0]

    def bias(value: Tensor | None, *shape: int) -> Float[Tensor, "..."]:
        return torch.zeros(shape) if value is None else value.float().clone()

    def columns(weight: Tensor) -> Float[Tensor, "d_model qkv"]:
        return weight.float().permute(1, 0, 2).reshape(d_model, -1)

    W_O = attn.W_O.float().clone()
    b_V = bias(attn.b_V, n_kv_heads, d_head)
    # A value bias passes attention unchanged.
    b_O = bias(attn.b_O, d_model) + torch.einsum("hd,hdm->m", b_V.repeat_interleave(n_heads // n_kv_heads, dim=0), W_O)
    b_Q, b_K = bias(attn.b_Q, n_heads, d_head), bias(attn.b_K, n_kv_heads, d_head)
    gate = getattr(mlp, "W_gate", None)
    return Layer(
        W_QKV=torch.cat([columns(attn.W_Q), columns(attn.W_K), columns(attn.W_V)], dim=1).contiguous(),
        b_QKV=torch.cat([b_Q.flatten(), b_K.flatten(), torch.zeros(n_kv_heads * d_head)]),
        W_O=W_O,
        b_O=b_O,
        W_in=mlp.W_in.float().contiguous().clone(),
        b_in=bias(mlp.b_in, d_mlp),
        W_gate=None if gate is None else gate.float().contiguous().clone(),
        b_gate=None if gate is None else bias(getattr(mlp, "b_gate", None), d_mlp),
        W_out=mlp.W_out.float().contiguous().clone(),
        b_out=bias(mlp.b_out, d_model),
        attention_scale=attention_scale,
        window=window,
    )


def _attention_scale(config: Any, index: int, block: torch.nn.Module) -> float:
    if config.model_type == "gpt_neo":
        return 1.0  # GPT-Neo does not scale its attention scores
    scale = block.attn.W_Q.shape[-1] ** -0.5 if getattr(config, "scale_attn_weights", True) else 1.0
    return scale / (index + 1) if getattr(config, "scale_attn_by_inverse_layer_idx", False) else scale


def _window(config: Any, index: int) -> int | None:
    if config.model_type == "gpt_neo":
        return config.window_size if config.attention_layers[index] == "local" else None
    if config.model_type == "mistral":
        return config.sliding_window
    if config.model_type == "qwen2":
        return config.sliding_window if config.layer_types[index] == "sliding_attention" else None
    return None  # also where a configuration names one: Hugging Face's models of other families have none
