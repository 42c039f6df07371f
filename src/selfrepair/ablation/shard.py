"""Stream the ablation of a shard of rows: token rows of what is kept, sums over everything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfrepair.ablation.clean_run import CleanRun, read_clean
from selfrepair.ablation.effects import TokenEffects
from selfrepair.ablation.hand_off import HandOffSums
from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.memory import batches_in_memory
from selfrepair.ablation.program import Machine, heads_or_all, read_sampled
from selfrepair.ablation.replacements import Ablation
from selfrepair.ablation.schema import CLIPPED, EFFECTS, HEAD, ablated_tokens, by_layer, document_sums
from selfrepair.ablation.selection import Measured, selected_tokens
from selfrepair.ablation.sweep import sweep
from selfrepair.ablation.unit_names import Unit, coded_units
from selfrepair.core.progress import Progress
from selfrepair.core.tables import empty, frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.schema import PLACE


def shard_rows(n_rows: int, shard: int, shards: int) -> Int[Tensor, " row"]:
    """Rows of one of `shards` nearly equal shards."""
    return torch.from_numpy(np.array_split(np.arange(n_rows), shards)[shard])


def ablate_shard(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    clean: CleanRun,
    ablation: Ablation,
    heads: list[tuple[int, int]],
    shard: int,
    shards: int,
    measured: Measured = "all",
    memory_mb: int | None = None,
    limit_mb: int | None = None,
    units: Mapping[tuple[int, int], Unit] = MappingProxyType({}),
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Ablate heads, or units, one at a time, in the rows of a shard.

    Args:
        tokens, rows: tables of `TOKENS` and `ROWS`.
        heads: (layer, head) of each head to ablate.
        measured: `all` tokens; or for each head only the rows that hold a token that is kept, up to the last of them.
        memory_mb: of the whole process (on a GPU, of the GPU); None for what is free.
        limit_mb: what a batch system grants the process; None for no limit.
        units: what is ablated instead of heads, by what stands for layer and head in the tables (`coded_units`).

    Returns:
        the token rows of control tokens and of those that some bootstrap replicate selects (`ablated_tokens`); sums by
        head and document (`document_sums`): over all tokens, or over the control tokens where only the selected are
        measured; and sums over top tokens of what later heads do (`hand_off`).

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
        ValueError: the memory does not hold a single job.
    """
    inputs = read_inputs(tokens, rows)
    documents = inputs.documents
    chosen = shard_rows(len(documents), shard, shards)
    named = sorted(units or heads)
    of_jobs = [(units[name].layer, index) for index, name in enumerate(named)] if units else named
    recorder = ShardRecorder(
        clean.of_units() if units else clean, named, of_jobs, chosen, documents[chosen], model.n_layers
    )
    jobs = recorder.jobs(measured)
    counted = torch.ones_like(recorder.control) if measured == "all" else recorder.control
    sums = _DocumentSums(len(named), model.n_layers, recorder.documents, counted)
    responders = recorder.hand_off((model.n_layers, model.n_heads))
    what = f"{model.name}: {ablation} ablation, shard {shard + 1}/{shards}"
    progress = Progress(what, jobs.n_tokens, "ablated tokens", jobs.block_passes(model.n_layers))
    means = clean.means.to(model.device)
    reserve = sums.nbytes + recorder.nbytes + responders.nbytes
    limits = memory_mb, limit_mb
    for batch in batches_in_memory(model, jobs, documents.shape[1], *limits, reserve, bool(units)):
        at = recorder.where(batch)
        responders.expect(at.head, at.row, at.pos)
        m = sweep(
            model,
            inputs.tokens,
            inputs.source,
            ablation,
            batch,
            means,
            progress=progress,
            responders=responders,
            units=[units[name] for name in named] if units else (),
        )
        values = quantities(m)
        sums.add(values, at)
        recorder.add(m, values, at)
    return recorder.table(), sums.table(named), responders.table()


