"""What the ablation of a head costs in loss, and what it would cost if nothing responded (config/studies.yaml, `loss`).

With `own` the change of what the head writes, nothing else changed and the final scale kept,

    logits_without_repair = (resid + own) / scale W_U + b_U.

The logit of the correct next token then changes by exactly delta_direct_effect. What repair saves is
loss_without_repair - ablated_loss. The whole vocabulary is needed, so these are measured on few tokens.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.jobs import AblationJobs, within
from selfrepair.ablation.memory import CHUNK_BYTES, batches_in_memory
from selfrepair.ablation.partners import spread_rows
from selfrepair.ablation.program import Machine, heads_or_all, read_sampled
from selfrepair.ablation.schema import LOSS_TOKENS, LOSSES
from selfrepair.ablation.selection import control_sample, selected_tokens
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.core.progress import Progress
from selfrepair.core.tables import empty, frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.models.precision import linear

VOCABULARIES = 6  # numbers per token of the vocabulary that `losses` holds for a token
BYTES_PER_ROW = 2 * 4 * len(LOSS_TOKENS)  # of the parts, and of the table made of them


def losses(
    model: FoldedModel,
    clean: Float[Tensor, "token d_model"],
    own: Float[Tensor, "token d_model"],
    ablated: Float[Tensor, "token d_model"],
    correct: Int[Tensor, " token"],
) -> Float[Tensor, "token loss"]:
    """The columns of `LOSSES` (nats).

    Args:
        clean, ablated: final residual stream.
        own: change of what the ablated head writes.
        correct: the correct next token.
    """
    scale = model.scale(clean)[:, None]
    passes = (clean / scale, ablated / model.scale(ablated)[:, None], (clean + own) / scale)
    log_p = [linear(normed, model.W_U, model.b_U, model.precision).log_softmax(-1) for normed in passes]
    loss = [-of_pass.gather(-1, correct[:, None])[:, 0] for of_pass in log_p]
    entropy = [-(of_pass.exp() * of_pass).sum(-1) for of_pass in log_p]
    p = log_p[0].exp()
    kl = [(p * (log_p[0] - of_pass)).sum(-1) for of_pass in log_p[1:]]
    return torch.stack([*loss, *entropy, *kl], dim=-1)


class LossRecorder:
    """Takes `losses` from the final streams of a sweep, a few tokens at a time.

    Args:
        token: places of the wanted tokens among all of the sweep, ascending.
        correct: the correct next token of each.

    Attributes:
        values: the columns of `LOSSES`, of the wanted tokens.
    """

    def __init__(self, model: FoldedModel, token: Int[Tensor, " wanted"], correct: Int[Tensor, " wanted"]) -> None:
        self.model, self.token, self.correct = model, token, correct.to(model.device)
        self.values = torch.empty(len(token), len(LOSSES), dtype=model.dtype, device=model.device)
        per_token = VOCABULARIES * model.W_U.shape[1] * self.values.element_size()
        self.at_once = max(1, CHUNK_BYTES[model.device.type] // per_token)

    def wanted(self, at: slice) -> Int[Tensor, " wanted"]:
        """The wanted tokens among some of the sweep's, counted from the first of them."""
        return (self.token[within(self.token, at)] - at.start).to(self.model.device)

    def record(
        self,
        at: slice,
        clean: Float[Tensor, "wanted d_model"],
        own: Float[Tensor, "wanted d_model"],
        ablated: Float[Tensor, "wanted d_model"],
    ) -> None:
        """Take in these tokens' final streams."""
        here = within(self.token, at)
        values, correct = self.values[here], self.correct[here]
        for first in range(0, len(values), self.at_once):
            part = slice(first, first + self.at_once)
            values[part] = losses(self.model, clean[part], own[part], ablated[part], correct[part])


def losses_of_heads(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    selected: pl.DataFrame,
    heads: Sequence[tuple[int, int]],
    n_rows: int,
    control_tokens: int,
    seed: int,
    memory_mb: int | None = None,
    limit_mb: int | None = None,
) -> pl.DataFrame:
    """Resample-ablate heads in some rows, on each head's top tokens there and on a control sample (`LOSS_TOKENS`).

    Args:
        tokens, rows, selected: tables of `TOKENS`, `ROWS` and `SELECTED`.
        n_rows: rows to measure, spread over all.
        control_tokens: tokens of the control sample, drawn uniformly from these rows; all if there are fewer.
        memory_mb, limit_mb: as in `shard.ablate_shard`.

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
        ValueError: the memory does not hold a single job.
    """
    inputs, heads = read_inputs(tokens, rows), sorted(heads)
    length = inputs.documents.shape[1]
    measured = spread_rows(len(inputs.tokens), n_rows)
    top = selected_tokens(selected, heads, measured, length)
    control = torch.zeros(len(measured) * length, dtype=torch.bool)
    control[torch.from_numpy(control_sample(len(measured), length, control_tokens, seed, whole_rows=False))] = True
    control = control.view(len(measured), length)
    wanted = top | control
    jobs = AblationJobs.covering(wanted, heads, measured)
    reserve = CHUNK_BYTES[model.device.type] + BYTES_PER_ROW * int(wanted.sum())
    progress = Progress(f"{model.name}: loss", jobs.n_tokens, "ablated tokens", jobs.block_passes(model.n_layers))
    tables = [empty(LOSS_TOKENS)]
    for batch in batches_in_memory(model, jobs, length, memory_mb, limit_mb, reserve):
        head, row, pos = batch.per_token(batch.heads_among(heads)), batch.per_token(batch.row), batch.pos
        among = torch.searchsorted(measured, row)
        keep = wanted[head, among, pos].nonzero()[:, 0]
        head, row, among, pos = (of[keep] for of in (head, row, among, pos))
        recorder = LossRecorder(model, keep, inputs.tokens[row, pos + 1])
        sweep(
            model, inputs.tokens, inputs.source, "resample", batch, no_means(model), progress=progress, streams=recorder
        )
        place = torch.tensor(heads)[head]
        columns = {"layer": place[:, 0], "head": place[:, 1], "row": row, "pos": pos}
        columns |= {"document": inputs.documents[row, pos], "selected": top[head, among, pos]}
        columns |= {"control": control[among, pos]} | dict(zip(LOSSES, recorder.values.cpu().T, strict=True))
        tables.append(frame({name: column.numpy() for name, column in columns.items()}, LOSS_TOKENS))
    return pl.concat(tables)


def measure_loss(
    model: Path,
    sampled: Path,
    selected: Path,
    heads: list[str],
    rows: int,
    control: int,
    seed: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Measure what the ablation of each head costs in loss, and what it would cost if nothing responded.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        selected: selected.parquet of the clean pass.
        heads: only these heads, written as L9H11; all if none.
        rows: rows to measure, spread over the run's.
        control: tokens of the control sample.
        seed: seed of the run.
        output: Parquet file to write.
    """
    folded, record = machine.load(model)
    named = heads_or_all(folded, heads)
    inputs = (*read_sampled(sampled), pl.read_parquet(selected), named)
    table = losses_of_heads(folded, *inputs, rows, control, seed, machine.memory_mb, machine.limit)
    write_parquet(table, output, record)
