"""Memory and time of folding a large model to disk and of reading it back, each in a process of its own (Linux)."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import save_file

from selfrepair.benchmark.random_model import DEVIATION, Shape
from selfrepair.benchmark.schema import LOADING
from selfrepair.core.tables import frame
from selfrepair.models.folded_files import load_folded
from selfrepair.models.load import fold_to_disk
from selfrepair.models.precision import PRECISIONS, Precision

LARGE = Shape("llama", 24, 16, 2048, 5504, 32000, max_positions=2048)


def loading(shape: Shape = LARGE) -> pl.DataFrame:
    """Measure memory and time of folding a random Llama and of loading it, in float32 and bfloat16 (`LOADING`)."""
    with tempfile.TemporaryDirectory() as folder:
        return frame(pl.DataFrame(measure_loading(shape, ["float32", "bfloat16"], Path(folder))).to_dict(), LOADING)


def measure_loading(shape: Shape, precisions: list[Precision], folder: Path) -> list[dict[str, str | float]]:
    """Write a random model into `folder`, fold it to disk and load it, in each precision.

    Returns:
        rows of `what`, `weights_mb` (of the folded model on disk), `base_mb` (resident before: Python and its
        libraries), `peak_mb` (largest resident memory, base included) and `seconds`.

    Raises:
        subprocess.CalledProcessError: a process failed.
    """
    save_in_shards(shape, folder / "model")
    rows = []
    for precision in precisions:
        for action in ("fold", "load"):
            command = [sys.executable, "-m", "selfrepair.benchmark.loading", action, str(folder), precision]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            measured = json.loads(done.stdout.splitlines()[-1])
            weights = sum(file.stat().st_size for file in (folder / precision).iterdir()) / 1e6
            rows.append({"what": f"{action} {precision}", "weights_mb": weights, **measured})
    return rows


def save_in_shards(shape: Shape, folder: Path) -> None:
    """Write a Hugging Face directory of a random Llama in bfloat16, one shard after another."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.d_vocab,
        hidden_size=shape.d_model,
        intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        max_position_embeddings=shape.max_positions,
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        named = LlamaForCausalLM(config).state_dict()
    generator = torch.Generator().manual_seed(0)
    shards: dict[str, list[str]] = {}
    for name in named:
        shards.setdefault(name.partition(".layers.")[2].partition(".")[0] or "rest", []).append(name)
    for shard, names in shards.items():
        tensors = {}
        for name in names:
            values = torch.randn(named[name].shape, generator=generator).mul_(DEVIATION)
            tensors[name] = (values + ("norm" in name)).bfloat16()
        save_file(tensors, folder / f"model-{shard}.safetensors", {"format": "pt"})
    weight_map = {name: f"model-{shard}.safetensors" for shard, names in shards.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _main(action: str, folder: Path, precision: Precision) -> None:
    """Print the memory in MB and the seconds of one action as JSON."""
    import transformers.models.llama.modeling_llama  # noqa: F401 (folding imports it: part of the base)

    base = _resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    start = time.perf_counter()
    if action == "fold":
        fold_to_disk(folder / "model", "random", folder / precision, precision)
    else:
        load_folded(folder / precision)
    seconds = time.perf_counter() - start
    print(json.dumps({"base_mb": base, "peak_mb": _resident_mb("VmHWM"), "seconds": seconds}))


def _resident_mb(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e6


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), PRECISIONS[PRECISIONS.index(sys.argv[3])])
