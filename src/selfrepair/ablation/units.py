"""Units beyond single heads: a layer's attention, its MLP, and sets of these and of heads (studies.md, definitions)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.jobs import AblationJobs
from selfrepair.models.folded import FoldedModel, Layer

ATTENTION, MLP = -1, -2  # where a head's index would stand
Component = tuple[int, int]  # layer; and head, ATTENTION or MLP
Where = slice | Int[Tensor, " _"]
_WRITTEN = re.compile(r"L(0|[1-9]\d*)(?:H(0|[1-9]\d*)|\.(attn|mlp))")


@dataclass(frozen=True)
class Unit:
    """What is ablated together. Members of later layers hold the source's value: they do not respond.

    Attributes:
        components: ascending by layer; that of the first layer is where the unit's pass leaves the clean one.
        held: heads of later layers that are held at their clean output instead of responding.
    """

    components: tuple[Component, ...]
    held: tuple[Component, ...] = ()

    @property
    def layer(self) -> int:
        return self.components[0][0]

    def __str__(self) -> str:
        return "+".join(map(component_name, self.components))


def component_name(component: Component) -> str:
    """How a component is written: L3H5, L3.attn or L3.mlp."""
    layer, part = component
    return f"L{layer}" + {ATTENTION: ".attn", MLP: ".mlp"}.get(part, f"H{part}")


def parse_unit(text: str, n_layers: int, n_heads: int) -> Unit:
    """Read a unit: `L3H5`, `L3.attn`, `L3.mlp`, or several joined by `+`.

    Raises:
        ValueError: it is written otherwise, is not in the model, or has a part twice.
    """
    components = []
    for part in text.split("+"):
        match = _WRITTEN.fullmatch(part)
        if match is None:
            raise ValueError(f"unit {text!r}: {part!r} is neither a head (L3H5) nor a layer's part (L3.attn, L3.mlp)")
        layer, head = int(match[1]), match[2]
        components.append((layer, int(head) if head else ATTENTION if match[3] == "attn" else MLP))
        if layer >= n_layers or components[-1][1] >= n_heads:
            raise ValueError(f"unit {text!r}: the model has {n_layers} layers of {n_heads} heads, so not {part}")
    # In the order in which a block computes them: heads, attention, MLP.
    components.sort(key=lambda c: (c[0], c[1] < 0, -c[1] if c[1] < 0 else c[1]))
    whole = {layer for layer, part in components if part == ATTENTION}
    twice = len(components) > len(set(components)) or any(c[0] in whole and c[1] >= 0 for c in components)
    if twice:
        raise ValueError(f"unit {text!r} names a part twice (a layer's attention holds its heads)")
    return Unit(tuple(components))


def layer_units(n_layers: int) -> list[Unit]:
    """The attention and the MLP of every layer."""
    return [Unit(((layer, part),)) for layer in range(n_layers) for part in (ATTENTION, MLP)]


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
