"""What it costs to tell, while heads are ablated, which later heads respond; timed beside the plain sweep."""

import statistics
import time
from pathlib import Path

import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.ablation.hand_off import HandOffSums
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.responders import LaterHeads
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.ablation.sweep_state import Responders
from selfrepair.benchmark.schema import LATER_HEADS
from selfrepair.core.tables import frame
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import load_folded
from selfrepair.tokens.rows import token_matrix

PLAIN, TOP, EVERY = "plain", "top", "every"


def later_heads(models: list[Path], tokens: list[Path], top_fraction: float, rows: int, rounds: int) -> pl.DataFrame:
    """Time the sweep over all heads alone, with sums over top tokens, and with every token's numbers (`LATER_HEADS`).

    Args:
        models: folded models.
        tokens: tokens.parquet for each.
        top_fraction: share of tokens that are summed.
        rows: rows of each model that are measured.
        rounds: each is timed once in every round, one after the other.
    """
    costs = []
    for folder, file in zip(models, tokens, strict=True):
        matrix = torch.from_numpy(token_matrix(pl.read_parquet(file)))[:rows]
        costs.append(cost(load_folded(folder), matrix, top_fraction, rounds))
    return frame(pl.DataFrame(costs).to_dict(), LATER_HEADS)


def cost(
    model: FoldedModel, tokens: Int[Tensor, "row pos"], top_fraction: float, rounds: int
) -> dict[str, str | int | float]:
    """A row of `LATER_HEADS`; each token row counts as a document."""
    n_rows, length = len(tokens), tokens.shape[1] - 1
    source = torch.arange(n_rows).roll(1)
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(n_rows), length).ordered()
    head = jobs.per_token(jobs.heads_among(model.heads))
    clean = sweep(model, tokens, source, "resample", jobs, no_means(model))
    by_head = torch.zeros(len(model.heads), n_rows * length)
    by_head[head, clean.place] = clean.direct_effect.cpu()
    top = by_head.argsort(1, descending=True)[:, : max(1, int(top_fraction * n_rows * length))]
    selected = torch.zeros_like(by_head, dtype=torch.bool).scatter_(1, top, True).view(-1, n_rows, length)
    documents = torch.arange(n_rows)[:, None].expand(-1, length)

    def responders(kind: str) -> Responders | None:
        if kind == PLAIN:
            return None
        if kind == EVERY:
            return LaterHeads(model, jobs.n_tokens)
        sums = HandOffSums(model.heads, (model.n_layers, model.n_heads), documents, selected, clean.scale.cpu())
        sums.expect(head, jobs.per_token(jobs.row), jobs.pos)
        return sums

    seconds: dict[str, list[float]] = {PLAIN: [], TOP: [], EVERY: []}
    for _ in range(rounds):
        for kind, taken in seconds.items():
            start = time.perf_counter()
            sweep(model, tokens, source, "resample", jobs, no_means(model), responders=responders(kind))
            taken.append(time.perf_counter() - start)
    took = {kind: statistics.median(taken) for kind, taken in seconds.items()}
    return {
        "model": model.name,
        "tokens": jobs.n_tokens,
        "seconds": took[PLAIN],
        "top": took[TOP] / took[PLAIN],
        "every": took[EVERY] / took[PLAIN],
    }
