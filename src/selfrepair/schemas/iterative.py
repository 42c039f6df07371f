"""Columns of the experiments on iterative inference."""

import polars as pl

from selfrepair.schemas.tokens import HEAD, PLACE
from selfrepair.store import Column

MOVED_TOKENS = "all: every token of the run; top: the top tokens of the ablated head"
INTERVAL = {
    "value": Column(pl.Float64, "as named", "the quantity"),
    "low": Column(pl.Float64, "as value", "lower end of the bootstrap interval, clustered by document"),
    "high": Column(pl.Float64, "as value", "upper end of it"),
}
BEHIND = {
    "n_tokens": Column(pl.Int64, "tokens", "tokens behind the value"),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
}
OF_MODEL = {
    "model": Column(pl.String, "", "name of the model"),
    "n_layers": Column(pl.Int16, "layers", "layers of the model"),
}
MOVES = HEAD | {
    "tokens": Column(pl.String, "", MOVED_TOKENS),
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "ablated_head": Column(pl.Int16, "index", "head of the layer before that is ablated: its strongest on top tokens"),
    "moved_layer_effect": Column(pl.Float64, "logits", "direct effect of the heads before: sum, mean over tokens"),
    "n": Column(pl.Int64, "tokens", "tokens summed"),
    "direct_effect": Column(pl.Float64, "logits", "sum over tokens: clean direct effect of the head"),
    "moved": Column(pl.Float64, "logits", "sum: the same where the layer before is skipped"),
    "ablated": Column(pl.Float64, "logits", "sum: the same where the head before is resample-ablated"),
    "direct_effect_squared": Column(pl.Float64, "logits^2", "sum of squares of direct_effect"),
    "moved_squared": Column(pl.Float64, "logits^2", "sum of squares of moved"),
    "direct_effect_moved": Column(pl.Float64, "logits^2", "sum of products of direct_effect and moved"),
}
ADDITIONS = (
    HEAD
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "direction": Column(
            pl.String,
            "",
            "what is added to what the head's layer reads, at this position: own output, another head's of the layer, "
            "or a random direction of the own output's norm",
        ),
        "strength": Column(pl.Float32, "ratio", "factor of what is added"),
        "direct_effect": Column(pl.Float32, "logits", "clean direct effect of the head"),
        "new_direct_effect": Column(pl.Float32, "logits", "after the addition, with the clean scale"),
        "new_direct_effect_perturbed": Column(pl.Float32, "logits", "the same with the scale of the perturbed run"),
    }
)
MOVING = (
    OF_MODEL
    | {
        "moved_layer": Column(pl.Int16, "index", "layer that is skipped; null for all layers together"),
        "marked": Column(pl.Boolean, "", "whether it is the layer, but the last, of largest direct effect"),
        "ablated_head": Column(pl.Int16, "index", "head of it that is ablated instead; null for all layers together"),
        "head": Column(pl.Int16, "index", "head of the next layer that responds; null for a correlation over them"),
        "tokens": Column(pl.String, "", MOVED_TOKENS),
        "quantity": Column(
            pl.String,
            "",
            "direct_effect: mean; change_moving, change_ablating: its mean change, clean scale; correlation: of the "
            "two changes over heads",
        ),
    }
    | INTERVAL
    | BEHIND
)
SIMULATED = (
    OF_MODEL
    | {
        "layer": Column(pl.Int16, "index", "layer whose attention reads what the layer before it reads"),
        "head": Column(pl.Int16, "index", "head of it; null in a row about the layer"),
        "tokens": Column(pl.String, "", MOVED_TOKENS),
        "quantity": Column(
            pl.String,
            "",
            "of simulated and true direct effect, clean scale: token_correlation, over tokens (of a layer: mean over "
            "heads); head_correlation, of means over heads; kept: slope of simulated against true, through the origin",
        ),
    }
    | INTERVAL
    | BEHIND
)
REPRESSION = (
    OF_MODEL
    | {
        "layer": Column(pl.Int16, "index", "layer of the head; null for all heads together"),
        "head": Column(pl.Int16, "index", "head; null for all heads together"),
        "direction": ADDITIONS["direction"],
        "strength": ADDITIONS["strength"],
        "scale": Column(pl.String, "", "scale of the new direct effect: clean, or of the perturbed run (the original)"),
        "statistic": Column(
            pl.String,
            "",
            "ratio: new divided by old mean direct effect (of all heads: mean of their ratios); share_repressed: share "
            "of heads with a ratio below 1; ratio_beyond_random: ratio of own output less that of a random direction",
        ),
    }
    | INTERVAL
    | BEHIND
)
ITERATIVE_SUMMARY = (
    {"model": OF_MODEL["model"], "statistic": Column(pl.String, "", "what it is, of which variant")}
    | INTERVAL
    | {
        "speaks": Column(
            pl.String,
            "",
            "for or against iterative inference, or neither. Correlations: interval above or below 0; simulated_kept: "
            "above or below 0.5; repression_ratio: ratio below 1 and below a random direction's, or above 1 or above "
            "it, with the whole interval; with the perturbed run's scale a larger divisor counts as repression",
        ),
    }
)
