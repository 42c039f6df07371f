"""What a sweep carries from layer to layer: the clean pass of a block, and the streams and sums of all jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.jobs import AblationJobs, sent
from selfrepair.ablation.memory import chunk_tokens
from selfrepair.ablation.unit_names import Unit
from selfrepair.ablation.units import Where, written
from selfrepair.models.folded import FoldedModel, Layer


@runtime_checkable
class Responders(Protocol):
    """Is told by the sweep how the direct effects of a layer's heads change."""

    def wanted(self, at: slice) -> Where:
        """Which of some of the sweep's ablated tokens are wanted, counted from the first of them."""

    def record(self, layer: int, at: slice, change: Float[Tensor, "wanted n_heads"]) -> None:
        """Take in the wanted ones of these tokens.

        Args:
            change: ablated minus clean, not yet divided by the clean scale.
        """


@runtime_checkable
class FinalStreams(Protocol):
    """Is told by the sweep what the final norm reads."""

    def wanted(self, at: slice) -> Where:
        """Which of some of the sweep's ablated tokens are wanted, counted from the first of them."""

    def record(
        self,
        at: slice,
        clean: Float[Tensor, "wanted d_model"],
        own: Float[Tensor, "wanted d_model"],
        ablated: Float[Tensor, "wanted d_model"],
    ) -> None:
        """Take in the wanted ones of these tokens.

        Args:
            clean, ablated: final residual stream.
            own: change of what the ablated head, or unit, writes.
        """


@dataclass(frozen=True)
class Block:
    """A block's clean pass; `place` counts the positions of all present rows, those of the wanted rows first.

    `read` is W_O v of every head (`FoldedModel.head_read`), where responding heads are asked for.
    """

    index: int
    layer: Layer
    z: Float[Tensor, "place n_heads d_head"]
    resid: Float[Tensor, "place d_model"]
    attention: Float[Tensor, "place d_model"]
    mlp: Float[Tensor, "place d_model"]
    read: Float[Tensor, "wanted n_heads d_head"] | None

    def clean_hidden(self, model: FoldedModel, place: Int[Tensor, " token"]) -> Float[Tensor, "token d_mlp"]:
        """Activations of the MLP's neurons at some places of the clean pass."""
        resid = self.resid[place]
        return model.mlp_hidden(self.layer, resid if model.parallel else resid + self.attention[place])


class State:
    """The jobs of a sweep, and dot products with v collected so far, not yet divided by the scale.

    Here v is what direct effects are read with: a column of the unembedding, unless the model was folded as published.
    """

    def __init__(
        self,
        model: FoldedModel,
        jobs: AblationJobs,
        rows: Int[Tensor, " row"],
        source_at: Int[Tensor, " row"],
        v: Float[Tensor, "row pos d_model"],
        units: Sequence[Unit],
        responders: Responders | None,
    ) -> None:
        def zeros(*shape: int) -> Float[Tensor, "..."]:
            return torch.zeros(*shape, dtype=model.dtype, device=model.device)

        self.jobs, self.rows, self.v = jobs, rows, v.flatten(0, 1)
        self.units, self.responders = units, responders
        self.chunk = chunk_tokens(model)
        # AblationJobs and tokens of all layers before each.
        self.first = torch.searchsorted(jobs.layer.contiguous(), torch.arange(model.n_layers + 1)).tolist()
        self.start = [0, *jobs.length.cumsum(0).tolist()]
        local = torch.searchsorted(rows, jobs.row)
        length = v.shape[1]
        n = jobs.n_tokens
        first = jobs.length.cumsum(0) - jobs.length  # token of each job
        before = (local * length - first, source_at[local] * length - first, jobs.head)
        self.place, self.source, self.head = (jobs.per_token(sent(of_run, model.device)) for of_run in before)
        for place in (self.place, self.source):
            place += torch.arange(n, device=model.device)
        self.resid = torch.empty(n, model.d_model, dtype=model.dtype, device=model.device)
        # What the ablation changes of the head itself: its z; or the sum of what a unit's members write.
        self.delta = zeros(n, model.d_model) if units else self.resid.new_empty(n, model.d_head)
        self.direct, self.own = zeros(n), zeros(n)
        self.attention, self.mlp = zeros(n, model.n_layers), zeros(n, model.n_layers)

    def before(self, layer: int) -> list[tuple[AblationJobs, slice]]:
        """The jobs that joined before a layer, in chunks, with the place of their tokens."""
        return list(self.jobs[: self.first[layer]].chunks(self.chunk))

    def of(self, layer: int) -> list[tuple[AblationJobs, slice]]:
        """The jobs that join at a layer."""
        first, last = self.first[layer], self.first[layer + 1]
        start = self.start[first]
        chunks = self.jobs[first:last].chunks(self.chunk)
        return [(chunk, slice(at.start + start, at.stop + start)) for chunk, at in chunks]

    def count_own(
        self, model: FoldedModel, block: Block, replaced: list[tuple[int, Where]], at: slice
    ) -> Float[Tensor, " token"]:
        """Count what replaced components of a layer write as the units' own, and return by how much that moves r.v."""
        own = torch.zeros_like(self.own[at])
        for part, where in replaced:
            place, source = self.place[at][where], self.source[at][where]
            clean, other = (
                written(model, block.layer, part, block.z[of], block.attention[of], block.mlp[of])
                for of in (place, source)
            )
            v = self.v[place]
            self.delta[at][where] += other - clean
            self.direct[at][where] += (clean * v).sum(-1)
            own[where] += ((other - clean) * v).sum(-1)
        self.own[at] += own
        return own
