"""What can be known of a model directory without loading it: is it there, whole, supported, and how large.

Only the standard library is imported, so that a run can refuse bad input before anything long starts.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPPORTED = {
    "gpt2": "GPT-2",
    "gpt_neo": "GPT-Neo",
    "gpt_neox": "GPT-NeoX (Pythia)",
    "llama": "Llama",
    "mistral": "Mistral",
    "opt": "OPT",
    "qwen2": "Qwen2",
}
RMS_NORM = ("llama", "mistral", "qwen2")  # families whose norm does not centre
# The same quantity under the names that the families' configs give it.
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
HEADS = ("num_attention_heads", "n_head", "num_heads")
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
# What Hugging Face's classes take where a configuration does not say it, as early Llamas' do not.
DEFAULT_POSITIONS = {
    "gpt2": 1024,
    "gpt_neo": 2048,
    "gpt_neox": 2048,
    "llama": 2048,
    "mistral": 131072,
    "opt": 2048,
    "qwen2": 32768,
}
EMBEDDING = re.compile(r"(?:.+\.)?(?:wte|embed_tokens|embed_in)\.weight")
ROTARY_TYPES = ("default", "linear", "llama3", "yarn")
INDEX = "model.safetensors.index.json"  # of shards
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class ModelDirectoryError(ValueError):
    """A model directory that can't be used; the message names the file and the fix."""


@dataclass(frozen=True)
class ModelInfo:
    """Size and family of a model, read from its `config.json`."""

    family: str
    n_layers: int
    n_heads: int
    max_positions: int


def read_model_info(folder: Path) -> ModelInfo:
    """Check a Hugging Face model directory and read its size.

    Raises:
        ModelDirectoryError: the directory or a file of it is missing, truncated, pickled, or the architecture is
            not supported.
    """
    if not folder.is_dir():
        raise ModelDirectoryError(f"model directory {folder} does not exist; set the model's `path` to one that does")
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelDirectoryError(f"{config_file} is missing: {folder} is no Hugging Face model directory")
    try:
        config = json.loads(config_file.read_text())
    except json.JSONDecodeError as error:
        raise ModelDirectoryError(f"{config_file} is not valid JSON ({error}); restore it") from error
    if not isinstance(config, dict):
        raise ModelDirectoryError(f"{config_file} is no JSON object; restore it")
    _check_architecture(config, config_file)
    shapes: dict[str, list[int]] = {}
    for file in weight_files(folder):
        shapes |= _check_safetensors(file)
    _check_tokenizer(folder / "tokenizer.json", shapes)
    try:
        return model_info(config)
    except ValueError as error:
        raise ModelDirectoryError(f"{config_file}: {error}") from None


def model_info(config: dict) -> ModelInfo:
    """Read family and size from the fields of a Hugging Face config.

    Raises:
        ValueError: it does not say how many layers or heads there are.
    """
    layers, heads = (_first(config, names) for names in (LAYERS, HEADS))
    family = config["model_type"]
    positions = next((config[name] for name in POSITIONS if config.get(name)), DEFAULT_POSITIONS[family])
    return ModelInfo(family, layers, heads, positions)


def max_positions(folder: Path) -> int | None:
    """Longest row that a model was made for, where its directory says so; one of a tokenizer alone does not.

    Raises:
        ModelDirectoryError: the directory does not exist.
    """
    if not folder.exists():
        raise ModelDirectoryError(f"{folder} does not exist; for a model of a hub give what `load_model` returned")
    file = folder / "config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    return next((config[name] for name in POSITIONS if name in config), None)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model directory that Hugging Face reads: a whole one before shards and their index.

    Raises:
        ModelDirectoryError: there are none, or the index names one that is missing.
    """
    alone, index = folder / "model.safetensors", folder / INDEX
    if alone.is_file():
        return [alone]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ModelDirectoryError(f"{index} is corrupt ({error!r}); fetch it again") from error
        for name in names:
            if not (folder / name).is_file():
                raise ModelDirectoryError(f"{folder / name}, named by {index.name}, is missing; fetch it again")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
    if pickles:
        raise ModelDirectoryError(
            f"{folder} holds its weights only as pickle ({', '.join(pickles)}), which can run any code when loaded; "
            "convert them to model.safetensors (in transformers: save_pretrained)"
        )
    raise ModelDirectoryError(f"{folder} holds no *.safetensors; put the model's weights there")


def authors_units_measurements(models: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Name of each measurement in the authors' units that `models` of a run ask for, and the model behind it."""
    return {f"{name}-as-published": name for name, entry in models.items() if entry.get("as_published")}


