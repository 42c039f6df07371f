"""Where the parts of units are in a sweep, and what replaces them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.unit_names import ATTENTION, MLP, Unit
from selfrepair.models.folded import FoldedModel, Layer

Where = slice | Int[Tensor, " _"]


def unit_jobs(units: Sequence[Unit], rows: Int[Tensor, " row"], length: int) -> AblationJobs:
    """All units in all rows, over the whole length; `head` of a job is the unit's place in the list."""
    return AblationJobs.all_pairs([(unit.layer, index) for index, unit in enumerate(units)], rows, length)


@dataclass(frozen=True)
class Members:
    """Of some jobs, the components of a layer that are replaced, and the heads that are held, each with its tokens."""

    replaced: list[tuple[int, Where]]
    held: list[tuple[int, Where]]

    @staticmethod
    def of(units: Sequence[Unit], layer: int, jobs: AblationJobs, device: torch.device) -> "Members":
        """Those of jobs that ablate units (`unit_jobs`); none without units."""
        of_units = [(units[unit], where) for unit, where in jobs.by_head(device)] if units else []
        return Members(
            [(part, where) for unit, where in of_units for at, part in unit.components if at == layer],
            [(part, where) for unit, where in of_units for at, part in unit.held if at == layer],
        )

    @property
    def of_attention(self) -> list[tuple[int, Where]]:
        return [member for member in self.replaced if member[0] != MLP]

    @property
    def of_mlp(self) -> list[tuple[int, Where]]:
        return [member for member in self.replaced if member[0] == MLP]

    def hold(
        self,
        z: Float[Tensor, "token n_heads d_head"],
        clean: Float[Tensor, "place n_heads d_head"],
        place: Int[Tensor, " token"],
        source: Int[Tensor, " token"],
    ) -> None:
        """Give replaced heads the source's z and held ones their clean z, in place."""
        for members, of in ((self.replaced, source), (self.held, place)):
            for part, where in members:
                if part >= 0:
                    z[where, part] = clean[of[where], part]

    def replace(
        self,
        part: int,
        output: Float[Tensor, "token d_model"],
        clean: Float[Tensor, "place d_model"],
        source: Int[Tensor, " token"],
    ) -> None:
        """Where a layer's attention or MLP is replaced, give it the source's output, in place."""
        for of, where in self.replaced:
            if of == part:
                output[where] = clean[source[where]]


def written(
    model: FoldedModel,
    layer: Layer,
    part: int,
    z: Float[Tensor, "place n_heads d_head"],
    attention: Float[Tensor, "place d_model"],
    mlp: Float[Tensor, "place d_model"],
) -> Float[Tensor, "place d_model"]:
    """What a component writes: a head without biases, attention as the sum of its heads, the MLP with its bias.

    Args:
        z, attention, mlp: of the clean pass of a layer, at the places that are wanted.
    """
    if part == ATTENTION:
        return attention - layer.b_O.to(attention.dtype)
    return mlp if part == MLP else model.head_out(layer, part, z[:, part])
