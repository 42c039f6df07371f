"""How often the same neurons repair (the paper's neuron frequencies)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.neuron_panels import COLORS, HEIGHT, SETS, by_head_and_mlp, grid, name, nothing

WHAT = "Frequency of repairing neurons"
SHIFT = 0.15  # of a place, so that both sets can be told apart


def neuron_frequency(frequency: pl.DataFrame) -> theme.Panel:
    """Draw the share of tokens on which each of the most frequent neurons is among the ten that change most.

    Args:
        frequency: `NEURON_FREQUENCY` of one model.
    """
    if frequency.is_empty():
        return nothing(WHAT)
    (model,) = theme.names(frequency)
    parts = by_head_and_mlp(frequency)
    columns = theme.columns_of(len(parts))
    panels = [_panel(part, name(key), index, columns) for index, (key, part) in enumerate(parts.items())]
    return theme.themed(
        grid(panels, columns),
        f"{WHAT}, {model}: share of tokens on which a neuron is among the ten of its MLP that change most when a head "
        "is ablated, for the most frequent neurons, with 95 % intervals, on the head's top tokens by direct effect and "
        "on the tokens that MLPs repair most.",
        [
            f"{model}; resample ablation; most frequent neuron first, each set of tokens with an order of its own.",
            "Bars: 95 % intervals, bootstrap by document; the choice of the neurons is held fixed.",
        ],
    )


def _panel(part: pl.DataFrame, title: str, index: int, columns: int) -> alt.LayerChart:
    shift = pl.when(pl.col("token_set") == "top_mlp_repair").then(SHIFT).otherwise(-SHIFT)
    data = part.select(
        pl.col("token_set").replace_strict(SETS),
        (pl.col("place") + 1 + shift).alias("at"),
        *("neuron", "direct_effect", "change"),
        *((100 * pl.col(c)).alias(c) for c in ("value", "low", "high")),
    )
    base = alt.Chart(theme.embed(data)).encode(
        x=alt.X("at:Q", title="Place", scale=alt.Scale(domain=[0, part["place"].max() + 2], nice=False)),
        color=alt.Color(
            "token_set:N",
            title=None,
            scale=alt.Scale(domain=list(SETS.values()), range=[COLORS[key] for key in SETS]),
        ),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[0, 100]),
        axis=theme.left_only(["Among the first ten", "(% of tokens)"], index, columns, tickCount=5),
    )
    tooltip = [
        alt.Tooltip("neuron:Q"),
        alt.Tooltip("direct_effect:Q", title="mean clean direct effect (logits)", format=".4f"),
        alt.Tooltip("change:Q", title="mean change (logits)", format=".4f"),
        *(alt.Tooltip(f"{c}:Q", title=f"tokens, {c} (%)", format=".1f") for c in ("value", "low", "high")),
    ]
    dots = base.mark_circle(size=14, opacity=1).encode(y=y, tooltip=tooltip)
    return alt.layer(theme.interval_bars(base, opacity=0.7), dots).properties(
        title=title, width=theme.panel_width(columns), height=HEIGHT
    )