def twins(models: Iterable[str]) -> dict[str, str]:
    """Name of the null twin of each of a run's models, and the model behind it."""
    return {f"{name}-shuffled": name for name in models}


def parse_head(name: str) -> tuple[int, int]:
    """Return (layer, head) of a name such as `L9H11`.

    Raises:
        ValueError: the name has another form.
    """
    match = re.fullmatch(r"L(\d+)H(\d+)", name)
    if not match:
        raise ValueError(f"`{name}` is no head; write it as L9H11: layer, then head, both from 0")
    return int(match[1]), int(match[2])


def check_heads(info: ModelInfo, heads: list[str], name: str, key: str = "heads") -> list[tuple[int, int]]:
    """Parse head names and check that the model has them.

    Raises:
        ValueError: a head is out of range or malformed.
    """
    parsed = [parse_head(head) for head in heads]
    for layer, head in parsed:
        if layer >= info.n_layers or head >= info.n_heads:
            raise ValueError(
                f"models.{name}.{key}: L{layer}H{head} is out of range; "
                f"layers go from 0 to {info.n_layers - 1}, heads from 0 to {info.n_heads - 1}"
            )
    return parsed


def check_authors_units(family: str) -> None:
    """Check that a family can be measured as the authors measured Llama (experiments.md pitfall:llama-norm).

    Raises:
        ModelDirectoryError: its norm is another than Llama's, and the authors measured it in logits.
    """
    if family not in RMS_NORM:
        raise ModelDirectoryError(
            f"`as_published` applies to models with RMSNorm only ({', '.join(RMS_NORM)}), not to `{family}`, of which "
            "the published direct effects are in logits; remove it"
        )


def _check_architecture(config: dict, source: Path) -> None:
    family = config.get("model_type")
    if family not in SUPPORTED:
        named = ", ".join(f"{key} ({label})" for key, label in SUPPORTED.items())
        raise ModelDirectoryError(f"{source}: architecture `{family}` is not supported; supported are {named}")
    projected = config.get("word_embed_proj_dim") not in (None, config.get("hidden_size"))
    refused = {
        "do_layer_norm_before: false (post-norm OPT)": config.get("do_layer_norm_before") is False,
        "word_embed_proj_dim other than hidden_size": projected,
        "add_cross_attention": bool(config.get("add_cross_attention")),
        "quantization_config (quantized weights)": bool(config.get("quantization_config")),
        "quantization (weights of MLX)": bool(config.get("quantization")),
    }
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    refused[f"rope_type {kind} (supported: {', '.join(ROTARY_TYPES)})"] = kind not in ROTARY_TYPES
    for what, present in refused.items():
        if present:
            raise ModelDirectoryError(f"{source}: {what} is not supported for `{family}`")


def count_parameters(file: Path) -> int:
    """Numbers stored in a safetensors file; tied weights are stored once."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _check_tokenizer(file: Path, shapes: dict[str, list[int]]) -> None:
    """A vocabulary must lie within the embedding; tokens added to it, which text need not hold, may lie beyond."""
    rows = next((shape[0] for name, shape in shapes.items() if EMBEDDING.fullmatch(name)), None)
    if rows is None or not file.is_file():
        return
    try:
        vocabulary = json.loads(file.read_text())["model"]["vocab"]
        largest = max(vocabulary.values()) if isinstance(vocabulary, dict) else len(vocabulary) - 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelDirectoryError(f"{file} is corrupt ({error!r}); fetch it again") from error
    if largest >= rows:
        raise ModelDirectoryError(
            f"{file} has the token {largest}, but the model's embedding has {rows} rows: it is of another model; "
            "replace it"
        )


def _check_safetensors(file: Path) -> dict[str, list[int]]:
    """A safetensors file is 8 bytes of header length, the JSON header, and exactly the bytes that it promises.

    Returns:
        shape of each tensor.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise ModelDirectoryError(f"{file} is truncated or no safetensors file; fetch it again")
        try:
            header = json.loads(stream.read(length))
            shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ModelDirectoryError(f"{file} has a corrupt header; fetch it again") from error
    if not ends:
        raise ModelDirectoryError(f"{file} holds no tensors; fetch it again")
    promised = 8 + length + max(ends)
    if promised != size:
        raise ModelDirectoryError(f"{file} has {size} bytes where its header promises {promised}; fetch it again")
    return shapes


def _first(config: dict, names: tuple[str, ...]) -> int:
    found = next((config[name] for name in names if name in config), None)
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"{' or '.join(names)} is {found!r}, where a number is needed; restore it")
    return found
