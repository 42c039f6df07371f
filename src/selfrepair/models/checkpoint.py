"""A Hugging Face model directory, read a group of layers at a time, and the residual stream through its groups."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from selfrepair.models.canonical import final_norm, layers_of
from selfrepair.models.families import OWN_KEYS
from selfrepair.models.weight_headers import (
    BUFFER,
    IN_A_LAYER,
    INDEX,
    WRAPPED,
    ModelDirectoryError,
    count_parameters,
    index_of,
    read_header,
    weight_files,
)

BY_TOKEN = re.compile(r"(?:.+\.)?(?:wte|embed_tokens|embed_in|lm_head|embed_out)\.weight")
WHOLE_BYTES = 2_000_000_000  # of float32 weights that Hugging Face's own reader is asked for at once
STAND_IN = 8  # tokens of the vocabulary that a group of layers carries: Hugging Face's models want one


class Checkpoint:
    """The weights of a model directory; none is in memory before it is asked for.

    Attributes:
        config: Hugging Face's configuration of the whole model.
        layer_bytes: size of the largest layer in float32.

    Raises:
        ModelDirectoryError: the configuration can't be used.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig

        from selfrepair.models.decoder import register

        register()
        self.folder = folder
        with explained(folder):
            self.config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if self.config._attn_implementation not in (None, "eager", "sdpa"):  # others need packages, and give the same
            self.config._attn_implementation = "eager"
        self.config.return_dict = True  # whatever the configuration says
        for key, families in OWN_KEYS.items():
            if self.config.model_type not in families:
                vars(self.config).pop(key, None)
        files = weight_files(folder)
        self._index = index_of(folder, files)
        self._tensors: dict[Path, dict[str, str]] = {}  # by file: names in the model, and in the file
        sizes: Counter[int] = Counter()
        for file in files:
            header = read_header(file)
            self._tensors[file] = {WRAPPED.sub("", name): name for name in header}
            for name, stored in self._tensors[file].items():
                if match := IN_A_LAYER.fullmatch(name):
                    sizes[int(match[2])] += 4 * math.prod(header[stored]["shape"])
        self.layer_bytes = max(sizes.values(), default=0)

    def whole(self) -> torch.nn.Module | None:
        """The model as Hugging Face's own reader loads it, which shares nothing with `group`.

        None for a large model, and for one whose tensors that reader would not all find, or would not all use.
        """
        from transformers import AutoModelForCausalLM

        large = sum(map(count_parameters, self._tensors)) * 4 > WHOLE_BYTES
        if large or not any((self.folder / name).is_file() for name in ("model.safetensors", INDEX)):
            return None
        with explained(self.folder):
            model, report = AutoModelForCausalLM.from_pretrained(
                self.folder,
                config=deepcopy(self.config),  # without attention that needs a package
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        unused = [name for name in report["unexpected_keys"] if not BUFFER.search(name)]
        return None if report["missing_keys"] or report["mismatched_keys"] or unused else model.eval()

    def group(self, layers: range) -> torch.nn.Module:
        """Hugging Face's model in float32 with these layers only and a few tokens; given none, the rest of the model.

        Raises:
            ModelDirectoryError: the files lack a tensor, or hold one of another shape or of no use.
        """
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

        tensors = self._read(layers)
        with explained(self.folder):
            config = _cut(self.config, layers)
            model, report = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
            )
        source = self._index or next(iter(self._tensors))
        if report["missing_keys"]:
            name = _shifted(min(report["missing_keys"]), layers.start)
            raise ModelDirectoryError(f"{source} lacks the tensor {name}; fetch it again")
        for name, stored, wanted in report["mismatched_keys"]:
            raise ModelDirectoryError(
                f"{source}: {_shifted(name, layers.start)} has the shape {list(stored)}, but by "
                f"{self.folder / 'config.json'} it is {list(wanted)}: one of them is of another model; restore it"
            )
        if unknown := [name for name in report["unexpected_keys"] if not BUFFER.search(name)]:
            name = _shifted(min(unknown), layers.start)
            raise ModelDirectoryError(
                f"{source} holds the tensor {name}, which `{config.model_type}` has not: the weights are of another "
                "model or need another program; export them as plain weights"
            )
        if getattr(config, "scale_attn_by_inverse_layer_idx", False):
            for own, layer in enumerate(layers_of(model)):  # they count from 0 in every group
                layer.attn.scaling *= (own + 1) / (layers[own] + 1)
        return model.eval()

    def run(
        self,
        model: torch.nn.Module,
        tokens: Int[Tensor, "row pos"],
        stream: Float[Tensor, "row pos d_model"] | None = None,
    ) -> tuple[Float[Tensor, "row pos d_model"], Float[Tensor, "row pos d_vocab"]]:
        """`run` on a group; what the configuration makes impossible is said of it."""
        with explained(self.folder):
            return run(model, tokens, stream)

    def _read(self, layers: range) -> dict[str, Tensor]:
        """The tensors of a group; its layers are numbered from 0."""
        tensors = {}
        for file, names in self._tensors.items():
            # Read, not mapped: what is mapped stays in memory as long as any of its tensors.
            with safe_open(file, "pt", backend="pread") as opened:
                for name, stored in names.items():
                    match = IN_A_LAYER.fullmatch(name)
                    if layers and BY_TOKEN.fullmatch(name):
                        tensors[name] = opened.get_slice(stored)[: min(STAND_IN, self.config.vocab_size)]
                    elif match is None or int(match[2]) in layers:
                        tensors[_shifted(name, -layers.start)] = _finite(opened.get_tensor(stored), stored, file)
        return tensors


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Whatever transformers stumbles over in a model directory, as a sentence."""
    try:
        yield
    except Exception as error:
        raise ModelDirectoryError(
            f"{folder / 'config.json'} can't be used: transformers says {type(error).__name__}: {error}; restore it"
        ) from error


def _finite(tensor: Tensor, name: str, file: Path) -> Tensor:
    if not BUFFER.search(name) and not tensor.float().isfinite().all():
        raise ModelDirectoryError(f"{file}: {name} holds NaN or infinite numbers (in float32); fetch it again")
    return tensor


@torch.no_grad()
def run(
    model: torch.nn.Module,
    tokens: Int[Tensor, "row pos"],
    stream: Float[Tensor, "row pos d_model"] | None = None,
) -> tuple[Float[Tensor, "row pos d_model"], Float[Tensor, "row pos d_vocab"]]:
    """Run a group on the residual stream that the groups before it left.

    Args:
        model: as `Checkpoint.group` returns it.
        stream: None to begin with the embedding of the tokens, which needs the rest of the model.

    Returns:
        the stream after the group, and the logits, which mean something for the rest of the model only.
    """
    layers, left = layers_of(model), []
    after = final_norm(model) or model.get_output_embeddings()
    entry = layers[0] if len(layers) else after
    hooks = [after.register_forward_pre_hook(lambda module, args: left.append(args[0]))]
    if stream is not None:
        tokens = torch.zeros_like(tokens)
        enter = entry.register_forward_pre_hook(lambda module, args: (stream, *args[1:]), prepend=True)
        hooks.append(enter)
    logits = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return left[0], logits


def _cut(config: Any, layers: range) -> Any:
    """The configuration of a group."""
    cut = deepcopy(config)
    cut.num_hidden_layers = len(layers)
    if layers:
        cut.vocab_size = min(STAND_IN, config.vocab_size)
        cut.pad_token_id = None  # it may lie outside the cut vocabulary
    if getattr(config, "layer_types", None):
        cut.layer_types = [config.layer_types[index] for index in layers]
    if config.model_type == "gpt_neo":
        cut.attention_layers = [config.attention_layers[index] for index in layers]
        cut.attention_types = [[cut.attention_layers, 1]]
    return cut


def _shifted(name: str, by: int) -> str:
    """The tensor's name with the index of its layer, if it is of one, changed."""
    return IN_A_LAYER.sub(lambda match: f"{match[1]}{int(match[2]) + by}{match[3]}", name)
