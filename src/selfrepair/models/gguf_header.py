"""The header of a GGUF file, and the Hugging Face configuration that it describes.

Only the standard library is imported, so that a run can refuse a file before anything long starts; `gguf` converts it.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfrepair.models.directory import ModelDirectoryError, ModelInfo, model_info
from selfrepair.models.gguf_metadata import Cursor, odd_metadata

MISSING_GGUF = "a GGUF file is read with the package gguf, which is missing; run pip install 'selfrepair[gguf]'"
ARCHITECTURES = ("gpt2", "llama", "qwen2")  # that transformers reads, too
# Name, numbers in a block and bytes of a block of each number format that the library `gguf` dequantises.
FORMATS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
# How a byte-level tokenizer splits text before it merges (`tokenizer.ggml.pre`): as GPT-2 does, each digit on its own,
# or by a pattern that transformers knows by this name.
SPLITS_AS_GPT2, SPLITS_DIGITS = ("gpt-2",), ("smollm",)
SPLITS_BY_PATTERN = ("llama-bpe", "llama3", "llama-v3", "qwen2", "deepseek-r1-qwen", "tekken")
SPLITS = (*SPLITS_AS_GPT2, *SPLITS_DIGITS, *SPLITS_BY_PATTERN)
# Hugging Face's names of the sizes in a file's metadata, by architecture.
ROTARY_NAMES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
GPT2_NAMES = {
    "block_count": "n_layer",
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
ROTARY_FACTORS = "rope_freqs.weight"  # by which Llama 3.1 and 3.2 divide their rotary frequencies
LLAMA3_FACTORS = (8.0, 32.0)  # of Llama 3.1 and 3.2
# What else changes a model that llama.cpp reads, and the values that change nothing; None: not there.
NEUTRAL = {
    **dict.fromkeys(("rope.scaling.factor", "rope.scale_linear"), (None, 0, 1)),
    **dict.fromkeys(("logit_scale", "embedding_scale", "residual_scale"), (None, 0, 1)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping", "attention.scale"), (None, 0)),
    "rope.scaling.attn_factor": (None, 1),
    "attention.causal": (None, True),
}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor of a file: its number format, its shape in the order of torch, and where in the file it begins."""

    format: int
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        _, numbers, size = FORMATS[self.format]
        return math.prod(self.shape) // numbers * size


@dataclass(frozen=True)
class GGUFHeader:
    """Metadata of a GGUF file by its keys, and its tensors by their names."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture"))

    @property
    def n_parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    def of_model(self, key: str, default: object = None) -> Any:
        """Metadata of the model's architecture."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


