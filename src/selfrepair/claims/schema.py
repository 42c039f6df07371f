"""Columns of what claims are judged by: statistics of a model's heads and neurons, with their intervals."""

import polars as pl

from selfrepair.analysis.schema import FIXED, RESELECTED
from selfrepair.core.tables import Column

HEAD_STATISTICS = {
    "model": Column(pl.String, "", "name of the model"),
    "n_layers": Column(pl.Int16, "layers", "layers of the model"),
    "heads": Column(pl.Int64, "heads", "heads that were measured"),
    "statistic": Column(pl.String, "", "function of selfrepair.claims.heads"),
    "value": Column(pl.Float64, "as statistic", "the statistic; NaN where its heads were not measured"),
    "low": Column(pl.Float64, "as statistic", f"{RESELECTED.meaning}; null where it has none"),
    "high": Column(pl.Float64, "as statistic", "upper end of it"),
}
NEURON_STATISTICS = {
    "model": Column(pl.String, "", "name of the model"),
    "layer": Column(pl.Int16, "index", "layer of the ablated head; null for the mean over the heads"),
    "head": Column(pl.Int16, "index", "the ablated head; null for the mean over the heads"),
    "statistic": Column(pl.String, "", "function of selfrepair.claims.neurons, on top tokens, last MLP"),
    "value": HEAD_STATISTICS["value"],
    "low": FIXED,
    "high": HEAD_STATISTICS["high"],
}
