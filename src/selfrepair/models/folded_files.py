"""The folded model on disk: a folder with one safetensors file for each layer and one for the rest."""

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from selfrepair.core.files import TableError, sha256, whole_folder
from selfrepair.models.folded import FoldedModel, Layer
from selfrepair.models.precision import Precision, stored

REST = "rest.safetensors"
FACTS = "selfrepair"  # in a file's metadata: what is not a tensor


def save_folded(rest: FoldedModel, layers: Iterable[Layer], folder: Path, precision: Precision) -> FoldedModel:
    """Write a model as it is kept in a precision; float64 is written as float32, which is what models are folded in.

    Each layer is written as soon as `layers` yields it. The folder is there whole or not at all.

    Args:
        rest: the model; its own layers are not looked at.

    Returns:
        the model on the device `meta`: facts and shapes without numbers.
    """
    rest = replace(rest, layers=()).in_precision(precision)
    written: list[Layer] = []
    with whole_folder(folder) as partial:
        for layer in layers:  # not enumerated: that would keep a layer while the next is folded
            _write(converted(layer, precision), partial / _layer_file(len(written)), {})
            written.append(converted(layer, precision, "meta"))
            del layer
        _write(rest, partial / REST, {"n_layers": len(written)})
    return replace(rest.to("meta"), layers=tuple(written))


def load_folded(folder: Path, device: str | torch.device = "cpu") -> FoldedModel:
    """Read what `save_folded` wrote; beside the model a layer is in memory at most."""
    rest = _read(folder / REST)
    n_layers, precision = rest.pop("n_layers"), rest["precision"]
    files = [folder / _layer_file(index) for index in range(n_layers)]
    layers = tuple(converted(Layer(**_read(file)), precision, device) for file in files)
    return replace(FoldedModel(**rest, layers=()).in_precision(precision).to(device), layers=layers)


def converted(layer: Layer, precision: Precision, device: str | torch.device = "cpu") -> Layer:
    """The layer as a model of that precision keeps it, on the device."""
    tensors = {
        f.name: stored(value.to(device), precision)
        for f in fields(layer)
        if isinstance(value := getattr(layer, f.name), Tensor)
    }
    return replace(layer, **tensors)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder, by name."""
    return {file.name: sha256(file) for file in sorted(folder.iterdir())}


def _layer_file(index: int) -> str:
    return f"layer-{index:03}.safetensors"


def _write(part: FoldedModel | Layer, path: Path, facts: dict[str, Any]) -> None:
    values = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "layers"}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    facts |= {name: value for name, value in values.items() if name not in tensors}
    narrowed = {n: (t.float() if t.dtype == torch.float64 else t).contiguous() for n, t in tensors.items()}
    save_file(narrowed, path, {FACTS: json.dumps(facts)})


def _read(path: Path) -> dict[str, Any]:
    # Read, not mapped: mapped pages would be held besides the tensors that are made of them.
    try:
        with safe_open(path, "pt", backend="pread") as file:
            return json.loads(file.metadata()[FACTS]) | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TableError(
            f"{path} can't be read ({error}); delete the folder {path.parent}, Snakemake makes it again"
        ) from error
