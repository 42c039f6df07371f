"""Stream the neurons of some MLPs while single heads are ablated (experiments.md a.12), resample ablation.

The original scores the neurons of the last MLP alone (pitfall:last-mlp-only), on tokens that it selects partly by the
outcome (pitfall:outcome-selection). Here the layers are given, and each head is measured on two sets of tokens: those
with its largest clean direct effects, and as many with the largest repair by all MLPs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from selfrepair.ablation.chosen_heads import distinct, read_chosen
from selfrepair.ablation.effects import TOLERANCE, DecompositionError, TokenEffects
from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.memory import allowance, chunk_tokens, tokens_at_once
from selfrepair.ablation.neuron_recorder import NeuronEffects, NeuronRecorder
from selfrepair.ablation.neuron_tables import SETS, NeuronTables
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.ablation.reselection import top_count
from selfrepair.ablation.selection import TopTokens, selected_tokens
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.core.progress import Progress
from selfrepair.core.tables import write_parquet
from selfrepair.models.folded import FoldedModel


@dataclass(frozen=True)
class NeuronRun:
    """Tables of `NEURON_TOKENS`, `NEURONS` and `NEURON_RANKS`."""

    tokens: pl.DataFrame
    neurons: pl.DataFrame
    ranks: pl.DataFrame


def neuron_layers(layers: list[int], n_layers: int) -> list[int]:
    """Layers counted from the start, ascending; negative ones count from the end.

    Raises:
        ValueError: the model has no such layer.
    """
    if beyond := [layer for layer in layers if not -n_layers <= layer < n_layers]:
        raise ValueError(f"the model has {n_layers} layers, so not {', '.join(map(str, beyond))}; -1 is the last")
    return sorted({layer % n_layers for layer in layers})


def ablate_with_neurons(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    selected: pl.DataFrame,
    heads: list[tuple[int, int]],
    layers: list[int],
    top_fraction: float,
    memory_mb: int | None = None,
    limit_mb: int | None = None,
) -> NeuronRun:
    """Ablate some heads and measure every neuron of some MLPs on the tokens of both sets.

    A head has no rows for an MLP that does not read it, and none at position 0, where nothing can change.

    Args:
        tokens, rows: tables of `TOKENS` and `ROWS`.
        selected: `SELECTED`.
        heads: (layer, head) of each head, ascending.
        layers: see `neuron_layers`.
        top_fraction: share of all tokens that the set `top_mlp_repair` holds.
        memory_mb, limit_mb: as in `shard.ablate_shard`.

    Raises:
        DecompositionError: on some token the neurons do not sum to their MLP, or the split of self-repair fails.
        ValueError: the memory does not hold a single job.
    """
    inputs = read_inputs(tokens, rows)
    matrix, documents, source = inputs.tokens, inputs.documents, inputs.source
    n_rows, length = documents.shape
    watched = neuron_layers(layers, model.n_layers)
    room = allowance(model.device, memory_mb, limit_mb, torch.get_num_threads())
    count = top_count(documents.numel(), top_fraction)
    sets = {
        "direct_effect": selected_tokens(selected, heads, torch.arange(n_rows), length),
        "top_mlp_repair": top_mlp_repairs(model, matrix, source, heads, count, room),
    }
    for chosen in sets.values():
        chosen[:, :, 0] = False  # rows share their first token, so resampling changes nothing there
    wanted = torch.stack([sets[name] for name in SETS]).any(0)
    jobs = AblationJobs.covering(wanted, heads, torch.arange(n_rows))
    tables = NeuronTables(heads, watched, sets, documents, model.layers[0].W_out.shape[0])
    progress = Progress(f"{model.name}: neurons of layers {', '.join(map(str, watched))}", jobs.n_tokens)
    size = tokens_at_once(model, jobs, length, room // 2, tables.nbytes)
    at_most = max(1, min(chunk_tokens(model), room // 2 // _bytes_a_token(model, watched)))
    for batch in jobs.batches(size):
        for part in _divide(batch, wanted[batch.heads_among(heads), batch.row].sum(-1), at_most):
            part = part.ordered()
            at = part.per_token(part.heads_among(heads)), part.per_token(part.row), part.pos
            recorder = NeuronRecorder(set(watched), wanted[at])
            m = sweep(model, matrix, source, "resample", part, no_means(model), recorder)
            for layer, effects in recorder.effects(m.scale).items():
                check_neurons(m, layer, effects)
                tables.add(m, layer, effects, tuple(index[effects.token] for index in at))
            progress.advance(part.n_tokens)
    return NeuronRun(tables.tokens(), tables.neurons(), tables.ranks())


def measure_neurons(
    model: Path,
    sampled: Path,
    selected: Path,
    chosen: Path,
    layers: list[int],
    top_fraction: float,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Measure the neurons of some MLPs while the chosen heads of a model are ablated by resampling.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        selected: selected.parquet of the clean pass.
        chosen: chosen_heads.csv.
        layers: layers of the MLPs; -1 is the last.
        top_fraction: share of tokens in the set `top_mlp_repair`.
        output: folder for tokens, neurons and ranks.
    """
    folded, record = machine.load(model)
    inputs = (*read_sampled(sampled), pl.read_parquet(selected), distinct(read_chosen(chosen)))
    tables = ablate_with_neurons(folded, *inputs, layers, top_fraction, machine.memory_mb, machine.limit)
    for name in ("tokens", "neurons", "ranks"):
        write_parquet(getattr(tables, name), output / f"{name}.parquet", record)


