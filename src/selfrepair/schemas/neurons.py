"""Columns of the direct effects of single neurons."""

import polars as pl

from selfrepair.schemas.ablation import EFFECTS
from selfrepair.schemas.analysis import STATISTICS
from selfrepair.schemas.tokens import HEAD, PLACE
from selfrepair.store import Column

LISTED_NEURONS = 50  # neurons that a token row names
TOKEN_SET = Column(
    pl.String,
    "",
    "direct_effect: the head's top tokens by clean direct effect; outcome: as many tokens with the largest repair_mlp, "
    "selected by what is measured, as the original does; both without position 0, where nothing can change",
)
MLP_OF_HEAD = HEAD | {"mlp_layer": Column(pl.Int16, "index", "layer of the MLP whose neurons are looked at")}
NEURON_TOKENS = (
    MLP_OF_HEAD
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "by_direct_effect": Column(pl.Boolean, "", "in the token set direct_effect"),
        "by_outcome": Column(pl.Boolean, "", "in the token set outcome"),
        "direct_effect": EFFECTS["direct_effect"],
        "self_repair": EFFECTS["self_repair"],
        "repair_mlp": Column(pl.Float32, "logits", "part of self_repair made by all MLPs together"),
        "mlp_direct_effect": Column(pl.Float32, "logits", "clean direct effect of this layer's MLP, its bias included"),
        "mlp_change": Column(pl.Float32, "logits", "change of it on ablation: the sum over all its neurons"),
        "positive_change": Column(pl.Float32, "logits", "sum over the neurons whose change is positive"),
        "absolute_change": Column(pl.Float32, "logits", "sum over all neurons of the size of the change"),
        "top_percent_change": Column(pl.Float32, "logits", "sum over the 1 % of neurons (at least 1) that change most"),
        "top_5_change": Column(pl.Float32, "logits", "sum over the 5 neurons that change most"),
        "neuron": Column(
            pl.Array(pl.Int32, LISTED_NEURONS), "index", "the neurons that change most, largest first; -1 if no more"
        ),
        "neuron_direct_effect": Column(
            pl.Array(pl.Float32, LISTED_NEURONS), "logits", "their clean direct effects; NaN if no more"
        ),
        "neuron_change": Column(
            pl.Array(pl.Float32, LISTED_NEURONS), "logits", "ablated minus clean direct effect; NaN if no more"
        ),
    }
)
NEURONS = MLP_OF_HEAD | {
    "token_set": TOKEN_SET,
    "neuron": Column(pl.Int32, "index", "neuron of the MLP"),
    "n_tokens": Column(pl.Int64, "tokens", "tokens of the set"),
    "direct_effect": Column(pl.Float64, "logits", "mean clean direct effect of the neuron"),
    "change": Column(pl.Float64, "logits", "mean of its ablated minus clean direct effect"),
    "top_10": Column(pl.Float64, "ratio", "share of tokens on which it is among the 10 neurons that change most"),
    "first": Column(pl.Float64, "ratio", "share of tokens on which it is the neuron that changes most"),
    "erasing": Column(pl.Float64, "ratio", "share of tokens on which its clean direct effect is negative"),
    "anti_erasing": Column(
        pl.Float64, "ratio", "share of tokens on which its clean direct effect is negative and its change positive"
    ),
}
NEURON_RANKS = MLP_OF_HEAD | {
    "token_set": TOKEN_SET,
    "rank": Column(pl.Int32, "index", "0 for the neuron that changes most on a token"),
    "n_tokens": Column(pl.Int64, "tokens", "tokens of the set on which the MLP changes at all"),
    "cumulative_share": Column(
        pl.Float64, "ratio", "mean over them of: sum of |change| up to this rank, divided by that over all neurons"
    ),
    "median_direct_effect": Column(
        pl.Float64, "logits", "median clean direct effect of the neuron at this rank, over at most 2,000 tokens"
    ),
}
OF_NEURONS = {"model": STATISTICS["model"]} | MLP_OF_HEAD | {"token_set": TOKEN_SET}
ESTIMATE = {
    "low": Column(pl.Float64, "as value", "lower end of the 95 % bootstrap interval, clustered by document"),
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
NEURON_QUANTITY = (
    "mlp_share: repair_mlp / self_repair where that is positive; top_percent_share: top_percent_change / "
    "positive_change; top_5_share: top_5_change / repair_mlp (all MLPs, as in the original) where that is positive; "
    "top_5_share_of_layer: top_5_change / mlp_change (this MLP) where that is positive"
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
        "ablated_direct_effect": Column(pl.Float64, "logits", "mean direct effect in the ablated run, clean scale"),
        "anti_erasing": NEURONS["anti_erasing"],
        "value": NEURONS["top_10"],
        **{
            f"context_{i}": Column(pl.String, "", f"text before a prediction, `>>`, and the predicted token: {which}")
            for i, which in enumerate(("where its change is largest", "second largest", "third largest"), 1)
        },
    }
    | ESTIMATE
)
