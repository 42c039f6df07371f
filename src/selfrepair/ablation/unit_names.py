"""Units beyond single heads: a layer's attention, its MLP, and sets of these and of heads (studies.md, definitions)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from selfrepair.models.directory import INDEX

ATTENTION, MLP = -1, -2  # where a head's index would stand
Component = tuple[int, int]  # layer; and head, ATTENTION or MLP
Head = tuple[int, int]  # layer, head
_WRITTEN = re.compile(rf"L{INDEX}(?:H{INDEX}|\.(attn|mlp))")


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


def coded_units(sets: Sequence[str], n_layers: int, n_heads: int) -> dict[tuple[int, int], Unit]:
    """The attention and the MLP of every layer, and further units, by their layer and the code in place of a head.

    The code is ATTENTION, MLP, and from -3 down the place in `sets`.

    Raises:
        ValueError: a unit is written otherwise or not in the model, or is there twice.
    """
    coded = {(layer, part): Unit(((layer, part),)) for layer in range(n_layers) for part in (ATTENTION, MLP)}
    for index, text in enumerate(sets):
        unit = parse_unit(text, n_layers, n_heads)
        if unit in coded.values():
            raise ValueError(f"unit {text!r} is measured already, as {unit}; remove it")
        coded[unit.layer, MLP - 1 - index] = unit
    return coded


def late_heads(heads: list[Head], n_layers: int) -> list[Head]:
    """Heads of the later half, without the last layer, which has no later heads."""
    return [head for head in heads if 2 * head[0] >= n_layers and head[0] < n_layers - 1]
