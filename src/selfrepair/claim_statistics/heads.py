"""Statistics of claims about heads and layers, from the summaries of resample ablation.

Intervals of a statistic that averages layers or heads are approximate: they average the ends of 95 % intervals and take
denominators as known, and the layer with the largest mean is chosen once, on the whole sample.
"""

import math

import polars as pl

from selfrepair.claim_statistics.tables import Measured, Tables, peak_layer


def heads_repaired(t: Tables) -> Measured:
    """Fraction of all heads whose mean self-repair on top tokens is positive."""
    return Measured((t.heads["mean_self_repair"] > 0).mean())


def late_heads_repaired(t: Tables) -> Measured:
    """Fraction of heads in the second half of the layers whose mean self-repair on top tokens is positive."""
    late = t.heads.filter(pl.col("layer") * 2 >= t.n_layers)
    return Measured((late["mean_self_repair"] > 0).mean())


def late_repair_of_loss(t: Tables) -> Measured:
    """Self-repair divided by the direct effect lost, second half of the layers; 1 is perfect repair."""
    loss = (t.late["mean_direct_effect"] - t.late["mean_ablated_direct_effect"]).sum()
    return Measured(*(t.late[f"mean_self_repair{end}"].sum() / loss for end in ("", "_low", "_high")))


def early_repair(t: Tables) -> Measured:
    """Mean self-repair of the first quarter of the layers, in logits."""
    return _mean(t.layers.filter(pl.col("layer") * 4 < t.n_layers), "mean_self_repair")


def peak_depth(t: Tables) -> Measured:
    """Depth (layer / number of layers) of the layer with the largest mean self-repair."""
    return Measured(peak_layer(t.layers)["layer"] / t.n_layers)


def last_layer_drop(t: Tables) -> Measured:
    """Mean self-repair of the best layer minus that of the last, in logits."""
    peak, last = peak_layer(t.layers), t.layers.row(-1, named=True)
    name = "mean_self_repair"
    if peak["layer"] == last["layer"]:
        return Measured(0.0)
    return Measured(
        peak[name] - last[name], peak[f"{name}_low"] - last[f"{name}_high"], peak[f"{name}_high"] - last[f"{name}_low"]
    )


def late_self_repair_share(t: Tables) -> Measured:
    """Sum of self-repair divided by the sum of direct effects, second half of the layers."""
    return _late_share(t, "self_repair")


def late_norm_share(t: Tables) -> Measured:
    """The same of the final norm's part."""
    return _late_share(t, "repair_norm")


def late_attention_share(t: Tables) -> Measured:
    """The same of the part of later attention."""
    return _late_share(t, "repair_attention")


def late_mlp_share(t: Tables) -> Measured:
    """The same of the part of MLPs."""
    return _late_share(t, "repair_mlp")


def penultimate_norm_share(t: Tables) -> Measured:
    """Norm's part divided by direct effect (ratio of token means) for each head of the last layer but one, averaged."""
    return _mean(t.heads.filter(pl.col("layer") == t.n_layers - 2), "share_repair_norm")


def last_norm_share(t: Tables) -> Measured:
    """The same for the last layer."""
    return _mean(t.heads.filter(pl.col("layer") == t.n_layers - 1), "share_repair_norm")


def last_mlp_share(t: Tables) -> Measured:
    """The same of MLPs' part."""
    return _mean(t.heads.filter(pl.col("layer") == t.n_layers - 1), "share_repair_mlp")


def clipped_norm_share(t: Tables) -> Measured:
    """Norm's part divided by direct effect, clipped to [0, 1] on each token; mean over tokens, then over all heads."""
    return _mean(t.layers, "clipped_share_repair_norm")


def last_layer_responders(t: Tables) -> Measured:
    """Largest size of what later attention and MLPs do about a head of the last layer, in logits."""
    last = t.heads.filter(pl.col("layer") == t.n_layers - 1)
    return Measured((last["mean_repair_attention"].abs() + last["mean_repair_mlp"].abs()).max())


def unfiltered_repair(t: Tables) -> Measured:
    """Mean self-repair over all heads and all tokens, in logits."""
    return _mean(t.unfiltered, "mean_self_repair")


def loss_exceeds_drop(t: Tables) -> Measured:
    """Fraction of heads whose mean direct effect changes by more than the mean logit does, top tokens."""
    change = (t.heads["mean_ablated_direct_effect"] - t.heads["mean_direct_effect"]).abs()
    return Measured((change > t.heads["mean_delta_logit"].abs()).mean())


def heavy_tail(t: Tables) -> Measured:
    """Share of the summed size of all heads' mean change of the logit, all tokens, that the largest tenth makes.

    Heads whose importance were exponentially distributed, which is where heavy tails begin, would have 0.33.
    """
    sizes = t.unfiltered_heads["mean_delta_logit"].abs().sort(descending=True)
    return Measured(sizes.head(math.ceil(len(sizes) / 10)).sum() / sizes.sum())


def _mean(rows: pl.DataFrame, name: str) -> Measured:
    if rows.is_empty():
        return Measured(math.nan)  # a model of one layer has no last layer but one
    return Measured(*(rows[f"{name}{end}"].mean() for end in ("", "_low", "_high")))


def _late_share(t: Tables, part: str) -> Measured:
    effect = t.late["mean_direct_effect"]
    return Measured(*(t.late[f"mean_{part}{end}"].sum() / effect.sum() for end in ("", "_low", "_high")))
