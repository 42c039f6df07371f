"""The statistics that decide claims: each a function of one model's heads or of its summary tables."""

import math
from collections.abc import Callable

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.claims import experiments, heads, neurons
from selfrepair.claims.neurons import Neurons
from selfrepair.claims.tables import (
    HEAD_STATISTICS,
    NEURON_STATISTICS,
    TABLES,
    Heads,
    Measured,
    Tables,
    fully_measured,
    head_tables,
    peak_layer,
    read_tables,
)

__all__ = [
    "HEAD_STATISTICS",
    "NEURON_STATISTICS",
    "OF_EXPERIMENTS",
    "OF_HEADS",
    "OF_NEURONS",
    "SHARES_OF_HEADS",
    "SHARES_OF_TOKENS",
    "STATISTICS",
    "TABLES",
    "Heads",
    "Measured",
    "Neurons",
    "Tables",
    "fully_measured",
    "head_tables",
    "measure",
    "peak_layer",
    "read_tables",
]

OF_HEADS: dict[str, Callable[[Heads], float]] = {
    function.__name__: function
    for function in (
        heads.heads_repaired,
        heads.late_heads_repaired,
        heads.late_repair_of_loss,
        heads.early_repair,
        heads.late_peak_lead,
        heads.penultimate_minus_last,
        heads.late_self_repair_share,
        heads.late_norm_share,
        heads.late_attention_share,
        heads.late_mlp_share,
        heads.penultimate_norm_share,
        heads.last_norm_share,
        heads.clipped_norm_share,
        heads.last_layer_responders,
        heads.unfiltered_repair,
        heads.logit_falls_less_than_direct_effect,
        heads.last_mlp_share,
        heads.heavy_tail,
        heads.noisily_repaired,
        heads.scale_falls,
        heads.overcorrected,
        heads.mirror_of_overcorrection,
        heads.overcorrection_beyond_mirror,
    )
}
# Statistics that need an interval of their own: shares of heads, and which heads these are; shares of tokens.
SHARES_OF_HEADS = {
    "heads_repaired": "all",
    "late_heads_repaired": "late",
    "logit_falls_less_than_direct_effect": "all",
    "noisily_repaired": "late",
}
SHARES_OF_TOKENS = (
    *("scale_falls", "overcorrected", "mirror_of_overcorrection"),
    *("first_neuron_anti_erases", "mirror_of_first_neuron"),
)
OF_EXPERIMENTS: dict[str, Callable[[Tables], Measured]] = {
    function.__name__: function
    for function in (
        experiments.moving_correlation,
        experiments.repression_ratio,
        experiments.repression_beyond_random,
        experiments.heads_repressed,
    )
}
OF_NEURONS: dict[str, Callable[[Neurons], Float[np.ndarray, " sample"]]] = {
    function.__name__: function
    for function in (
        neurons.first_neuron_anti_erases,
        neurons.mirror_of_first_neuron,
        neurons.erasure_beyond_mirror,
        neurons.few_neurons_share,
        neurons.most_frequent_neuron,
    )
}
STATISTICS = OF_HEADS | OF_NEURONS | OF_EXPERIMENTS


def measure(name: str, tables: Tables, head: tuple[int, int] | None = None) -> Measured:
    """Return a statistic of one model; those of heads and neurons were computed with their bootstrap.

    Args:
        head: of statistics of neurons, the head that was ablated; None for the mean over heads.
    """
    if name in OF_EXPERIMENTS:
        return OF_EXPERIMENTS[name](tables)
    if name in OF_HEADS:
        rows = tables[HEAD_STATISTICS].filter(statistic=name)
    else:
        layer, index = head or (None, None)
        of_head = pl.col("layer").eq_missing(layer) & pl.col("head").eq_missing(index)
        rows = tables[NEURON_STATISTICS].filter(of_head, statistic=name)
    return Measured(*rows.select("value", "low", "high").row(0)) if len(rows) else Measured(math.nan)
