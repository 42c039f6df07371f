"""Columns of the summaries of heads, of the final norm, of the noise, and of the comparison with published values."""

import polars as pl

from selfrepair.ablation.schema import ADDITIONS, MOVED_TOKENS
from selfrepair.core.tables import Column

EFFECTIVE = Column(
    pl.Float64, "documents", "Kish's effective number of them: the square of all tokens by the sum of squares"
)
RESELECTED = Column(
    pl.Float64,
    "as value",
    "lower end of its 95 % interval: documents are drawn anew, and each replicate selects its own top tokens",
)
FIXED = Column(
    pl.Float64,
    "as value",
    "lower end of its 95 % interval: documents are drawn anew, the choice of the top tokens is held fixed",
)
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
    "low": RESELECTED,
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(
        pl.Int64, "tokens", "tokens behind the value, per head; a median over all tokens is of the control sample"
    ),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
    "n_effective": EFFECTIVE,
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
    "low": RESELECTED,
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(pl.Int64, "tokens", "tokens behind the value, of all heads together"),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
    "n_effective": EFFECTIVE,
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
    "low": RESELECTED,
    "high": Column(pl.Float64, "as value", "upper end of it"),
    "n_tokens": Column(pl.Int64, "tokens", "tokens behind the value, of all heads together"),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
    "n_effective": EFFECTIVE,
}
REFERENCE_HEADS = {
    "model": Column(pl.String, "", "name of the model"),
    "published_as": Column(pl.String, "", "its name in the reference file"),
    "layer": Column(pl.Int16, "index", "layer of the head"),
    "head": Column(pl.Int16, "index", "head within its layer"),
    "quantity": Column(pl.String, "", "a column of the token rows, averaged over the head's top tokens"),
    "measured": Column(pl.Float64, "logits", "mean in this run, resample ablation"),
    "measured_low": Column(pl.Float64, "logits", RESELECTED.meaning),
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
    "authors_pearson": Column(
        pl.Float64,
        "ratio",
        "correlation of the authors' published Pythia-160M heads with those of an earlier run of theirs",
    ),
    "slope": Column(pl.Float64, "ratio", "of the least-squares line of measured on published values"),
    "rms_difference": Column(pl.Float64, "logits", "root mean square of their difference"),
    "measured": Column(pl.Float64, "logits", "mean over the heads, measured"),
    "published": Column(pl.Float64, "logits", "mean over the heads, published"),
}
INTERVAL = {
    "value": Column(pl.Float64, "as named", "the quantity"),
    "low": FIXED,
    "high": Column(pl.Float64, "as value", "upper end of it"),
}
SAMPLE_SIZE = {
    "n_tokens": Column(pl.Int64, "tokens", "tokens behind the value"),
    "n_documents": Column(pl.Int64, "documents", "documents behind it"),
}
MODEL_COLUMNS = {
    "model": Column(pl.String, "", "name of the model"),
    "n_layers": Column(pl.Int16, "layers", "layers of the model"),
}
MOVING = (
    MODEL_COLUMNS
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
    | SAMPLE_SIZE
)
SIMULATED = (
    MODEL_COLUMNS
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
    | SAMPLE_SIZE
)
REPRESSION = (
    MODEL_COLUMNS
    | {
        "layer": Column(pl.Int16, "index", "layer of the head; null for all heads together"),
        "head": Column(pl.Int16, "index", "head; null for all heads together"),
        "direction": ADDITIONS["direction"],
        "strength": ADDITIONS["strength"],
        "scale": Column(
            pl.String, "", "scale of the new direct effect: clean, or of the perturbed pass (the original)"
        ),
        "statistic": Column(
            pl.String,
            "",
            "ratio: new divided by old mean direct effect (of all heads: mean of their ratios); share_repressed: share "
            "of heads with a ratio below 1; ratio_beyond_random: ratio of own output less that of a random direction",
        ),
    }
    | INTERVAL
    | SAMPLE_SIZE
)
ITERATIVE_SUMMARY = (
    {"model": MODEL_COLUMNS["model"], "statistic": Column(pl.String, "", "what it is, of which variant")}
    | INTERVAL
    | {
        "supports": Column(
            pl.String,
            "",
            "for or against iterative inference, or neither. Correlations: interval above or below 0; simulated_kept: "
            "above or below 0.5; repression_ratio: ratio below 1 and below a random direction's, or above 1 or above "
            "it, with the whole interval; with the perturbed pass's scale a larger divisor counts as repression",
        ),
    }
)
SHOWN_CONTEXTS = {
    f"context_{i}": Column(pl.String, "", f"text before a prediction, `>>`, and the predicted token: {which}")
    for i, which in enumerate(("where its change is largest", "second largest", "third largest"), 1)
}
