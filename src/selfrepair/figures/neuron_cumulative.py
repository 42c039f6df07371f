"""How much of all that an MLP's neurons change is done by those that change most (the paper's cumulative figure)."""

import altair as alt
import numpy as np
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.neuron_panels import COLORS, DASHES, HEIGHT, SETS, by_head_and_mlp, grid, name, nothing

WHAT = "Cumulative change of neurons"
DRAWN = 30  # ranks that are drawn from either end, densest there


def neuron_cumulative(cumulative: pl.DataFrame) -> theme.Panel:
    """Draw the cumulative share of |change| by rank, coloured by the median clean direct effect at the rank.

    Tokens that MLPs repair most have a line of their own, without colour.

    Args:
        cumulative: `NEURON_CUMULATIVE` of one model.
    """
    if cumulative.is_empty():
        return nothing(WHAT)
    (model,) = theme.names(cumulative)
    last = cumulative["rank"].max()
    ranks = np.geomspace(1, last / 2 + 1, DRAWN).round().astype(int) - 1
    table = cumulative.filter(pl.col("rank").is_in([*ranks, *(last - ranks)]))
    extent = table.filter(token_set="direct_effect")["median_direct_effect"].abs().max() or 1.0
    parts = by_head_and_mlp(table)
    columns = theme.columns_of(len(parts))
    panels = [_panel(part, name(key), extent, index, columns) for index, (key, part) in enumerate(parts.items())]
    return theme.themed(
        grid(panels, columns),
        f"{WHAT}, {model}: share of the summed size of all neurons' changes that neurons up to a rank account for, in "
        "percent, against rank by change, with 95 % intervals; coloured by the median clean direct effect at the rank.",
        [
            f"{model}; resample ablation; neurons ranked by their change on each token, largest first. Dots: top "
            "tokens by direct effect.",
            "Bars, first 50 ranks of the dots: 95 % intervals, bootstrap by document, often smaller than a dot.",
        ],
    )


def _panel(part: pl.DataFrame, title: str, extent: float, index: int, columns: int) -> alt.LayerChart:
    percent = [(100 * pl.col(column)).alias(column) for column in ("value", "low", "high")]
    data = part.select(
        pl.col("token_set").replace_strict(SETS), (pl.col("rank") + 1).alias("n"), "median_direct_effect", *percent
    )
    x = alt.X(
        "n:Q",
        title="Rank of the neuron",
        scale=alt.Scale(domain=[0, data["n"].max()], nice=False),
        axis=alt.Axis(tickCount=4),
    )
    y = alt.Y("value:Q", scale=alt.Scale(domain=[0, 100]), axis=theme.left_only("Share of change (%)", index, columns))
    color = alt.Color(
        "median_direct_effect:Q",
        title="Median clean direct effect (logits)",
        scale=alt.Scale(scheme="blueorange", domain=[-extent, extent], reverse=True),
        legend=alt.Legend(gradientLength=200, titleLimit=300, format="~g"),
    )
    base = alt.Chart(theme.embed(data)).encode(x=x)
    sets = list(SETS.values())
    line = base.mark_line(strokeWidth=1).encode(
        y=y,
        stroke=alt.Stroke(
            "token_set:N", title=None, scale=alt.Scale(domain=sets, range=[theme.MUTED, COLORS["top_mlp_repair"]])
        ),
        strokeDash=alt.StrokeDash("token_set:N", title=None, scale=alt.Scale(domain=sets, range=list(DASHES.values()))),
    )
    top = base.transform_filter(alt.datum.token_set == SETS["direct_effect"])
    bars = theme.interval_bars(top, color=theme.MUTED)
    dots = top.mark_circle(size=22, opacity=1, stroke=theme.MUTED, strokeWidth=0.3).encode(
        y=y,
        color=color,
        tooltip=[
            alt.Tooltip("n:Q", title="rank"),
            alt.Tooltip("median_direct_effect:Q", title="median clean direct effect (logits)", format=".4f"),
            *(alt.Tooltip(f"{c}:Q", title=f"share of change, {c} (%)", format=".2f") for c in ("value", "low", "high")),
        ],
    )
    return alt.layer(line, bars, dots).properties(title=title, width=theme.panel_width(columns), height=HEIGHT)
