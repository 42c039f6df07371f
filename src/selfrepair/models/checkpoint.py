"""A Hugging Face model directory, read a group of layers at a time, and the residual stream through its groups."""

import json
import math
import re
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from selfrepair.models.directory import INDEX, RMS_NORM, ModelDirectoryError, weight_files

IN_A_LAYER = re.compile(r"((?:.+\.)?(?:h|layers)\.)(\d+)(\..+)")
BY_TOKEN = re.compile(r"(?:.+\.)?(?:wte|embed_tokens|embed_in|lm_head|embed_out)\.weight")
STAND_IN = 8  # tokens of the vocabulary that a group of layers carries: Hugging Face's models want one


class Checkpoint:
    """The weights of a model directory; none is in memory before it is asked for.

    Attributes:
        config: Hugging Face's configuration of the whole model.
        layer_bytes: size of the largest layer in float32.

    Raises:
        ModelDirectoryError: a shard lacks a tensor that the index places there.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig

        self.folder = folder
        self.config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if self.config._attn_implementation not in (None, "eager", "sdpa"):  # others need packages, and give the same
            self.config._attn_implementation = "eager"
        if self.config.model_type not in RMS_NORM:  # families without grouped heads, whatever their configuration says
            vars(self.config).pop("num_key_value_heads", None)
        files = weight_files(folder)
        sharded = files != [folder / "model.safetensors"] and (folder / INDEX).is_file()
        self._index = folder / INDEX if sharded else None
        self._tensors: dict[Path, list[str]] = {}
        sizes: Counter[int] = Counter()
        for file in files:
            with safe_open(file, "pt") as opened:
                self._tensors[file] = list(opened.keys())
                for name in self._tensors[file]:
                    if match := IN_A_LAYER.fullmatch(name):
                        sizes[int(match[2])] += 4 * math.prod(opened.get_slice(name).get_shape())
        self.layer_bytes = max(sizes.values(), default=0)
        if self._index:
            for name, file in json.loads(self._index.read_text())["weight_map"].items():
                if name not in self._tensors[folder / file]:
                    raise ModelDirectoryError(
                        f"{folder / file} lacks the tensor {name}, which {self._index.name} places there; "
                        "fetch it again"
                    )

    def group(self, layers: range) -> torch.nn.Module:
        """Hugging Face's model in float32 with these layers only and a few tokens; given none, the rest of the model.

        Raises:
            ModelDirectoryError: the files lack a tensor.
        """
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

        config = _cut(self.config, layers)
        model, report = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            None,
            config=config,
            state_dict=self._read(layers),
            dtype=torch.float32,
            output_loading_info=True,
        )
        if report["missing_keys"]:
            name = _shifted(min(report["missing_keys"]), layers.start)
            source = self._index or next(iter(self._tensors))
            raise ModelDirectoryError(f"{source} lacks the tensor {name}; fetch it again")
        if getattr(config, "scale_attn_by_inverse_layer_idx", False):
            for own, layer in enumerate(_layers(model)):  # they count from 0 in every group
                layer.attn.scaling *= (own + 1) / (layers[own] + 1)
        return model.eval()

    def _read(self, layers: range) -> dict[str, Tensor]:
        """The tensors of a group; its layers are numbered from 0."""
        tensors = {}
        for file, names in self._tensors.items():
            # Read, not mapped: what is mapped stays in memory as long as any of its tensors.
            with safe_open(file, "pt", backend="pread") as opened:
                for name in names:
                    match = IN_A_LAYER.fullmatch(name)
                    if layers and BY_TOKEN.fullmatch(name):
                        tensors[name] = opened.get_slice(name)[:STAND_IN]
                    elif match is None or int(match[2]) in layers:
                        tensors[_shifted(name, -layers.start)] = opened.get_tensor(name)
        return tensors


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
    layers, left = _layers(model), []
    inside = set(layers.modules())
    norm = next(m for m in model.modules() if type(m).__name__.endswith("Norm") and m not in inside)
    entry = layers[0] if len(layers) else norm
    hooks = [norm.register_forward_pre_hook(lambda module, args: left.append(args[0]))]
    if stream is not None:
        tokens = torch.zeros_like(tokens)
        enter = entry.register_forward_pre_hook(lambda module, args: (stream, *args[1:]), prepend=True)
        hooks.append(enter)
    logits = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return left[0], logits


def _layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    return next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))


def _cut(config: Any, layers: range) -> Any:
    """The configuration of a group."""
    cut = deepcopy(config)
    cut.num_hidden_layers = len(layers)
    if layers:
        cut.vocab_size = STAND_IN
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
