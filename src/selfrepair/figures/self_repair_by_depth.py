"""Self-repair of every head against its relative depth, in all models (the paper's figure 1)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

HEAD, LAYER = "head", "mean over the heads of a layer"
SERIES = alt.Scale(domain=[HEAD, LAYER], range=[theme.SKY, theme.VERMILION])
HEIGHT = 215  # px
SPREAD = 0.6  # of the distance between layers, over which the heads of a layer are spread


def self_repair_by_depth(heads: pl.DataFrame, layers: pl.DataFrame, unit: str = "logits") -> alt.ConcatChart:
    """Draw mean self-repair on the top tokens against layer / layers of the model (percent).

    Args:
        heads, layers: `STATISTICS` of one or several models; one panel each, on the same axes.
        unit: of self-repair; what is measured as published is not in logits (experiments.md pitfall:llama-norm).
    """
    dots = theme.pick(heads, "mean", "top", ["self_repair"])
    means = theme.pick(layers, "mean", "top", ["self_repair"])
    models = theme.names(dots)
    columns = theme.columns_of(len(models), 3)
    both = pl.concat([dots, means])
    domain = theme.padded(both["low"].min(), both["high"].max())
    panels = []
    for index, model in enumerate(models):
        of_model = pl.col("model") == model
        y_axis = theme.left_only(f"Self-repair ({unit})", index, columns)
        panels.append(
            _panel(dots.filter(of_model), means.filter(of_model), columns, domain, y_axis, unit).properties(title=model)
        )
    return theme.themed(
        alt.concat(*panels, columns=columns),
        f"Self-repair by depth: mean self-repair ({unit}) of every attention head, and of every layer, against "
        f"relative depth in percent, with 95 % intervals, for {', '.join(models)}. Above zero is self-repair, below "
        "breakage.",
        [
            f"{theme.describe_ablation(heads)}; means over each head's top tokens by direct effect. Bars and bands: "
            "95 % intervals, bootstrap by document.",
            "The heads of a layer are spread sideways about its depth.",
        ],
    )


def _panel(
    dots: pl.DataFrame, means: pl.DataFrame, columns: int, domain: list[float], y_axis: alt.Axis, unit: str
) -> alt.LayerChart:
    width = theme.panel_width(columns)
    n_layers = means["n_layers"][0]
    n_heads = dots["head"].max() + 1
    depth = (100 * pl.col("layer") / n_layers).alias("depth")
    place = (pl.col("head") + 0.5) / n_heads - 0.5
    dots = dots.select("layer", "head", depth, "value", "low", "high", at=depth + SPREAD * place * 100 / n_layers)
    x_scale = alt.Scale(domain=[-50 / n_layers, 100], nice=False)
    x_axis = alt.Axis(title="Relative depth (%)", values=[0, 25, 50, 75, 100])
    y = alt.Y("value:Q", scale=alt.Scale(domain=domain, nice=False), axis=y_axis)
    numbers = [
        alt.Tooltip("layer:Q"),
        alt.Tooltip("depth:Q", title="relative depth (%)", format=".1f"),
        *theme.estimate_tooltips(f"self-repair ({unit})", ".4f"),
    ]
    color = alt.Color("series:N", scale=SERIES, title=None)
    single = _series(dots, HEAD).encode(x=alt.X("at:Q", scale=x_scale, axis=x_axis), color=color)
    size = min(22.0, 5000 / len(dots))
    circles = single.mark_circle(size=size, opacity=0.9).encode(y=y, tooltip=[alt.Tooltip("head:Q"), *numbers])
    layer = _series(means.select("layer", depth, "value", "low", "high"), LAYER).encode(
        x=alt.X("depth:Q", scale=x_scale, axis=x_axis), color=color
    )
    band = layer.mark_area(opacity=0.25).encode(y=alt.Y("low:Q"), y2="high:Q")
    line = layer.mark_line(strokeWidth=1.8, point={"size": 16}).encode(y=y, tooltip=numbers)
    return alt.layer(
        theme.level(0),
        theme.interval_bars(single, opacity=0.7),
        circles,
        band,
        line,
        theme.words("Self-repair", 5, 9, align="left"),
        theme.words("Breakage", width - 5, HEIGHT - 9, align="right"),
    ).properties(width=width, height=HEIGHT)


def _series(table: pl.DataFrame, name: str) -> alt.Chart:
    return alt.Chart(theme.embed(table)).transform_calculate(series=f"'{name}'")
