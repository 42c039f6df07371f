"""Load a model from a directory, a GGUF file or a pinned hub revision, folded and checked against Hugging Face."""

import json
import re
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfrepair.core.files import sha256, write_text
from selfrepair.core.progress import Progress
from selfrepair.models.device import check_device
from selfrepair.models.fold import Folding
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import checksums, converted, save_folded
from selfrepair.models.gguf import in_terms_of, write_directory
from selfrepair.models.gguf_header import is_gguf
from selfrepair.models.precision import Precision
from selfrepair.models.shuffle import shuffle_model
from selfrepair.models.weight_headers import count_parameters, weight_files

FETCHED = ["*.json", "*.safetensors", "*.model", "*.txt"]  # never a pickle
DTYPES: dict[torch.dtype, Precision] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float64: "float64",
}


def load_model(
    source: str | Path,
    revision: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str | None = None,
) -> FoldedModel:
    """Load, fold and check a decoder-only language model.

    Args:
        source: a local directory, a file `x.gguf`, or a hub id such as `org/name`.
        revision: full commit hash (40 hexadecimal digits); needed for a hub id, refused for local files.
        dtype: in which the folded model is kept; folding and the check are done in float32.
        name: how results call it; the last part of `source` by default.

    Raises:
        ModelDirectoryError: the directory or file is missing, incomplete, pickled or of an unsupported architecture.
        ModuleNotFoundError: the package gguf, which a GGUF file needs, is not installed.
        ValueError: the source is no path; the device or dtype is not supported; the revision is missing, not a full
            hash, or given for local files; or the folded model's log-probabilities differ from Hugging Face's by more
            than `fold.TOLERANCE` of the largest centred logit.
    """
    if not isinstance(source, str | Path):
        raise ValueError(f"source: {source!r} is no path; give a directory, a file x.gguf or a hub id")
    check_device(device)
    precision, folder = _precision(dtype), Path(source)
    if is_gguf(folder) and revision is None:
        with tempfile.TemporaryDirectory() as temporary:
            plain = Path(temporary) / folder.stem
            write_directory(folder, plain)
            with in_terms_of(folder, plain):
                return replace(load_model(plain, None, device, dtype, name), directory=str(folder))
    if not folder.is_dir() and not folder.is_absolute() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        folder = fetch_model(str(source), revision)
    elif revision is not None:
        raise ValueError(f"revision {revision} was given for {source}, which is local; it applies to hub ids only")
    folding = Folding(folder, name or folder.resolve().name)
    layers = map(partial(converted, precision=precision, device=device), folding.layers())
    rest = folding.rest.in_precision(precision).to(device)
    return replace(rest, layers=tuple(layers), directory=str(folder))


def _precision(dtype: torch.dtype) -> Precision:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype} is not supported; use one of {', '.join(map(str, DTYPES))}")
    return DTYPES[dtype]


def fold_to_disk(
    folder: Path, name: str, output: Path, precision: Precision, authors_units: bool = False, row_length: int = 0
) -> dict[str, Any]:
    """Fold and check a model directory and write it as `load_folded` reads it, a group of layers in memory at a time.

    Args:
        output: folder to write.
        precision: what the model will be computed in; folding and the check are done in float32.
        authors_units: for direct effects in the units of the authors' Llama (`FoldedModel.W_U_authors`).
        row_length: of the rows that will be measured; the check is on rows as long.

    Returns:
        `model_facts` of the model, and the checksums of the written files.

    Raises:
        ModelDirectoryError, ValueError: as `load_model`; nothing is written.
    """
    folding = Folding(folder, name, authors_units, row_length)
    progress = Progress(f"{name}: folding", folding.n_layers, "layers")
    model = save_folded(folding.rest, progress.over(folding.layers()), output, precision)
    return model_facts(model, folder, folding.error) | {"folded_sha256": checksums(output)}


def fold_model(
    directory: Path,
    name: str,
    output: Path,
    facts: Path,
    precision: Precision = "float32",
    authors_units: bool = False,
    shuffle: int | None = None,
    row_length: int = 0,
) -> None:
    """Load a model, fold it into the canonical form, check it against Hugging Face, and save it.

    Args:
        directory: Hugging Face model directory.
        name: how results call the model.
        output: folder to write.
        facts: JSON file to write: size, checksums, error of the check.
        precision: in which the model is computed.
        authors_units: direct effects in the units of the authors' Llama.
        shuffle: seed with which weights are permuted first, for the model's null twin (`shuffle_model`).
        row_length: of the rows that will be measured; the check is on rows as long.

    Raises:
        ModelDirectoryError, ValueError: as `load_model`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source = directory if shuffle is None else shuffle_model(directory, shuffle, Path(temporary) / name)
        folded = fold_to_disk(source, name, output, precision, authors_units, row_length)
    write_text(facts, json.dumps(folded, indent=2) + "\n")


def model_facts(model: FoldedModel, folder: Path, error: float) -> dict[str, Any]:
    """Size of a model, the checksums of its weights, and the error of the check against Hugging Face."""
    files = weight_files(folder)
    return {
        "name": model.name,
        "family": model.family,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "d_model": model.d_model,
        "d_mlp": model.layers[0].W_out.shape[0],
        "d_vocab": model.W_E.shape[0],
        "parallel": model.parallel,
        "parameters": sum(count_parameters(file) for file in files),
        "weights_sha256": {file.name: sha256(file) for file in files},
        "load_error": error,
    }


def fetch_model(hub_id: str, revision: str | None, folder: Path | None = None) -> Path:
    """Download a model's configuration, tokenizer and safetensors at a full commit hash; return their directory."""
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"{hub_id}: `revision` must be a full commit hash (40 hexadecimal digits), not {revision!r}; "
            f"or, if a directory was meant, {hub_id} does not exist here"
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=FETCHED, local_dir=folder))