def read_header(path: Path) -> GGUFHeader:
    """Read and check the header of a GGUF file.

    Raises:
        ModelDirectoryError: the file is missing, no GGUF, truncated or split, or holds something that is not supported;
            the message names it and the fix.
    """
    if not path.is_file():
        raise ModelDirectoryError(f"model file {path} does not exist; set the model's `path` to one that does")
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelDirectoryError(f"{path} is no GGUF file; fetch it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                header = _read(path, data)
            except (struct.error, UnicodeDecodeError, KeyError) as error:
                raise ModelDirectoryError(f"{path} is truncated or has a corrupt header; fetch it again") from error
    _check(header)
    promised = max((tensor.offset + tensor.nbytes for tensor in header.tensors.values()), default=0)
    if promised > size:
        raise ModelDirectoryError(f"{path} has {size} bytes where its header promises {promised}; fetch it again")
    return header


def is_gguf(path: str | Path) -> bool:
    """Whether a path is of a GGUF file, not of a directory."""
    return Path(path).suffix.lower() == ".gguf"


def read_gguf_info(path: Path) -> ModelInfo:
    """Check a GGUF file and read the size of its model.

    Raises:
        ModelDirectoryError: as `read_header` and `huggingface_config`.
    """
    config = huggingface_config(read_header(path))
    try:
        return model_info(config)
    except ValueError as error:
        raise ModelDirectoryError(f"{path}: {error}") from None


def huggingface_config(header: GGUFHeader) -> dict[str, Any]:
    """The fields of Hugging Face's `config.json` for the model of a GGUF file.

    Raises:
        ModelDirectoryError: the metadata lacks one, or scales rotary frequencies in a way that is not supported.
    """
    family = header.architecture
    config: dict[str, Any] = {"model_type": family, "torch_dtype": "float32"}
    for key, name in (GPT2_NAMES if family == "gpt2" else ROTARY_NAMES).items():
        config[name] = header.of_model(key)
        if config[name] is None:
            raise ModelDirectoryError(f"{header.path} lacks the metadata `{family}.{key}`; convert the model again")
    if "token_embd.weight" not in header.tensors:
        raise ModelDirectoryError(f"{header.path} lacks the tensor token_embd.weight; fetch it again")
    if len(shape := header.tensors["token_embd.weight"].shape) != 2:
        raise ModelDirectoryError(f"{header.path}: token_embd.weight has the shape {list(shape)}; fetch it again")
    config["vocab_size"] = shape[0]
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    for token in ("bos", "eos"):
        config[f"{token}_token_id"] = header.metadata.get(f"tokenizer.ggml.{token}_token_id")
    return config if family == "gpt2" else config | _rotary_config(header, config)


def _rotary_config(header: GGUFHeader, config: dict[str, Any]) -> dict[str, Any]:
    heads = config["num_attention_heads"]
    d_head = header.of_model("attention.key_length", config["hidden_size"] // heads)
    if (turned := header.of_model("rope.dimension_count", d_head)) != d_head:
        raise ModelDirectoryError(
            f"{header.path}: rotary positions on {turned} of {d_head} dimensions are not supported"
        )
    theta = header.of_model("rope.freq_base", 10000.0)
    rope = {"rope_type": "default", "rope_theta": theta}
    if ROTARY_FACTORS in header.tensors:
        rope |= {"rope_type": "llama3", "factor": _llama3_factor(header, theta, d_head), **LLAMA3}
    kv_heads = header.of_model("attention.head_count_kv", heads)
    rest = {"num_key_value_heads": kv_heads, "head_dim": d_head, "rope_parameters": rope}
    if header.architecture == "llama":
        rest |= {
            "attention_bias": "blk.0.attn_q.bias" in header.tensors,
            "mlp_bias": "blk.0.ffn_up.bias" in header.tensors,
        }
    return rest


def _llama3_factor(header: GGUFHeader, theta: float, d_head: int) -> float:
    """The `factor` of Llama 3's rotary frequencies, of which a file has what follows from it.

    Raises:
        ModelDirectoryError: it is of another kind than those of Llama 3.1 and 3.2.
    """
    tensor, n_factors = header.tensors[ROTARY_FACTORS], d_head // 2
    if tensor.shape != (n_factors,) or FORMATS[tensor.format][0] != "F32":
        raise ModelDirectoryError(
            f"{header.path}: {ROTARY_FACTORS} is {FORMATS[tensor.format][0]} of shape {list(tensor.shape)}, where "
            f"F32 of [{n_factors}] is needed; convert the model again"
        )
    with header.path.open("rb") as file:
        file.seek(tensor.offset)
        read = struct.unpack(f"<{n_factors}f", file.read(tensor.nbytes))
    low, high, positions = LLAMA3.values()
    for factor in LLAMA3_FACTORS:
        expected = []
        for index in range(n_factors):
            turns = positions * theta ** (-2 * index / d_head) / (2 * math.pi)  # within the original context
            smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
            expected.append(1 / ((1 - smooth) / factor + smooth))
        if all(math.isclose(*pair, rel_tol=1e-4) for pair in zip(read, expected, strict=True)):
            return factor
    raise ModelDirectoryError(
        f"{header.path}: {ROTARY_FACTORS} is not that of Llama 3.1 or 3.2; other kinds are not supported"
    )


def _read(path: Path, data: mmap.mmap) -> GGUFHeader:
    cursor = Cursor(data)
    (version,) = cursor.unpack("I")
    if version not in (2, 3):
        raise ModelDirectoryError(
            f"{path} is GGUF of version {version}, or big-endian; supported are 2 and 3, little-endian"
        )
    n_tensors, n_values = cursor.unpack("QQ")
    metadata, tensors = {}, {}
    for _ in range(n_values):
        key = cursor.string()
        if key in metadata:
            raise ModelDirectoryError(f"{path} has the metadata `{key}` twice; convert the model again")
        metadata[key] = cursor.value(*cursor.unpack("I"))
    for _ in range(n_tensors):
        name = cursor.string()
        (axes,) = cursor.unpack("I")
        *shape, number_format, offset = cursor.unpack(f"{axes}QIQ")
        tensors[name] = (number_format, tuple(reversed(shape)), offset)
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 8 or alignment % 8:
        raise ModelDirectoryError(f"{path}: general.alignment is {alignment!r}, no multiple of 8; convert it again")
    start = -(-cursor.at // alignment) * alignment
    return GGUFHeader(path, metadata, {n: GGUFTensor(f, shape, start + at) for n, (f, shape, at) in tensors.items()})


def _check(header: GGUFHeader) -> None:
    family, get = header.architecture, header.metadata.get
    if family not in ARCHITECTURES:
        raise ModelDirectoryError(
            f"{header.path}: architecture `{family}` is not supported in a GGUF file; supported are "
            f"{', '.join(ARCHITECTURES)}. Set `path` to the model's Hugging Face directory if that is supported"
        )
    if odd := odd_metadata(header.metadata, family):
        raise ModelDirectoryError(f"{header.path}: {odd}; convert the model again")
    unknown = {n: t.format for n, t in header.tensors.items() if t.format not in FORMATS}
    if unknown:
        name, number_format = next(iter(unknown.items()))
        raise ModelDirectoryError(
            f"{header.path}: {name} has the number format {number_format} of ggml, which can't be dequantised; take a "
            f"file of another one: {', '.join(name for name, *_ in FORMATS.values())}"
        )
    kind, split = get("tokenizer.ggml.model"), get("tokenizer.ggml.pre", "gpt-2" if family == "gpt2" else "none")
    scaling = header.of_model("rope.scaling.type", "none")
    factors = {key: header.of_model(key) for key in NEUTRAL if header.of_model(key) not in NEUTRAL[key]}
    tokens = get("tokenizer.ggml.tokens") or []
    first = [get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")]
    refused = {
        f"a file of type {get('general.type')}": get("general.type", "model") != "model",
        "one part of a model (merge them with llama-gguf-split --merge)": get("split.count", 1) > 1,
        "a mixture of experts": bool(header.of_model("expert_count")),
        f"rope scaling {scaling}": scaling != "none",
        **{f"{key} = {value}": True for key, value in factors.items()},
        "a file without the tokens of a tokenizer": not tokens,
        "a tokenizer without merges or scores": not get(f"tokenizer.ggml.{'merges' if kind == 'gpt2' else 'scores'}"),
        f"a first or last token ({first}) beyond the {len(tokens)} of the tokenizer": any(
            number is not None and not 0 <= number < len(tokens) for number in first
        ),
        "attention within a window": bool(header.of_model("attention.sliding_window")),
        f"a tokenizer of type {kind} (supported: gpt2, llama)": kind not in ("gpt2", "llama"),
        "a SentencePiece tokenizer that puts no space before a text": (
            kind == "llama" and not get("tokenizer.ggml.add_space_prefix", True)
        ),
        f"a tokenizer that splits text as {split} (supported: {', '.join(SPLITS)})": kind == "gpt2"
        and split not in SPLITS,
    }
    for what, present in refused.items():
        if present:
            raise ModelDirectoryError(f"{header.path}: {what} is not supported")
