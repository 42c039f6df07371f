"""What the headers of a model directory's safetensors files tell: is it whole, and is it the model that it says it is.

Only the standard library is imported, so that a run can refuse bad input before anything long starts.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from selfrepair.core.files import once
from selfrepair.models.families import DECODER, GATE, layer_shapes

EMBEDDING = re.compile(r"(?:.+\.)?(?:wte|embed_tokens|embed_in)\.weight")
IN_A_LAYER = re.compile(r"((?:.+\.)?(?:h|layers)\.)(0|[1-9][0-9]*)(\..+)")
NUMBERS = ("F64", "F32", "F16", "BF16")
INDEX = "model.safetensors.index.json"  # of shards
# What older files hold besides weights: attention masks, rotary frequencies, a version.
BUFFER = re.compile(r"\b(?:attn|attention)\.(?:masked_)?bias$|\brotary_emb\.inv_freq$|^(?:model\.)?decoder\.version$")
WRAPPED = re.compile(r"^(?:(?:_orig_mod|module)\.)+")  # how torch.compile and data-parallel training name a model
BASE = re.compile(r"^(?:transformer|model|gpt_neox)\.")  # Hugging Face's classes read names with it and without it
ADAPTER = "adapter_config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class ModelDirectoryError(ValueError):
    """A model directory that can't be used; the message names the file and the fix."""


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model directory that Hugging Face reads: a whole one before shards and their index.

    Raises:
        ModelDirectoryError: there are none, or the index names one that is missing.
    """
    alone, index = folder / "model.safetensors", folder / INDEX
    if dangling := next((file for file in folder.glob("*.safetensors") if not file.exists()), None):
        raise ModelDirectoryError(f"{dangling} is a link to nothing; fetch the file again")
    if alone.exists() and (folder / ADAPTER).is_file():
        raise ModelDirectoryError(
            f"{folder} holds an adapter beside the model, which is not applied here; merge it, or remove {ADAPTER}"
        )
    if alone.is_dir():
        raise ModelDirectoryError(f"{alone} is a folder, where a file is needed; fetch it again")
    if alone.is_file():
        return [alone]
    if index.is_file():
        try:
            shards = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ModelDirectoryError(f"{index} is corrupt ({error!r}); fetch it again") from error
        for shard in shards:
            if not shard.is_file():
                raise ModelDirectoryError(f"{shard}, named by {index.name}, is missing; fetch it again")
        return shards
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_"))
    if files:
        return files
    if (folder / ADAPTER).is_file():
        raise ModelDirectoryError(
            f"{folder} is an adapter (LoRA) without its model; merge both (in peft: merge_and_unload) and name what "
            "that gives"
        )
    pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
    if pickles:
        raise ModelDirectoryError(
            f"{folder} holds its weights only as pickle ({', '.join(pickles)}), which can run any code when loaded; "
            "convert them to model.safetensors (in transformers: save_pretrained)"
        )
    raise ModelDirectoryError(f"{folder} holds no *.safetensors; put the model's weights there")


def index_of(folder: Path, files: list[Path]) -> Path | None:
    """The index of shards, if the files of `weight_files` are what it names."""
    index = folder / INDEX
    return index if files != [folder / "model.safetensors"] and index.is_file() else None


def count_parameters(file: Path) -> int:
    """Numbers stored in a safetensors file; tied weights are stored once."""
    return sum(math.prod(entry["shape"]) for entry in read_header(file).values())


def check_weights(folder: Path, n_layers: int, config: dict[str, Any]) -> None:
    """Check the headers of a model's files against each other and its configuration.

    Raises:
        ModelDirectoryError: a file is missing, truncated, pickled or quantized, or of another model; says which.
    """
    config_file = folder / "config.json"
    shapes: dict[str, list[int]] = {}
    places: dict[str, str] = {}  # of each tensor as the model calls it: its file and name there
    headers = {file: read_header(file) for file in weight_files(folder)}
    source = _check_index(folder, headers)
    for file, tensors in headers.items():
        _check_tensors(file, tensors, n_layers, config_file)
        for stored in tensors:
            name, place = BASE.sub("", WRAPPED.sub("", stored)), f"{stored} in {file.name}"
            if name in places:
                raise ModelDirectoryError(
                    f"{folder} holds {name} twice, as {places[name]} and as {place}: these are several models; keep one"
                )
            places[name] = place
        shapes |= {name: entry["shape"] for name, entry in tensors.items()}
    _check_layers(source, shapes, n_layers, config_file, config)
    _check_tokenizer(folder / "tokenizer.json", _check_embedding(source, shapes, config))


def _check_index(folder: Path, headers: dict[Path, dict[str, dict]]) -> Path:
    """The file that says which tensors there are: the only one, or the index of shards, which must hold them."""
    index = index_of(folder, list(headers))
    if index is None:
        return next(iter(headers)) if len(headers) == 1 else folder
    names = {file: {WRAPPED.sub("", name) for name in header} for file, header in headers.items()}
    for stored, file in json.loads(index.read_text())["weight_map"].items():
        if (name := WRAPPED.sub("", stored)) not in names[folder / file]:
            raise ModelDirectoryError(
                f"{folder / file} lacks the tensor {name}, which {index.name} places there; fetch it again"
            )
    return index


def _check_tensors(file: Path, tensors: dict[str, dict], n_layers: int, config_file: Path) -> None:
    """Refuse what Hugging Face would pass over: layers beyond the configuration's, and numbers that need a key."""
    for name, entry in tensors.items():
        layer = IN_A_LAYER.fullmatch(name)
        if layer and int(layer[2]) >= n_layers:
            raise ModelDirectoryError(
                f"{file} holds {name}, but {config_file} says that there are {n_layers} layers: one of them is of "
                "another model; restore it"
            )
        if not BUFFER.search(name) and entry["dtype"] not in NUMBERS:
            raise ModelDirectoryError(
                f"{file}: {name} is {entry['dtype']}: quantized weights are not supported; use what they were made from"
            )


