"""What measuring only the selected tokens saves, on real text and trained models."""

import statistics
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch

from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.selection import MEASURED, Measured
from selfrepair.ablation.shard import ShardRecorder, ablate_shard, shard_rows
from selfrepair.benchmark.schema import SELECTED
from selfrepair.core.tables import frame
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import load_folded
from selfrepair.tokens.rows import token_matrix

KEY = ["layer", "head", "row", "pos"]


def selected_gains(
    models: list[Path], tokens: list[Path], top_fraction: float, control: int, seed: int, shards: int, rounds: int
) -> pl.DataFrame:
    """Time the measurement of selected tokens beside that of all tokens, on a run's tokens and models (`SELECTED`).

    Args:
        models: folded models.
        tokens: tokens.parquet for each, beside which lies rows.parquet.
    """
    gains = []
    for folder, file in zip(models, tokens, strict=True):
        table, rows = (pl.read_parquet(file.with_stem(name)) for name in ("tokens", "rows"))
        gains.append(selected_gain(load_folded(folder), table, rows, top_fraction, control, seed, shards, rounds))
    return frame(pl.DataFrame(gains).to_dict(), SELECTED)


def selected_gain(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    top_fraction: float,
    control: int,
    seed: int,
    shards: int,
    rounds: int,
) -> dict[str, Any]:
    """Measure the first of `shards` shards in both modes, in turn, each `rounds` times.

    Args:
        tokens, rows: of a run (`TOKENS`, `ROWS`).
        control: tokens of the control sample.

    Returns:
        a row of `SELECTED`: work and time of the selected mode as shares of those of all tokens, and the
        largest difference between the token rows that both keep.
    """
    clean = run_clean(model, tokens, top_fraction, control, seed, whole_rows=True)
    heads = model.heads
    documents = torch.from_numpy(token_matrix(tokens, "document"))[:, 1:]
    chosen = shard_rows(len(documents), 0, shards)
    shard = ShardRecorder(clean, heads, heads, chosen, documents[chosen], model.n_layers)
    work = {mode: shard.jobs(mode).n_tokens for mode in MEASURED}
    seconds: dict[Measured, list[float]] = {mode: [] for mode in MEASURED}
    kept: dict[Measured, pl.DataFrame] = {}
    for _ in range(rounds):
        for mode, taken in seconds.items():
            start = time.perf_counter()
            kept[mode], *_ = ablate_shard(model, tokens, rows, clean, "resample", heads, 0, shards, mode)
            taken.append(time.perf_counter() - start)
    whole, part = (kept[mode].sort(KEY) for mode in MEASURED)
    if not whole.select(KEY).equals(part.select(KEY)):
        raise ArithmeticError(f"{model.name}: the two modes keep different tokens")
    effects = ["direct_effect", "delta_logit", "self_repair", "repair_norm", "repair_attention", "repair_mlp"]
    difference = max((whole[name] - part[name]).abs().max() for name in effects)
    took = {mode: statistics.median(values) for mode, values in seconds.items()}
    return {
        "model": model.name,
        "tokens": len(chosen) * documents.shape[1],
        "control_tokens": int(shard.control.sum()),
        "work": work["selected"] / work["all"],
        "all_seconds": took["all"],
        "selected_seconds": took["selected"],
        "time": took["selected"] / took["all"],
        "largest_difference": difference,
    }
