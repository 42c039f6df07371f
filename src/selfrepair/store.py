"""What results look like on disk: Parquet tables with a documented schema, written whole or not at all."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

MADE_WITH = "selfrepair"  # key of a file's metadata


@dataclass(frozen=True)
class Column:
    """A column of a result table: its type, unit and meaning."""

    dtype: pl.DataType | type[pl.DataType]
    unit: str
    meaning: str


HEAD = {
    "layer": Column(pl.Int16, "index", "layer of the head, from 0"),
    "head": Column(pl.Int16, "index", "head within its layer, from 0"),
}
PLACE = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "pos": Column(pl.Int16, "index", "position that predicts; pos + 1 holds the correct next token"),
}
TOKENS = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "pos": Column(pl.Int32, "index", "position in the row; 0 is the beginning-of-text token"),
    "token": Column(pl.Int32, "id", "token of the model's tokenizer"),
    "document": Column(pl.Int32, "index", "document it comes from; null at position 0"),
    "offset": Column(pl.Int32, "tokens", "place within its document; the separator is its last"),
}
ROWS = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "source": Column(pl.Int32, "index", "row whose activations replace this one's in resample ablation"),
}
DOCUMENTS = {
    "document": Column(pl.Int32, "index", "document"),
    "name": Column(pl.String, "", "its name in the corpus"),
    "kind": Column(pl.String, "", "prose, code, or text where the corpus does not say"),
}
CLEAN_TOKENS = PLACE | {
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "control": Column(pl.Boolean, "", "in the uniform control sample"),
    "logit": Column(pl.Float32, "logits", "clean logit of the correct next token, centred over the vocabulary"),
    "bias": Column(pl.Float32, "logits", "part of it that is the unembedding bias"),
    "scale": Column(pl.Float32, "ratio", "clean scale of the final norm"),
}
SELECTED = (
    HEAD
    | PLACE
    | {
        "rank": Column(pl.Int32, "index", "0 for the token with the head's largest direct effect"),
        "direct_effect": Column(pl.Float32, "logits", "clean direct effect of the head"),
    }
)
EFFECTS = {
    "direct_effect": Column(pl.Float32, "logits", "direct effect of the head, clean run, clean scale"),
    "ablated_direct_effect": Column(pl.Float32, "logits", "direct effect of the head, ablated run, clean scale"),
    "delta_logit": Column(pl.Float32, "logits", "ablated minus clean logit of the correct next token"),
    "self_repair": Column(pl.Float32, "logits", "delta_logit minus the change of the head's own direct effect"),
    "repair_norm": Column(pl.Float32, "logits", "part of self_repair made by the final norm's scale"),
    "repair_attention": Column(pl.Float32, "logits", "part made by attention of later layers"),
    "repair_mlp": Column(pl.Float32, "logits", "part made by MLPs of later layers (own layer's in sequential blocks)"),
}
CLIPPED = {
    f"clipped_{name}": Column(
        pl.Float64, "ratio", f"{name} / direct_effect clipped to [0, 1] per token; 0 where direct_effect is"
    )
    for name in ("self_repair", "repair_norm", "repair_attention", "repair_mlp")
}


def by_layer(n_layers: int) -> dict[str, Column]:
    """Columns that hold one value per later layer."""
    dtype = pl.Array(pl.Float32, n_layers)
    return {
        "repair_attention_by_layer": Column(dtype, "logits", "repair_attention of each layer, by index"),
        "repair_mlp_by_layer": Column(dtype, "logits", "repair_mlp of each layer, by index"),
    }


def ablated_tokens(n_layers: int) -> dict[str, Column]:
    """Schema of the token rows that an ablation keeps."""
    return (
        HEAD
        | PLACE
        | {
            "document": Column(pl.Int32, "index", "document of the correct next token"),
            "selected": Column(pl.Boolean, "", "among the head's top tokens by clean direct effect"),
            "control": Column(pl.Boolean, "", "in the uniform control sample"),
            "logit": Column(pl.Float32, "logits", "clean logit of the correct next token, centred over the vocabulary"),
            "ablated_logit": Column(pl.Float32, "logits", "the same in the ablated run"),
            "scale": Column(pl.Float32, "ratio", "clean scale of the final norm"),
            "ablated_scale": Column(pl.Float32, "ratio", "the same in the ablated run"),
            "own_scale": Column(pl.Float32, "ratio", "the same if only the head's own output changed"),
        }
        | EFFECTS
        | by_layer(n_layers)
    )


def document_sums(n_layers: int) -> dict[str, Column]:
    """Schema of the running sums by head and document: over all tokens, or control tokens in selected mode."""
    summed = {
        name: Column(pl.Float64, c.unit, f"sum over tokens: {c.meaning}") for name, c in (EFFECTS | CLIPPED).items()
    }
    layered = {
        name: Column(pl.Array(pl.Float64, n_layers), c.unit, f"sum over tokens: {c.meaning}")
        for name, c in by_layer(n_layers).items()
    }
    key = HEAD | {"document": Column(pl.Int32, "index", "document of the correct next token")}
    return key | {"n": Column(pl.Int64, "tokens", "tokens summed")} | summed | layered


STATISTICS = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "n_layers": Column(pl.Int16, "layers", "layers of the model"),
    "layer": Column(pl.Int16, "index", "layer, from 0"),
    "head": Column(pl.Int16, "index", "head, from 0; null in a row about a whole layer"),
    "tokens": Column(
        pl.String,
        "",
        "top: the head's top tokens by clean direct effect; all: every token of the run, or those of the control "
        "sample's rows where only selected tokens are measured",
    ),
    "quantity": Column(pl.String, "", "a column of the token rows"),
    "statistic": Column(
        pl.String,
        "",
        "mean; median; share: sum divided by the sum of direct effects; clipped_share: mean over tokens of the share "
        "clipped to [0, 1]",
    ),
    "value": Column(pl.Float64, "logits or ratio", "the statistic; shares are ratios, the rest logits"),
    "low": Column(pl.Float64, "as value", "lower end of the bootstrap interval, clustered by document"),
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(
        pl.Int64, "tokens", "tokens behind the value, per head; a median over all tokens is of the control sample"
    ),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
}
RESPONDERS = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "layer": Column(pl.Int16, "index", "layer of the ablated head"),
    "head": Column(pl.Int16, "index", "ablated head"),
    "tokens": Column(pl.String, "", "top or all"),
    "part": Column(pl.String, "", "attention or mlp"),
    "later_layer": Column(pl.Int16, "index", "layer that responds"),
    "value": Column(pl.Float64, "logits", "mean change of its direct effect"),
}
NORM = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "n_layers": Column(pl.Int16, "layers", "layers of the model"),
    "heads": Column(
        pl.String,
        "",
        "one: a head; layer: those of a layer; later half: those of the later half of the layers; all. A mean over "
        "several heads is over the tokens of all, a share the ratio of their sums",
    ),
    "layer": Column(pl.Int16, "index", "layer, from 0; null where heads of several are taken together"),
    "head": Column(pl.Int16, "index", "head, from 0; null where several are taken together"),
    "tokens": Column(pl.String, "", "top: the heads' top tokens by clean direct effect; control: the control sample"),
    "accounting": Column(
        pl.String,
        "",
        "by which scale changes of the stream are turned into logits: clean scale, as everywhere else; ablated scale; "
        "midpoint: mean of both; null for scale_ratio",
    ),
    "quantity": Column(
        pl.String,
        "",
        "scale_ratio: clean scale / ablated scale; own, attention, mlp, norm: parts of delta_logit, own being that of "
        "the head itself; norm_own: the norm's part if only the head's own output changed; norm_responders: the rest "
        "of it",
    ),
    "statistic": Column(
        pl.String, "", "mean; share: sum divided by the sum of direct effects; above_1: share of tokens above 1"
    ),
    "value": Column(pl.Float64, "logits or ratio", "the statistic; means of parts are logits, the rest ratios"),
    "low": Column(pl.Float64, "as value", "lower end of the bootstrap interval, clustered by document"),
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(pl.Int64, "tokens", "tokens behind the value, of all heads together"),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
}
RATIO_BIN = 0.0005  # as in the paper's code
NORM_HISTOGRAM = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "layer": Column(pl.Int16, "index", "layer of the head"),
    "head": Column(pl.Int16, "index", "the head"),
    "tokens": Column(pl.String, "", "top or control"),
    "bin": Column(
        pl.Int32, "index", f"clean scale / ablated scale is from {RATIO_BIN} bin to just below {RATIO_BIN} (bin + 1)"
    ),
    "count": Column(pl.Int64, "tokens", "tokens in the bin; bins without any are left out"),
}
NORM_CHECK = {
    "model": Column(pl.String, "", "name of the model"),
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "layer": Column(pl.Int16, "index", "layer of the head"),
    "head": Column(pl.Int16, "index", "the head"),
    "n_tokens": Column(pl.Int64, "tokens", "kept tokens of the rows that were run anew"),
    "freezing": Column(
        pl.Float64, "logits", "mean effect of freezing: ablated logit minus that with the clean final scale"
    ),
    "repair_norm": Column(pl.Float64, "logits", "mean repair_norm of the same tokens, as measured in the sweep"),
    "largest_deviation": Column(pl.Float64, "logits", "largest difference of the two on any token"),
    "largest_logit": Column(pl.Float64, "logits", "largest clean logit of these rows, without its sign"),
}
PARTNERS = (
    HEAD
    | PLACE
    | {
        "document": Column(pl.Int32, "index", "document of the correct next token"),
        "selected": Column(pl.Boolean, "", "among the head's top tokens by clean direct effect"),
        "partner": Column(pl.Int16, "index", "which of the rows that replace this one; 0 is `source` of rows.parquet"),
    }
    | {name: EFFECTS[name] for name in ("direct_effect", "delta_logit", "self_repair")}
)
NOISE = {
    "model": Column(pl.String, "", "name of the model"),
    "n_layers": Column(pl.Int16, "layers", "layers of the model"),
    "heads": Column(pl.String, "", "one: a head; layer, later half, all: of several, all their tokens together"),
    "layer": Column(pl.Int16, "index", "layer, from 0; null where heads of several are taken together"),
    "head": Column(pl.Int16, "index", "head, from 0; null where several are taken together"),
    "tokens": Column(
        pl.String,
        "",
        "top: the head's top tokens by clean direct effect; control: the control sample; partners: all tokens of the "
        "rows that were ablated with several partners; partners top: the top tokens among them",
    ),
    "quantity": Column(
        pl.String,
        "",
        "of the tokens with a positive direct effect, the share on which the ablated logit is higher than the clean "
        "one (overcorrected), falls by less than the direct effect (repaired), or by no less (broken); and the "
        "variance of self_repair between documents (variance_document), between tokens of a document (variance_token) "
        "and between partners of a token (variance_partner), their sum (variance) and their shares of it "
        "(share_document, ...)",
    ),
    "value": Column(
        pl.Float64, "ratio or logits^2", "a share or a variance; components are unbiased, so they may be below zero"
    ),
    "low": Column(pl.Float64, "as value", "lower end of the bootstrap interval, clustered by document"),
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(pl.Int64, "tokens", "tokens behind the value, of all heads together"),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
}


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
            "of heads with a ratio below 1",
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


REFERENCE_HEADS = {
    "model": Column(pl.String, "", "name of the model"),
    "published_as": Column(pl.String, "", "its name in the reference file"),
    "layer": Column(pl.Int16, "index", "layer of the head"),
    "head": Column(pl.Int16, "index", "head within its layer"),
    "quantity": Column(pl.String, "", "a column of the token rows, averaged over the head's top tokens"),
    "measured": Column(pl.Float64, "logits", "mean in this run, resample ablation"),
    "measured_low": Column(pl.Float64, "logits", "lower end of its bootstrap interval, clustered by document"),
    "measured_high": Column(pl.Float64, "logits", "upper end of it"),
    "published": Column(pl.Float64, "logits", "mean that the authors published"),
}
REFERENCE_AGREEMENT = {
    "model": Column(pl.String, "", "name of the model"),
    "published_as": Column(pl.String, "", "its name in the reference file"),
    "layer": Column(pl.Int16, "index", "layer of the heads; null for all heads"),
    "quantity": Column(pl.String, "", "a column of the token rows, averaged over each head's top tokens"),
    "n_heads": Column(pl.Int64, "heads", "heads compared"),
    "pearson": Column(pl.Float64, "ratio", "correlation of measured and published values; null where not defined"),
    "spearman": Column(pl.Float64, "ratio", "correlation of their ranks; null where not defined"),
    "slope": Column(pl.Float64, "ratio", "of the least-squares line of measured on published values"),
    "rms_difference": Column(pl.Float64, "logits", "root mean square of their difference"),
    "measured": Column(pl.Float64, "logits", "mean over the heads, measured"),
    "published": Column(pl.Float64, "logits", "mean over the heads, published"),
}


def frame(columns: dict[str, object], schema: dict[str, Column]) -> pl.DataFrame:
    """Build a table with exactly the schema's columns and types, in its order.

    Raises:
        ValueError: a column is missing or not in the schema.
    """
    if set(columns) != set(schema):
        raise ValueError(f"columns {sorted(set(columns) ^ set(schema))} are missing or not in the schema")
    return pl.DataFrame({name: columns[name] for name in schema}, schema={n: c.dtype for n, c in schema.items()})


def empty(schema: dict[str, Column]) -> pl.DataFrame:
    """A table of the schema without rows."""
    return pl.DataFrame(schema={name: column.dtype for name, column in schema.items()})


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and rename it, so that `path` is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(table: pl.DataFrame, path: Path, made_with: dict[str, str] | None = None) -> None:
    """Write a Parquet file, complete or not at all; what it was made with goes into its metadata."""
    metadata = None if made_with is None else {MADE_WITH: json.dumps(made_with)}
    write_whole(path, lambda temporary: table.write_parquet(temporary, compression="zstd", metadata=metadata))


def read_made_with(path: Path) -> dict[str, str]:
    """What a file says it was made with."""
    return json.loads(pl.read_parquet_metadata(path)[MADE_WITH])


def tables(n_layers: int) -> dict[str, dict[str, Column]]:
    """Schema of every result table, by its path within a run's folder."""
    return {
        "tokens/<model>/tokens.parquet": TOKENS,
        "tokens/<model>/rows.parquet": ROWS,
        "tokens/<model>/documents.parquet": DOCUMENTS,
        "ablation/<model>/clean/tokens.parquet": CLEAN_TOKENS,
        "ablation/<model>/clean/selected.parquet": SELECTED,
        "ablation/<model>/<ablation>/tokens-<shard>.parquet": ablated_tokens(n_layers),
        "ablation/<model>/<ablation>/sums-<shard>.parquet": document_sums(n_layers),
        "ablation/<model>/neurons/tokens.parquet": NEURON_TOKENS,
        "ablation/<model>/neurons/neurons.parquet": NEURONS,
        "ablation/<model>/neurons/ranks.parquet": NEURON_RANKS,
        "analysis/<model>/neurons/sparsity.parquet": NEURON_SPARSITY,
        "analysis/<model>/neurons/histograms.parquet": NEURON_HISTOGRAMS,
        "analysis/<model>/neurons/shares.parquet": NEURON_SHARES,
        "analysis/<model>/neurons/cumulative.parquet": NEURON_CUMULATIVE,
        "analysis/<model>/neurons/frequency.parquet": NEURON_FREQUENCY,
        "analysis/<model>/neurons/erasure.parquet": ERASURE_NEURONS,
        "analysis/<model>/<ablation>/heads.parquet": STATISTICS,
        "analysis/<model>/<ablation>/layers.parquet": STATISTICS,
        "analysis/<model>/<ablation>/responders.parquet": RESPONDERS,
        "ablation/<model>/iterative/moves.parquet": MOVES,
        "ablation/<model>/iterative/additions.parquet": ADDITIONS,
        "analysis/<model>/iterative/moving.parquet": MOVING,
        "analysis/<model>/iterative/simulated.parquet": SIMULATED,
        "analysis/<model>/iterative/repression.parquet": REPRESSION,
        "analysis/<model>/iterative/iterative_summary.csv": ITERATIVE_SUMMARY,
        "analysis/<model>/<ablation>/norm.parquet": NORM,
        "analysis/<model>/<ablation>/norm_histogram.parquet": NORM_HISTOGRAM,
        "ablation/<model>/partners.parquet": PARTNERS,
        "analysis/<model>/noise.parquet": NOISE,
        "analysis/reference/heads.parquet": REFERENCE_HEADS,
        "analysis/reference/agreement.parquet": REFERENCE_AGREEMENT,
    }
