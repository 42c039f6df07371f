"""The final norm's part of self-repair by intervention: ablate a head with the final scale kept at its clean value.

The paper's authors meant this as a check of their residual (experiments.md a.9). Nothing of the sweep is used: the
model runs plainly, once as it is and once with the head's z replaced, and the ablated stream is divided by its own
scale or by the clean one. The difference of the two logits is repair_norm.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from selfrepair.ablation.chosen_heads import READ, most_repaired
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.ablation.replacements import Ablation
from selfrepair.ablation.schema import NORM_CHECK
from selfrepair.core.files import write_atomically
from selfrepair.core.progress import Progress
from selfrepair.core.tables import write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import token_matrix

PASSES = {"resample": 3, "zero": 2, "mean": 2}  # of the model, for each head
TOLERANCE = 1e-4  # of the largest logit of the rows
EXACT = ("float32", "float64")  # in other formats two passes of different shape differ by more than that


class NormCheckError(ArithmeticError):
    """Freezing the final scale does not do what the sweep says of the norm; names the head and the sizes."""


@dataclass(frozen=True)
class Frozen:
    """Logits of the correct next token with one head ablated.

    Attributes:
        clean: without ablation.
        ablated: with the head's output replaced.
        frozen: the same with the final scale at its clean value.
    """

    clean: Float[Tensor, "row pos"]
    ablated: Float[Tensor, "row pos"]
    frozen: Float[Tensor, "row pos"]


@torch.no_grad()
def freeze_scale(
    model: FoldedModel,
    tokens: Int[Tensor, "row pos"],
    corrupted: Int[Tensor, "row pos"],
    ablation: Ablation,
    head: tuple[int, int],
    mean_z: Float[Tensor, " d_head"],
    progress: Progress | None = None,
) -> Frozen:
    """Ablate one head at every position of some rows, with the final scale free and frozen.

    Args:
        corrupted: for each row the one that resampled activations come from.
        mean_z: what `mean` ablation puts in place of the head's z.
        progress: is told of each passed block, `PASSES` times as many as there are.
    """
    tokens, corrupted = tokens.to(model.device), corrupted.to(model.device)
    inputs = tokens[:, :-1]
    clean, z = _final_stream(model, inputs, head, None, progress)
    if ablation == "resample":
        _, replaced = _final_stream(model, corrupted[:, :-1], head, None, progress)
    else:
        replaced = torch.zeros_like(z) if ablation == "zero" else mean_z.to(z).expand_as(z)
    ablated, _ = _final_stream(model, inputs, head, replaced, progress)
    v, bias = model.unembedding(tokens[:, 1:])

    def logits(stream: Tensor, scale: Tensor) -> Tensor:
        return (stream * v).sum(-1) / scale + bias

    scale = model.scale(clean)
    return Frozen(logits(clean, scale), logits(ablated, model.scale(ablated)), logits(ablated, scale))


def _final_stream(
    model: FoldedModel,
    inputs: Int[Tensor, "row pos"],
    head: tuple[int, int],
    replaced: Float[Tensor, "row pos d_head"] | None,
    progress: Progress | None,
) -> tuple[Float[Tensor, "row pos d_model"], Float[Tensor, "row pos d_head"]]:
    """The stream after the last block, and z of the head before any replacement."""
    resid = model.embed(inputs)
    for index, layer in enumerate(model.layers):
        z = model.attention_heads(layer, resid)
        if index == head[0]:
            of_head = z[:, :, head[1]].clone()
            if replaced is not None:
                z = z.clone()
                z[:, :, head[1]] = replaced
        resid, _ = model.resid_post(layer, resid, model.attention_out(layer, z))
        if progress is not None:
            progress.in_layer(1, index, model.n_layers)
    return resid, of_head


def compare_freezing(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    measured: pl.DataFrame,
    ablation: Ablation,
    heads: list[tuple[int, int]],
    n_rows: int,
    means: Float[Tensor, "layer n_heads d_head"],
) -> pl.DataFrame:
    """Compare freezing the final scale with `repair_norm` of the token rows that a sweep left (`NORM_CHECK`).

    Args:
        tokens, rows: tables of `TOKENS` and `ROWS`.
        measured: token rows (`ablated_tokens`) of the ablation; of some rows, but all of these. Heads without
            any are left out.
        n_rows: rows to run anew for each head: those with most of its top tokens.

    Raises:
        NormCheckError: they differ by more than `TOLERANCE` of the largest logit, or are not finite; not raised
            where the model computes in less than single precision.
    """
    matrix = torch.from_numpy(token_matrix(tokens))
    source = torch.from_numpy(rows.sort("row")["source"].to_numpy().astype(np.int64))
    checked, rows_of = [], {head: measured.filter(layer=head[0], head=head[1]) for head in heads}
    rows_of = {head: of_head for head, of_head in rows_of.items() if not of_head.is_empty()}
    what, work = f"{model.name}: norm check, {ablation} ablation", len(rows_of) * PASSES[ablation] * model.n_layers
    progress = Progress(what, len(rows_of), "heads", work)
    for (layer, head), of_head in rows_of.items():
        counts = of_head.group_by("row").agg(pl.col("selected").sum()).sort("selected", "row", descending=[True, False])
        chosen = counts.head(n_rows)["row"].sort().to_torch().long()
        here = of_head.filter(pl.col("row").is_in(chosen.tolist()))
        corrupted = matrix[source[chosen]]
        run = freeze_scale(model, matrix[chosen], corrupted, ablation, (layer, head), means[layer, head], progress)
        row = torch.searchsorted(chosen, here["row"].to_torch().long())
        at = row, here["pos"].to_torch().long()
        freezing = (run.ablated - run.frozen).cpu()[at].double()
        repair = here["repair_norm"].to_torch().double()
        largest = run.clean.abs().max().item()
        deviation = (freezing - repair).abs().max().item()
        if model.precision in EXACT and not deviation <= TOLERANCE * largest:
            raise NormCheckError(
                f"{model.name}, layer {layer}, head {head}, {ablation} ablation: freezing the final scale differs from "
                f"repair_norm by {deviation:.1e} logits, of a largest logit of {largest:.1e} (allowed: {TOLERANCE:.0e} "
                "of it)"
            )
        values = (model.name, ablation, layer, head, len(here), freezing.mean().item(), repair.mean().item())
        checked.append((*values, deviation, largest))
    types = {name: column.dtype for name, column in NORM_CHECK.items()}
    return pl.DataFrame(checked, schema=types, orient="row")


def check_norm(
    model: Path,
    sampled: Path,
    means: Path,
    measured: list[Path],
    ablation: Ablation,
    count: int,
    rows: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Check the final norm's part of self-repair: ablate heads with the final scale kept at its clean value.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        means: means.safetensors of the clean pass.
        measured: token rows of all shards; heads are checked in rows of the first.
        ablation: what a head's output is replaced by.
        count: heads to check: those with the largest self-repair on top tokens.
        rows: rows to run anew for each head.
        output: norm_check.parquet; as CSV, too.
    """
    folded, record = machine.load(model)
    kept = pl.read_parquet(measured[0], columns=[*READ, "row", "pos", "repair_norm"])
    heads = most_repaired(pl.read_parquet(measured, columns=READ), count)
    checked = compare_freezing(folded, *read_sampled(sampled), kept, ablation, heads, rows, load_file(means)["z"])
    write_parquet(checked, output, record)
    # Deviations are far below the six decimals of other tables.
    write_atomically(output.with_suffix(".csv"), lambda temporary: checked.write_csv(temporary, float_precision=9))
    print(f"{len(checked)} heads, largest deviation: {checked['largest_deviation'].max() or 0:.1e} logits", flush=True)
