"""Self-repair and its parts against relative depth, all models together: in logits and as both kinds of share."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

PARTS = {
    "self_repair": "Total",
    "repair_norm": "Final norm",
    "repair_attention": "Later attention",
    "repair_mlp": "MLPs",
}
WAYS = {  # statistic: title, of the axis, factor of the values
    "mean": ("Mean", "logits", 1),
    "share": ("Share: ratio of sums", "%", 100),
    "clipped_share": ("Share: clipped per token", "%", 100),
}
SHARE_LIMIT = 100.0  # %; larger shares lie outside the panel
HEIGHT = 105  # px
AXES = 120  # px that the part's name takes beside its row, and the axes of the other columns


def repair_by_depth(layers: pl.DataFrame) -> alt.ConcatChart:
    """Draw the parts of self-repair on the top tokens against layer / layers of the model (percent).

    Args:
        layers: `STATISTICS` per layer of one or several models; a line each.
    """
    models = theme.names(layers)
    panels = []
    for row, (quantity, name) in enumerate(PARTS.items()):
        for column, (statistic, (title, unit, factor)) in enumerate(WAYS.items()):
            table = theme.pick(layers, statistic, "top", [quantity]).with_columns(
                pl.col("value", "low", "high") * factor, depth=100 * pl.col("layer") / pl.col("n_layers")
            )
            y_title = [name, f"({unit})"] if column == 0 else f"({unit})"
            x_title = "Relative depth (%)" if row == len(PARTS) - 1 else None
            panel = _panel(table, models, unit, x_title, y_title)
            panels.append(panel.properties(title=title) if row == 0 else panel)
    return theme.themed(
        alt.concat(*panels, columns=len(WAYS)),
        "Parts of self-repair by depth: self-repair, and its parts by the final norm, later attention and MLPs, "
        "against relative depth in percent; as mean in logits, as ratio of sums and as mean of shares clipped per "
        "token, with 95 % "
        f"intervals, for {', '.join(models)}.",
        [
            f"{theme.describe_ablation(layers)}; mean over the heads of a layer, on each head's top tokens by direct "
            "effect.",
            "Shares are of the direct effect. Bands: 95 % intervals, bootstrap by document. Panels of shares end at "
            f"±{SHARE_LIMIT:.0f} %.",
        ],
    )


def _panel(
    table: pl.DataFrame, models: list[str], unit: str, x_title: str | None, y_title: str | list[str]
) -> alt.LayerChart:
    low, high = table["low"].min(), table["high"].max()
    if unit == "%":
        low, high = max(low, -SHARE_LIMIT), min(high, SHARE_LIMIT)
    colors = [theme.MODEL_COLORS[index % len(theme.MODEL_COLORS)] for index in range(len(models))]
    shown = table.select("model", "layer", "depth", "value", "low", "high")
    base = alt.Chart(theme.embed(shown)).encode(
        x=alt.X(
            "depth:Q",
            scale=alt.Scale(domain=[-4, 100], nice=False),
            axis=alt.Axis(title=x_title, values=[0, 25, 50, 75, 100]),
        ),
        color=alt.Color("model:N", scale=alt.Scale(domain=models, range=colors), title=None),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=theme.padded(low, high, 0.06), nice=False),
        axis=alt.Axis(title=y_title, tickCount=4, titlePadding=3),
    )
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("layer:Q"),
        *theme.estimate_tooltips(f"value ({unit})", ".4f"),
    ]
    band = base.mark_area(opacity=0.18, clip=True).encode(y=alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line(strokeWidth=1.5, clip=True).encode(y=y)
    points = base.mark_point(filled=True, size=18, opacity=1, clip=True).encode(
        y=y, shape=alt.Shape("model:N", scale=alt.Scale(domain=models), title=None), tooltip=tooltip
    )
    width = theme.panel_width(len(WAYS), theme.FULL_WIDTH - AXES)
    return alt.layer(theme.level(0), band, line, points).properties(width=width, height=HEIGHT)
