"""Statistics of claims about heads and layers, each a number from one model's heads under resample ablation.

`bootstrap.head_statistics` computes them on the run and on each of its bootstrap replicates, which gives the intervals:
denominators, the choice of the best layer and that of the top tokens vary with the replicate.
"""

import math

import polars as pl

from selfrepair.claims.tables import Heads


def heads_repaired(h: Heads) -> float:
    """Fraction of all heads whose mean self-repair on top tokens is positive."""
    return _mean(h.heads["mean_self_repair"] > 0)


def late_heads_repaired(h: Heads) -> float:
    """Fraction of heads in the second half of the layers whose mean self-repair on top tokens is positive."""
    return _mean(_late_heads(h)["mean_self_repair"] > 0)


def late_repair_of_loss(h: Heads) -> float:
    """Self-repair divided by the direct effect lost, second half of the layers; 1 is perfect repair."""
    loss = h.late["mean_direct_effect"] - h.late["mean_ablated_direct_effect"]
    return _ratio(h.late["mean_self_repair"], loss)


def early_repair(h: Heads) -> float:
    """Mean self-repair of the first quarter of the layers (at least of the first), in logits."""
    return _mean(h.layers.filter(pl.col("layer") < max(1, h.n_layers // 4))["mean_self_repair"])


def late_peak_lead(h: Heads) -> float:
    """Mean self-repair of the best layer in the last third of the depth but the last, less the best other, in logits.

    The depth of the first layer is 0, that of the last 1.
    """
    late = (pl.col("layer") * 3 >= 2 * (h.n_layers - 1)) & (pl.col("layer") < h.n_layers - 1)
    best, other = (h.layers.filter(which)["mean_self_repair"].max() for which in (late, ~late))
    return math.nan if best is None or other is None else best - other


def penultimate_minus_last(h: Heads) -> float:
    """Mean self-repair of the last layer but one minus that of the last, in logits."""
    last = h.layers["mean_self_repair"].tail(2)
    return _mean(last.head(1)) - _mean(last.tail(1))


def late_self_repair_share(h: Heads) -> float:
    """Sum of self-repair divided by the sum of direct effects, second half of the layers."""
    return _late_share(h, "self_repair")


def late_norm_share(h: Heads) -> float:
    """Sum of the final norm's part divided by the sum of direct effects, second half of the layers."""
    return _late_share(h, "repair_norm")


def late_attention_share(h: Heads) -> float:
    """Sum of later attention's part divided by the sum of direct effects, second half of the layers."""
    return _late_share(h, "repair_attention")


def late_mlp_share(h: Heads) -> float:
    """Sum of the MLPs' part divided by the sum of direct effects, second half of the layers."""
    return _late_share(h, "repair_mlp")


def penultimate_norm_share(h: Heads) -> float:
    """Norm's part divided by direct effect (ratio of token means) for each head of the last layer but one, averaged."""
    return _mean(h.of_layer(-2)["share_repair_norm"])


def last_norm_share(h: Heads) -> float:
    """Norm's part divided by direct effect (ratio of token means) for each head of the last layer, averaged."""
    return _mean(h.of_layer(-1)["share_repair_norm"])


def last_mlp_share(h: Heads) -> float:
    """MLPs' part divided by direct effect (ratio of token means) for each head of the last layer, averaged."""
    return _mean(h.of_layer(-1)["share_repair_mlp"])


def clipped_norm_share(h: Heads) -> float:
    """Norm's part divided by direct effect, clipped to [0, 1] on each token; mean over tokens, then over all heads."""
    return _mean(h.layers["clipped_share_repair_norm"])


def last_layer_responders(h: Heads) -> float:
    """Largest size of what later attention and MLPs do about a head of the last layer, in logits."""
    last = h.of_layer(-1)
    largest = (last["mean_repair_attention"].abs() + last["mean_repair_mlp"].abs()).max()
    return math.nan if largest is None else largest


def unfiltered_repair(h: Heads) -> float:
    """Mean self-repair over all heads and all tokens, in logits."""
    return _mean(h.unfiltered["mean_self_repair"])


def logit_falls_less_than_direct_effect(h: Heads) -> float:
    """Fraction of heads whose mean direct effect changes by more than the mean logit does, top tokens."""
    change = (h.heads["mean_ablated_direct_effect"] - h.heads["mean_direct_effect"]).abs()
    return _mean(change > h.heads["mean_delta_logit"].abs())


def heavy_tail(h: Heads) -> float:
    """Share of the summed size of all heads' mean change of the logit, all tokens, that the largest tenth makes.

    Heads whose importance were exponentially distributed, which is where heavy tails begin, would have 0.33.
    """
    sizes = h.unfiltered_heads["mean_delta_logit"].abs().sort(descending=True)
    return _ratio(sizes.head(math.ceil(len(sizes) / 10)), sizes)


def noisily_repaired(h: Heads) -> float:
    """Fraction of heads in the second half whose self-repair has a positive mean and a larger standard deviation.

    Both are over top tokens. Without repair every head varies by more than its mean, but only half have a positive one.
    """
    mean, late = pl.col("mean_self_repair"), _late_heads(h)
    return _mean(late.select((mean > 0) & (pl.col("sd_self_repair") > mean)).to_series())


def scale_falls(h: Heads) -> float:
    """Share of top tokens whose final scale is smaller after the ablation, mean over heads of the second half."""
    return _mean(_late_heads(h)["share_scale_falls"])


def overcorrected(h: Heads) -> float:
    """Share of top tokens whose logit is higher in the ablated pass, mean over heads of the second half."""
    return _mean(_late_heads(h)["share_overcorrected"])


def mirror_of_overcorrection(h: Heads) -> float:
    """Share of top tokens whose self-repair is negative by more than the loss, mean over heads of the second half.

    Where self-repair is nothing but noise around zero, it is as often above the loss, which is overcorrection.
    """
    return _mean(_late_heads(h)["share_mirrored"])


def overcorrection_beyond_mirror(h: Heads) -> float:
    """Share of tokens with overcorrection less its mirror; zero where self-repair is noise around zero."""
    return overcorrected(h) - mirror_of_overcorrection(h)


def _late_heads(h: Heads) -> pl.DataFrame:
    return h.heads.filter(pl.col("layer") * 2 >= h.n_layers)


def _mean(values: pl.Series) -> float:
    """Mean of what is known; NaN of nothing, where no head of some layer was measured."""
    mean = values.mean()
    return math.nan if mean is None else mean


def _ratio(numerator: pl.Series, denominator: pl.Series) -> float:
    """Ratio of sums; NaN where nothing was measured."""
    return numerator.sum() / denominator.sum() if denominator.sum() else math.nan


def _late_share(h: Heads, part: str) -> float:
    return _ratio(h.late[f"mean_{part}"], h.late["mean_direct_effect"])
