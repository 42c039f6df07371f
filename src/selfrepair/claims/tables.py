"""What statistics of claims are made of: a model's heads and layers, or its summaries in the folder of the analysis."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from selfrepair.analysis.wide import wide

HEAD_STATISTICS = "resample/head_statistics"
NEURON_STATISTICS = "neurons/statistics"
TABLES = (HEAD_STATISTICS, NEURON_STATISTICS, "iterative/moving", "iterative/repression")
OF_TWINS = (HEAD_STATISTICS, NEURON_STATISTICS)  # what the twin of a model has


@dataclass(frozen=True)
class Measured:
    """A statistic with the ends of its 95 % interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Heads:
    """Statistics of one model's heads, of a run or of one of its bootstrap replicates.

    Attributes:
        heads, layers: on top tokens, one row per head or layer, layers ascending (`summaries.wide`); where they are of
            token rows, heads also have `sd_self_repair`, the standard deviation over top tokens, and shares of top
            tokens: `share_scale_falls`, `share_overcorrected` and `share_mirrored`.
        unfiltered_heads, unfiltered: the same on all tokens.
    """

    heads: pl.DataFrame
    layers: pl.DataFrame
    unfiltered_heads: pl.DataFrame
    unfiltered: pl.DataFrame

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.layers["n_layers"][0]

    @property
    def late(self) -> pl.DataFrame:
        """Layers of the second half."""
        return self.layers.filter(pl.col("layer") * 2 >= self.n_layers)

    def of_layer(self, layer: int) -> pl.DataFrame:
        """Heads of a layer, counted from behind where negative; none where there is no such layer."""
        return self.heads.filter(layer=layer if layer >= 0 else self.n_layers + layer)


@dataclass(frozen=True)
class Tables:
    """Summaries of one model: the tables of `TABLES`, by name."""

    named: dict[str, pl.DataFrame]

    def __getitem__(self, name: str) -> pl.DataFrame:
        """Return one of the tables."""
        return self.named[name]

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self[HEAD_STATISTICS]["n_layers"][0]

    @property
    def n_heads(self) -> int:
        """Number of heads of all layers."""
        return self[HEAD_STATISTICS]["heads"][0]


def read_tables(folder: Path, names: tuple[str, ...] = TABLES) -> Tables:
    """Read the summaries of one model.

    Args:
        folder: of the model in the run's analysis.
    """
    return Tables({name: pl.read_parquet(folder / f"{name}.parquet") for name in names})


def head_tables(heads: pl.DataFrame, layers: pl.DataFrame) -> Heads:
    """Bring `STATISTICS` of one model into the form that statistics of heads take."""
    return Heads(*(wide(table, tokens) for tokens in ("top", "all") for table in (heads, layers)))


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
