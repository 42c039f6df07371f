"""Columns of the summaries of the studies beyond the paper."""

import polars as pl

from selfrepair.ablation.schema import DISTRIBUTION, DISTRIBUTION_SUMS, RULES, THRESHOLDS
from selfrepair.analysis.schema import (
    EFFECTIVE,
    FIXED,
    INTERVAL,
    MODEL_COLUMNS,
    NORM,
    RESELECTED,
    SAMPLE_SIZE,
    SHOWN_CONTEXTS,
)
from selfrepair.core.tables import Column

UNITS = (
    MODEL_COLUMNS
    | {
        "unit": Column(
            pl.String,
            "",
            "heads: the heads of a layer, each ablated alone; attention; mlp; or an entry of `ablation.units`",
        ),
        "layer": Column(pl.Int16, "index", "layer, from 0; null for all of the later half, and for an entry"),
        "quantity": Column(pl.String, "", "direct_effect, delta_logit, self_repair or a part of it"),
        "statistic": Column(
            pl.String, "", "on each unit's top tokens: mean; share: sum divided by the sum of direct effects"
        ),
        "value": Column(pl.Float64, "logits or ratio", "the statistic; shares are ratios, the rest logits"),
        "low": RESELECTED,
        "high": Column(pl.Float64, "as value", "upper end of it"),
    }
    | SAMPLE_SIZE
    | {"n_effective": EFFECTIVE}
)
HAND_OFF = {
    "model": Column(pl.String, "", "name of the model"),
    "layer": Column(pl.Int16, "index", "layer of the ablated head"),
    "head": Column(pl.Int16, "index", "ablated head"),
    "later_layer": Column(pl.Int16, "index", "layer of a head that responds"),
    "later_head": Column(pl.Int16, "index", "that head"),
    "value": Column(pl.Float64, "logits", "mean change of its direct effect on the ablated head's top tokens"),
    "low": FIXED,
    "high": Column(pl.Float64, "logits", "upper end of it"),
}
SPARSITY = {
    "model": Column(pl.String, "", "name of the model"),
    "rank": Column(pl.Int32, "index", "number of later heads, those of largest positive change first"),
    "value": Column(
        pl.Float64,
        "ratio",
        "share of all positive changes that they make, summed over the heads of the later half without the last layer; "
        "ranked on one half of the documents, measured on the other, both ways",
    ),
    "low": FIXED,
    "high": Column(pl.Float64, "ratio", "upper end of it"),
}
PAIR_ESTIMATES = {
    "handed": ("logits", "mean change of the later head's direct effect on the head's top tokens"),
    "held": ("ratio", "fall of the logit when the later head is held at its clean output, by that change"),
    "share_alone": ("ratio", "self-repair of the head by its direct effect"),
    "share_of_pair": ("ratio", "self-repair by direct effect when both are ablated"),
}
PAIRS = {
    "model": Column(pl.String, "", "name of the model"),
    "layer": Column(pl.Int16, "index", "layer of the ablated head"),
    "head": Column(pl.Int16, "index", "ablated head"),
    "later_layer": Column(pl.Int16, "index", "layer of the later head that repairs it most"),
    "later_head": Column(pl.Int16, "index", "that head"),
    "n_tokens": Column(pl.Int64, "tokens", "top tokens of the head"),
    **{
        f"{name}{end}": Column(pl.Float64, unit, f"{meaning}{said}")
        for name, (unit, meaning) in PAIR_ESTIMATES.items()
        for end, said in (("", ""), ("_low", ": lower end of the 95 % interval"), ("_high", ": upper end of it"))
    },
} | SHOWN_CONTEXTS
LOSS = (
    MODEL_COLUMNS
    | {name: NORM[name] for name in ("heads", "layer", "head")}
    | {
        "tokens": Column(
            pl.String,
            "",
            "of some rows: top: the heads' top tokens by clean direct effect; control: a sample drawn uniformly",
        ),
        "quantity": Column(
            pl.String,
            "",
            "a column of the token rows; cost: ablated_loss minus loss; cost_without_repair: loss_without_repair minus "
            "loss; loss_saved: loss_without_repair minus ablated_loss",
        ),
        "statistic": Column(pl.String, "", "mean; share: sum divided by the sum of cost_without_repair"),
        "value": Column(pl.Float64, "nats or ratio", "the statistic; shares are ratios, the rest nats"),
        "low": FIXED,
        "high": Column(pl.Float64, "as value", "upper end of it"),
    }
    | SAMPLE_SIZE
    | {"n_effective": EFFECTIVE}
)
BY_THRESHOLD = (
    MODEL_COLUMNS
    | {
        "rule": Column(
            pl.String,
            "",
            "what the tokens of a head are ranked by, largest first: "
            + "; ".join(f"{rule}: {by}" for rule, by in RULES.items()),
        ),
        "threshold": Column(pl.Float64, "ratio", f"share of them that count: {', '.join(map(str, THRESHOLDS))}"),
        "quantity": Column(pl.String, "", "direct_effect, self_repair or a part of it, all as in the token rows"),
        "statistic": Column(
            pl.String,
            "",
            "mean: over the tokens of all heads of the later half; share: sum over them divided by the sum of direct "
            "effects",
        ),
        "value": Column(pl.Float64, "logits or ratio", "the statistic; means are logits, shares ratios"),
        "low": FIXED,
        "high": Column(pl.Float64, "as value", "upper end of it"),
    }
    | SAMPLE_SIZE
    | {"n_effective": EFFECTIVE}
)
ATTRIBUTION = (
    MODEL_COLUMNS
    | {
        "layer": Column(pl.Int16, "index", "layer of the head, from 0"),
        "head": Column(pl.Int16, "index", "head within its layer, from 0"),
        "tokens": Column(
            pl.String, "", "of the measured rows: top: the head's 2 % with the largest clean direct effect; all"
        ),
        "quantity": Column(
            pl.String,
            "",
            "mean over tokens: delta_logit and self_repair, as in the token rows; estimate: of delta_logit, by the "
            "gradient; error: estimate minus delta_logit; absolute_error: size of the error of single tokens",
        ),
        "value": Column(pl.Float64, "logits", "the mean"),
        "low": FIXED,
        "high": Column(pl.Float64, "logits", "upper end of it"),
    }
    | SAMPLE_SIZE
    | {"n_effective": EFFECTIVE}
)
DISTRIBUTION_HEADS = (
    MODEL_COLUMNS
    | {
        "distribution": DISTRIBUTION,
        "tokens": DISTRIBUTION_SUMS["tokens"],
        "heads": Column(pl.String, "", "one: a head; later half: those of the later half of the layers, together"),
        "layer": Column(pl.Int16, "index", "layer, from 0; null where several heads are taken together"),
        "head": Column(pl.Int16, "index", "head, from 0; null where several are taken together"),
        "quantity": Column(
            pl.String,
            "",
            "a column of the token rows; or overcorrected: of the tokens with a positive direct effect, the share on "
            "which the ablated logit is higher than the clean one",
        ),
        "statistic": Column(pl.String, "", "mean; share: sum divided by the sum of direct effects; rate: of tokens"),
    }
    | INTERVAL
    | SAMPLE_SIZE
)
ACCURACY = {
    "model": MODEL_COLUMNS["model"],
    "distribution": DISTRIBUTION,
    "statistic": Column(
        pl.String,
        "",
        "share of answers whose clean logit is the largest of all tokens (first), or larger than the alternative's "
        "(preferred)",
    ),
    "value": Column(pl.Float64, "ratio", "the share"),
    "low": Column(pl.Float64, "ratio", "lower end of its 95 % interval: prompts are drawn anew"),
    "high": Column(pl.Float64, "ratio", "upper end of it"),
    "n_answers": Column(pl.Int64, "tokens", "answers"),
    "n_documents": Column(pl.Int64, "documents", "prompts"),
    "reported": Column(
        pl.Boolean, "", "whether findings of the distribution are: false where fewer than four in five are preferred"
    ),
}
KNOWN_ANSWER = {
    "ablation": Column(pl.String, "", "resample, zero or mean"),
    "layer": Column(pl.Int16, "index", "layer of the head"),
    "head": Column(pl.Int16, "index", "the head"),
    "tokens": Column(
        pl.String,
        "",
        "pencil: tokens of the kind worked by hand; kept: every token row; all, top: means of heads.csv; or neurons",
    ),
    "quantity": Column(pl.String, "", "an effect, or a scale of the final norm"),
    "n": Column(pl.Int64, "numbers", "numbers compared: one for each token (or neuron), or a single mean"),
    "expected": Column(pl.Float64, "logits", "mean of what follows on paper (scales: a ratio)"),
    "measured": Column(pl.Float64, "logits", "mean of what the run measured"),
    "largest_difference": Column(pl.Float64, "logits", "largest difference on any token; of means for all and top"),
}
FINDINGS = {
    "model": Column(pl.String, "", "name of the model"),
    "study": Column(pl.String, "", "id in config/studies.yaml, which says what the statistic is"),
    "statistic": Column(pl.String, "", "name of the statistic there"),
    "tokens": Column(pl.String, "", "what it is measured on"),
    "value": Column(pl.Float64, "of the statistic", "the statistic"),
    "low": Column(pl.Float64, "of the statistic", "lower end of its 95 % interval: documents are drawn anew"),
    "high": Column(pl.Float64, "of the statistic", "upper end of it"),
    "n_documents": Column(pl.Int64, "documents", "documents, or prompts, that are drawn"),
}
