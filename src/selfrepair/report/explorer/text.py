"""Tokens in context: what each token of a stretch of text adds, and what is known of it."""

from functools import cache
from typing import Any

import polars as pl
from jaxtyping import Int
from numpy import ndarray

from selfrepair.tokens.contexts import Decode

SHOWN = 20  # top tokens of a head that are shown in context
BEFORE = 30  # tokens shown before the predicted one
UNFINISHED = "\ufffd"  # what decoding ends with in the middle of a character
PLACE = ["layer", "head", "row", "pos"]


def pieces(tokens: list[int], decode: Decode) -> list[str]:
    """Text that each token adds to those before it.

    A token that ends within a character adds nothing, the one that completes it adds the whole.
    """
    texts, begin, done = [], 0, 0
    for end in range(1, len(tokens) + 1):
        before, after = decode(tokens[begin:done]), decode(tokens[begin:end])
        if len(after) > len(before) and not after.endswith(UNFINISHED):
            texts.append(after[len(before) :])
            begin, done = done, end
        else:
            texts.append("")
    return texts


def strongest(selected: pl.DataFrame, heads: pl.DataFrame) -> pl.DataFrame:
    """The `SHOWN` tokens with the largest direct effect of each head: layer, head, rank, row, pos.

    Args:
        selected: `SELECTED`.
        heads: layer and head of those wanted.
    """
    wanted = selected.filter(pl.col("rank") < SHOWN).join(heads, on=["layer", "head"], how="semi")
    return wanted.select("layer", "head", "rank", "row", "pos").sort("layer", "head", "rank")


def window(tokens: pl.DataFrame) -> pl.DataFrame:
    """Every prediction that is seen in the context of `strongest` tokens: layer, head, rank, row, pos, and its `place`.

    `place` is that of the predicted token among those shown.
    """
    first = pl.max_horizontal(pl.col("pos").cast(pl.Int32) + 1 - BEFORE, 0)
    seen = tokens.with_columns(first=first).with_columns(pos=pl.int_ranges("first", pl.col("pos").cast(pl.Int32) + 1))
    seen = seen.explode("pos").with_columns(pl.col("pos").cast(pl.Int16))
    return seen.with_columns(place=pl.col("pos").cast(pl.Int32) + 1 - pl.col("first")).drop("first")


def contexts(
    tokens: pl.DataFrame, kept: dict[str, pl.DataFrame], matrix: Int[ndarray, "row pos"], decode: Decode
) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Describe each token of `strongest` in its context, by head.

    Args:
        kept: by kind of ablation, token rows (`ablated_tokens`) of at least the predictions in `window`.
        matrix: tokens of the run.

    Returns:
        for each token `row`, `pos`, `pieces` (the predicted token is the last), `kept` (places of the pieces whose
        prediction was kept for this head), and their `direct_effect` and, by kind of ablation, `self_repair` (logits).
    """
    seen = window(tokens)
    # The same few tokens are decoded again and again.
    remembered = cache(lambda stretch: decode(list(stretch)))
    first = next(iter(kept))
    known = seen.join(kept[first].select(*PLACE, "direct_effect"), on=PLACE)
    for ablation, rows in kept.items():
        known = known.join(rows.select(*PLACE, pl.col("self_repair").alias(ablation)), on=PLACE, how="left")
    by_token = known.sort("place").partition_by("layer", "head", "rank", as_dict=True)
    by_head: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for layer, head, rank, row, pos in tokens.rows():
        values = by_token.get((layer, head, rank), known.clear())
        stretch = matrix[row, max(0, pos + 1 - BEFORE) : pos + 2].tolist()
        entry = {
            "row": row,
            "pos": pos,
            "pieces": pieces(stretch, lambda some: remembered(tuple(some))),
            "kept": values["place"].to_list(),
            "direct_effect": values["direct_effect"].to_list(),
            "self_repair": {ablation: values[ablation].to_list() for ablation in kept},
        }
        by_head.setdefault((layer, head), []).append(entry)
    return by_head
