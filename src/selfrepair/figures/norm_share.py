"""How much of a head's direct effect the final norm makes up for, by depth: the paper says about thirty percent."""

import altair as alt
import polars as pl

from selfrepair.analysis.final_norm import ABLATED, CLEAN, MIDPOINT
from selfrepair.figures import theme

PAPER = 30  # %, in the paper's abstract; claim `norm-share-mean`
LINES = {  # accounting and quantity: what the line is called, its colour and dashes
    (CLEAN, "norm"): ("norm, clean scale", theme.BLUE, [1, 0]),
    (CLEAN, "norm_own"): ("of it, from the head's own absence", theme.SKY, [6, 3]),
    (CLEAN, "norm_responders"): ("of it, from what responds", theme.GREEN, [2, 2]),
    (ABLATED, "norm"): ("norm, ablated scale", theme.ORANGE, [1, 0]),
    (MIDPOINT, "norm"): ("norm, midpoint", theme.VERMILION, [6, 3]),
}
TWIN = ("norm, shuffled weights", theme.MUTED, [1, 0])
LIMITS = (-20.0, 60.0)  # %; early layers, whose direct effects are about zero, lie outside
HEIGHT = 170  # px


def norm_share(norm: pl.DataFrame) -> alt.ConcatChart:
    """Draw the norm's share of the direct effect against relative depth, a panel for each model with its null twin.

    Args:
        norm: `NORM` of models, and of their null twins if there are any, under resample ablation.
    """
    models, of = theme.with_twins(norm)
    own, shuffled = (norm.filter(pl.col("model").is_in(some)) for some in (models, list(of)))
    drawn = [_shares(own, *key).with_columns(line=pl.lit(name)) for key, (name, *_) in LINES.items()]
    drawn.append(_shares(shuffled, CLEAN, "norm").with_columns(pl.col("model").replace(of), line=pl.lit(TWIN[0])))
    table = pl.concat(drawn)
    columns = theme.columns_of(len(models), 3)
    panels = [_panel(table.filter(model=model), model, index, columns) for index, model in enumerate(models)]
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Norm's share of the direct effect: part of self-repair that the final norm makes, divided by the direct "
        "effect, against relative depth in percent, in three accountings, with 95 % intervals, for "
        f"{', '.join(models)}; beside it the same model with shuffled weights, and the paper's thirty percent.",
        [
            f"{theme.describe_ablation(norm)}; ratio of sums over the top tokens of a layer's heads. Bands: 95 % "
            "intervals, bootstrap by document.",
            f"Dashed level: the paper's {PAPER} %. Panels end at {LIMITS[0]:.0f} and {LIMITS[1]:.0f} %: where heads "
            "have no direct effect, shares have no meaning.",
        ],
    )


def _shares(norm: pl.DataFrame, accounting: str, quantity: str) -> pl.DataFrame:
    rows = norm.filter(heads="layer", tokens="top", statistic="share", accounting=accounting, quantity=quantity)
    percent = (pl.col(name) * 100 for name in ("value", "low", "high"))
    return rows.select("model", "layer", *percent, depth=100 * pl.col("layer") / pl.col("n_layers"))


def _panel(table: pl.DataFrame, model: str, index: int, columns: int) -> alt.LayerChart:
    names, colors, dashes = zip(*LINES.values(), TWIN, strict=True)
    line = alt.Color(
        "line:N",
        scale=alt.Scale(domain=names, range=colors),
        legend=alt.Legend(title=None, orient="top", columns=3, labelLimit=300, symbolType="stroke"),
    )
    base = alt.Chart(theme.embed(table.drop("model"))).encode(
        x=alt.X(
            "depth:Q",
            title="Relative depth (%)",
            scale=alt.Scale(domain=[-4, 100], nice=False),
            axis=alt.Axis(values=[0, 25, 50, 75, 100]),
        ),
        color=line,
    )
    scale = alt.Scale(domain=LIMITS, nice=False)
    y = alt.Y("value:Q", scale=scale, axis=theme.left_only("Share of the direct effect (%)", index, columns))
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    tooltip = [
        alt.Tooltip("line:N", title="part"),
        alt.Tooltip("layer:Q"),
        *theme.estimate_tooltips("share (%)", ".1f"),
    ]
    levels = [theme.level(0), theme.level(PAPER, strokeDash=[4, 3], color=theme.INK)]
    return alt.layer(*levels, *theme.line_with_band(base, y, tooltip, strokeDash=dash)).properties(
        title=model, width=theme.panel_width(columns), height=HEIGHT
    )
