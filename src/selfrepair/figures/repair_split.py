"""What repairs a head: final norm, later attention and MLPs, per layer in logits and as a share of direct effect."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

PARTS = {"repair_norm": "final norm", "repair_attention": "later attention", "repair_mlp": "MLPs"}
TOTAL = "total, with 95 % interval"
COLORS = alt.Scale(domain=list(PARTS.values()), range=[theme.ORANGE, theme.BLUE, theme.GREEN])
HEIGHT = 190  # px

SHARES = {
    "share": "ratio of sums",
    "clipped_share": "mean of the share clipped to [0 %, 100 %] per token (as in the paper)",
}
SHARE_COLORS = alt.Scale(domain=list(SHARES.values()), range=[theme.BLUE, theme.ORANGE])
SHARE_PANELS = {
    "self_repair": "Total",
    "repair_norm": "Final norm",
    "repair_attention": "Later attention",
    "repair_mlp": "MLPs",
}
SHARE_LIMIT = 1.0  # a larger share, of either sign, is drawn at this one
SHARE_END = 1.08  # the axis ends a little farther out
SHARE_HEIGHT = 120  # px
SECOND_LINE = 16  # px that the model's name takes beside its row
NUMBERED_LAYERS = 12  # up to how many layers a share beyond the axis has its number beside it


def repair_split(layers: pl.DataFrame) -> alt.ConcatChart:
    """Draw the parts of mean self-repair (logits) on the top tokens, stacked, and their total, against layer.

    Args:
        layers: `STATISTICS` per layer of one or several models; one panel each, on the same axis.
    """
    parts = theme.pick(layers, "mean", "top", list(PARTS)).with_columns(
        pl.col("quantity").replace_strict(PARTS).alias("part")
    )
    totals = theme.pick(layers, "mean", "top", ["self_repair"])
    models = theme.names(totals)
    columns = theme.columns_of(len(models))
    stacks = parts.group_by("model", "layer", pl.col("value") < 0).agg(pl.col("value").sum().alias("end"))["end"]
    low, high = min(stacks.min(), totals["low"].min()), max(stacks.max(), totals["high"].max())
    domain = theme.padded(low, high, share=0.05)
    panels = []
    for index, model in enumerate(models):
        of_model = pl.col("model") == model
        y_axis = theme.left_only("Self-repair (logits)", index, columns)
        panels.append(
            _panel(parts.filter(of_model), totals.filter(of_model), domain, y_axis, columns).properties(title=model)
        )
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Parts of self-repair by layer: mean self-repair in logits after ablating a head of a layer, stacked from the "
        f"parts of the final norm, later attention and MLPs, with its total, for {', '.join(models)}.",
        [
            f"{theme.describe_ablation(layers)}; means over the heads of a layer,",
            "on each head's top tokens by direct effect. Interval: bootstrap by document.",
        ],
    )


def _panel(
    parts: pl.DataFrame, totals: pl.DataFrame, domain: list[float], y_axis: alt.Axis, columns: int
) -> alt.LayerChart:
    x = alt.X("layer:O", title="Layer of the ablated head")
    scale = alt.Scale(domain=domain, nice=False)
    bars = (
        alt.Chart(theme.embed(parts.select("layer", "part", "value", "low", "high")))
        .mark_bar()
        .encode(
            x=x,
            y=alt.Y("value:Q", stack="zero", scale=scale, axis=y_axis),
            color=alt.Color("part:N", scale=COLORS, title=None),
            tooltip=[alt.Tooltip("layer:O"), alt.Tooltip("part:N"), *theme.estimate_tooltips("part (logits)", ".4f")],
        )
    )
    total = alt.Chart(theme.embed(totals.select("layer", "value", "low", "high"))).encode(x=x)
    total = total.transform_calculate(series=f"'{TOTAL}'")
    points = total.mark_point(filled=True, size=30, color=theme.INK, stroke="white", strokeWidth=0.8, opacity=1).encode(
        y=alt.Y("value:Q", scale=scale, axis=y_axis),
        shape=alt.Shape("series:N", scale=alt.Scale(domain=[TOTAL], range=["diamond"]), title=None),
        tooltip=[alt.Tooltip("layer:O"), *theme.estimate_tooltips("self-repair (logits)", ".4f")],
    )
    layers = alt.layer(bars, theme.level(0), theme.interval_bars(total, color=theme.INK, strokeWidth=1.4), points)
    return layers.properties(width=theme.panel_width(columns), height=HEIGHT)


def repair_share(layers: pl.DataFrame) -> alt.ConcatChart:
    """Draw self-repair and its parts as a share of direct effect (percent) on the top tokens, both ways, by layer.

    A share beyond 100 % of either sign is a triangle at the edge of the axis.

    Args:
        layers: `STATISTICS` per layer of one or several models; one row of panels each.
    """
    both = [
        theme.pick(layers, statistic, "top", list(SHARE_PANELS)).with_columns(way=pl.lit(name))
        for statistic, name in SHARES.items()
    ]
    shares = pl.concat(both)
    models = theme.names(shares)
    panels = []
    for row, model in enumerate(models):
        for column, (quantity, title) in enumerate(SHARE_PANELS.items()):
            table = shares.filter((pl.col("model") == model) & (pl.col("quantity") == quantity))
            x_title = "Ablated head's layer" if row == len(models) - 1 else None
            y_axis = theme.left_only(
                [model, "Share (%)"], column, len(SHARE_PANELS), labelExpr="format(datum.value * 100, 'd')", tickCount=5
            )
            panel = _share_panel(table, x_title, y_axis)
            panels.append(panel.properties(title=title) if row == 0 else panel)
    return theme.themed(
        alt.concat(*panels, columns=len(SHARE_PANELS)),
        "Self-repair as a share of direct effect by layer: total and parts of the final norm, later attention and "
        "MLPs, in percent, as the ratio of sums and as the paper's mean of shares clipped to 0 to 100 percent per "
        f"token, with 95 % intervals, for {', '.join(models)}. The axis ends at -100 and 100 percent.",
        [
            f"{theme.describe_ablation(layers)}; share of the direct effect, on each head's top tokens. Bars: 95 % "
            "intervals, bootstrap by document.",
            "Triangles: beyond ±100 %, drawn at the edge of the axis, with the value beside; intervals are cut there.",
        ],
    )


def _share_panel(table: pl.DataFrame, x_title: str | None, y_axis: alt.Axis) -> alt.LayerChart:
    value = pl.col("value")
    shown = table.select(
        "layer",
        "way",
        "value",
        "low",
        "high",
        at=value.clip(-SHARE_LIMIT, SHARE_LIMIT),
        beyond=value.abs() > SHARE_LIMIT,
    )
    dodge = alt.XOffset("way:N", sort=list(SHARES.values()))
    color = alt.Color("way:N", scale=SHARE_COLORS, title=None)
    scale = alt.Scale(domain=[-SHARE_END, SHARE_END], nice=False)
    x = alt.X("layer:O", title=x_title)
    inside = alt.Chart(theme.embed(shown.filter(~pl.col("beyond")))).encode(x=x, xOffset=dodge, color=color)
    bars = theme.interval_bars(alt.Chart(theme.embed(shown)).encode(x=x, xOffset=dodge, color=color), clip=True)
    y = alt.Y("at:Q", scale=scale, axis=y_axis)
    tooltip = [
        alt.Tooltip("layer:O"),
        alt.Tooltip("way:N", title="as"),
        *theme.estimate_tooltips("share of direct effect", ".1%"),
    ]
    marks = [theme.level(0), bars, inside.mark_circle(size=22, opacity=1).encode(y=y, tooltip=tooltip)]
    for sign, shape, align in ((1, "triangle-up", "right"), (-1, "triangle-down", "left")):
        outside = shown.filter(pl.col("beyond") & (value * sign > 0))
        if outside.is_empty():
            continue
        edge = alt.Chart(theme.embed(outside)).encode(x=x, xOffset=dodge, color=color, y=y)
        marks.append(edge.mark_point(shape=shape, filled=True, size=36, opacity=1).encode(tooltip=tooltip))
        if table["layer"].n_unique() <= NUMBERED_LAYERS:
            marks.append(
                edge.mark_text(angle=270, align=align, dx=-4 * sign, dy=8, fontSize=9).encode(
                    text=alt.Text("value:Q", format=".0%")
                )
            )
    width = theme.panel_width(len(SHARE_PANELS), theme.FULL_WIDTH - SECOND_LINE)
    return alt.layer(*marks).properties(width=width, height=SHARE_HEIGHT)
