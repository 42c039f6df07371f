"""The null twin of a model: the entries of each weight tensor permuted, so that nothing that was learned is left."""

import shutil
import zlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from selfrepair.core.progress import Progress
from selfrepair.models.weight_headers import count_parameters, weight_files


def shuffle_model(model: Path, seed: int, output: Path) -> Path:
    """Write a model directory, and return it, whose weight tensors have the same entries in another order.

    A tensor that serves twice (tied embeddings) is permuted once. Configuration and tokenizer are copied.

    Args:
        model: Hugging Face model directory.
        seed: seed of the run; each tensor has a permutation of its own.
        output: directory to make.
    """
    output.mkdir(parents=True)
    weights_of_model = weight_files(model)
    for file in model.iterdir():
        stray_index = file.name.endswith(".index.json") and weights_of_model == [model / "model.safetensors"]
        if file.is_file() and file.suffix in (".json", ".txt", ".model") and not stray_index:
            shutil.copy(file, output)
    progress = Progress(f"{output.name}: shuffling", sum(map(count_parameters, weights_of_model)), "weights")
    for file in weights_of_model:
        tensors = {}
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                tensors[name] = _shuffled(name, weights.get_tensor(name), seed)
                progress.advance(tensors[name].numel())
            save_file(tensors, output / file.name, weights.metadata())
    return output


def _shuffled(name: str, tensor: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))  # of a seed 32 bits count
    return tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].view(tensor.shape)
