"""Ablate chosen heads with several resample partners: how much of a token's self-repair is the partner's doing."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.ablation.chosen_heads import distinct, read_chosen
from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.memory import batches_in_memory
from selfrepair.ablation.program import Machine, read_sampled
from selfrepair.ablation.schema import PARTNERS
from selfrepair.ablation.selection import selected_tokens
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.core.progress import Progress
from selfrepair.core.tables import empty, frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import derange

BYTES_PER_ROW = 2 * 40  # of the parts, and of the table made of them


def partner_sources(
    documents: Int[np.ndarray, "row pos"], source: Int[np.ndarray, " row"], partners: int, seed: int
) -> Int[np.ndarray, "partner row"]:
    """For each partner, the row that replaces each row; partner 0 is the run's own pairing.

    The others are drawn in the same way, each with a seed of its own: random permutations of all rows that pair none
    with text of its own documents.
    """
    held = [frozenset(row) for row in documents.tolist()]
    drawn = [derange(held, np.random.default_rng([seed, 3, partner])) for partner in range(1, partners)]
    return np.stack([source, *drawn])


def spread_rows(n_rows: int, count: int) -> Int[Tensor, " row"]:
    """`count` rows spread evenly over `n_rows`, which stand in the order of the corpus; all if there are fewer."""
    return torch.from_numpy(np.unique(np.linspace(0, n_rows - 1, min(count, n_rows)).round().astype(np.int64)))


def ablate_with_partners(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    selected: pl.DataFrame,
    heads: list[tuple[int, int]],
    partners: int,
    n_rows: int,
    seed: int,
    memory_mb: int | None = None,
    limit_mb: int | None = None,
) -> pl.DataFrame:
    """Ablate heads in some rows once with each partner (`PARTNERS`).

    Args:
        tokens, rows, selected: tables of `TOKENS`, `ROWS` and `SELECTED`.
        memory_mb, limit_mb: as in `shard.ablate_shard`.

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
        CorpusError: rows can't be paired.
        ValueError: the memory does not hold a single job.
    """
    inputs, heads = read_inputs(tokens, rows), sorted(heads)
    length = inputs.documents.shape[1]
    drawn = partner_sources(inputs.documents.numpy(), inputs.source.numpy(), partners, seed)
    measured = spread_rows(len(inputs.tokens), n_rows)
    wanted = selected_tokens(selected, heads, measured, length)
    jobs = AblationJobs.all_pairs(heads, measured, length)
    reserve = BYTES_PER_ROW * partners * jobs.n_tokens
    batches = batches_in_memory(model, jobs, length, memory_mb, limit_mb, reserve)
    what, work = f"{model.name}: {partners} partners", partners * jobs.block_passes(model.n_layers)
    progress = Progress(what, partners * jobs.n_tokens, "ablated tokens", work)
    tables = [empty(PARTNERS)]
    for partner, sources in enumerate(torch.from_numpy(drawn)):
        for batch in batches:
            m = sweep(model, inputs.tokens, sources, "resample", batch, no_means(model), progress=progress)
            row, pos = m.jobs.per_token(m.jobs.row), m.jobs.pos
            of_head = m.jobs.per_token(m.jobs.heads_among(heads))
            columns = {
                "layer": m.jobs.per_token(m.jobs.layer),
                "head": m.jobs.per_token(m.jobs.head),
                "row": row,
                "pos": pos,
                "document": inputs.documents[row, pos],
                "selected": wanted[of_head, torch.searchsorted(measured, row), pos],
                "partner": torch.full((len(row),), partner),
                "direct_effect": m.direct_effect,
                "delta_logit": m.delta_logit,
                "self_repair": m.self_repair,
            }
            tables.append(frame({name: c.cpu().numpy() for name, c in columns.items()}, PARTNERS))
    return pl.concat(tables)


def measure_partners(
    model: Path,
    sampled: Path,
    selected: Path,
    heads: Path,
    partners: int,
    rows: int,
    seed: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Ablate the chosen heads of a model in some rows, once with each of several resample partners.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        selected: selected.parquet of the clean pass.
        heads: chosen_heads.csv.
        partners: partners of each row, the run's own included.
        rows: rows to measure, spread over the run's.
        seed: seed of the run.
        output: Parquet file to write.
    """
    folded, record = machine.load(model)
    inputs = (*read_sampled(sampled), pl.read_parquet(selected), distinct(read_chosen(heads)))
    table = ablate_with_partners(folded, *inputs, partners, rows, seed, machine.memory_mb, machine.limit)
    write_parquet(table, output, record)
