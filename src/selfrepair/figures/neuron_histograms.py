"""How much of self-repair MLPs make, and how much of that few neurons make (the paper's share histograms)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.neuron_panels import by_head_and_mlp, name, nothing

WHAT = "Shares of repair by MLPs and neurons"
HEIGHT = 70  # px
DRAWN = {  # the tokens of the original for each quantity
    "mlp_share": ("MLPs' share of self-repair", "direct_effect"),
    "top_5_share": ("5 neurons' share of MLPs' repair", "outcome"),
    "top_percent_share": ("Top 1 %'s share of positive change", "direct_effect"),
}


def neuron_histograms(histograms: pl.DataFrame) -> theme.Panel:
    """Draw three histograms over tokens for each head and its last MLP, each on the tokens that the original takes.

    Args:
        histograms: `schemas.NEURON_HISTOGRAMS` of one model.
    """
    if histograms.is_empty():
        return nothing(WHAT)
    (model,) = theme.names(histograms)
    parts = by_head_and_mlp(histograms, last_only=True)
    panels = [
        _panel(part, key, quantity, row == len(parts) - 1)
        for row, (key, part) in enumerate(parts.items())
        for quantity in DRAWN
    ]
    return theme.themed(
        alt.concat(*panels, columns=len(DRAWN)).resolve_scale(y="independent"),
        f"{WHAT}, {model}: histograms over tokens, per ablated head, of the share of self-repair that MLPs make, of "
        "the share of all MLPs' repair that five neurons of one MLP make, and of the share of positive change that one "
        "neuron in a hundred makes, in percent of tokens with 95 % intervals.",
        [
            f"{model}; resample ablation; neurons ranked by their change on each token. First and last column: top "
            "tokens by direct effect;",
            "middle: tokens that MLPs repair most, and the last bin holds all above. Bars: 95 % intervals, bootstrap "
            "by document.",
        ],
    )


def _panel(part: pl.DataFrame, key: tuple[int, int, int], quantity: str, last: bool) -> alt.LayerChart:
    words, chosen = DRAWN[quantity]
    data = part.filter(quantity=quantity, token_set=chosen).select(
        *((100 * pl.col(c)).alias(c) for c in ("bin_low", "bin_high", "value", "low", "high"))
    )
    base = alt.Chart(theme.embed(data.with_columns(middle=(pl.col("bin_low") + pl.col("bin_high")) / 2)))
    domain = [0, data["bin_high"].max()]
    x = alt.X(
        "bin_low:Q",
        title=f"{words} (%)" if last else None,
        scale=alt.Scale(domain=domain, nice=False),
        axis=alt.Axis(tickCount=5),
    )
    y_title = "Tokens (%)" if quantity == next(iter(DRAWN)) else None
    y = alt.Y("value:Q", title=y_title, axis=alt.Axis(tickCount=3))
    tooltip = [
        alt.Tooltip(f"{c}:Q", title=title, format=".1f")
        for c, title in (
            ("bin_low", "from (%)"),
            ("bin_high", "to (%)"),
            ("value", "tokens (%)"),
            ("low", "tokens, low (%)"),
            ("high", "tokens, high (%)"),
        )
    ]
    bars = base.mark_rect(color=theme.SKY, stroke="white", strokeWidth=0.5).encode(
        x=x, x2="bin_high:Q", y=y, y2=alt.datum(0), tooltip=tooltip
    )
    whiskers = theme.interval_bars(base.encode(x=alt.X("middle:Q")), color=theme.INK)
    width = theme.panel_width(len(DRAWN)) - 16
    return alt.layer(bars, whiskers).properties(title=name(key), width=width, height=HEIGHT)
