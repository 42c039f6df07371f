"""How much of self-repair MLPs make, and how much of that few neurons make (the paper's share histograms)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.neuron_panels import COLORS, SETS, by_head_and_mlp, name, nothing

WHAT = "Shares of repair by MLPs and neurons"
HEIGHT = 70  # px
DRAWN = {
    "mlp_share": "MLPs' share of self-repair",
    "top_5_share": "5 neurons' share of MLPs' repair",
    "top_percent_share": "Top 1 %'s share of positive change",
}


def neuron_histograms(histograms: pl.DataFrame) -> theme.Panel:
    """Draw three histograms over tokens for each head and its last MLP: top tokens, and those that MLPs repair most.

    Args:
        histograms: `NEURON_HISTOGRAMS` of one model.
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
            f"{model}; resample ablation; neurons ranked by their change on each token. Left: all MLPs together; in "
            "the middle",
            "the last bin holds all above. Lines: 95 % intervals, bootstrap by document.",
        ],
    )


def _panel(part: pl.DataFrame, key: tuple[int, int, int], quantity: str, last: bool) -> alt.LayerChart:
    data = part.filter(quantity=quantity).select(
        pl.col("token_set").replace_strict(SETS),
        *((100 * pl.col(c)).alias(c) for c in ("bin_low", "bin_high", "value", "low", "high")),
    )
    base = alt.Chart(theme.embed(data.with_columns(middle=(pl.col("bin_low") + pl.col("bin_high")) / 2)))
    domain = [0, data["bin_high"].max()]
    x = alt.X(
        "bin_low:Q",
        title=f"{DRAWN[quantity]} (%)" if last else None,
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
    fill = alt.Fill(
        "token_set:N",
        title=None,
        scale=alt.Scale(domain=list(SETS.values()), range=[theme.SKY, COLORS["top_mlp_repair"]]),
    )
    top, outcome = (base.transform_filter(alt.datum.token_set == words) for words in SETS.values())
    bars = top.mark_rect(stroke="white", strokeWidth=0.5).encode(
        x=x, x2="bin_high:Q", y=y, y2=alt.datum(0), fill=fill, tooltip=tooltip
    )
    middle = alt.X("middle:Q")
    whiskers = theme.interval_bars(top.encode(x=middle), color=theme.INK)
    dots = outcome.mark_circle(size=22, opacity=1).encode(x=middle, y=y, fill=fill, tooltip=tooltip)
    lines = theme.interval_bars(outcome.encode(x=middle), color=COLORS["top_mlp_repair"])
    title = f"L{key[0]}H{key[1]}" if quantity == "mlp_share" else name(key)
    width = theme.panel_width(len(DRAWN)) - 16
    return alt.layer(bars, whiskers, lines, dots).properties(title=title, width=width, height=HEIGHT)
