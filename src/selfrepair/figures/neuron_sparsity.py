"""How few neurons repair how much of a head's direct effect (the paper's sparsity figure)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.neuron_panels import DASHES, HEIGHT, SETS, by_head_and_mlp, grid, name, nothing

WHAT = "Sparsity of repair by neurons"


def neuron_sparsity(sparsity: pl.DataFrame) -> theme.Panel:
    """Draw the share of tokens on which the N-th best neuron repairs more than a share of the direct effect, both sets.

    Args:
        sparsity: `NEURON_SPARSITY` of one model.
    """
    if sparsity.is_empty():
        return nothing(WHAT)
    (model,) = theme.names(sparsity)
    parts = by_head_and_mlp(sparsity)
    columns = theme.columns_of(len(parts))
    thresholds = sparsity["threshold"].unique().sort(descending=True).to_list()
    labels = [f"{100 * threshold:g} %" for threshold in thresholds]
    panels = [_panel(part, name(key), labels, index, columns) for index, (key, part) in enumerate(parts.items())]
    return theme.themed(
        grid(panels, columns),
        f"{WHAT}, {model}: share of tokens on which the N-th best neuron of an MLP repairs more than "
        f"{', '.join(labels)} of the head's direct effect, against N, with 95 % intervals: each head's top tokens by "
        "direct effect, and those that MLPs repair most.",
        [
            f"{model}; resample ablation; neurons ranked by their change on each token.",
            "Bands, top tokens by direct effect: 95 % intervals, bootstrap by document.",
        ],
    )


def _panel(part: pl.DataFrame, title: str, labels: list[str], index: int, columns: int) -> alt.LayerChart:
    percent = [(100 * pl.col(column)).alias(column) for column in ("value", "low", "high")]
    data = part.select(
        pl.col("token_set").replace_strict(SETS),
        (100 * pl.col("threshold")).map_elements(lambda x: f"{x:g} %", return_dtype=pl.String).alias("threshold"),
        (pl.col("rank") + 1).alias("n"),
        *percent,
    )
    base = alt.Chart(theme.embed(data)).encode(
        x=alt.X(
            "n:Q",
            title="N",
            scale=alt.Scale(domain=[1, data["n"].max()], nice=False),
            axis=alt.Axis(values=[1, *range(10, 60, 10)]),
        ),
        color=alt.Color(
            "threshold:O",
            sort=labels,
            title="Repairs more than ... of the direct effect",
            scale=alt.Scale(domain=labels, scheme=alt.SchemeParams("viridis", extent=[0, 0.9])),
            legend=alt.Legend(titleLimit=400),
        ),
    )
    dash = alt.StrokeDash(
        "token_set:N", title=None, scale=alt.Scale(domain=list(SETS.values()), range=list(DASHES.values()))
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[0, 100]),
        axis=theme.left_only("Share of tokens (%)", index, columns, tickCount=5),
    )
    tooltip = [
        alt.Tooltip("threshold:O", title="repairs more than"),
        alt.Tooltip("n:Q", title="N"),
        *(alt.Tooltip(f"{c}:Q", title=f"tokens, {c} (%)", format=".1f") for c in ("value", "low", "high")),
    ]
    top = alt.datum.token_set == SETS["direct_effect"]
    band = base.transform_filter(top).mark_area(opacity=0.2).encode(y=alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line(strokeWidth=1.4).encode(y=y, strokeDash=dash, tooltip=tooltip)
    return alt.layer(band, line).properties(title=title, width=theme.panel_width(columns), height=HEIGHT)
