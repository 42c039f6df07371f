"""Who repairs whom: response of every later layer to ablating the heads of a layer."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

PARTS = {"attention": "attention", "mlp": "MLP"}


def responders(table: pl.DataFrame) -> alt.ConcatChart:
    """Draw the mean response (logits) of each later layer's attention and MLP, on the top tokens, by ablated layer.

    Args:
        table: `RESPONDERS` of one or several models; the values of a layer's heads are averaged.
    """
    top = table.filter((pl.col("tokens") == "top") & _can_respond())
    if top.is_empty():
        raise ValueError("the table holds no response on top tokens")
    means = (
        top.filter(~_silent_own_mlp())
        .group_by("model", "part", "layer", "later_layer", maintain_order=True)
        .agg(pl.col("value").mean())
    )
    models = theme.names(table)
    columns = theme.columns_of(len(models))
    extent = means["value"].abs().max() or 1.0
    color = alt.Color(
        "value:Q",
        title="Response (logits): above 0 repair, below 0 breakage",
        scale=alt.Scale(scheme="purplegreen", domain=[-extent, extent]),
        legend=alt.Legend(gradientLength=200, titleLimit=400, tickCount=9, format="~g"),
    )
    panels = []
    for index, model in enumerate(models):
        of_model = means.filter(pl.col("model") == model)
        n_layers = table.filter(pl.col("model") == model)["later_layer"].max() + 1
        pair = [
            _panel(of_model.filter(pl.col("part") == part), part, n_layers, color, columns, index) for part in PARTS
        ]
        panels.append(alt.vconcat(*pair).properties(title=model))
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Who repairs whom: heat maps of the mean change in logits of the direct effect of each later layer's attention "
        f"and MLP after ablating a head, by layer of the head, for {', '.join(models)}.",
        [
            f"{theme.describe_ablation(table)}; means over the heads of a layer, on each head's top tokens by direct "
            "effect; point values.",
            "Empty: not downstream of the head; in parallel blocks, this holds of the MLP of its own layer too.",
        ],
    )


def _can_respond() -> pl.Expr:
    """Whether a layer lies downstream of the ablated head: later, or the MLP of its own layer."""
    own_mlp = (pl.col("part") == "mlp") & (pl.col("later_layer") == pl.col("layer"))
    return (pl.col("later_layer") > pl.col("layer")) | own_mlp


def _silent_own_mlp() -> pl.Expr:
    """Whether a row is about the MLP of the head's own layer in a parallel block: exactly zero for every head."""
    silent = (pl.col("value") == 0).all().over("model", "ablation", "part", "layer", "later_layer")
    return (pl.col("later_layer") == pl.col("layer")) & silent


def _panel(means: pl.DataFrame, part: str, n_layers: int, color: alt.Color, columns: int, index: int) -> alt.LayerChart:
    every = list(range(n_layers))
    x_title = "Layer of the ablated head" if part == "mlp" else None
    y_axis = alt.Axis(title=f"Layer of the {PARTS[part]}" if index % columns == 0 else None, tickSize=0)
    x = alt.X("layer:O", scale=alt.Scale(domain=every), title=x_title, axis=alt.Axis(tickSize=0))
    y = alt.Y("later_layer:O", scale=alt.Scale(domain=every[::-1]), axis=y_axis)
    cells = (
        alt.Chart(theme.embed(means.select("layer", "later_layer", "value")))
        .mark_rect(stroke="#bdbdbd", strokeWidth=min(0.6, 4 / n_layers))
        .encode(
            x=x,
            y=y,
            color=color,
            tooltip=[
                alt.Tooltip("layer:O", title="ablated head's layer"),
                alt.Tooltip("later_layer:O", title=f"layer of the {PARTS[part]}"),
                alt.Tooltip("value:Q", title="response (logits)", format=".4f"),
            ],
        )
    )
    side = min(theme.panel_width(columns) - 10, 230)
    return cells.properties(width=side, height=side)
