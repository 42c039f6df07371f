"""Results of a controlled family: arms against the base, and whether repair looks like adaptation or an artefact."""

import polars as pl

from selfrepair.core.tables import Column

ARM = {
    "arm": Column(pl.String, "", "feature in which it differs from the base; or base"),
    "seed": Column(pl.Int16, "index", "seed of the training; pairs have the same"),
}
ARM_PART = {
    "part": Column(pl.String, "", "self_repair, or its part repair_norm, repair_attention or repair_mlp"),
    "value": Column(
        pl.Float64, "ratio", "sum over the top tokens of all heads of the later half, by that of direct effects"
    ),
    "low": Column(pl.Float64, "ratio", "lower end of its 95 % interval: documents are drawn anew"),
    "high": Column(pl.Float64, "ratio", "upper end of it"),
}
ARMS = (
    ARM
    | {
        "parameters": Column(pl.Int64, "weights", "of the model"),
        "held_out_loss": Column(pl.Float64, "nats per token", "of all held-out text, after the last step"),
    }
    | ARM_PART
    | {"null": Column(pl.Float64, "ratio", "the same with the weights of every tensor permuted")}
)
ARM_COURSE = (
    ARM
    | {
        "step": Column(pl.Int32, "steps", "of the training"),
        "held_out_loss": Column(pl.Float64, "nats per token", "after it, of a tenth of the held-out text"),
        "direct_effect": Column(pl.Float64, "logits", "mean direct effect of the late heads on their top tokens"),
    }
    | ARM_PART
)
ARM_ONSET = {
    "arm": ARM["arm"],
    "quantity": Column(pl.String, "", "self_repair, or its part; or held_out_loss"),
    "of": Column(
        pl.String, "", "share: by the direct effect of all late heads' top tokens; mean: per token, in logits or nats"
    ),
    "value": Column(
        pl.Float64,
        "doublings of the step",
        "step at which the quantity is half of what it is in the end (the loss: half way from its first value), after "
        "that of the late heads' mean direct effect on their top tokens; mean over seeds",
    ),
    "low": Column(
        pl.Float64,
        "doublings of the step",
        "lower end of its 95 % interval: seeds and documents are drawn anew, but not the documents of the loss",
    ),
    "high": Column(pl.Float64, "doublings of the step", "upper end of it"),
    "n_seeds": Column(pl.Int16, "seeds", "trainings"),
    "answer": Column(pl.String, "", "whether it comes before or after direct effects, by the interval"),
}
ARM_DIFFERENCES = {
    "arm": ARM["arm"],
    "matched": Column(pl.String, "", "steps: both after the last step; loss: where their held-out losses are nearest"),
    "part": ARM_PART["part"],
    "value": Column(pl.Float64, "ratio", "arm minus base, mean over pairs of seeds"),
    "low": Column(pl.Float64, "ratio", "lower end of its 95 % interval: seeds and documents are drawn anew"),
    "high": Column(pl.Float64, "ratio", "upper end of it"),
    "n_seeds": Column(pl.Int16, "seeds", "pairs"),
    "loss_gap": Column(
        pl.Float64,
        "nats per token",
        "difference of the held-out losses where compared, without its sign; mean over pairs",
    ),
    "bound": Column(pl.Float64, "ratio", "difference that counts as no effect, on either side"),
    "replicates": Column(pl.Int32, "samples", "of the bootstrap"),
    "answer": Column(pl.String, "", "what the interval says: raises, lowers, no effect beyond the bound, undecided"),
    "pooled_low": Column(
        pl.Float64,
        "ratio",
        "lower end of a second interval, whose variance between seeds is that of all trainings; at the same step only",
    ),
    "pooled_high": Column(pl.Float64, "ratio", "upper end of it"),
    "pooled_answer": Column(pl.String, "", "what that says"),
}
OF_EVIDENCE = "ratio (losses: nats per token)"
EVIDENCE = {
    "statistic": Column(
        pl.String,
        "",
        "loss_saved: mean loss that repair saves; cost_without_repair: mean loss that an ablation costs if nothing "
        "responds; gain_on_guessing: mean loss of a uniform guess minus the clean loss; distance: squared distance "
        "of the ablated stream from usual ones, by that of the clean stream; relative_change: norm of the head's "
        "change by that of the stream; repair: self-repair by the direct effect that was removed; norm: the final "
        "norm's part of it; own_norm: what that would be if nothing but the head changed; far_minus_near: "
        "difference of repair, or of distance, between two replacements; last_minus_first_third: of repair, between"
        " thirds of the tokens by the distance of the ablated stream; most_minus_least_displaced_third: by that "
        "minus the distance of the clean stream",
    ),
    "of": Column(pl.String, "", "what it is of: distribution, replacement, or third of the tokens"),
    "tokens": Column(pl.String, "", "top: the heads' top tokens; all: a uniform sample"),
    "layer": Column(pl.Int16, "index", "layer of the heads; null: the later half"),
    "seed": Column(pl.Int16, "index", "seed of the training; null: the mean over all"),
    "value": Column(pl.Float64, OF_EVIDENCE, "ratio of sums, or difference of two"),
    "low": Column(pl.Float64, OF_EVIDENCE, "lower end of its 95 % interval: documents drawn anew, and seeds of a mean"),
    "high": Column(pl.Float64, OF_EVIDENCE, "upper end of it"),
}
