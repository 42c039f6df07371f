"""Columns of the raw tables of single neurons."""

import polars as pl

from selfrepair.ablation.schema import EFFECTS, HEAD
from selfrepair.core.tables import Column
from selfrepair.tokens.schema import PLACE

FREQUENT_RANKS = 10  # a neuron counts as frequent by the tokens on which it is among so many
LISTED_NEURONS = 50  # neurons that a token row names
TOKEN_SET = Column(
    pl.String,
    "",
    "direct_effect: the head's top tokens by clean direct effect; top_mlp_repair: as many tokens with the largest "
    "repair_mlp, selected by what is measured, as the original does; both without position 0, where nothing can change",
)
MLP_OF_HEAD = HEAD | {"mlp_layer": Column(pl.Int16, "index", "layer of the MLP whose neurons are looked at")}
NEURON_TOKENS = (
    MLP_OF_HEAD
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "by_direct_effect": Column(pl.Boolean, "", "in the token set direct_effect"),
        "by_top_mlp_repair": Column(pl.Boolean, "", "in the token set top_mlp_repair"),
        "direct_effect": EFFECTS["direct_effect"],
        "self_repair": EFFECTS["self_repair"],
        "repair_mlp": Column(pl.Float32, "logits", "part of self_repair made by all MLPs together"),
        "mlp_direct_effect": Column(pl.Float32, "logits", "clean direct effect of this layer's MLP, its bias included"),
        "mlp_change": Column(pl.Float32, "logits", "change of it on ablation: the sum over all its neurons"),
        "positive_change": Column(pl.Float32, "logits", "sum over the neurons whose change is positive"),
        "absolute_change": Column(pl.Float32, "logits", "sum over all neurons of the size of the change"),
        "top_percent_change": Column(pl.Float32, "logits", "sum over the 1 % of neurons (at least 1) that change most"),
        "top_5_change": Column(pl.Float32, "logits", "sum over the 5 neurons that change most"),
        "harmful_direct_effect": Column(
            pl.Float32, "logits", "clean direct effect of the neuron whose change is smallest (most negative)"
        ),
        "harmful_change": Column(pl.Float32, "logits", "change of that neuron"),
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
NEURON_QUANTITY = (
    "mlp_share: repair_mlp / self_repair where that is positive; top_percent_share: top_percent_change / "
    "positive_change; top_5_share: top_5_change / repair_mlp (all MLPs, as in the original) where that is positive; "
    "top_5_share_of_layer: top_5_change / mlp_change (this MLP) where that is positive"
)
