"""Measure one training of a controlled family (config/studies/architecture.yaml) along its checkpoints."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import torch

from selfrepair.ablation.distributions import ablate_distribution
from selfrepair.ablation.schema_family import ARM_SUMS, SHUFFLED, TRAINED
from selfrepair.core.files import write_text
from selfrepair.core.tables import write_parquet
from selfrepair.models.load import load_model
from selfrepair.models.shuffle import shuffle_model
from selfrepair.tokens.rows import SampledTokens
from selfrepair.tokens.sample import sample_distributions

SEED = 1  # of the rows and of the permuted weights, the same for all arms


def measure_arm(trained: Path, settings: str, corpus: Path, tokenizer: Path, output: Path, threads: int = 1) -> None:
    """Measure the checkpoints of a training, and its last step with shuffled weights; keep what is small of it.

    Args:
        trained: directory that the training wrote, with its checkpoints.
        settings: JSON: arm, seed, `training` (fields of `Training`) and `measured` (rows, row_length, top_fraction).
        corpus: corpus with the columns split and text; its held-out text is measured.
        tokenizer: directory of the tokenizer.
        output: folder for the sums, the training's log, and arm.json (the settings, parameters and held-out loss).
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    entry: dict[str, Any] = json.loads(settings)
    measured, summary = entry["measured"], json.loads((trained / "training.json").read_text())
    rows, length, longest = measured["rows"], measured["row_length"], entry["training"]["row_length"]
    sampled = sample_distributions(corpus, tokenizer, ["text"], rows, length, longest, SEED, split="held_out")["text"]
    folders = sorted((trained / "checkpoints").iterdir())
    sums = [_sums(folder, int(folder.name.removeprefix("step-")), TRAINED, sampled, measured) for folder in folders]
    with tempfile.TemporaryDirectory() as temporary:
        twin = shuffle_model(trained, SEED, Path(temporary) / "shuffled")
        sums.append(_sums(twin, summary["training"]["steps"], SHUFFLED, sampled, measured))
    facts = {name: summary[name] for name in ("parameters", "held_out_loss", "seconds", "torch")}
    write_parquet(pl.concat(sums), output / "sums.parquet")
    shutil.copyfile(trained / "training.csv", output / "training.csv")
    write_text(output / "arm.json", json.dumps(entry | facts, indent=2) + "\n")


def _sums(folder: Path, step: int, weights: str, sampled: SampledTokens, measured: dict[str, Any]) -> pl.DataFrame:
    model = load_model(folder)
    table, _ = ablate_distribution(model, f"step {step}", sampled, model.heads, measured["top_fraction"])
    late = 2 * pl.col("layer") >= pl.col("n_layers")
    half = pl.when(late).then(pl.lit("late")).otherwise(pl.lit("early"))
    summed = (
        table.filter(tokens="top")
        .group_by(half.alias("half"), "document", maintain_order=True)
        .agg(pl.col(name).sum() for name in ARM_SUMS if name not in ("step", "weights", "half", "document"))
    )
    labelled = summed.with_columns(step=pl.lit(step), weights=pl.lit(weights))
    return labelled.select(pl.col(name).cast(column.dtype) for name, column in ARM_SUMS.items())
