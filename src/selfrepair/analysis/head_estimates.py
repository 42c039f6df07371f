"""Statistics of every head and layer, in every sample of documents, from sums over their tokens."""

from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.ablation import schema
from selfrepair.analysis.bootstrap import Estimate
from selfrepair.analysis.by_document import Head, Selection, Totals, top_totals

EFFECTS, CLIPPED = list(schema.EFFECTS), list(schema.CLIPPED)
PARTS = [name.removeprefix("clipped_") for name in CLIPPED]  # what a share of the direct effect is taken of


class Described(NamedTuple):
    """A statistic of some quantities, per item, and the tokens behind each item by document."""

    quantities: list[str]
    estimate: Estimate
    n: Float[np.ndarray, "document item"]


def sum_top_tokens(tokens: pl.DataFrame, heads: list[Head], selection: Selection, **also: pl.Expr) -> Totals:
    """Sum `EFFECTS` and `CLIPPED` over the top tokens, which every sample selects anew.

    Args:
        tokens: token rows (`ablated_tokens`).
        also: what else to sum, by name.
    """
    rows = tokens.with_columns(**clipped_shares(), **also)
    return top_totals(rows, [*EFFECTS, *CLIPPED, *also], heads, selection)


def clipped_shares() -> dict[str, pl.Expr]:
    """The columns of `CLIPPED`, made from token rows."""
    effect = pl.col("direct_effect").cast(pl.Float64)
    return {
        f"clipped_{part}": pl.when(effect == 0).then(0.0).otherwise((pl.col(part) / effect).clip(0, 1))
        for part in PARTS
    }


def estimates_of_heads(totals: Totals, medians: Described | None = None) -> dict[str, Described]:
    """Mean, share and clipped share of each head by name, and the medians where given (`STATISTICS`)."""
    n = totals.tokens
    return {
        "mean": Described(EFFECTS, totals.ratio(EFFECTS), n),
        **({} if medians is None else {"median": medians}),
        "share": Described(PARTS, totals.ratio(PARTS, "direct_effect"), n),
        "clipped_share": Described(PARTS, totals.ratio(CLIPPED), n),
    }


def estimates_of_layers(totals: Totals, heads: list[Head], of_heads: dict[str, Described]) -> dict[str, Described]:
    """Statistics of each layer: unweighted means over its heads; a share is the ratio of the heads' sums."""
    layers = sorted({layer for layer, _ in heads})
    members = np.array([[float(layer == at) for layer in layers] for at, _ in heads])

    def averaged(described: Described) -> Described:
        means = described.estimate.map(
            lambda samples: np.stack([samples[:, of_layer > 0].mean(1) for of_layer in members.T], axis=1)
        )
        # Of a layer's heads each has its own tokens: their number is that of one head, their documents are all.
        return Described(described.quantities, means, described.n @ (members / members.sum(0)))

    averages = {name: averaged(described) for name, described in of_heads.items()}
    share = totals.grouped(members).ratio(PARTS, "direct_effect")
    return averages | {"share": Described(PARTS, share, averages["share"].n)}
