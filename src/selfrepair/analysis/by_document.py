"""Sums by document for single heads and for groups of heads, ready for the bootstrap."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int

ONE, LAYER, LATER, ALL = "one", "layer", "later half", "all"


class Group(NamedTuple):
    """Heads that are taken together; layer and head are None where they differ."""

    heads: str
    layer: int | None
    head: int | None


@dataclass(frozen=True)
class Grouping:
    """Groups of a model's heads.

    Attributes:
        members: 1 where a head belongs to a group.
    """

    heads: list[tuple[int, int]]
    groups: list[Group]
    members: Float[np.ndarray, "head group"]


def group_heads(heads: list[tuple[int, int]], n_layers: int) -> Grouping:
    """Every head, every layer, the later half of the layers where it has heads, and all heads."""
    layers = sorted({layer for layer, _ in heads})
    groups = {Group(ONE, *head): [head] for head in heads}
    groups |= {Group(LAYER, layer, None): [head for head in heads if head[0] == layer] for layer in layers}
    groups |= {Group(LATER, None, None): [head for head in heads if 2 * head[0] >= n_layers]}
    groups |= {Group(ALL, None, None): heads}
    groups = {group: members for group, members in groups.items() if members}
    members = np.array([[head in members for members in groups.values()] for head in heads], dtype=float)
    return Grouping(heads, list(groups), members)


def sum_by_document(
    tokens: pl.DataFrame, columns: list[str], heads: list[tuple[int, int]], documents: Int[np.ndarray, " document"]
) -> dict[str, Float[np.ndarray, "document head"]]:
    """Sum columns of token rows by document and head, in float64; `n` counts the rows.

    Args:
        tokens: rows with layer, head, document and the columns.
        documents: ascending, with all of the rows'.
    """
    summed = tokens.group_by("layer", "head", "document").agg(
        pl.len().alias("n"), pl.col(columns).cast(pl.Float64).sum()
    )
    place = {head: index for index, head in enumerate(heads)}
    at = (
        np.searchsorted(documents, summed["document"].to_numpy()),
        np.array([place[head] for head in summed.select("layer", "head").rows()], dtype=int),
    )
    sums_by_document = {}
    for name in ("n", *columns):
        sums_by_document[name] = np.zeros((len(documents), len(heads)))
        sums_by_document[name][at] = summed[name].to_numpy()
    return sums_by_document
