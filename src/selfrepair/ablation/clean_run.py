"""The clean pass over all tokens of a run: exact top tokens of every head, control sample, mean activations."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from selfrepair.ablation.clean import clean_passes
from selfrepair.ablation.program import Machine
from selfrepair.ablation.schema import CLEAN_TOKENS, SELECTED
from selfrepair.ablation.selection import Measured, TopTokens, control_sample, top_count
from selfrepair.core.files import write_atomically
from selfrepair.core.progress import Progress
from selfrepair.core.tables import frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import token_matrix


@dataclass(frozen=True)
class CleanRun:
    """What the clean pass over all tokens of a run leaves behind.

    Attributes:
        tokens: a row of `CLEAN_TOKENS` per scored token.
        selected: a row of `SELECTED` per head and selected token.
        means: z of every head, averaged over all scored tokens.
    """

    tokens: pl.DataFrame
    selected: pl.DataFrame
    means: Float[Tensor, "layer n_heads d_head"]


def run_clean(
    model: FoldedModel, tokens: pl.DataFrame, top_fraction: float, control: int, seed: int, whole_rows: bool = False
) -> CleanRun:
    """Run the model once over all tokens; select each head's top tokens exactly and draw the control sample.

    Args:
        tokens: rows of `TOKENS`.
        top_fraction: share of tokens, by largest clean direct effect, selected for each head.
        control: tokens of the control sample, the same for every head.
        whole_rows: whether the control sample is of whole rows (see `control_sample`).
    """
    matrix = torch.from_numpy(token_matrix(tokens))
    n_rows, length = matrix.shape[0], matrix.shape[1] - 1
    n_tokens = n_rows * length
    top = TopTokens(model.n_layers * model.n_heads, top_count(n_tokens, top_fraction), model.device)
    progress = Progress(f"{model.name}: clean pass", n_tokens)
    logits, biases, scales, z_sum = [], [], [], 0
    for rows, batch in clean_passes(model, matrix):
        top.add(batch.direct_effect.flatten(2).flatten(0, 1), int(rows[0]) * length)
        logits.append(batch.logit.cpu())
        biases.append(batch.bias.cpu())
        scales.append(batch.scale.cpu())
        z_sum = z_sum + batch.z_sum
        progress.advance(len(rows) * length)
    return CleanRun(
        tokens=_clean_table(
            tokens,
            torch.cat(logits),
            torch.cat(biases),
            torch.cat(scales),
            control_sample(n_rows, length, control, seed, whole_rows),
        ),
        selected=_selected_table(top, model.n_heads, length),
        means=(z_sum / n_tokens).float().cpu(),
    )


def read_clean(folder: Path) -> CleanRun:
    """Read what `measure_clean` wrote."""
    tokens, selected = (pl.read_parquet(folder / f"{name}.parquet") for name in ("tokens", "selected"))
    return CleanRun(tokens, selected, load_file(folder / "means.safetensors")["z"])


def measure_clean(
    model: Path,
    tokens: Path,
    top_fraction: float,
    control: int,
    seed: int,
    output: Path,
    measure: Measured = "all",
    machine: Machine = Machine(),
) -> None:
    """Run a model once over all tokens: select every head's top tokens exactly, draw the control sample, average z.

    Args:
        model: folder of the folded model.
        tokens: tokens.parquet.
        top_fraction: share of tokens selected for each head.
        control: tokens of the control sample.
        seed: seed of the control sample.
        output: folder for tokens, selected and means.
        measure: selected: a control sample of whole rows.
    """
    folded, record = machine.load(model)
    clean = run_clean(folded, pl.read_parquet(tokens), top_fraction, control, seed, measure == "selected")
    write_parquet(clean.tokens, output / "tokens.parquet", record)
    write_parquet(clean.selected, output / "selected.parquet")
    write_atomically(output / "means.safetensors", lambda path: save_file({"z": clean.means}, path))


def _clean_table(
    tokens: pl.DataFrame,
    logit: Float[Tensor, "row pos"],
    bias: Float[Tensor, "row pos"],
    scale: Float[Tensor, "row pos"],
    control: Int[np.ndarray, " token"],
) -> pl.DataFrame:
    n_rows, length = logit.shape
    in_control = np.zeros(n_rows * length, dtype=bool)
    in_control[control] = True
    columns = {
        "row": np.repeat(np.arange(n_rows), length),
        "pos": np.tile(np.arange(length), n_rows),
        "document": token_matrix(tokens, "document")[:, 1:].ravel(),
        "control": in_control,
        "logit": logit.flatten().numpy(),
        "bias": bias.flatten().numpy(),
        "scale": scale.flatten().numpy(),
    }
    return frame(columns, CLEAN_TOKENS)


def _selected_table(top: TopTokens, n_heads: int, length: int) -> pl.DataFrame:
    values, tokens = top.best()
    heads, count = tokens.shape
    head = np.repeat(np.arange(heads), count)
    token = tokens.flatten().cpu().numpy()
    columns = {
        "layer": head // n_heads,
        "head": head % n_heads,
        "row": token // length,
        "pos": token % length,
        "rank": np.tile(np.arange(count), heads),
        "direct_effect": values.flatten().float().cpu().numpy(),
    }
    return frame(columns, SELECTED)