def _check_layers(
    source: Path, shapes: dict[str, list[int]], n_layers: int, config_file: Path, config: dict[str, Any]
) -> None:
    """All layers must be there, and what they share must have the same shape, which the configuration says."""
    layers: dict[int, dict[str, list[int]]] = {index: {} for index in range(n_layers)}
    for name, shape in shapes.items():
        if match := IN_A_LAYER.fullmatch(name):
            prefix, layers[int(match[2])][match[3]] = match[1], shape
    for index, layer in layers.items():
        if not layer:
            raise ModelDirectoryError(f"{source} lacks layer {index}, of {n_layers} by {config_file}; fetch it again")
        if odd := sorted(name for name in layer.keys() & layers[0] if layer[name] != layers[0][name]):
            raise ModelDirectoryError(
                f"{source}: layer {index} has {odd[0][1:]} of shape {layer[odd[0]]}, layer 0 of {layers[0][odd[0]]}: "
                "one is damaged; fetch it again"
            )
    wanted_shapes = layer_shapes(config)
    counts = Counter(name for layer in layers.values() for name in layer if not BUFFER.search(name))
    needed = {name for name, count in counts.items() if 2 * count > n_layers}  # one that few have is unknown instead
    needed |= {name for name in wanted_shapes if name != GATE or config["model_type"] != DECODER}
    for index, layer in layers.items():
        if lacking := sorted(needed - layer.keys()):
            raise ModelDirectoryError(f"{source} lacks the tensor {prefix}{index}{lacking[0]}; fetch it again")
    for name, wanted in wanted_shapes.items():
        found = layers[0].get(name)
        if found and (len(found) != 2 or any(w not in (None, f) for f, w in zip(found, wanted, strict=True))):
            said = ", ".join("any" if size is None else str(size) for size in wanted)
            raise ModelDirectoryError(
                f"{source}: {name[1:]} of layer 0 has the shape {found}, but by {config_file.name} it is [{said}]: one "
                "of them is of another model; restore it"
            )


def _check_embedding(source: Path, shapes: dict[str, list[int]], config: dict) -> int:
    """Rows of the embedding."""
    found = next(((name, shape) for name, shape in shapes.items() if EMBEDDING.fullmatch(name)), None)
    if found is None:
        raise ModelDirectoryError(f"{source} lacks the embedding of tokens; fetch it again")
    width = config.get("word_embed_proj_dim") or config.get("hidden_size") or config.get("n_embd")
    wanted = [config.get("vocab_size"), width]
    if None not in wanted and found[1] != wanted:
        raise ModelDirectoryError(
            f"{source}: {found[0]} has the shape {found[1]}, but by config.json it is {wanted}: one of them is of "
            "another model; restore it"
        )
    return found[1][0]


def _check_tokenizer(file: Path, rows: int) -> None:
    """A vocabulary must lie within the embedding; tokens added to it, which text need not hold, may lie beyond."""
    if not file.is_file():
        return
    try:
        vocabulary = json.loads(file.read_text())["model"]["vocab"]
        numbers = list(vocabulary.values()) if isinstance(vocabulary, dict) else range(len(vocabulary))
        largest, least = max(numbers), min(numbers)
        whole = all(type(number) is int for number in numbers)
    except (OSError, RecursionError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelDirectoryError(f"{file} is corrupt ({error!r}); fetch it again") from error
    if not whole or least < 0:
        raise ModelDirectoryError(f"{file} is corrupt: a token of its vocabulary has no number; fetch it again")
    if largest >= rows:
        raise ModelDirectoryError(
            f"{file} has the token {largest}, but the model's embedding has {rows} rows: it is of another model; "
            "replace it"
        )


def read_header(file: Path) -> dict[str, dict]:
    """A safetensors file is 8 bytes of header length, the JSON header, and exactly the bytes that it promises.

    Returns:
        `dtype` and `shape` of each tensor.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if 8 <= size >= 8 + length else None
    except OSError as error:
        raise ModelDirectoryError(f"{file} can't be read ({error.strerror}); see to its rights") from error
    if text is None:
        raise ModelDirectoryError(f"{file} is truncated or no safetensors file; fetch it again")
    try:
        header = json.loads(text, object_pairs_hook=once)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 0
        for entry in sorted(tensors.values(), key=lambda entry: entry["data_offsets"]):
            (start, stop), shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
            if start != end or stop < start or not isinstance(dtype, str) or any(type(n) is not int for n in shape):
                raise ValueError("tensors overlap, or one has no shape")
            end = stop
    except (RecursionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelDirectoryError(f"{file} has a corrupt header; fetch it again") from error
    if not tensors:
        raise ModelDirectoryError(f"{file} holds no tensors; fetch it again")
    promised = 8 + length + end
    if promised != size:
        raise ModelDirectoryError(f"{file} has {size} bytes where its header promises {promised}; fetch it again")
    return tensors
