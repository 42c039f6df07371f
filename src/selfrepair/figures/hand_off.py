"""Who repairs whom: which later heads respond to which ablated head, and how few of them make most of the repair."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

RANKS = 20  # later heads whose share is drawn
WIDEST = 1.0  # interval; where nothing repairs there is nothing to share, and the ratio may be anything
CELL = 22  # px, of the matrix where it fits
LARGEST = 600  # px


def hand_off_share(sparsity: pl.DataFrame) -> alt.ConcatChart:
    """Draw the share of positive repair that the strongest later heads make, a panel a model, shuffled weights in grey.

    Args:
        sparsity: `SPARSITY` of models, and of their null twins if there are any.
    """
    models, of = theme.with_twins(sparsity)
    percent = (pl.col(name) * 100 for name in ("value", "low", "high"))
    known = sparsity.filter(pl.col("rank") <= RANKS, pl.col("high") - pl.col("low") <= WIDEST)
    table = known.select(
        pl.col("model").replace(of),
        "rank",
        *percent,
        weights=pl.when(pl.col("model").is_in(list(of))).then(pl.lit("shuffled weights")).otherwise(pl.lit("trained")),
    )
    columns = theme.columns_of(len(models), 3)
    panels = [_share(table.filter(model=name), name, index, columns) for index, name in enumerate(models)]
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Share of the positive changes of later heads' direct effects that the strongest 1, 2, ... of them make, in "
        f"percent, for {', '.join(models)} and the same models with shuffled weights, with 95 % intervals.",
        [
            "Resample ablation of the heads of the later half without the last layer, on their top tokens. Later heads "
            "are ranked on half of the documents,",
            "measured on the other half. Bands: 95 % intervals, bootstrap by document; shares whose interval is wider "
            "than 100 % are not drawn.",
        ],
    )


def _share(table: pl.DataFrame, title: str, index: int, columns: int) -> alt.LayerChart:
    base = alt.Chart(theme.embed(table.drop("model"))).encode(
        x=alt.X("rank:Q", title="Later heads, strongest first", scale=alt.Scale(domain=[0, RANKS], nice=False)),
        color=alt.Color(
            "weights:N",
            scale=alt.Scale(domain=["trained", "shuffled weights"], range=[theme.BLUE, theme.MUTED]),
            legend=alt.Legend(title=None, orient="top", symbolType="stroke"),
        ),
    )
    scale = alt.Scale(domain=[0, 110], nice=False)
    y = alt.Y("value:Q", scale=scale, axis=theme.left_only("Share of positive repair (%)", index, columns))
    tooltip = [
        alt.Tooltip("rank:Q", title="later heads"),
        alt.Tooltip("weights:N"),
        *theme.estimate_tooltips("share (%)", ".1f"),
    ]
    return alt.layer(theme.level(50, strokeDash=[4, 3]), *theme.line_with_band(base, y, tooltip)).properties(
        title=title, width=theme.panel_width(columns), height=160
    )


def hand_off_matrix(hand_off: pl.DataFrame) -> alt.LayerChart:
    """Draw the mean change of each later head's direct effect for each ablated head of the later half of a model.

    Args:
        hand_off: `HAND_OFF` of one model.
    """
    name, last = hand_off["model"][0], int(hand_off["later_layer"].max() or 0)
    late = hand_off.filter(2 * pl.col("layer") >= last + 1)
    heads = 1 + int(late["later_head"].max() or 0)
    first = int(late["layer"].min() or 0)
    table = late.select(
        "value",
        "low",
        "high",
        x=(pl.col("layer") - first) * heads + pl.col("head"),
        y=pl.col("later_layer") * heads + pl.col("later_head") - (first + 1) * heads,
        ablated=pl.format("L{}H{}", "layer", "head"),
        responds=pl.format("L{}H{}", "later_layer", "later_head"),
    )
    count = (last - first) * heads
    size = min(LARGEST, CELL * count)
    limit = float(table["value"].abs().max() or 1.0)
    edges = [layer * heads for layer in range(last - first + 1)]
    scale = alt.Scale(domain=[0, count], nice=False, zero=False)

    def axis(title: str, offset: int) -> alt.Axis:
        label = f"'L' + (floor(datum.value / {heads}) + {first + offset})"
        middles = [edge + heads / 2 for edge in edges[:-1]]
        return alt.Axis(title=title, values=middles, labelExpr=label, grid=False, ticks=False, labelOverlap="greedy")

    cells = (
        alt.Chart(theme.embed(table.with_columns(x2=pl.col("x") + 1, y2=pl.col("y") + 1)))
        .mark_rect(clip=True)
        .encode(
            x=alt.X("x:Q", scale=scale, axis=axis("Ablated head, by layer", 0)),
            x2="x2:Q",
            y=alt.Y("y:Q", scale=scale, axis=axis("Later head that responds, by layer", 1)),
            y2="y2:Q",
            color=alt.Color(
                "value:Q",
                scale=alt.Scale(scheme="blueorange", domain=[-limit, limit]),
                title="Mean change of its direct effect (logits)",
                legend=alt.Legend(orient="top", gradientLength=260, titleLimit=400),
            ),
            tooltip=[
                alt.Tooltip("ablated:N", title="ablated"),
                alt.Tooltip("responds:N", title="responds"),
                *theme.estimate_tooltips("change (logits)", ".4f"),
            ],
        )
    )
    borders = [
        alt.Chart(alt.InlineData(values=[{}]))
        .mark_rule(color=theme.MUTED, strokeWidth=0.6)
        .encode(**{of: alt.datum(edge)})
        for edge in edges
        for of in ("x", "y")
    ]
    chart = alt.layer(cells, *borders).properties(width=size, height=size)
    return theme.themed(
        chart,
        f"Matrix of {name}: mean change of the direct effect of every later head when a head of the later half is "
        "ablated, on that head's top tokens, in logits.",
        [f"{name}: resample ablation, on the ablated head's top tokens. Heads of a layer stand side by side."],
    )
