"""Whether ablation shrinks the final stream: clean over ablated scale on single tokens (the paper's histogram)."""

import altair as alt
import polars as pl

from selfrepair.analysis.schema import RATIO_BIN
from selfrepair.figures import theme

BARS = 40  # about so many over the axis
BEYOND = 0.005  # share of tokens left out at either end of the axis
HEIGHT = 170  # px
WHY = {"direct_effect": "largest direct effect", "repair_norm": "most repaired by the norm"}


def heads_to_show(heads: pl.DataFrame, configured: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Heads of the last measured layer and why: largest direct effect, largest part of the norm, configured.

    Args:
        heads: `STATISTICS` of one model's heads.
    """
    top = heads.filter(tokens="top", statistic="mean").filter(pl.col("layer") == pl.col("layer").max())
    reasons: dict[tuple[int, int], str] = {}
    for quantity, why in WHY.items():
        (best,) = top.filter(quantity=quantity).sort("value").tail(1).select("layer", "head").rows()
        reasons[best] = f"{reasons[best]}, {why}" if best in reasons else why
    for head in configured:
        if head[0] == top["layer"][0] and head not in reasons:
            reasons[head] = "configured"
    return dict(list(reasons.items())[: theme.MAX_COLUMNS])


def norm_scale_of_heads(
    norm: pl.DataFrame, histogram: pl.DataFrame, heads: pl.DataFrame, chosen: pl.DataFrame
) -> alt.ConcatChart:
    """Draw `norm_scale` of the heads of `heads_to_show`.

    Args:
        heads: `STATISTICS` of the model's heads, resample ablation.
        chosen: `chosen_heads.CHOSEN_HEADS` of the model.
    """
    configured = chosen.filter(reason="configured").select("layer", "head").rows()
    return norm_scale(norm, histogram, heads_to_show(heads, configured))


def norm_scale(norm: pl.DataFrame, histogram: pl.DataFrame, shown: dict[tuple[int, int], str]) -> alt.ConcatChart:
    """Draw histograms of the ratio of clean and ablated scale on a head's top tokens, one colour per kind of ablation.

    Args:
        norm: `NORM` of one model, of one or several kinds.
        histogram: `NORM_HISTOGRAM` of the same.
        shown: heads to draw, a panel each, and why; of `heads_to_show`.
    """
    (model,) = theme.names(norm)
    panels = []
    columns = min(2, len(shown))
    for index, ((layer, head), why) in enumerate(shown.items()):
        of_head = histogram.filter(layer=layer, head=head, tokens="top")
        rates = norm.filter(heads="one", layer=layer, head=head, statistic="above_1")
        title = alt.Title(
            f"L{layer}H{head}: {why}", subtitle=_rates(rates), subtitleColor=theme.MUTED, subtitleFontSize=10
        )
        panels.append(_panel(of_head, index, columns).properties(title=title))
    return theme.themed(
        alt.concat(*panels, columns=columns, spacing=40),
        f"Scale of the final norm, {model}: share of a head's top tokens in percent by the ratio of the clean scale to "
        "the ablated scale, for each kind of ablation. Above 1 ablation shrinks the stream and the norm amplifies what "
        "is left.",
        [
            f"{model}; heads of the last layer; top tokens of the head by direct effect. At most {200 * BEYOND:.0f} % "
            "of the tokens lie beyond the axis.",
            "Share of tokens above 1 in the panels' titles, with 95 % intervals, bootstrap by document.",
        ],
    )


def _rates(rates: pl.DataFrame) -> list[str]:
    lines = []
    for ablation in theme.names(rates, "ablation"):
        (top,) = rates.filter(ablation=ablation, tokens="top").to_dicts()
        (control,) = rates.filter(ablation=ablation, tokens="control").to_dicts()
        lines.append(f"{ablation}: {_percent(top)} above 1; of control tokens {_percent(control)}")
    return lines


def _percent(rate: dict[str, float]) -> str:
    return f"{100 * rate['value']:.0f} % [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


def _panel(histogram: pl.DataFrame, panel: int, columns: int) -> alt.LayerChart:
    counts = histogram.group_by("bin").agg(pl.col("count").sum()).sort("bin")
    below = counts["count"].cum_sum() / counts["count"].sum()
    first = counts["bin"][int((below > BEYOND).arg_max())]
    last = counts["bin"][int((below >= 1 - BEYOND).arg_max())]
    one = round(1 / RATIO_BIN)
    width = max(1, -(-(max(last, one) - min(first, one)) // BARS))
    # Bars of `width` bins, one of which begins at 1, with two at least on its left.
    low, high = min((first - one) // width, -2), (max(last, one) - one) // width + 1
    totals = histogram.group_by("ablation", maintain_order=True).agg(pl.col("count").sum().alias("total"))
    bars = histogram.group_by("ablation", bar=(pl.col("bin") - one).floordiv(width)).agg(pl.col("count").sum())
    grid = totals.join(pl.DataFrame({"bar": range(low, high + 1)}, schema={"bar": pl.Int32}), how="cross")
    shown = grid.join(bars, on=["ablation", "bar"], how="left").select(
        "ablation",
        "bar",
        ratio=1 + pl.col("bar") * width * RATIO_BIN,
        to=1 + (pl.col("bar") + 1) * width * RATIO_BIN,
        # The step of the last bar ends where the next one, beyond the axis, begins.
        share=pl.when(pl.col("bar") < high).then(100 * pl.col("count").fill_null(0) / pl.col("total")).otherwise(0.0),
    )
    names = theme.names(shown, "ablation")
    colors = alt.Scale(domain=names, range=[theme.ABLATION_COLORS[name] for name in names])
    domain = [1 + low * width * RATIO_BIN, 1 + high * width * RATIO_BIN]
    base = alt.Chart(theme.embed(shown.sort("ablation", "bar"))).encode(
        x=alt.X(
            "ratio:Q",
            title="Clean scale / ablated scale",
            scale=alt.Scale(domain=domain, nice=False),
            axis=alt.Axis(tickCount=6),
        ),
        y=alt.Y("share:Q", title="Top tokens (%)" if panel % columns == 0 else None, stack=None),
        color=alt.Color("ablation:N", scale=colors, title=None),
        tooltip=[
            alt.Tooltip("ablation:N"),
            alt.Tooltip("ratio:Q", title="ratio from", format=".4f"),
            alt.Tooltip("to:Q", title="to", format=".4f"),
            alt.Tooltip("share:Q", title="top tokens (%)", format=".2f"),
        ],
    )
    filled = base.mark_area(interpolate="step-after", opacity=0.22)
    outline = base.mark_line(interpolate="step-after", strokeWidth=1.3)
    at_one = alt.Chart(alt.InlineData(values=[{}])).mark_rule(strokeDash=[5, 3], color=theme.INK).encode(x=alt.datum(1))
    return alt.layer(filled, outline, at_one).properties(
        width=theme.panel_width(columns, theme.FULL_WIDTH - 40 * (columns - 1)), height=HEIGHT
    )
