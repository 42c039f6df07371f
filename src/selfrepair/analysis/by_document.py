"""Sums over the tokens of single heads and of groups of heads, in every sample of documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.ablation.reselection import top_counts
from selfrepair.analysis.bootstrap import LARGEST, Draws, Estimate, effective, median, ratio
from selfrepair.core.tables import Column, frame

ONE, LAYER, LATER, ALL = "one", "layer", "later half", "all"
Head = tuple[int, int]  # layer, head


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

    heads: list[Head]
    groups: list[Group]
    members: Float[np.ndarray, "head group"]


def group_heads(heads: list[Head], n_layers: int) -> Grouping:
    """Every head, every layer, the later half of the layers where it has heads, and all heads."""
    layers = sorted({layer for layer, _ in heads})
    groups = {Group(ONE, *head): [head] for head in heads}
    groups |= {Group(LAYER, layer, None): [head for head in heads if head[0] == layer] for layer in layers}
    groups |= {Group(LATER, None, None): [head for head in heads if 2 * head[0] >= n_layers]}
    groups |= {Group(ALL, None, None): heads}
    groups = {group: members for group, members in groups.items() if members}
    members = np.array([[head in members for members in groups.values()] for head in heads], dtype=float)
    return Grouping(heads, list(groups), members)


@dataclass(frozen=True)
class Selection:
    """How many top tokens a head has in each sample of documents."""

    draws: Draws
    counts: Int[np.ndarray, " sample"]

    @staticmethod
    def of(clean_documents: pl.Series, fraction: float, replicates: int, seed: int) -> "Selection":
        """Of the document of every token of a run, and the share of tokens that are top tokens."""
        draws = Draws.of(clean_documents, replicates, seed)
        lengths = np.bincount(draws.at(clean_documents), minlength=len(draws.documents))
        return Selection(draws, top_counts(lengths, draws.weights, fraction))


@dataclass(frozen=True)
class Totals:
    """Sums of columns over the tokens of heads, or of groups of them, in every sample of documents.

    Attributes:
        sums: by column; `n` counts tokens.
        tokens: of the run, by document.
        replicates: of the samples.
    """

    sums: dict[str, Float[np.ndarray, "sample item"]]
    tokens: Float[np.ndarray, "document item"]
    replicates: int

    @staticmethod
    def joined(parts: Sequence["Totals"]) -> "Totals":
        """The items of several totals of the same columns, one after the other."""
        sums = {name: np.hstack([part.sums[name] for part in parts]) for name in parts[0].sums}
        return Totals(sums, np.hstack([part.tokens for part in parts]), parts[0].replicates)

    def ratio(self, columns: Sequence[str], under: str = "n") -> Estimate:
        """Ratios of sums, items by columns; means over tokens if `under` counts them."""
        over = np.stack([self.sums[name] for name in columns], axis=-1)
        return Estimate(ratio(over, np.broadcast_to(self.sums[under][..., None], over.shape)), self.replicates)

    def grouped(self, members: Float[np.ndarray, "item group"]) -> "Totals":
        """The same of groups of the items, all their tokens together."""
        sums = {name: values @ members for name, values in self.sums.items()}
        return Totals(sums, self.tokens @ members, self.replicates)

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """Of each item the tokens and documents behind a value, and the effective number of these."""
        return counted(self.tokens)


def counted(tokens: Float[np.ndarray, "document item"]) -> dict[str, np.ndarray]:
    """The columns `n_tokens`, `n_documents` and `n_effective` of items."""
    return {
        "n_tokens": tokens.sum(0).round().astype(int),
        "n_documents": (tokens > 0).sum(0),
        "n_effective": effective(tokens),
    }


def long_table(
    schema: dict[str, Column],
    labels: Mapping[str, object],
    index: Mapping[str, Sequence[object]],
    quantities: Sequence[str],
    estimate: Estimate,
    counts: Mapping[str, np.ndarray],
) -> pl.DataFrame:
    """Write estimates of items as a table: a row for each item and quantity, with the 95 % interval.

    Args:
        labels: columns that are the same in all rows.
        index: columns that tell items apart, one value an item.
        quantities: names along the last axis of the estimate.
        counts: of `counted`, one value an item.
    """
    each, items = len(quantities), len(next(iter(index.values())))
    ends = zip(("value", "low", "high"), (estimate.value, *estimate.interval), strict=True)
    columns = {
        **{name: [value] * items * each for name, value in labels.items()},
        **{name: [value for value in values for _ in quantities] for name, values in index.items()},
        "quantity": list(quantities) * items,
        **{name: end.ravel() for name, end in ends},
        **{name: np.repeat(count, each) for name, count in counts.items()},
    }
    return frame(columns, schema)


def sum_by_document(
    tokens: pl.DataFrame, columns: Sequence[str], heads: list[Head], draws: Draws
) -> dict[str, Float[np.ndarray, "document head"]]:
    """Sum columns of token rows by document and head, in float64; `n` counts the rows, or sums them where it is given.

    Args:
        tokens: rows with layer, head, document and the columns.
    """
    count = pl.col("n").sum() if "n" in tokens.columns else pl.len().alias("n")
    summed = tokens.group_by("layer", "head", "document").agg(count, pl.col(columns).cast(pl.Float64).sum())
    at = draws.at(summed["document"]), _places(summed, heads)
    sums_by_document = {}
    for name in ("n", *columns):
        sums_by_document[name] = np.zeros((len(draws.documents), len(heads)))
        sums_by_document[name][at] = summed[name].to_numpy()
    return sums_by_document


def totals(tokens: pl.DataFrame, columns: Sequence[str], heads: list[Head], draws: Draws) -> Totals:
    """Sum columns over the same tokens in every sample, each as often as the sample holds its document.

    Args:
        tokens: as for `sum_by_document`.
    """
    summed = sum_by_document(tokens, columns, heads, draws)
    return Totals({name: draws.weights @ values for name, values in summed.items()}, summed["n"], draws.replicates)


def top_totals(tokens: pl.DataFrame, columns: Sequence[str], heads: list[Head], selection: Selection) -> Totals:
    """Sum columns over the top tokens of each sample, which every sample selects anew.

    Args:
        tokens: rows with layer, head, document, rank and the columns; those without a rank do not count.

    Raises:
        ValueError: a sample selects a token that is not there.
    """
    draws = selection.draws
    sums = {name: np.zeros((len(draws.weights), len(heads))) for name in ("n", *columns)}
    run = np.zeros((len(draws.documents), len(heads)))
    for index, rows in enumerate(by_head(_ranked(tokens, columns), heads)):
        documents = draws.at(rows["document"])
        values = np.stack([np.ones(len(rows)), *(rows[name].cast(pl.Float64).to_numpy() for name in columns)])
        for part, weights in _parts(documents, draws):
            chosen = top_weights(weights, selection.counts[part])
            for name, total in zip(sums, values @ chosen.astype(np.float64), strict=True):
                sums[name][part, index] = total
        run[:, index] = np.bincount(documents[: selection.counts[0]], minlength=len(draws.documents))
    return Totals(sums, run, draws.replicates)


def medians(
    tokens: pl.DataFrame, columns: Sequence[str], heads: list[Head], draws: Draws, selection: Selection | None = None
) -> Estimate:
    """Medians of columns, heads by columns; of the top tokens that every sample selects anew, if a selection is given.

    Args:
        tokens: rows with layer, head, document and the columns; and rank for a selection.
    """
    samples = np.zeros((len(draws.weights), len(heads), len(columns)))
    ordered = tokens if selection is None else _ranked(tokens, columns)
    for index, rows in enumerate(by_head(ordered, heads)):
        for part, weights in _parts(draws.at(rows["document"]), draws):
            chosen = weights if selection is None else top_weights(weights, selection.counts[part])
            for place, name in enumerate(columns):
                samples[part, index, place] = median(rows[name].to_numpy(), chosen)
    return draws.estimate(samples)


def top_weights(
    weights: Int[np.ndarray, "token sample"], counts: Int[np.ndarray, " sample"]
) -> Int[np.ndarray, "token sample"]:
    """How often each token is among the top tokens of a sample; a document drawn twice counts twice.

    Args:
        weights: how often a sample holds each token, by falling direct effect.
        counts: top tokens of the sample.

    Raises:
        ValueError: a sample has fewer tokens.
    """
    so_far = weights.cumsum(0, dtype=weights.dtype)
    if (so_far[-1] < counts).any():
        raise ValueError("a bootstrap replicate selects tokens that were not kept: more replicates than foreseen")
    return np.clip(counts.astype(weights.dtype) - (so_far - weights), 0, weights)


def by_head(tokens: pl.DataFrame, heads: list[Head]) -> list[pl.DataFrame]:
    """Token rows of each head, in their order."""
    rows = tokens.partition_by("layer", "head", as_dict=True)
    return [rows.get(head, tokens.clear()) for head in heads]


def _ranked(tokens: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Tokens that some sample selects, by falling direct effect."""
    return tokens.select("layer", "head", "document", "rank", *columns).drop_nulls("rank").sort("rank")


def _parts(
    documents: Int[np.ndarray, " token"], draws: Draws
) -> Iterator[tuple[slice, Int[np.ndarray, "token sample"]]]:
    """How often samples hold each token, so many samples at a time as memory holds."""
    at_once = max(1, LARGEST // max(1, len(documents)))
    for first in range(0, len(draws.weights), at_once):
        part = slice(first, first + at_once)
        yield part, np.ascontiguousarray(draws.weights[part].T, dtype=np.int32)[documents]


def _places(table: pl.DataFrame, heads: list[Head]) -> Int[np.ndarray, " row"]:
    place = {head: index for index, head in enumerate(heads)}
    return np.array([place[head] for head in table.select("layer", "head").rows()], dtype=int)
