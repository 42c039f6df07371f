"""Adaptation, or an artefact? Loss saved, distance of the ablated stream, and repair by replacement and by distance."""

import altair as alt
import polars as pl

from selfrepair.analysis.adaptation import OF_DISPLACED, OF_THIRD
from selfrepair.figures import theme

REPLACED = {
    "other": "another row's",
    "near": "the nearest row's",
    "far": "the farthest row's",
    "mean": "its mean",
    "zero": "nothing",
}
TOKENS = {"top": "top tokens", "all": "all tokens"}
TOKEN_COLORS = [theme.BLUE, theme.MUTED]
COLORS = [theme.VERMILION, theme.ORANGE, theme.GREEN, theme.PURPLE, theme.INK]
ROWS = (*REPLACED.values(), *OF_THIRD, *OF_DISPLACED)
SEEDS, BARS = 16, 34  # size of marks
NAMES, ROW = 96, 22  # px
WIDTH = (theme.FULL_WIDTH - 2 * NAMES - theme.AXIS_WIDTH - 2 * theme.GAP) // 3
NUMBERS = ["value", "low", "high"]


def architecture_adaptation(evidence: pl.DataFrame) -> alt.HConcatChart:
    """Draw what speaks for adaptation and what for an artefact, of all seeds of the base: a dot each, and their mean.

    Args:
        evidence: `EVIDENCE`.
    """
    late = evidence.filter(pl.col("layer").is_null())
    saved = late.filter(statistic="loss_saved").with_columns(pl.col("tokens").replace(TOKENS))
    repair = late.filter(statistic="repair").with_columns(pl.col("of").replace(REPLACED), pl.col(NUMBERS) * 100)
    losses = _estimates(saved, "Loss saved by repair (nats per token)", theme.names(saved, "of"), "tokens")
    repaired = _estimates(repair.with_columns(tokens=pl.lit(TOKENS["top"])), "Repair by removed effect (%)", list(ROWS))
    layers = evidence.filter(pl.col("layer").is_not_null(), pl.col("seed").is_not_null(), statistic="distance")
    return theme.themed(
        alt.hconcat(losses, _distances(layers), repaired, spacing=theme.GAP).resolve_scale(color="independent"),
        "Three panels on the base of the family: the loss that repair saves on held-out text and on prompts, in nats; "
        "the distance of the ablated stream from usual ones by that of the clean stream, for each layer and "
        "replacement; and self-repair by the direct effect that was removed, by replacement and by thirds of that "
        "distance and of the displacement. A dot for each seed, means with 95 % intervals.",
        [
            "Left and right: heads of the later half. Dots: seeds; bars: 95 % intervals, drawn by seed and document.",
            "Middle: squared Mahalanobis distance after the ablated head's layer, a line for each seed. Nearest to",
            "farthest: thirds of the top tokens by that distance; least to most displaced: by it minus that of the",
            "clean stream; both with another row's output.",
        ],
    )


def _estimates(table: pl.DataFrame, title: str, order: list[str], color: str | None = None) -> alt.LayerChart:
    """A row for each thing, a dot for each seed, the mean with its interval."""
    seeds, means = (table.filter(pl.col("seed").is_null() == mean) for mean in (False, True))
    names = alt.Axis(title=None, ticks=False, domain=False, labelLimit=NAMES)
    y = alt.Y("of:N", sort=order, axis=names)
    apart = alt.YOffset("tokens:N", sort=list(TOKENS.values())) if color else alt.Undefined
    scale = alt.Scale(domain=list(TOKENS.values()), range=TOKEN_COLORS)
    of = alt.Color("tokens:N", scale=scale, legend=alt.Legend(title=None, orient="bottom")) if color else alt.Undefined
    x = alt.X("value:Q", title=title, scale=alt.Scale(nice=False, padding=6), axis=alt.Axis(tickCount=4))
    ends = alt.Chart(theme.embed(means)).encode(y=y, yOffset=apart, color=of)
    dots = alt.Chart(theme.embed(seeds)).mark_circle(size=SEEDS, opacity=0.5, color=theme.BLUE)
    drawn: list[alt.Chart] = [
        alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=theme.MUTED, strokeWidth=0.8).encode(x=alt.datum(0)),
        dots.encode(
            x=x, y=y, yOffset=apart, color=of, tooltip=[alt.Tooltip("seed:N"), alt.Tooltip("value:Q", format=".3~f")]
        ),
        ends.mark_rule(strokeWidth=1.6, color=theme.BLUE).encode(x=alt.X("low:Q"), x2="high:Q"),
        ends.mark_point(filled=True, size=BARS, opacity=1, color=theme.BLUE).encode(
            x=x, tooltip=[alt.Tooltip("of:N"), *theme.estimate_tooltips(title, ".3~f")]
        ),
    ]
    return alt.layer(*drawn).properties(width=WIDTH, height=ROW * len(ROWS))


def _distances(table: pl.DataFrame) -> alt.Chart:
    """How many times as far as the clean stream the ablated one lies, by layer: a line for each seed."""
    drawn = table.with_columns(pl.col("of").replace(REPLACED))
    scale = alt.Scale(domain=list(REPLACED.values()), range=COLORS)
    line = alt.Chart(theme.embed(drawn)).mark_line(strokeWidth=1, opacity=0.7, point=alt.OverlayMarkDef(size=12))
    return line.encode(
        x=alt.X("layer:O", title="Layer of the head", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("value:Q", title="Distance from usual streams (clean: 1)", scale=alt.Scale(zero=False)),
        color=alt.Color("of:N", scale=scale, legend=alt.Legend(title="Output replaced by", orient="bottom", columns=1)),
        detail="seed:N",
        tooltip=[*(alt.Tooltip(f"{name}:N") for name in ("of", "layer", "seed")), alt.Tooltip("value:Q", format=".3f")],
    ).properties(width=WIDTH, height=ROW * len(ROWS))
