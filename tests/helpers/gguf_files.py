"""GGUF files as llama.cpp's converter writes them, made of Hugging Face directories with the library `gguf`."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.numpy import load_file

ARCHITECTURES = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}


def permuted(values: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of Q or K as llama.cpp wants them: its converter's own line."""
    return (
        values.reshape(n_heads, 2, values.shape[0] // n_heads // 2, *values.shape[1:])
        .swapaxes(1, 2)
        .reshape(values.shape)
    )


def write_gguf(
    model: Path,
    path: Path,
    number_format: GGMLQuantizationType = GGMLQuantizationType.F32,
    tokenizer: Path | None = None,
    pre: str | None = "gpt-2",
    change: Callable[[GGUFWriter, dict[str, np.ndarray]], object] = lambda writer, tensors: None,
) -> Path:
    """Write a model directory as a GGUF file.

    Args:
        number_format: of the matrices whose rows hold whole blocks; vectors and the rest stay in float32.
        tokenizer: directory of a byte-level tokenizer; the model's own if None.
        pre: name of the way in which it splits text; none is written if None.
        change: called before anything is written, to add or replace metadata and tensors.
    """
    config = json.loads((model / "config.json").read_text())
    family = config["model_type"]
    writer = GGUFWriter(path, family)
    heads = config.get("num_attention_heads") or config["n_head"]
    _write_sizes(writer, config, heads)
    _write_tokenizer(writer, tokenizer or model, pre, config)
    tensors = _tensors(load_file(model / "model.safetensors"), config, heads)
    change(writer, tensors)
    block = gguf.GGML_QUANT_SIZES[number_format][0]
    for name, values in tensors.items():
        packed = number_format if values.ndim == 2 and values.shape[1] % block == 0 else GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(values), packed), raw_dtype=packed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_sizes(writer: GGUFWriter, config: dict, heads: int) -> None:
    if config["model_type"] == "gpt2":
        writer.add_block_count(config["n_layer"])
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
        if config.get("head_dim"):
            writer.add_key_length(config["head_dim"])
        writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_head_count(heads)


def _write_tokenizer(writer: GGUFWriter, folder: Path, pre: str | None, config: dict) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["id"] for token in tokenizer["added_tokens"]}
    names = sorted(vocabulary, key=vocabulary.get)
    writer.add_token_list(names)
    if tokenizer["model"]["byte_fallback"]:  # SentencePiece: a merge is the better the earlier its token stands
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([-float(index) for index in range(len(names))])
        writer.add_token_types(
            [6 if name.startswith("<0x") else 3 if vocabulary[name] in special else 1 for name in names]
        )
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_types([3 if index in special else 1 for index in range(len(names))])
        writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    for token in ("bos", "eos"):
        writer.add_uint32(f"tokenizer.ggml.{token}_token_id", config[f"{token}_token_id"])


def _tensors(weights: dict[str, np.ndarray], config: dict, heads: int) -> dict[str, np.ndarray]:
    family = config["model_type"]
    names = gguf.get_tensor_name_map(ARCHITECTURES[family], config.get("num_hidden_layers") or config["n_layer"])
    tensors = {}
    for name, values in weights.items():
        stem, _, kind = name.rpartition(".")
        place = f"{names.get_name(stem)}.{kind}"
        if family == "llama" and (".attn_q." in place or ".attn_k." in place):
            values = permuted(values, heads if ".attn_q." in place else config["num_key_value_heads"])
        if family == "gpt2" and values.ndim == 2 and place.startswith("blk."):
            values = values.T
        tensors[place] = values
    return tensors
