"""Columns of what is made of single neurons."""

import polars as pl

from selfrepair.ablation.schema_neurons import (
    LISTED_NEURONS,
    MLP_OF_HEAD,
    NEURON_QUANTITY,
    NEURON_RANKS,
    NEURONS,
    TOKEN_SET,
)
from selfrepair.analysis.schema import FIXED, SHOWN_CONTEXTS, STATISTICS
from selfrepair.core.tables import Column

OF_NEURONS = {"model": STATISTICS["model"]} | MLP_OF_HEAD | {"token_set": TOKEN_SET}
ESTIMATE = {
    "low": FIXED,
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(pl.Int64, "tokens", "tokens behind the value"),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
}
NEURON_SPARSITY = (
    OF_NEURONS
    | {
        "threshold": Column(pl.Float64, "ratio", "share of the head's direct effect"),
        "rank": Column(pl.Int32, "index", "0 for the neuron that changes most on a token"),
        "value": Column(pl.Float64, "ratio", "share of tokens on which the neuron at this rank repairs more than that"),
    }
    | ESTIMATE
)
NEURON_HISTOGRAMS = (
    OF_NEURONS
    | {
        "quantity": Column(pl.String, "", f"{NEURON_QUANTITY}; clipped to the range of the bins"),
        "bin_low": Column(pl.Float64, "ratio", "lower end of the bin"),
        "bin_high": Column(pl.Float64, "ratio", "upper end of the bin; the last holds all above"),
        "value": Column(pl.Float64, "ratio", "share of tokens in the bin"),
    }
    | ESTIMATE
)
NEURON_SHARES = (
    OF_NEURONS
    | {
        "quantity": Column(
            pl.String,
            "",
            f"mean, clipped to the range of the histogram, of {NEURON_QUANTITY}; or share of tokens whose most "
            "changing neuron has a negative clean direct effect (first_erasing), and a positive change too "
            "(first_anti_erasing); or median of positive_change / mlp_change (median_positive_over_net)",
        ),
        "value": Column(pl.Float64, "ratio", "the statistic"),
    }
    | ESTIMATE
)
NEURON_CUMULATIVE = (
    OF_NEURONS
    | {name: NEURON_RANKS[name] for name in ("rank", "n_tokens", "median_direct_effect")}
    | {"value": NEURON_RANKS["cumulative_share"]}
    | {
        name: Column(pl.Float64, "as value", f"{ESTIMATE[name].meaning}; null beyond the {LISTED_NEURONS} first ranks")
        for name in ("low", "high")
    }
)
NEURON_FREQUENCY = (
    OF_NEURONS
    | {
        "place": Column(pl.Int32, "index", "0 for the most frequent neuron"),
        **{name: NEURONS[name] for name in ("neuron", "first", "direct_effect", "change", "anti_erasing")},
        "value": NEURONS["top_10"],
    }
    | ESTIMATE
)
ERASURE_NEURONS = (
    OF_NEURONS
    | {
        "place": Column(pl.Int32, "index", "0 for the neuron with the largest mean change, of those that erase"),
        **{name: NEURONS[name] for name in ("neuron", "direct_effect")},
        "ablated_direct_effect": Column(pl.Float64, "logits", "mean direct effect in the ablated pass, clean scale"),
        "anti_erasing": NEURONS["anti_erasing"],
        "value": NEURONS["top_10"],
    }
    | SHOWN_CONTEXTS
    | ESTIMATE
)
