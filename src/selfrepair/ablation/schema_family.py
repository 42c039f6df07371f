"""What is measured of the trainings of a controlled family (config/studies/architecture.yaml)."""

import polars as pl

from selfrepair.ablation.schema import DISTRIBUTION, DISTRIBUTION_SUMS, LOSSES
from selfrepair.core.tables import Column

TRAINED, SHUFFLED = "trained", "shuffled"
ARM_SUMS = {
    "step": Column(pl.Int32, "steps", "of the training, after which the weights were measured"),
    "weights": Column(pl.String, "", f"{TRAINED}; {SHUFFLED}: of the last step, the entries of each tensor permuted"),
    "half": Column(pl.String, "", "late: heads of the later half of the layers; early: the others"),
} | {
    name: DISTRIBUTION_SUMS[name]
    for name in [
        *("document", "n", "direct_effect", "self_repair", "repair_norm", "repair_attention", "repair_mlp"),
    ]
}
OTHER, NEAR, FAR, ZERO, MEAN = "other", "near", "far", "zero", "mean"
REPLACEMENTS = {  # of what an ablated head puts out
    OTHER: "its output in another row, drawn at random",
    NEAR: "its output in the row of another document whose streams are nearest",
    FAR: "its output in the row of another document whose streams are farthest",
    ZERO: "nothing",
    MEAN: "its mean output",
}
THIRDS = 3
DISPLACED = {
    "replacement": Column(pl.String, "", "; ".join(f"{name}: {meaning}" for name, meaning in REPLACEMENTS.items())),
    "layer": Column(pl.Int16, "index", "layer of the ablated heads, over which all is summed"),
    "third": Column(
        pl.Int8, "index", "of a head's top tokens by the distance of the ablated stream; 0: nearest to what is usual"
    ),
    "third_displaced": Column(
        pl.Int8, "index", "the same by the distance of the ablated stream minus that of the clean one; 0: smallest"
    ),
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "n": Column(pl.Int64, "tokens", "top tokens summed"),
    "clean_distance": Column(
        pl.Float64,
        "ratio",
        "sum over tokens: squared Mahalanobis distance of the clean stream after the layer's attention from such "
        "streams in the rows between, by its dimensions: one on average for a usual stream",
    ),
    "ablated_distance": Column(pl.Float64, "ratio", "the same with the head's output replaced and nothing else"),
    "relative_change": Column(pl.Float64, "ratio", "sum over tokens: norm of that change by that of the clean stream"),
    "removed": Column(pl.Float64, "logits", "sum over tokens: direct effect that the ablation takes away"),
    "repair_norm_own": Column(
        pl.Float64, "logits", "sum over tokens: the final norm's part if nothing but the head changed (closed form)"
    ),
} | {name: DISTRIBUTION_SUMS[name] for name in ("self_repair", "repair_norm", "repair_attention", "repair_mlp")}
LOSS_SUMS = {
    "distribution": DISTRIBUTION,
    "tokens": Column(pl.String, "", "top: the heads' top tokens within the distribution; all: a uniform sample"),
    "document": Column(pl.Int32, "index", "document of the correct next token, or prompt"),
    "n": Column(pl.Int64, "tokens", "tokens summed, of all heads of the later half"),
} | {
    name: Column(pl.Float64, "nats", f"sum over tokens: {LOSSES[name].meaning}")
    for name in ("loss", "ablated_loss", "loss_without_repair")
}
