"""Write a GGUF file, in which llama.cpp and others keep models, as an ordinary Hugging Face directory in float32.

The weights are dequantised once: the numbers that the quantised model computes with are the model.
"""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from selfrepair.core.files import whole_folder
from selfrepair.core.progress import Progress
from selfrepair.models.directory import ModelDirectoryError
from selfrepair.models.gguf_header import (
    MISSING_GGUF,
    ROTARY_FACTORS,
    SPLITS_DIGITS,
    GGUFHeader,
    huggingface_config,
    read_header,
)

if TYPE_CHECKING:
    from gguf import GGUFReader


def convert_gguf(gguf: Path, output: Path) -> None:
    """Dequantise a GGUF file: write config.json, model.safetensors in float32 and its tokenizer.

    Args and errors: as `write_directory`.
    """
    write_directory(gguf, output, Progress(f"{gguf.name}: dequantising", read_header(gguf).n_parameters, "weights"))


def write_directory(gguf: Path, output: Path, progress: Progress | None = None) -> None:
    """Write a GGUF file as a Hugging Face directory.

    A tensor is in memory at a time. The directory is there whole or not at all.

    Args:
        gguf: the file.
        output: directory to write.
        progress: is told of each written weight.

    Raises:
        ModelDirectoryError: the file is missing or broken, or holds something that is not supported.
        ModuleNotFoundError: the package gguf is not installed.
    """
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_GGUF) from error
    header = read_header(gguf)
    config = huggingface_config(header)
    with whole_folder(output) as partial:
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        shapes = _shapes(config)
        places = _places(header, config, list(shapes))
        _write_weights(
            partial / "model.safetensors", shapes, _Weights(GGUFReader(gguf), header, config, places), progress
        )
        write_tokenizer(header, partial)


@contextmanager
def in_terms_of(gguf: Path, written: Path) -> Iterator[None]:
    """Let errors name the file, and not the directory that was made of it, which the user never saw."""
    try:
        yield
    except ValueError as error:
        error.args = (str(error).replace(f"{written}/", f"{gguf}, as ").replace(str(written), str(gguf)),)
        raise


def write_tokenizer(header: GGUFHeader, folder: Path) -> None:
    """Write the tokenizer of a GGUF file as Hugging Face reads it: tokenizer.json and tokenizer_config.json.

    Raises:
        ModelDirectoryError: transformers can't read it.
    """
    from tokenizers.pre_tokenizers import Digits, Sequence
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = header.path
    try:
        read = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except Exception as error:  # whatever it stumbles over
        raise ModelDirectoryError(
            f"{path}: transformers can't read the tokenizer ({type(error).__name__}: {error}); convert the model again"
        ) from error
    tokenizer = read.backend_tokenizer
    if header.metadata.get("tokenizer.ggml.pre") in SPLITS_DIGITS:  # transformers takes it for GPT-2's
        tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), tokenizer.pre_tokenizer])
    special = {name: getattr(read, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of Hugging Face's model; tied weights once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    tied = "lm_head.weight" if config["tie_word_embeddings"] else None
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name != tied}


def _places(header: GGUFHeader, config: dict[str, Any], names: list[str]) -> dict[str, str]:
    """Which tensor of the file each of Hugging Face's is.

    Raises:
        ModelDirectoryError: one is missing, or the file holds one that has no place.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(key for key, value in MODEL_ARCH_NAMES.items() if value == header.architecture)
    known = get_tensor_name_map(architecture, header.of_model("block_count"))
    places = {}
    for name in names:
        stem, _, kind = name.rpartition(".")
        place = f"{known.get_name(stem)}.{kind}"
        if place not in header.tensors:
            raise ModelDirectoryError(f"{header.path} lacks the tensor {place}, Hugging Face's {name}; fetch it again")
        places[name] = place
    if strangers := sorted(header.tensors.keys() - set(places.values()) - {ROTARY_FACTORS}):
        raise ModelDirectoryError(
            f"{header.path}: {strangers[0]} has no place in Hugging Face's model of `{config['model_type']}`, so the "
            "file is of another model than its metadata says; it is not supported"
        )
    return places


class _Weights:
    """The dequantised tensors of a file, in Hugging Face's layout."""

    def __init__(
        self, reader: "GGUFReader", header: GGUFHeader, config: dict[str, Any], places: dict[str, str]
    ) -> None:
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.header, self.config, self.places = header, config, places

    def __getitem__(self, name: str) -> Float[np.ndarray, "..."]:
        from gguf import dequantize

        place = self.places[name]
        tensor = self.tensors[place]
        values = dequantize(tensor.data, tensor.tensor_type).astype("<f4", copy=False)
        if self.header.architecture == "llama" and ".attn_q." in place:
            return _unpermuted(values, self.config["num_attention_heads"])
        if self.header.architecture == "llama" and ".attn_k." in place:
            return _unpermuted(values, self.config["num_key_value_heads"])
        if self.header.architecture == "gpt2" and values.ndim == 2 and place.startswith("blk."):
            return values.T  # GPT-2 keeps its matrices the other way round
        return values


def _unpermuted(values: Float[np.ndarray, "row ..."], n_heads: int) -> Float[np.ndarray, "row ..."]:
    """Rows of Q or K in Hugging Face's order; llama.cpp has the two numbers that turn together side by side."""
    d_head = len(values) // n_heads
    return values.reshape(n_heads, d_head // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _write_weights(
    path: Path, shapes: dict[str, tuple[int, ...]], weights: _Weights, progress: Progress | None
) -> None:
    """Write a safetensors file tensor by tensor; the library safetensors wants all in memory.

    Raises:
        ModelDirectoryError: a tensor has another shape than the configuration says.
    """
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}} | entries).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            values = weights[name]
            if values.shape != shape:
                raise ModelDirectoryError(
                    f"{weights.header.path}: the tensor {weights.places[name]} has shape {values.shape} where its "
                    f"metadata say {shape}; fetch it again"
                )
            file.write(np.ascontiguousarray(values).data)
            if progress is not None:
                progress.advance(values.size)