def top_mlp_repairs(
    model: FoldedModel,
    matrix: Int[Tensor, "row pos"],
    source: Int[Tensor, " row"],
    heads: list[tuple[int, int]],
    count: int,
    room: int,
) -> Bool[Tensor, "head row pos"]:
    """Exactly the `count` tokens with the largest repair by all MLPs together, of each head; of equals the earlier.

    Args:
        room: bytes that the sweeps may take.
    """
    n_rows, length = len(matrix), matrix.shape[1] - 1
    jobs = AblationJobs.all_pairs(heads, torch.arange(n_rows), length)
    tops = [TopTokens(1, count) for _ in heads]
    progress = Progress(f"{model.name}: tokens that MLPs repair most", jobs.n_tokens, "ablated tokens")
    for batch in jobs.batches(tokens_at_once(model, jobs, length, room)):
        m = sweep(model, matrix, source, "resample", batch, no_means(model))
        repair = m.repair_mlp.sum(1).cpu()
        for top, (layer, head) in zip(tops, heads, strict=True):
            of_head = (m.jobs.layer == layer) & (m.jobs.head == head)
            if of_head.any():  # its rows follow each other, in this batch and from batch to batch
                top.add(repair[m.jobs.per_token(of_head)][None], int(m.jobs.row[of_head][0]) * length)
        progress.advance(batch.n_tokens)
    chosen = torch.zeros(len(heads), n_rows * length, dtype=torch.bool)
    for index, top in enumerate(tops):
        chosen[index, top.best()[1][0]] = True
    return chosen.view(len(heads), n_rows, length)


def check_neurons(m: TokenEffects, layer: int, effects: NeuronEffects) -> None:
    """Check on every token that the changes of an MLP's neurons sum to the MLP's.

    Raises:
        DecompositionError: by more than `TOLERANCE` of the row's largest logit they do not, or a value is not finite.
    """
    token = effects.token.to(m.logit.device)
    error = (effects.change.sum(1) - m.repair_mlp[token, layer]).abs() / m.largest_logit[token]
    if not (error <= TOLERANCE).all():
        raise DecompositionError(
            f"layer {layer}: the neurons miss their MLP's change by {error.max():.1e} of the row's largest logit "
            f"(allowed: {TOLERANCE:.0e})"
        )


def _divide(jobs: AblationJobs, counts: Int[Tensor, " job"], at_most: int) -> Iterator[AblationJobs]:
    """Cut jobs into parts that hold about `at_most` of what is counted, at least a job each."""
    part = (counts.cumsum(0) - counts) // at_most
    for which in part.unique():
        yield jobs[part == which]


def _bytes_a_token(model: FoldedModel, layers: list[int]) -> int:
    """What the neurons of a wanted token take up: kept and joined for each layer, then ranked for one at a time."""
    return (6 * len(layers) + 12) * model.layers[0].W_out.shape[0] * torch.finfo(model.dtype).bits // 8
