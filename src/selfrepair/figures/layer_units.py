"""Are layers repaired like heads? Self-repair by direct effect of attention layers, MLP layers and heads, by depth."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

KINDS = {  # unit: what the line is called, its colour and its dashes
    "attention": ("attention layers", theme.BLUE, [1, 0]),
    "mlp": ("MLP layers", theme.VERMILION, [1, 0]),
    "heads": ("heads of a layer, one at a time", theme.GREEN, [6, 3]),
}
LIMITS = (-50.0, 150.0)  # %
HEIGHT = 150  # px


def layer_units(units: pl.DataFrame) -> alt.ConcatChart:
    """Draw self-repair by direct effect against relative depth: a column for each model, shuffled weights below.

    Args:
        units: `UNITS` of models, and of their null twins if there are any.
    """
    models, of = theme.with_twins(units)
    rows = units.filter(pl.col("layer").is_not_null(), statistic="share", quantity="self_repair")
    percent = (pl.col(name) * 100 for name in ("value", "low", "high"))
    called = {kind: name for kind, (name, *_) in KINDS.items()}
    table = rows.select(
        "model",
        "layer",
        *percent,
        depth=100 * pl.col("layer") / pl.col("n_layers"),
        kind=pl.col("unit").replace(called),
    )
    columns = theme.columns_of(len(models))
    back = {name: twin for twin, name in of.items()}
    panels = []
    for first in range(0, len(models), columns):
        row = models[first : first + columns]
        panels += [(name, name) for name in row]
        panels += [(back[name], "shuffled weights") for name in row if name in back]
    drawn = [_panel(table.filter(model=name), title, index, columns) for index, (name, title) in enumerate(panels)]
    return theme.themed(
        alt.concat(*drawn, columns=columns),
        "Self-repair divided by the direct effect, in percent, of attention layers, MLP layers and heads against "
        f"relative depth, with 95 % intervals, for {', '.join(models)} and the same models with shuffled weights.",
        [
            "Resample ablation; ratio of sums over a unit's top tokens. Bands: 95 % intervals, bootstrap by document.",
            f"Panels end at {LIMITS[0]:.0f} and {LIMITS[1]:.0f} %.",
        ],
    )


def _panel(table: pl.DataFrame, title: str, index: int, columns: int) -> alt.LayerChart:
    names, colors, dashes = zip(*KINDS.values(), strict=True)
    base = alt.Chart(theme.embed(table.drop("model"))).encode(
        x=alt.X(
            "depth:Q",
            title="Relative depth (%)",
            scale=alt.Scale(domain=[-4, 100], nice=False),
            axis=alt.Axis(values=[0, 25, 50, 75, 100]),
        ),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=names, range=colors),
            legend=alt.Legend(title=None, orient="top", symbolType="stroke"),
        ),
    )
    scale = alt.Scale(domain=LIMITS, nice=False)
    y = alt.Y("value:Q", scale=scale, axis=theme.left_only("Self-repair by direct effect (%)", index, columns))
    tooltip = [
        alt.Tooltip("kind:N", title="ablated"),
        alt.Tooltip("layer:Q"),
        *theme.estimate_tooltips("share (%)", ".1f"),
    ]
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    levels = [theme.level(0), theme.level(100, strokeDash=[4, 3], color=theme.INK)]
    return alt.layer(*levels, *theme.line_with_band(base, y, tooltip, strokeDash=dash)).properties(
        title=title, width=theme.panel_width(columns), height=HEIGHT
    )
