"""Self-repair by direct effect against which tokens count as a head's top tokens (study `threshold`)."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

QUANTITIES = {
    "self_repair": "Self-repair",
    "repair_norm": "Final norm",
    "repair_attention": "Later attention",
    "repair_mlp": "MLPs",
}
RULES = {  # what the line is called, its colour and dashes
    "signed": ("direct effect", theme.BLUE, [1, 0]),
    "size": ("size of the direct effect", theme.VERMILION, [6, 3]),
    "logit": ("logit of the correct token", theme.ORANGE, [2, 2]),
    "random": ("random", theme.GREEN, [6, 2, 1, 2]),
}
TWIN = ("direct effect, shuffled weights", theme.MUTED, [1, 0])
PAPER = 2  # %
LIMIT = 100  # %
HEIGHT = 95  # px
TITLE = 14  # px of the second line of an axis title
SHOWN = ["model", "line", "threshold", "value", "low", "high", "n_tokens"]


def threshold(thresholds: pl.DataFrame) -> alt.VConcatChart:
    """Draw shares of the direct effect against the threshold, a line for each rule, a column for each model.

    A share has a meaning, and is drawn, where the sum of direct effects is above zero with its whole interval.

    Args:
        thresholds: `BY_THRESHOLD` of models, and of their null twins if there are any.
    """
    models, of = theme.with_twins(thresholds)
    rules = {rule: name for rule, (name, *_) in RULES.items()}
    numbers, key = ["value", "low", "high"], ["model", "rule", "threshold"]
    effects = thresholds.filter(quantity="direct_effect", statistic="mean").select(*key, drawn=pl.col("low") > 0)
    shares = thresholds.filter(statistic="share").join(effects, on=key, maintain_order="left")
    shares = shares.with_columns(pl.when("drawn").then(pl.col(numbers)))  # lines break where there is no value
    own = shares.filter(pl.col("model").is_in(models)).with_columns(line=pl.col("rule").replace_strict(rules))
    shuffled = shares.filter(pl.col("model").is_in(list(of)), rule="signed").with_columns(line=pl.lit(TWIN[0]))
    table = pl.concat([own, shuffled.with_columns(pl.col("model").replace(of))])
    percent = table.with_columns(pl.col("threshold", *numbers) * 100)
    columns, rows = theme.columns_of(len(models)), []
    for quantity, name in QUANTITIES.items():
        drawn = percent.filter(quantity=quantity).select(
            "model", "line", "threshold", "value", "low", "high", "n_tokens"
        )
        domain = theme.padded(max(drawn["low"].min(), -LIMIT), min(drawn["high"].max(), LIMIT), 0.05)
        panels = [
            _panel(drawn.filter(model=model), model, domain, name, quantity, index, columns)
            for index, model in enumerate(models)
        ]
        rows.append(alt.concat(*panels, columns=columns))
    return theme.themed(
        alt.vconcat(*rows),
        "Self-repair against the threshold: self-repair and its parts as a share of the direct effect in percent, of "
        "the heads of the later half of the layers, against the share of tokens that count, which are ranked by direct "
        "effect, its size, the logit of the correct token, or at random, with 95 % intervals, for "
        f"{', '.join(models)}; beside it the same model with shuffled weights.",
        [
            "Resample ablation; ratio of sums over the tokens of all heads of the later half. Bands: 95 % intervals, "
            "bootstrap by document.",
            f"Dashed: the paper's {PAPER} %. Not drawn where direct effects may sum to zero, as a share then has no "
            f"meaning; panels end at ±{LIMIT} %.",
        ],
    )


def _panel(
    table: pl.DataFrame, model: str, domain: list[float], name: str, quantity: str, index: int, columns: int
) -> alt.LayerChart:
    lines, colors, dashes = zip(*RULES.values(), TWIN, strict=True)
    first, *_, last = (quantity == each for each in QUANTITIES)
    base = alt.Chart(theme.embed(table.drop("model"))).encode(
        x=alt.X(
            "threshold:Q",
            scale=alt.Scale(type="log", domain=[0.1, 100], nice=False),
            axis=alt.Axis(
                title="Tokens that count (%)" if last else None, values=[0.1, 0.5, 2, 10, 100], format="~g", grid=False
            ),
        ),
        color=alt.Color(
            "line:N",
            scale=alt.Scale(domain=lines, range=colors),
            legend=alt.Legend(
                title="Ranked by", orient="top", columns=5, symbolType="stroke", symbolSize=250, columnPadding=10
            ),
        ),
    )
    scale = alt.Scale(domain=domain, nice=False)
    y = alt.Y("value:Q", scale=scale, axis=theme.left_only([name, "(% of direct effect)"], index, columns, tickCount=4))
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=lines, range=dashes), legend=None)
    tooltip = [
        alt.Tooltip("line:N", title="ranked by"),
        alt.Tooltip("threshold:Q", title="tokens that count (%)"),
        alt.Tooltip("n_tokens:Q", title="tokens", format=","),
        *theme.estimate_tooltips("share (%)", ".1f"),
    ]
    at_paper = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=theme.INK, strokeDash=[4, 3], strokeWidth=0.8)
    panel = alt.layer(
        theme.level(0), at_paper.encode(x=alt.datum(PAPER)), *theme.line_with_band(base, y, tooltip, strokeDash=dash)
    )
    width, title = theme.panel_width(columns, theme.FULL_WIDTH - TITLE), {"title": model} if first else {}
    return panel.properties(width=width, height=HEIGHT, **title)
