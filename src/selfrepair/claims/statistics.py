"""The statistics that decide claims: each a function of one model's heads or of its summary tables."""

from collections.abc import Callable

from selfrepair.claims import experiments, heads
from selfrepair.claims.tables import (
    HEAD_STATISTICS,
    TABLES,
    Heads,
    Measured,
    Tables,
    complete,
    fully_measured,
    head_tables,
    peak_layer,
    read_tables,
)

__all__ = [
    "HEAD_STATISTICS",
    "OF_EXPERIMENTS",
    "OF_HEADS",
    "STATISTICS",
    "TABLES",
    "Heads",
    "Measured",
    "Tables",
    "complete",
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
        heads.peak_depth,
        heads.last_layer_drop,
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
        heads.spread_exceeds_mean,
    )
}
OF_EXPERIMENTS: dict[str, Callable[[Tables], Measured]] = {
    function.__name__: function
    for function in (
        experiments.scale_falls,
        experiments.overcorrected,
        experiments.first_neuron_anti_erases,
        experiments.few_neurons_share,
        experiments.most_frequent_neuron,
        experiments.moving_correlation,
        experiments.repression_ratio,
        experiments.repression_beyond_random,
        experiments.heads_repressed,
    )
}
STATISTICS = OF_HEADS | OF_EXPERIMENTS


def measure(name: str, tables: Tables) -> Measured:
    """Return a statistic of one model: those of heads were computed with their bootstrap, which needs the tokens."""
    if name in OF_EXPERIMENTS:
        return OF_EXPERIMENTS[name](tables)
    (row,) = tables[HEAD_STATISTICS].filter(statistic=name).select("value", "low", "high").rows()
    return Measured(*row)
