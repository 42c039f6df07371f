"""Ablate a head while the later head that repairs it most is held at its clean output, or ablated too (studies.md)."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.memory import batches_in_memory
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.ablation.responders import LaterHeads
from selfrepair.ablation.schema import HELD
from selfrepair.ablation.selection import selected_tokens
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.ablation.unit_names import Head, Unit, late_heads
from selfrepair.core.progress import Progress
from selfrepair.core.tables import Column, empty, frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.schema import PLACE

# What is ablated of a pair: the head; it, with the other held; the other; both.
ALONE, HOLDING, LATER, BOTH = range(4)
MEASURED = {
    "unit": Column(pl.Int32, "index", "4 for each pair"),
    **PLACE,
    **{name: Column(pl.Float32, "logits", "") for name in ("handed", "direct_effect", "delta_logit", "self_repair")},
}


def mean_changes(table: pl.DataFrame, heads: list[Head]) -> Float[np.ndarray, "head later"]:
    """Mean change of the direct effect of each head of the model on the top tokens of ablated heads (logits).

    Args:
        table: sums by document (`schema.hand_off`).
    """
    sums = np.zeros((len(heads), table.schema["change"].size))
    counts = np.zeros(len(heads))
    at = {head: index for index, head in enumerate(heads)}
    for layer, head, n, change in table.select("layer", "head", "n", "change").iter_rows():
        if (layer, head) in at:
            sums[at[layer, head]] += change
            counts[at[layer, head]] += n
    return sums / counts[:, None]


def strongest_pairs(table: pl.DataFrame, n_layers: int, n_heads: int, count: int) -> list[tuple[Head, Head]]:
    """Of late heads, the `count` whose repair by a single later head is largest, each with that head."""
    heads = late_heads(sorted(table.select("layer", "head").unique().rows()), n_layers)
    if not heads:
        return []
    means = mean_changes(table, heads)
    order = np.argsort(-means.max(1), kind="stable")[:count]
    return [(heads[index], divmod(int(means[index].argmax()), n_heads)) for index in order]


def ablate_held(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    selected: pl.DataFrame,
    pairs: list[tuple[Head, Head]],
    memory_mb: int | None = None,
    limit_mb: int | None = None,
) -> pl.DataFrame:
    """Ablate by resampling, on each first head's top tokens: it, it with the second held, the second, both (`HELD`).

    Args:
        tokens, rows, selected: tables of `TOKENS`, `ROWS` and `SELECTED`.
        memory_mb, limit_mb: as in `shard.ablate_shard`.

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
        ValueError: the memory does not hold a single job.
    """
    if not pairs:
        return empty(HELD)
    inputs = read_inputs(tokens, rows)
    length = inputs.documents.shape[1]
    units = [
        unit
        for head, later in pairs
        for unit in (Unit((head,)), Unit((head,), held=(later,)), Unit((later,)), Unit((head, later)))
    ]
    every = torch.arange(len(inputs.tokens))
    wanted = selected_tokens(selected, [head for head, _ in pairs], every, length).repeat_interleave(4, 0)
    jobs = AblationJobs.covering(wanted, [(unit.layer, index) for index, unit in enumerate(units)], every)
    progress = Progress(f"{model.name}: held heads", jobs.n_tokens, "ablated tokens", jobs.block_passes(model.n_layers))
    tables = [empty(MEASURED)]
    for batch in batches_in_memory(model, jobs, length, memory_mb, limit_mb, units=True):
        later = LaterHeads(model, batch.n_tokens)
        m = sweep(
            model,
            inputs.tokens,
            inputs.source,
            "resample",
            batch,
            no_means(model),
            progress=progress,
            responders=later,
            units=units,
        )
        unit, row, pos = batch.per_token(batch.head), batch.per_token(batch.row), batch.pos
        keep = wanted[unit, row, pos].nonzero()[:, 0]
        responder = torch.tensor([pair[1] for pair in pairs])[unit[keep] // 4].to(model.device)
        on_device = keep.to(model.device)
        handed = later.effects(m)[on_device, responder[:, 0], responder[:, 1]]
        columns = {"unit": unit[keep], "row": row[keep], "pos": pos[keep], "handed": handed}
        columns |= {name: getattr(m, name)[on_device] for name in ("direct_effect", "delta_logit", "self_repair")}
        tables.append(frame({name: column.cpu().numpy() for name, column in columns.items()}, MEASURED))
    return _paired(pl.concat(tables), pairs, inputs.documents.numpy())


def measure_held(
    model: Path,
    sampled: Path,
    selected: Path,
    hand_off: list[Path],
    count: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Ablate the late heads that a single later head repairs most, with that head held, and with it ablated too.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        selected: selected.parquet of the clean pass.
        hand_off: sums of what later heads do, of all shards.
        count: how many pairs.
        output: Parquet file to write.
    """
    folded, record = machine.load(model)
    pairs = strongest_pairs(pl.read_parquet(hand_off), folded.n_layers, folded.n_heads, count)
    inputs = (*read_sampled(sampled), pl.read_parquet(selected))
    write_parquet(ablate_held(folded, *inputs, pairs, machine.memory_mb, machine.limit), output, record)


def _paired(
    measured: pl.DataFrame, pairs: list[tuple[Head, Head]], documents: Int[np.ndarray, "row pos"]
) -> pl.DataFrame:
    """A row for each pair and token, from one for each of what is ablated."""
    of = {
        kind: measured.filter(pl.col("unit") % 4 == kind).with_columns(pair=pl.col("unit") // 4).sort("pair", *PLACE)
        for kind in range(4)
    }
    alone, pair = of[ALONE], of[ALONE]["pair"].to_numpy()
    first, second = (np.array([heads[which] for heads in pairs], int).reshape(-1, 2) for which in (0, 1))
    columns = {
        "layer": first[pair, 0],
        "head": first[pair, 1],
        "later_layer": second[pair, 0],
        "later_head": second[pair, 1],
        "row": alone["row"],
        "pos": alone["pos"],
        "document": documents[alone["row"], alone["pos"]],
        "direct_effect": alone["direct_effect"],
        "self_repair": alone["self_repair"],
        "handed": alone["handed"],
        "fall": alone["delta_logit"] - of[HOLDING]["delta_logit"],
        "later_direct_effect": of[LATER]["direct_effect"],
        "later_self_repair": of[LATER]["self_repair"],
        "pair_self_repair": of[BOTH]["self_repair"],
    }
    return frame(columns, HELD)
