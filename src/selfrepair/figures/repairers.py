"""Whether the later heads that repair most on one text do so on others and in prompts."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

ROW = 34  # px, of a distribution
LABELS = 70  # px, of their names


def repairers(findings: pl.DataFrame) -> alt.ConcatChart:
    """Draw the share of positive repair that one later head makes on each distribution, a panel for each model.

    Args:
        findings: `FINDINGS` of the study of distributions, of models and of their null twins if there are any.
    """
    shares = findings.filter(pl.col("statistic").is_in(["strongest_own", "strongest_on_first"]))
    if shares["value"].drop_nulls().is_empty():
        nothing = theme.nothing("No share of repair is known well enough to be shown.")
        return theme.themed(alt.concat(nothing), "Nothing to show.")
    models, of = theme.with_twins(shares)
    rows = theme.names(shares, "tokens")
    series = {"strongest there": -0.22, f"strongest on {rows[0]}": 0.0, "strongest there, shuffled weights": 0.22}
    own, on_first, of_twin = series
    twin, is_own = pl.col("model").is_in(list(of)), pl.col("statistic") == "strongest_own"
    table = shares.filter(~twin | is_own).select(
        "tokens",
        *(pl.col(name) * 100 for name in ("value", "low", "high")),
        model=pl.col("model").replace(of),
        series=pl.when(twin).then(pl.lit(of_twin)).when(is_own).then(pl.lit(own)).otherwise(pl.lit(on_first)),
    )
    shown = table.drop_nulls("value").with_columns(
        offset=pl.col("series").replace_strict(series, return_dtype=pl.Float64)
    )
    columns = theme.columns_of(len(models), 3)
    domains = [name for name in rows if name in shown["tokens"]], [name for name in series if name in shown["series"]]
    x = theme.padded(shown["low"].min() or 0, shown["high"].max() or 0, 0.04)
    panels = [
        _panel(shown.filter(model=name), *domains, x, index, columns).properties(title=name)
        for index, name in enumerate(models)
    ]
    return theme.themed(
        alt.concat(*panels, columns=columns),
        "Share of the positive changes of later heads' direct effects that one of them makes, in percent, on every "
        f"distribution: the {own}, and the {on_first}, for {', '.join(models)}, with 95 % intervals.",
        [
            "Resample ablation of the heads of the later half without the last layer, on top tokens or on answers. The",
            f"one later head is found on one half of the documents (there, or of {rows[0]}). Bars: 95 % intervals,",
            "bootstrap by document or prompt; shares whose interval is wider than 100 % are left out.",
        ],
    )


def _panel(
    table: pl.DataFrame, rows: list[str], series: list[str], domain: list[float], index: int, columns: int
) -> alt.LayerChart:
    colors = alt.Scale(domain=series, range=[theme.BLUE, theme.VERMILION, theme.MUTED])
    shapes = alt.Scale(domain=series, range=["circle", "diamond", "square"])
    base = alt.Chart(theme.embed(table.drop("model"))).encode(
        y=alt.Y("tokens:N", scale=alt.Scale(domain=rows), axis=theme.left_only("", index, columns)),
        yOffset=alt.YOffset("offset:Q", scale=alt.Scale(domain=[-0.5, 0.5])),
        color=alt.Color("series:N", scale=colors, legend=alt.Legend(title=None, orient="top")),
    )
    x_axis = alt.Axis(title="Share of positive repair (%)", tickCount=4, grid=True)
    x = alt.X("value:Q", scale=alt.Scale(domain=domain, nice=False), axis=x_axis)
    tooltip = [alt.Tooltip("tokens:N"), alt.Tooltip("series:N"), *theme.estimate_tooltips("share (%)", ".1f")]
    bars = base.mark_rule(strokeWidth=1.2).encode(x=alt.X("low:Q"), x2="high:Q")
    dots = base.mark_point(filled=True, size=30, opacity=1).encode(
        x=x, tooltip=tooltip, shape=alt.Shape("series:N", scale=shapes)
    )
    width = theme.panel_width(columns, theme.FULL_WIDTH - LABELS)
    return alt.layer(bars, dots).properties(width=width, height=ROW * len(rows))
