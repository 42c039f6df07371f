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

from selfrepair.models.families import DECODER, GROUPED, RMS_NORM
from selfrepair.models.weight_headers import ModelDirectoryError, check_weights

SUPPORTED = {
    "gpt2": "GPT-2",
    "gpt_neo": "GPT-Neo",
    "gpt_neox": "GPT-NeoX (Pythia)",
    "llama": "Llama",
    "mistral": "Mistral",
    "opt": "OPT",
    "qwen2": "Qwen2",
    DECODER: "the controlled family",
}
# The same quantity under the names that the families' configs give it.
COUNTS = ("num_hidden_layers", "num_attention_heads")
OWN_COUNTS = {"gpt2": ("n_layer", "n_head"), "gpt_neo": ("num_layers", "num_heads")}  # others' are not looked at
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
WIDTHS = ("hidden_size", "n_embd")
# What Hugging Face's classes take where a configuration does not say it, as early Llamas' do not.
DEFAULT_POSITIONS = {
    "gpt2": 1024,
    "gpt_neo": 2048,
    "gpt_neox": 2048,
    "llama": 2048,
    "mistral": 131072,
    "opt": 2048,
    "qwen2": 32768,
    DECODER: 128,
}
# What a family's own class reads; a configuration may hold another's key, which Hugging Face does not look at.
ACTIVATION_KEYS = dict.fromkeys(("gpt2", "gpt_neo", "opt"), "activation_function")
EPS_KEYS = (
    dict.fromkeys(("gpt2", "gpt_neo"), "layer_norm_epsilon")
    | dict.fromkeys(("gpt_neox", DECODER), "layer_norm_eps")
    | dict.fromkeys(RMS_NORM, "rms_norm_eps")
)  # OPT takes torch's default
ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish")
LAYER_TYPES = ("full_attention", "attention", "sliding_attention")  # of Qwen2
INDEX = "(0|[1-9][0-9]*)"  # of a layer or a head, in a name
ROTARY_TYPES = ("default", "linear", "llama3", "yarn")
ROTARY_NUMBERS: tuple[str, ...] = (
    "rope_theta",
    "rotary_emb_base",
    "factor",
    "attention_factor",
    "original_max_position_embeddings",
)
ROTARY_NUMBERS += ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow")


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
        what = "is no directory, and its name does not end in .gguf" if folder.exists() else "does not exist"
        raise ModelDirectoryError(f"model directory {folder} {what}; set the model's `path` to one that does")
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelDirectoryError(f"{config_file} is missing: {folder} is no Hugging Face model directory")
    config = _read_config(config_file)
    _check_architecture(config, config_file)
    try:
        info = model_info(config)
    except ValueError as error:
        raise ModelDirectoryError(f"{config_file}: {error}") from None
    check_weights(folder, info.n_layers, config)
    return info


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text())
    except (OSError, RecursionError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelDirectoryError(f"{file} can't be read as JSON ({error}); restore it") from error
    if not isinstance(config, dict):
        raise ModelDirectoryError(f"{file} is no JSON object; restore it")
    return config


def model_info(config: dict) -> ModelInfo:
    """Read family and size from the fields of a Hugging Face config.

    Raises:
        ValueError: it does not say how many layers or heads there are.
    """
    family = config["model_type"]
    own = [OWN_COUNTS[family]] if family in OWN_COUNTS else []
    layers, heads = (_first(config, names) for names in zip(COUNTS, *own, strict=True))
    said = any(config.get(name) is not None for name in POSITIONS)
    positions = _first(config, POSITIONS) if said else DEFAULT_POSITIONS[family]
    kv_heads = config.get("num_key_value_heads") if family in GROUPED else None
    if kv_heads is not None and heads % _first(config, ("num_key_value_heads",)):
        raise ValueError(f"num_key_value_heads is {kv_heads}, which does not divide the {heads} heads; restore it")
    width = next((config[name] for name in WIDTHS if name in config), None)
    if isinstance(width, int) and width % heads and not (family in RMS_NORM and config.get("head_dim")):
        raise ValueError(f"{heads} heads do not divide a width of {width}; restore it")
    return ModelInfo(family, layers, heads, positions)


def max_positions(folder: Path) -> int | None:
    """Longest row that a model was made for, where its directory says so; one of a tokenizer alone does not.

    Raises:
        ModelDirectoryError: the directory does not exist, or its `config.json` can't be read.
    """
    if not folder.exists():
        raise ModelDirectoryError(f"{folder} does not exist; for a model of a hub give what `load_model` returned")
    file = folder / "config.json"
    config = _read_config(file) if file.is_file() else {}
    return next((config[name] for name in POSITIONS if config.get(name) is not None), None)


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
    match = re.fullmatch(f"L{INDEX}H{INDEX}", name)
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
    if not isinstance(family, str) or family not in SUPPORTED:
        named = ", ".join(f"{key} ({label})" for key, label in SUPPORTED.items())
        raise ModelDirectoryError(f"{source}: architecture `{family}` is not supported; supported are {named}")
    window_key = "window_size" if family == "gpt_neo" else "sliding_window"
    window = config.get(window_key)
    slides = family in ("mistral", "gpt_neo") or (family == "qwen2" and config.get("use_sliding_window") is True)
    kinds = config.get("layer_types") if family == "qwen2" else None
    known = kinds is None or (isinstance(kinds, list) and all(kind in LAYER_TYPES for kind in kinds))
    endless = not slides or (window is None and window_key in config)
    projected = config.get("word_embed_proj_dim") not in (None, config.get("hidden_size"))
    refused = {
        "do_layer_norm_before: false (post-norm OPT)": config.get("do_layer_norm_before") is False,
        "word_embed_proj_dim other than hidden_size": projected,
        "layer_types (Hugging Face takes such a model for Ministral)": family == "mistral" and "layer_types" in config,
        f"layer_types: {kinds} (supported: {', '.join(LAYER_TYPES)})": not known,
        "sliding_attention in layer_types, without a sliding_window and use_sliding_window": (
            endless and known and "sliding_attention" in (kinds or [])
        ),
        f"{window_key}: {window}": slides and window is not None and (type(window) is not int or window < 1),
        "configuration_files (settings in another file)": bool(config.get("configuration_files")),
        "transformers_weights (weights in another file)": bool(config.get("transformers_weights")),
        "is_causal: false": config.get("is_causal") is False,
        "add_cross_attention": bool(config.get("add_cross_attention")),
        "quantization_config (quantized weights)": config.get("quantization_config") is not None,
        "quantization (weights of MLX)": bool(config.get("quantization")),
    }
    activation = config.get(ACTIVATION_KEYS.get(family, "hidden_act"))
    refused[f"activation `{activation}` (supported: {', '.join(ACTIVATIONS)})"] = activation not in (None, *ACTIVATIONS)
    _check_rotary_numbers(config, family, source)
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key) or {}
        if not isinstance(rope, dict):
            raise ModelDirectoryError(f"{source}: {key} is {rope!r}, where an object is needed; restore it")
        _check_rotary_numbers(rope, family, source)
        kind = rope.get("rope_type", rope.get("type", "default"))
        refused[f"rope_type {kind} (supported: {', '.join(ROTARY_TYPES)})"] = kind not in ROTARY_TYPES
    for what, present in refused.items():
        if present:
            raise ModelDirectoryError(f"{source}: {what} is not supported for `{family}`")


def _check_rotary_numbers(config: dict, family: str, source: Path) -> None:
    for key in ROTARY_NUMBERS if family in (*GROUPED, "gpt_neox") else ():
        value = config.get(key)
        if value is not None and not (type(value) in (int, float) and 0 < value < math.inf):
            raise ModelDirectoryError(f"{source}: {key} is {value!r}, where a number above 0 is needed; restore it")


def _first(config: dict, names: tuple[str, ...]) -> int:
    found = next((config[name] for name in names if config.get(name) is not None), None)
    if type(found) is not int or found < 1:
        raise ValueError(f"{' or '.join(names)} is {found!r}, where a number is needed; restore it")
    return found
