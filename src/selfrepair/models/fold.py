"""Fold a model a group of layers at a time, and compare it with Hugging Face on the way."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.models.canonical import embeddings, final_norm, head_size, layer, layers_of, unembedding
from selfrepair.models.checkpoint import Checkpoint
from selfrepair.models.directory import ACTIVATION_KEYS, EPS_KEYS, ModelInfo, check_authors_units, read_model_info
from selfrepair.models.folded import FoldedModel, Layer

TOLERANCE = 1e-4  # of the largest logit, centred over the vocabulary, for log-probabilities against Hugging Face
CHECKED_ROWS, CHECKED_LENGTH = 4, 32  # tokens of the comparison with Hugging Face, unless rows have to be longer
CHECKED_WINDOW = 512  # rows leave attention windows up to this one, and longer ones where what is measured does
GROUP_BYTES = 1_000_000_000  # of float32 weights in a group of layers; folding takes several times that


class Folding:
    """A model being folded: first what is not a layer, then its layers one by one.

    The comparison is on rows as long as those that will be measured (`row_length`), if they are longer than usual.

    Attributes:
        rest: the folded model without its layers, in float32.
        error: of the folded model's log-probabilities against Hugging Face's, relative to the largest centred logit;
            known once all layers have been taken.

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
        self._stream, _ = self._checkpoint.run(model, self._tokens)
        self.rest = _rest(model, info, name, authors_units)
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
            gc.collect()  # modules refer to each other in circles
            while layers:
                folded = layers.pop(0)
                attention = rest.attention_out(folded, rest.attention_heads(folded, resid))
                resid, _ = rest.resid_post(folded, resid, attention)
                yield folded
                del folded
        whole = checkpoint.whole()
        theirs = (whole, self._tokens) if whole else (checkpoint.group(range(0)), self._tokens, stream)
        _, expected = checkpoint.run(*theirs)
        folded_logits = rest.final(resid) @ rest.W_U + rest.b_U
        difference = folded_logits.log_softmax(-1) - expected.log_softmax(-1)
        centred = expected - expected.mean(-1, keepdim=True)  # what all logits have in common predicts nothing
        self.error = (difference.abs().max() / centred.abs().max()).item()
        if not self.error <= TOLERANCE:
            raise ValueError(
                f"{checkpoint.folder}: log-probabilities of the folded model differ from Hugging Face's by "
                f"{self.error:.1e} of the largest centred logit (allowed: {TOLERANCE:.0e})"
            )

    @torch.no_grad()
    def _group(
        self, indices: range, stream: Float[Tensor, "row pos d_model"]
    ) -> tuple[Float[Tensor, "row pos d_model"], list[Layer]]:
        """Run Hugging Face's stream through a group, then fold it."""
        config = self._checkpoint.config
        model = self._checkpoint.group(indices)
        stream, _ = self._checkpoint.run(model, self._tokens, stream)
        return stream, [
            layer(model, block, _attention_scale(config, index), _window(config, index))
            for index, block in zip(indices, layers_of(model), strict=True)
        ]


def _rest(model: torch.nn.Module, info: ModelInfo, name: str, authors_units: bool) -> FoldedModel:
    """Fold a model that has no layers; as published, logits are not centred and direct effects lack the norm."""
    config = model.config
    rotary = next((m for m in model.modules() if hasattr(m, "inv_freq")), None)
    frequencies = None if rotary is None else rotary.inv_freq.detach().float().cpu().clone()
    factor = 1.0 if rotary is None else float(rotary.attention_scaling)
    W_U_authors = model.get_output_embeddings().weight.detach().T.clone() if authors_units else None
    (W_E, W_pos), (W_U, b_U) = embeddings(model), unembedding(model)
    if not authors_units:
        W_U -= W_U.mean(1, keepdim=True)
        b_U = b_U - b_U.mean()
    return FoldedModel(
        name=name,
        family=info.family,
        n_heads=info.n_heads,
        n_kv_heads=getattr(config, "num_key_value_heads", None) or info.n_heads,
        d_head=head_size(config),
        parallel=bool(getattr(config, "use_parallel_residual", False)),
        activation=getattr(config, ACTIVATION_KEYS.get(info.family, "hidden_act")),
        eps=getattr(config, EPS_KEYS[info.family]) if info.family in EPS_KEYS else 1e-5,
        rotary_factor=factor,
        max_positions=info.max_positions,
        W_E=W_E,
        W_pos=W_pos,
        inverse_frequencies=frequencies,
        W_U=W_U,
        b_U=b_U,
        layers=(),
        W_U_authors=W_U_authors,
        final_norm=final_norm(model) is not None,
    )


def _attention_scale(config: Any, index: int) -> float:
    if config.model_type == "gpt_neo":
        return 1.0  # GPT-Neo does not scale its attention scores
    scale = head_size(config) ** -0.5 if getattr(config, "scale_attn_weights", True) else 1.0
    return scale / (index + 1) if getattr(config, "scale_attn_by_inverse_layer_idx", False) else scale


def _window(config: Any, index: int) -> int | None:
    if config.model_type == "gpt_neo":
        return config.window_size if config.attention_layers[index] == "local" else None
    if config.model_type == "mistral":
        return config.sliding_window
    if config.model_type == "qwen2":
        return config.sliding_window if config.layer_types[index] == "sliding_attention" else None
    return None  # also where a configuration names one: Hugging Face's models of other families have none