def ablate_heads(
    model: Path,
    sampled: Path,
    clean: Path,
    ablation: Ablation | Literal["units"],
    heads: list[str],
    shard: int,
    shards: int,
    tokens_output: Path,
    sums_output: Path,
    hand_off_output: Path,
    measure: Measured = "all",
    units: Sequence[str] = (),
    machine: Machine = Machine(),
) -> None:
    """Ablate every head of a model, one at a time, in a shard of the rows; or every layer's attention and MLP.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        clean: folder of the clean pass.
        ablation: what a head's output is replaced by; `units` resamples attention and MLP of every layer instead.
        heads: only these heads, written as L9H11; all if none.
        shard: index of the shard, from 0.
        shards: how many shards there are.
        tokens_output: Parquet file for the kept token rows.
        sums_output: Parquet file for the sums over all tokens.
        hand_off_output: Parquet file for the sums of what later heads do.
        measure: all tokens, or selected and control tokens.
        units: units beside these.
    """
    folded, record = machine.load(model)
    kind, coded = ablation, {}
    if kind == "units":
        kind, coded = "resample", coded_units(units, folded.n_layers, folded.n_heads)
    named = heads_or_all(folded, heads)
    inputs, limits = (*read_sampled(sampled), read_clean(clean)), (machine.memory_mb, machine.limit)
    kept, sums, responders = ablate_shard(folded, *inputs, kind, named, shard, shards, measure, *limits, coded)
    write_parquet(kept, tokens_output)
    write_parquet(responders, hand_off_output)
    write_parquet(sums, sums_output, record)


def quantities(m: TokenEffects) -> dict[str, Float[Tensor, " token *layer"]]:
    """The columns of `EFFECTS`, and those by layer."""
    values = {
        "direct_effect": m.direct_effect,
        "ablated_direct_effect": m.direct_effect + m.delta_direct_effect,
        "delta_logit": m.delta_logit,
        "self_repair": m.self_repair,
        "repair_norm": m.repair_norm,
        "repair_attention": m.repair_attention.sum(1),
        "repair_mlp": m.repair_mlp.sum(1),
        "repair_attention_by_layer": m.repair_attention,
        "repair_mlp_by_layer": m.repair_mlp,
    }
    return {name: value.cpu() for name, value in values.items()}


@dataclass(frozen=True)
class TokenIndex:
    """Of each ablated token: its head and row, as numbered within the shard, and its position."""

    head: Int[Tensor, " token"]
    row: Int[Tensor, " token"]
    pos: Int[Tensor, " token"]


