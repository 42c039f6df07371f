"""Statistics of every head and layer with their bootstrap replicates, from sums by document."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.ablation.schema import CLIPPED, EFFECTS, by_layer
from selfrepair.analysis.bootstrap import Estimate, ratio_of_sums

EFFECTS = list(EFFECTS)
PARTS = [name.removeprefix("clipped_") for name in CLIPPED]  # what a share of the direct effect is taken of
CLIPPED = list(CLIPPED)


@dataclass(frozen=True)
class HeadSums:
    """Sums over a set of tokens, by document and head; heads lie as (layer, head) in `heads`."""

    heads: list[tuple[int, int]]
    documents: Int[np.ndarray, " document"]
    n: Float[np.ndarray, "document head"]
    effects: Float[np.ndarray, "document head effect"]
    clipped: Float[np.ndarray, "document head part"]

    @property
    def layers(self) -> list[int]:
        """Layers of the heads, ascending."""
        return sorted({layer for layer, _ in self.heads})


class Described(NamedTuple):
    """A statistic of some quantities, per item, and the tokens behind each item by document."""

    quantities: list[str]
    estimate: Estimate
    n: Float[np.ndarray, "document item"]


def sum_top_tokens(top: pl.DataFrame) -> pl.DataFrame:
    """Bring token rows into the form of `document_sums`."""
    effect = pl.col("direct_effect").cast(pl.Float64)
    shares = [
        pl.when(effect == 0).then(0.0).otherwise((pl.col(part) / effect).clip(0, 1)).alias(f"clipped_{part}")
        for part in PARTS
    ]
    n_layers = top.schema["repair_mlp_by_layer"].size
    layered = [
        pl.concat_arr([pl.col(name).arr.get(i).cast(pl.Float64).sum() for i in range(n_layers)]).alias(name)
        for name in by_layer(n_layers)
    ]
    summed = [pl.col(name).cast(pl.Float64).sum() for name in (*EFFECTS, *CLIPPED)]
    grouped = top.with_columns(shares).group_by("layer", "head", "document", maintain_order=True)
    return grouped.agg(pl.len().cast(pl.Int64).alias("n"), *summed, *layered)


def sum_by_head(table: pl.DataFrame, documents: Int[np.ndarray, " document"]) -> HeadSums:
    """Spread sums over arrays.

    Args:
        table: `document_sums`.
        documents: ascending, with all of the table's.
    """
    table = table.sort("layer", "head", "document")
    heads = table.select("layer", "head").unique(maintain_order=True).rows()
    place = {head: index for index, head in enumerate(heads)}
    columns = [place[head] for head in table.select("layer", "head").rows()]
    at = np.searchsorted(documents, table["document"].to_numpy()), columns

    def spread(columns: list[str]) -> Float[np.ndarray, "document head column"]:
        dense = np.zeros((len(documents), len(heads), len(columns)))
        np.add.at(dense, at, table.select(columns).to_numpy())
        return dense

    return HeadSums(heads, documents, spread(["n"])[..., 0], spread(EFFECTS), spread(CLIPPED))


def estimates_of_heads(
    sums: HeadSums, draws: Int[np.ndarray, "replicate document"], medians: Described | None = None
) -> dict[str, Described]:
    """Mean, share and clipped share of each head by name, and the medians where given (`STATISTICS`)."""
    parts = sums.effects[..., [EFFECTS.index(part) for part in PARTS]]
    return {
        "mean": Described(EFFECTS, ratio_of_sums(sums.effects, sums.n[..., None], draws), sums.n),
        **({} if medians is None else {"median": medians}),
        "share": Described(PARTS, ratio_of_sums(parts, sums.effects[..., :1], draws), sums.n),
        "clipped_share": Described(PARTS, ratio_of_sums(sums.clipped, sums.n[..., None], draws), sums.n),
    }


def estimates_of_layers(
    sums: HeadSums, draws: Int[np.ndarray, "replicate document"], of_heads: dict[str, Described]
) -> dict[str, Described]:
    """Statistics of each layer: unweighted means over its heads; a share is the ratio of the heads' sums."""
    members = [[index for index, (at, _) in enumerate(sums.heads) if at == layer] for layer in sums.layers]

    def averaged(described: Described) -> Described:
        means = [Estimate(described.estimate.value[m], described.estimate.replicates[:, m]).mean(0) for m in members]
        estimate = Estimate(np.stack([e.value for e in means]), np.stack([e.replicates for e in means], axis=1))
        # Of a layer's heads each has its own tokens: their number is that of one head, their documents are all.
        counts = np.stack([described.n[:, m].sum(1) / len(m) for m in members], axis=1)
        return Described(described.quantities, estimate, counts)

    averages = {name: averaged(described) for name, described in of_heads.items()}
    summed = np.stack([sums.effects[:, m].sum(1) for m in members], axis=1)
    parts = summed[..., [EFFECTS.index(part) for part in PARTS]]
    share = ratio_of_sums(parts, summed[..., :1], draws)
    return averages | {"share": Described(PARTS, share, averages["share"].n)}
