"""The statistics that decide claims: each a function of one model's summary tables."""

from collections.abc import Callable

from selfrepair.claim_statistics import experiments, heads
from selfrepair.claim_statistics.tables import (
    HEADS,
    LAYERS,
    OTHERS,
    Measured,
    Tables,
    complete,
    fully_measured,
    peak_layer,
    read_tables,
    tables,
)

__all__ = [
    "HEADS",
    "LAYERS",
    "OF_EXPERIMENTS",
    "OF_HEADS",
    "OTHERS",
    "STATISTICS",
    "Measured",
    "Statistic",
    "Tables",
    "complete",
    "fully_measured",
    "peak_layer",
    "read_tables",
    "tables",
]

Statistic = Callable[[Tables], Measured]

OF_HEADS: dict[str, Statistic] = {
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
        heads.loss_exceeds_drop,
        heads.last_mlp_share,
        heads.heavy_tail,
    )
}
OF_EXPERIMENTS: dict[str, Statistic] = {
    function.__name__: function
    for function in (
        experiments.scale_falls,
        experiments.overcorrected,
        experiments.spread_exceeds_mean,
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
