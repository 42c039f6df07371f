"""The exploratory experiments on iterative inference: layers skipped, and heads that read their own output."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

SKIPPED, ABLATED = "change_moving", "change_ablating"
SIDE = 190  # px of a panel of the scatter, at most
DIRECTIONS = {"own": "its own output", "other": "another head's output", "random": "a random direction"}
COLORS = alt.Scale(domain=list(DIRECTIONS.values()), range=[theme.BLUE, theme.ORANGE, theme.GREEN])
DASHES = alt.Scale(domain=list(DIRECTIONS.values()), range=[[1, 0], [5, 2], [2, 2]])
SCALES = {"perturbed": "Scale of the perturbed pass (the original)", "clean": "Clean scale"}
ENDS = (("low", "95 % interval, low"), ("high", "95 % interval, high"))
REPRESSION_WIDTH, REPRESSION_HEIGHT = 250, 150  # px


def layer_moving(moving: pl.DataFrame) -> alt.ConcatChart:
    """Draw, per head, the change of mean direct effect (logits) from skipping the layer before it, against ablating.

    Args:
        moving: `MOVING` of one or several models; a panel each, over all tokens.
    """
    table = moving.filter(tokens="all")
    models = theme.names(table)
    columns = theme.columns_of(len(models))
    largest = table["moved_layer"].max()
    panels = [
        _scatter(table.filter(model=model), largest, index, columns).properties(title=_correlations(table, model))
        for index, model in enumerate(models)
    ]
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Skipping a layer, exploratory: change in logits of the mean direct effect of each head when the layer before "
        "it is skipped, against the change when the strongest head of that layer is resample-ablated, with 95 % "
        f"intervals, for {', '.join(models)}. Heads after the layer of largest direct effect are diamonds.",
        [
            "Exploratory. One mark per head, mean over all tokens, clean scale; diamonds: heads after the layer of "
            "largest direct effect.",
            "Bars and ranges: 95 % intervals, bootstrap by document. r: correlation over heads, of all layers and of "
            "the diamonds.",
        ],
    )


def _correlations(table: pl.DataFrame, model: str) -> alt.Title:
    of_model = table.filter(model=model, quantity="correlation")
    parts = {"all": pl.col("moved_layer").is_null(), "diamonds": pl.col("marked")}
    lines = []
    for name, which in parts.items():
        (row,) = of_model.filter(which).select("value", "low", "high").rows()
        value, low, high = (f"{number:.2f}".replace("-", "\u2212") for number in row)
        lines.append(f"r = {value} [{low}, {high}] {name}")
    return alt.Title(model, subtitle=lines, subtitleFontSize=9, subtitleColor=theme.MUTED)


def _scatter(table: pl.DataFrame, largest: int, index: int, columns: int) -> alt.LayerChart:
    changes = table.filter(pl.col("quantity").is_in([SKIPPED, ABLATED])).pivot(
        on="quantity", index=["moved_layer", "marked", "ablated_head", "head"], values=["value", "low", "high"]
    )
    scales = {
        name: alt.Scale(domain=theme.padded(changes[f"low_{name}"].min(), changes[f"high_{name}"].max()), nice=False)
        for name in (SKIPPED, ABLATED)
    }
    x = alt.X(
        f"value_{SKIPPED}:Q",
        title="Change on skipping (logits)",
        scale=scales[SKIPPED],
        axis=alt.Axis(tickCount=4, format="~g"),
    )
    y_axis = alt.Axis(
        title="Change on ablating (logits)" if index % columns == 0 else None, tickCount=5, grid=False, format="~g"
    )
    y = alt.Y(f"value_{ABLATED}:Q", scale=scales[ABLATED], axis=y_axis)
    color = alt.Color(
        "moved_layer:Q",
        title="Layer that is skipped, or whose strongest head is ablated",
        scale=alt.Scale(scheme=alt.SchemeParams("viridis", extent=[0, 0.9]), domain=[0, max(largest, 1)]),
        legend=alt.Legend(tickMinStep=1, format="d", gradientLength=160, titleLimit=400),
    )
    base = alt.Chart(theme.embed(changes)).encode(color=color)
    across = base.mark_rule(opacity=0.4).encode(x=alt.X(f"low_{SKIPPED}:Q"), x2=f"high_{SKIPPED}:Q", y=y)
    upright = base.mark_rule(opacity=0.4).encode(x=x, y=alt.Y(f"low_{ABLATED}:Q"), y2=f"high_{ABLATED}:Q")
    tooltip = [
        alt.Tooltip("moved_layer:Q", title="layer skipped"),
        alt.Tooltip("ablated_head:Q", title="its head that is ablated"),
        alt.Tooltip("head:Q", title="head of the next layer"),
        *(
            alt.Tooltip(f"{end}_{name}:Q", title=f"{what}{part} (logits)", format=".4f")
            for name, what in ((SKIPPED, "change on skipping"), (ABLATED, "change on ablating"))
            for end, part in (("value", ""), ("low", ", 95 % low"), ("high", ", 95 % high"))
        ),
    ]
    marks = [
        base.transform_filter(f"{'' if marked else '!'}datum.marked")
        .mark_point(shape=shape, filled=True, size=size, opacity=0.95, stroke=stroke, strokeWidth=0.7)
        .encode(x=x, y=y, tooltip=tooltip)
        for marked, shape, size, stroke in ((False, "circle", 22, None), (True, "diamond", 55, theme.INK))
    ]
    zero = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=theme.GRID, strokeWidth=1.2).encode(x=alt.datum(0))
    side = min(theme.panel_width(columns) - 40, SIDE)  # every panel has a y axis of its own
    return alt.layer(theme.level(0, color=theme.GRID, strokeWidth=1.2), zero, across, upright, *marks).properties(
        width=side, height=side
    )


def self_repression(repression: pl.DataFrame) -> alt.ConcatChart:
    """Draw the direct effect of heads after an addition to what they read, in percent of what it was, by its strength.

    Args:
        repression: `REPRESSION` of one or several models; a row of two panels each, one per scale.
    """
    ratios = repression.filter(statistic="ratio").with_columns(
        pl.col("value", "low", "high") * 100,
        direction=pl.col("direction").replace_strict(DIRECTIONS),
        receiver=pl.format("L{}H{}", "layer", "head"),
    )
    models = theme.names(ratios)
    panels = []
    for row, model in enumerate(models):
        of_model = ratios.filter(model=model)
        means = of_model.filter(pl.col("head").is_null())
        own = of_model.filter(direction=DIRECTIONS["own"])
        low, high = min(means["low"].min(), own["value"].min()), max(means["high"].max(), own["value"].max(), 100.0)
        domain = theme.padded(low, high, share=0.06)
        for column, (scale, title) in enumerate(SCALES.items()):
            y_axis = theme.left_only([model, "New / old effect (%)"], column, len(SCALES), tickCount=5)
            x_title = "Strength: multiple that is added" if row == len(models) - 1 else None
            panel = _lines(of_model.filter(scale=scale), domain, x_title, y_axis)
            panels.append(panel.properties(title=title) if row == 0 else panel)
    return theme.themed(
        alt.concat(*panels, columns=len(SCALES)),
        "Self-repression, exploratory: mean direct effect of a head after a multiple of its own output, of another "
        "head's output or of a random direction was added to what its layer reads, in percent of what it was, with "
        f"95 % intervals, with the scale of the perturbed pass and with the clean scale, for {', '.join(models)}.",
        [
            "Exploratory. Top tokens of the heads of largest direct effect; one position is perturbed per run.",
            "Thick: mean over heads; bars: 95 % intervals, bootstrap by document. Thin: each head, its own output. "
            "Dashed: no change.",
        ],
    )


def _lines(table: pl.DataFrame, domain: list[float], x_title: str | None, y_axis: alt.Axis) -> alt.LayerChart:
    strengths = sorted(table["strength"].unique().to_list())
    x = alt.X(
        "strength:Q",
        title=x_title,
        scale=alt.Scale(domain=[0, strengths[-1] * 1.05], nice=False),
        axis=alt.Axis(values=strengths, format="~g"),
    )
    y = alt.Y("value:Q", scale=alt.Scale(domain=domain, nice=False), axis=y_axis)
    color = alt.Color("direction:N", scale=COLORS, title="Added:")
    dash = alt.StrokeDash("direction:N", scale=DASHES, title="Added:")
    names = ("direction", "strength", "value", "low", "high")
    mean = table.filter(pl.col("head").is_null()).select(names)
    of_heads = table.filter(pl.col("head").is_not_null() & (pl.col("direction") == DIRECTIONS["own"]))
    numbers = [
        alt.Tooltip("direction:N", title="added"),
        alt.Tooltip("strength:Q"),
        *(alt.Tooltip(f"{n}:Q", title=t, format=".1f") for n, t in (("value", "new / old effect (%)"), *ENDS)),
    ]
    thin = alt.Chart(theme.embed(of_heads.select(*names, "receiver"))).encode(x=x, y=y, detail="receiver:N")
    thick = alt.Chart(theme.embed(mean)).encode(x=x, color=color)
    return alt.layer(
        theme.level(100, strokeDash=[4, 3]),
        thin.mark_line(strokeWidth=0.8, opacity=0.45, color=theme.BLUE).encode(
            tooltip=[alt.Tooltip("receiver:N", title="head"), *numbers]
        ),
        theme.interval_bars(thick, strokeWidth=1.3),
        thick.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash),
        thick.mark_point(filled=True, size=30, opacity=1).encode(y=y, tooltip=numbers),
    ).properties(width=REPRESSION_WIDTH, height=REPRESSION_HEIGHT)
