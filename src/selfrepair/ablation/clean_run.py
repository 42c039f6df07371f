"""The clean pass over all tokens of a run: exact top tokens of every head, control sample, mean activations."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from selfrepair.ablation.clean import CleanPass, clean_passes
from selfrepair.ablation.program import Machine
from selfrepair.ablation.reselection import rank_tokens, top_count
from selfrepair.ablation.schema import CLEAN_TOKENS, SELECTED
from selfrepair.ablation.selection import Measured, control_sample
from selfrepair.ablation.unit_names import ATTENTION, MLP, Unit, coded_units
from selfrepair.core.files import write_atomically
from selfrepair.core.progress import Progress
from selfrepair.core.tables import frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import token_matrix

TABLES = ("tokens", "candidates", "selected", "units")


@dataclass(frozen=True)
class CleanRun:
    """What the clean pass over all tokens of a run leaves behind.

    Attributes:
        tokens: a row of `CLEAN_TOKENS` per scored token.
        candidates: a row of `SELECTED` per head and token that is selected in some bootstrap replicate.
        selected: those of the run itself.
        units: as `candidates`, of units (`coded_units`).
        means: z of every head, averaged over all scored tokens.
    """

    tokens: pl.DataFrame
    candidates: pl.DataFrame
    selected: pl.DataFrame
    units: pl.DataFrame
    means: Float[Tensor, "layer n_heads d_head"]

    def of_units(self) -> "CleanRun":
        """The same with units in place of heads."""
        count = self.selected.height // self.selected.select("layer", "head").n_unique()
        return replace(self, candidates=self.units, selected=self.units.filter(pl.col("rank") < count))


def run_clean(
    model: FoldedModel,
    tokens: pl.DataFrame,
    top_fraction: float,
    control: int,
    seed: int,
    whole_rows: bool = False,
    scratch: Path | None = None,
    sets: Sequence[str] = (),
) -> CleanRun:
    """Run the model once over all tokens; select each head's top tokens exactly and draw the control sample.

    Direct effects of all heads on all tokens lie on disk meanwhile, 4 bytes each, and are read head by head.

    Args:
        tokens: rows of `TOKENS`.
        top_fraction: share of tokens, by largest clean direct effect, selected for each head.
        control: tokens of the control sample, the same for every head.
        seed: of the control sample, and of the bootstrap whose top tokens are kept.
        whole_rows: whether the control sample is of whole rows (see `control_sample`).
        scratch: folder with room for the direct effects; the system's folder for such files if None.
        sets: units beside the attention and the MLP of every layer.
    """
    matrix = torch.from_numpy(token_matrix(tokens))
    n_rows, length = matrix.shape[0], matrix.shape[1] - 1
    n_tokens = n_rows * length
    units = coded_units(sets, model.n_layers, model.n_heads)
    pairs = [*model.heads, *units]
    documents = token_matrix(tokens, "document")[:, 1:]
    progress = Progress(f"{model.name}: clean pass", n_tokens, work=n_tokens * model.n_layers)
    logits, biases, scales, z_sum = [], [], [], 0
    with tempfile.TemporaryFile(dir=scratch) as file:
        effects = np.memmap(file, np.float32, "w+", shape=(len(pairs), n_rows, length))
        for rows, batch in clean_passes(model, matrix, progress):
            of_units = [of_unit(batch, unit) for unit in units.values()]
            of_all = torch.cat([batch.direct_effect.flatten(0, 1), torch.stack(of_units)])
            effects[:, int(rows[0]) : int(rows[-1]) + 1] = of_all.float().cpu().numpy()
            logits.append(batch.logit.cpu())
            biases.append(batch.bias.cpu())
            scales.append(batch.scale.cpu())
            z_sum = z_sum + batch.z_sum
        by_token = effects.reshape(len(pairs), n_tokens)
        ranked = rank_tokens(by_token, documents.ravel(), top_fraction, seed)
        candidates = _ranked_table(ranked, by_token, pairs, length)
    of_heads = candidates.filter(pl.col("head") >= 0)
    return CleanRun(
        tokens=_clean_table(
            documents,
            torch.cat(logits),
            torch.cat(biases),
            torch.cat(scales),
            control_sample(n_rows, length, control, seed, whole_rows),
        ),
        candidates=of_heads,
        selected=of_heads.filter(pl.col("rank") < top_count(n_tokens, top_fraction)),
        units=candidates.filter(pl.col("head") < 0),
        means=(z_sum / n_tokens).float().cpu(),
    )


def of_unit(clean: CleanPass, unit: Unit) -> Float[Tensor, "row pos"]:
    """Clean direct effect of a unit: the sum over its members, of attention that over its heads."""
    effects = {ATTENTION: clean.direct_effect.sum(1), MLP: clean.mlp_direct_effect}
    parts = [effects[part][layer] if part < 0 else clean.direct_effect[layer, part] for layer, part in unit.components]
    return torch.stack(parts).sum(0)


def read_clean(folder: Path) -> CleanRun:
    """Read what `measure_clean` wrote."""
    tables = {name: pl.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    return CleanRun(**tables, means=load_file(folder / "means.safetensors")["z"])


def measure_clean(
    model: Path,
    tokens: Path,
    top_fraction: float,
    control: int,
    seed: int,
    output: Path,
    measure: Measured = "all",
    units: Sequence[str] = (),
    machine: Machine = Machine(),
) -> None:
    """Run a model once over all tokens: select every head's top tokens exactly, draw the control sample, average z.

    Args:
        model: folder of the folded model.
        tokens: tokens.parquet.
        top_fraction: share of tokens selected for each head.
        control: tokens of the control sample.
        seed: seed of the control sample and of the bootstrap.
        output: folder for tables and means; holds the direct effects of all tokens meanwhile.
        measure: selected: a control sample of whole rows.
        units: units beside the attention and the MLP of every layer.
    """
    folded, record = machine.load(model)
    output.mkdir(parents=True, exist_ok=True)
    table = pl.read_parquet(tokens)
    clean = run_clean(folded, table, top_fraction, control, seed, measure == "selected", output, units)
    write_parquet(clean.tokens, output / "tokens.parquet", record)
    for name in TABLES[1:]:
        write_parquet(getattr(clean, name), output / f"{name}.parquet")
    write_atomically(output / "means.safetensors", lambda path: save_file({"z": clean.means}, path))


def _clean_table(
    documents: Int[np.ndarray, "row pos"],
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
        "document": documents.ravel(),
        "control": in_control,
        "logit": logit.flatten().numpy(),
        "bias": bias.flatten().numpy(),
        "scale": scale.flatten().numpy(),
    }
    return frame(columns, CLEAN_TOKENS)


def _ranked_table(
    ranked: list[Int[np.ndarray, " _"]],
    effects: Float[np.ndarray, "head token"],
    pairs: list[tuple[int, int]],
    length: int,
) -> pl.DataFrame:
    counts = [len(tokens) for tokens in ranked]
    head, token = np.repeat(np.arange(len(ranked)), counts), np.concatenate(ranked)
    columns = {
        "layer": np.array(pairs)[head, 0],
        "head": np.array(pairs)[head, 1],
        "row": token // length,
        "pos": token % length,
        "rank": np.concatenate([np.arange(count) for count in counts]),
        "direct_effect": np.concatenate([of_head[tokens] for of_head, tokens in zip(effects, ranked, strict=True)]),
    }
    return frame(columns, SELECTED)
