"""Samples of documents drawn one by one: tables in which a document's rows stand as often as the sample holds it."""

import numpy as np
import polars as pl

from selfrepair.ablation.reselection import rank_tokens
from selfrepair.analysis.bootstrap import Draws


def drawn(table: pl.DataFrame, draws: Draws, sample: int) -> pl.DataFrame:
    """The rows of a sample's documents."""
    of_document = table.partition_by("document", as_dict=True)
    parts = [table.clear()]
    for document, weight in zip(draws.documents.tolist(), draws.weights[sample].tolist(), strict=True):
        parts += [of_document.get((document,), table.clear())] * weight
    return pl.concat(parts)


def top_tokens(table: pl.DataFrame, fraction: float) -> pl.DataFrame:
    """The top share of each head's rows by direct effect."""
    parts = [table.clear()]
    for of_head in table.partition_by("layer", "head", maintain_order=True):
        ordered = of_head.sort("direct_effect", descending=True, maintain_order=True)
        parts.append(ordered.head(max(1, int(fraction * len(of_head)))))
    return pl.concat(parts)


def with_ranks(table: pl.DataFrame, fraction: float, seed: int) -> pl.DataFrame:
    """Add `rank` and `selected` to rows of all tokens, as the clean pass finds them; rows of a head in their order."""
    parts = []
    for of_head in table.partition_by("layer", "head", maintain_order=True):
        effects, documents = (of_head[name].to_numpy() for name in ("direct_effect", "document"))
        (ranked,) = rank_tokens(effects[None], documents, fraction, seed)
        ranks = np.full(len(of_head), -1)
        ranks[ranked] = np.arange(len(ranked))
        rank = pl.Series(ranks, dtype=pl.Int32).replace(-1, None)
        selected = (rank < max(1, int(fraction * len(of_head)))).fill_null(False)
        parts.append(of_head.with_columns(rank=rank, selected=selected))
    return pl.concat(parts)
