"""Measured per-head means against the published ones, a panel per quantity."""

import altair as alt
import polars as pl

from selfrepair.claims.published import QUANTITIES
from selfrepair.figures import theme

TITLES = {
    "direct_effect": "Direct effect",
    "ablated_direct_effect": "Ablated direct effect",
    "delta_logit": "Change of the logit",
    "self_repair": "Self-repair",
    "repair_norm": "Part of the final norm",
    "repair_attention": "Part of later attention",
    "repair_mlp": "Part of MLPs",
}
COLORS = [theme.BLUE, theme.ORANGE, theme.GREEN, theme.VERMILION, theme.SKY]
SHAPES = ["circle", "triangle-up", "square", "diamond", "cross"]
LINEAR = 0.3  # logits about zero within which the axes are nearly linear; beyond, few heads reach far
SIZE = 128  # px of a panel
TICKS = [-10, -3, -1, 0, 1, 3, 10]


def reference_scatter(heads: pl.DataFrame, agreement: pl.DataFrame, models: pl.DataFrame) -> theme.Panel:
    """Draw the mean over each head's top tokens, measured against published (logits), for every compared model.

    Args:
        heads: `REFERENCE_HEADS`.
        agreement: `REFERENCE_AGREEMENT`.
        models: `experiments.reference.MODELS`; those not compared are named above the figure, with the reason.
    """
    notes = [
        "One mark per head; top tokens, resample ablation. On the dashed line both values are equal. Bars: 95 %",
        "intervals of the measured values, bootstrap by document. r: Pearson's correlation over the heads.",
    ]
    absent = [f"{name}: not compared, {reason}." for name, _, _, reason in models.rows() if reason is not None]
    if heads.is_empty():
        notes, chart = [], theme.nothing("No model of this run has published values to compare with.")
    else:
        panels = [_panel(heads, agreement, quantity) for quantity in QUANTITIES]
        chart = alt.concat(*panels, columns=theme.MAX_COLUMNS).resolve_scale(color="shared", shape="shared")
    return theme.themed(
        chart,
        "Measured and published values: mean over each head's top tokens in this run against the mean that the authors "
        "published, in logits, for the direct effect, the change of the logit, self-repair and its parts, with 95 % "
        "intervals of the measured ones. " + " ".join(absent),
        notes + absent,
    )


def _panel(heads: pl.DataFrame, agreement: pl.DataFrame, quantity: str) -> alt.LayerChart:
    names = theme.names(heads)
    rows = heads.filter(quantity=quantity)
    reached = rows.select("measured_low", "measured_high", "measured", "published")
    low, high = theme.padded(reached.min().min_horizontal()[0], reached.max().max_horizontal()[0], 0.06)
    scale = alt.Scale(type="symlog", constant=LINEAR, domain=[low, high], nice=False)
    axis = alt.Axis(values=[tick for tick in TICKS if low <= tick <= high], format="g", grid=False)
    x = alt.X("published:Q", title="Published (logits)", scale=scale, axis=axis)
    y = alt.Y("measured:Q", title="Measured (logits)", scale=scale, axis=axis)
    base = alt.Chart(theme.embed(rows)).encode(
        color=alt.Color("model:N", title=None, scale=alt.Scale(domain=names, range=_cycled(COLORS, len(names)))),
    )
    shape = alt.Shape("model:N", title=None, scale=alt.Scale(domain=names, range=_cycled(SHAPES, len(names))))
    marks = base.mark_point(size=16, filled=True, opacity=0.75).encode(x=x, y=y, shape=shape, tooltip=_tooltip())
    bars = base.mark_rule(opacity=0.35).encode(x=x, y=alt.Y("measured_low:Q"), y2="measured_high:Q")
    return alt.layer(_diagonal(low, high), bars, marks, *_correlations(agreement, quantity)).properties(
        width=SIZE, height=SIZE, title=TITLES[quantity]
    )


def _cycled(values: list[str], count: int) -> list[str]:
    return [values[i % len(values)] for i in range(count)]


def _tooltip() -> list[alt.Tooltip]:
    numbers = {
        "published": "published",
        "measured": "measured",
        "measured_low": "95 % low",
        "measured_high": "95 % high",
    }
    return [
        *(alt.Tooltip(f"{name}:{kind}") for name, kind in (("model", "N"), ("layer", "Q"), ("head", "Q"))),
        *(alt.Tooltip(f"{name}:Q", title=f"{title} (logits)", format=".4f") for name, title in numbers.items()),
    ]


def _diagonal(low: float, high: float) -> alt.Chart:
    ends = pl.DataFrame({"x": [low, high], "y": [low, high]})
    line = alt.Chart(theme.embed(ends)).mark_line(strokeDash=[5, 3], strokeWidth=1, color=theme.INK)
    return line.encode(x=alt.X("x:Q"), y=alt.Y("y:Q"))


def _correlations(agreement: pl.DataFrame, quantity: str) -> list[alt.LayerChart]:
    whole = agreement.filter(pl.col("layer").is_null() & (pl.col("quantity") == quantity))
    texts = [
        f"r = {row['pearson']:.3f}" + (f" {row['model']}" if len(whole) > 1 else "")
        for row in whole.iter_rows(named=True)
        if row["pearson"] is not None
    ]
    return [
        theme.words(text, 4, 8 + 12 * index, align="left", fontStyle="normal", fontSize=9)
        for index, text in enumerate(texts)
    ]
