"""What statistics of claims are made of: one model's summaries, read from its folder of the analysis."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.summaries import wide

HEADS, LAYERS = "resample/heads", "resample/layers"
OTHERS = (
    "resample/norm",
    "noise",
    "neurons/shares",
    "neurons/frequency",
    "iterative/moving",
    "iterative/repression",
)


@dataclass(frozen=True)
class Measured:
    """A statistic with the ends of its 95 % interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Tables:
    """Summaries of one model.

    Attributes:
        heads, layers: on top tokens, one row per head or layer, layers ascending (`summaries.wide`).
        unfiltered_heads, unfiltered: the same on all tokens.
        others: tables of `OTHERS`, by name.
    """

    heads: pl.DataFrame
    layers: pl.DataFrame
    unfiltered_heads: pl.DataFrame
    unfiltered: pl.DataFrame
    others: dict[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.layers["n_layers"][0]

    def of_head(self, layer: int, head: int) -> "Tables":
        """The same with those of the other tables that have rows for single heads reduced to one head."""
        single = {name: t.filter(layer=layer, head=head) for name, t in self.others.items() if "mlp_layer" in t.columns}
        return replace(self, others=self.others | single)

    @property
    def late(self) -> pl.DataFrame:
        """Layers of the second half."""
        return self.layers.filter(pl.col("layer") * 2 >= self.n_layers)


def read_tables(folder: Path) -> Tables:
    """Read the summaries of one model.

    Args:
        folder: of the model in the run's analysis.
    """
    heads, layers, *others = (pl.read_parquet(folder / f"{name}.parquet") for name in (HEADS, LAYERS, *OTHERS))
    return tables(heads, layers, dict(zip(OTHERS, others, strict=True)))


def tables(heads: pl.DataFrame, layers: pl.DataFrame, others: dict[str, pl.DataFrame] | None = None) -> Tables:
    """Bring `schemas.STATISTICS` of one model into the form that statistics take."""
    spread = (wide(table, tokens) for tokens in ("top", "all") for table in (heads, layers))
    return Tables(*spread, others or {})


def complete(models: pl.DataFrame, measured: list[Tables]) -> dict[str, Tables]:
    """Return the tables of models of which every head was measured, by name; claims are about whole models.

    Args:
        models: `overview.MODELS`.
    """
    names = fully_measured(models, pl.concat([t.heads.select("model") for t in measured]))
    return {t.heads["model"][0]: t for t in measured if t.heads["model"][0] in names}


def fully_measured(models: pl.DataFrame, heads: pl.DataFrame) -> list[str]:
    """Name the models of which every head was measured.

    Args:
        models: `overview.MODELS`.
        heads: one row per measured head.
    """
    count = dict(heads["model"].value_counts().rows())
    rows = models.select("model", "n_layers", "n_heads").rows()
    return [name for name, n_layers, n_heads in rows if count.get(name) == n_layers * n_heads]


def peak_layer(layers: pl.DataFrame) -> dict[str, Any]:
    """Return the row of the layer with the largest mean self-repair.

    Args:
        layers: of one model (`summaries.wide`).
    """
    return layers.row(layers["mean_self_repair"].arg_max(), named=True)