class ShardRecorder:
    """Which tokens of a shard are kept, and the table rows of those measured so far."""

    def __init__(
        self,
        clean: CleanRun,
        named: list[tuple[int, int]],
        of_jobs: list[tuple[int, int]],
        rows: Int[Tensor, " row"],
        documents: Int[Tensor, "row pos"],
        n_layers: int,
    ) -> None:
        """Take heads, or units, as the tables name them and as the jobs do."""
        self.named, self.of_jobs, self.rows, self.documents = named, of_jobs, rows, documents
        self.schema = ablated_tokens(n_layers)
        measured = {name: column for name, column in self.schema.items() if name not in ("selected", "rank")}
        self._measured, self._tables = measured, [empty(measured)]  # all there is in a shard without rows
        here = pl.col("row").is_in(rows.tolist())
        self._ranks = clean.candidates.filter(here).drop("direct_effect")
        self._selected = clean.selected.height // clean.selected.select("layer", "head").n_unique()
        self.candidates = selected_tokens(clean.candidates, named, rows, documents.shape[1])
        tokens = clean.tokens.filter(here).sort("row", "pos")
        self.control, self._scale = (
            torch.from_numpy(tokens[name].to_numpy().copy()).view(documents.shape) for name in ("control", "scale")
        )
        self._top = selected_tokens(clean.selected, named, rows, documents.shape[1])

    def hand_off(self, shape: tuple[int, int]) -> HandOffSums:
        """What counts later heads, of so many layers and heads, on the top tokens."""
        return HandOffSums(self.named, shape, self.documents, self._top, self._scale)

    @property
    def nbytes(self) -> int:
        """Of the tables in the end, while they are joined."""
        single = sum(getattr(column.dtype, "size", 1) for column in self.schema.values())
        return 2 * 4 * single * int((self.candidates | self.control).sum())

    def jobs(self, measured: Measured) -> AblationJobs:
        """What has to be ablated: everything, or each head's rows as far as the last token that is kept."""
        if measured == "all":
            return AblationJobs.all_pairs(self.of_jobs, self.rows, self.control.shape[1])
        return AblationJobs.covering(self.candidates | self.control, self.of_jobs, self.rows)

    def where(self, jobs: AblationJobs) -> TokenIndex:
        """Where the tokens of the jobs are in this shard."""
        head = jobs.heads_among(self.of_jobs)
        return TokenIndex(jobs.per_token(head), jobs.per_token(torch.searchsorted(self.rows, jobs.row)), jobs.pos)

    def add(self, m: TokenEffects, values: dict[str, Float[Tensor, " token *layer"]], at: TokenIndex) -> None:
        """Take in what is kept of a sweep."""
        control = self.control[at.row, at.pos]
        keep = (self.candidates[at.head, at.row, at.pos] | control).nonzero()[:, 0]
        head, row, pos = (index[keep] for index in (at.head, at.row, at.pos))
        on_device = keep.to(m.logit.device)
        clean = m.place[keep].to(m.logit.device)
        logit, scale = m.logit.flatten()[clean], m.scale.flatten()[clean]
        place = torch.tensor(self.named)[head]
        columns = {
            "layer": place[:, 0],
            "head": place[:, 1],
            "row": self.rows[row],
            "pos": pos,
            "document": self.documents[row, pos],
            "control": control[keep],
            "logit": logit,
            "ablated_logit": logit + m.delta_logit[on_device],
            "scale": scale,
            "ablated_scale": m.ablated_scale[on_device],
            "own_scale": m.own_scale[on_device],
        }
        columns |= {name: value[keep] for name, value in values.items()}
        self._tables.append(frame({name: c.cpu().numpy() for name, c in columns.items()}, self._measured))

    def table(self) -> pl.DataFrame:
        """All rows so far (`ablated_tokens`)."""
        ranked = pl.concat(self._tables).join(self._ranks, on=[*HEAD, *PLACE], how="left", maintain_order="left")
        selected = (pl.col("rank") < self._selected).fill_null(False)
        return ranked.with_columns(selected=selected).select(list(self.schema))


class _DocumentSums:
    """Sums in float64 by head and document, over the tokens that count."""

    def __init__(
        self, heads: int, n_layers: int, documents: Int[Tensor, "row pos"], counted: Bool[Tensor, "row pos"]
    ) -> None:
        self.documents, index = documents.unique(return_inverse=True)
        self.index, self.counted = index, counted
        self.n = torch.bincount(index[counted], minlength=len(self.documents))
        self.heads, self.n_layers = heads, n_layers
        groups = heads * len(self.documents)
        self.sums: dict[str, Float[Tensor, " group *layer"]] = {}
        for name in (*EFFECTS, *CLIPPED):
            self.sums[name] = torch.zeros(groups, dtype=torch.float64)
        for name in by_layer(n_layers):
            self.sums[name] = torch.zeros(groups, n_layers, dtype=torch.float64)

    @property
    def nbytes(self) -> int:
        """Of the sums and of the table made of them."""
        return 2 * sum(total.nbytes for total in self.sums.values())

    def add(self, values: dict[str, Float[Tensor, " token *layer"]], at: TokenIndex) -> None:
        counts = self.counted[at.row, at.pos]
        group = (at.head * len(self.documents) + self.index[at.row, at.pos])[counts]
        effect = values["direct_effect"][counts]
        for name in CLIPPED:
            share = (values[name.removeprefix("clipped_")][counts] / effect).clamp(0, 1)
            self.sums[name].index_add_(0, group, torch.where(effect == 0, 0, share).double())
        for name, value in values.items():
            self.sums[name].index_add_(0, group, value[counts].double())

    def table(self, heads: list[tuple[int, int]]) -> pl.DataFrame:
        count = len(self.documents)
        columns = {
            "layer": np.repeat([layer for layer, _ in heads], count),
            "head": np.repeat([head for _, head in heads], count),
            "document": np.tile(self.documents.numpy(), len(heads)),
            "n": np.tile(self.n.numpy(), len(heads)),
        }
        return frame(columns | {name: total.numpy() for name, total in self.sums.items()}, document_sums(self.n_layers))
