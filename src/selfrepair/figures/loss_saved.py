"""How much loss self-repair saves, by depth, beside what ablation would cost if nothing responded."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

HEAD, SAVED, COST, TWIN = (
    "saved by repair: a head",
    "saved by repair: mean of a layer",
    "cost if nothing responded: mean of a layer",
    "saved, shuffled weights: mean of a layer",
)
SERIES = alt.Scale(domain=[HEAD, SAVED, COST, TWIN], range=[theme.SKY, theme.BLUE, theme.VERMILION, theme.MUTED])
SPREAD = 0.6  # of the distance between layers, over which the heads of a layer are spread
HEIGHT = 190  # px


def loss_saved(losses: pl.DataFrame) -> alt.ConcatChart:
    """Draw mean losses on the top tokens against relative depth, a panel for each model with its null twin.

    Args:
        losses: `LOSS` of models, and of their null twins if there are any.
    """
    models, of = theme.with_twins(losses)
    table = losses.filter(tokens="top", statistic="mean").with_columns(
        twin=pl.col("model").is_in(list(of)),
        model=pl.col("model").replace(of),
        depth=100 * pl.col("layer") / pl.col("n_layers"),
    )
    layers = {
        SAVED: table.filter(~pl.col("twin"), heads="layer", quantity="loss_saved"),
        COST: table.filter(~pl.col("twin"), heads="layer", quantity="cost_without_repair"),
        TWIN: table.filter("twin", heads="layer", quantity="loss_saved"),
    }
    dots = table.filter(~pl.col("twin"), heads="one", quantity="loss_saved")
    columns = theme.columns_of(len(models), 3)
    every = pl.concat([dots, *layers.values()])["value"]
    scale = alt.Scale(domain=theme.padded(every.min(), every.max(), 0.2), nice=False)
    panels = []
    for index, model in enumerate(models):
        of_layers = {name: table.filter(model=model) for name, table in layers.items()}
        y = alt.Y("value:Q", scale=scale, axis=theme.left_only("Loss (nats per token)", index, columns))
        panels.append(_panel(dots.filter(model=model), of_layers, y, columns).properties(title=model))
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Loss saved by self-repair: loss if nothing responded minus loss of the ablated pass, in nats per token, of "
        "every head and of every layer, against relative depth in percent, with 95 % intervals; beside it what "
        f"ablation would cost if nothing responded, for {', '.join(models)}, and the loss saved with shuffled weights.",
        [
            "Resample ablation; means over each head's top tokens by direct effect. Bars and bands: 95 % intervals, "
            "bootstrap by document.",
            "The heads of a layer are spread sideways about its depth. Wide intervals may leave the panel.",
        ],
    )


def _panel(dots: pl.DataFrame, layers: dict[str, pl.DataFrame], y: alt.Y, columns: int) -> alt.LayerChart:
    n_layers = dots["n_layers"][0]
    place = (pl.col("head") + 0.5) / (dots["head"].max() + 1) - 0.5
    dots = dots.select("layer", "head", "value", "low", "high", at=pl.col("depth") + SPREAD * place * 100 / n_layers)
    x_scale = alt.Scale(domain=[-50 / n_layers, 100], nice=False)
    x_axis = alt.Axis(title="Relative depth (%)", values=[0, 25, 50, 75, 100])
    color = alt.Color("series:N", scale=SERIES, legend=alt.Legend(title=None, orient="top", columns=2))
    numbers = [
        alt.Tooltip("series:N", title="loss"),
        alt.Tooltip("layer:Q"),
        *theme.estimate_tooltips("nats per token", ".4f"),
    ]
    single = _series(dots, HEAD).encode(x=alt.X("at:Q", scale=x_scale, axis=x_axis), color=color)
    size = min(22.0, 5000 / len(dots))
    circles = single.mark_circle(size=size, opacity=0.9).encode(y=y, tooltip=[alt.Tooltip("head:Q"), *numbers])
    drawn = [theme.level(0), theme.interval_bars(single, opacity=0.7, clip=True), circles]
    for name, table in layers.items():
        layer = _series(table.select("layer", "depth", "value", "low", "high"), name).encode(
            x=alt.X("depth:Q", scale=x_scale, axis=x_axis), color=color
        )
        drawn.append(layer.mark_area(opacity=0.2, clip=True).encode(y=alt.Y("low:Q"), y2="high:Q"))
        drawn.append(layer.mark_line(strokeWidth=1.6, point={"size": 16}).encode(y=y, tooltip=numbers))
    return alt.layer(*drawn).properties(width=theme.panel_width(columns), height=HEIGHT)


def _series(table: pl.DataFrame, name: str) -> alt.Chart:
    return alt.Chart(theme.embed(table)).transform_calculate(series=f"'{name}'")
