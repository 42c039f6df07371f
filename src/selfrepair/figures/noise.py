"""Noise of self-repair: single tokens of chosen heads, and where the variance comes from."""

import math
from pathlib import Path

import altair as alt
import polars as pl

from selfrepair.figures import theme
from selfrepair.figures.token_scatter import DRAWN, READ, domains, draw_tokens, token_panel

REASONS = {  # in this order heads are drawn
    "configured": "configured",
    "most_noise": "most noise",
    "least_noise": "least noise",
    "largest_direct_effect": "largest direct effect",
    "most_self_repair": "most self-repair",
}
COLUMNS = 3  # at most
SIZE = 170  # px of a panel
COMPONENTS = {"document": "between documents", "token": "between tokens of a document", "partner": "between partners"}
COLORS = alt.Scale(domain=list(COMPONENTS.values()), range=[theme.BLUE, theme.SKY, theme.ORANGE])
SETS = {"partners": "All tokens", "partners top": "Top tokens of the head"}
BAR = 17  # px
AXIS = [-0.05, 1.05]  # shares that the axis holds
LABELS = 60  # px that names of heads take


def heads_to_show(chosen: pl.DataFrame) -> dict[tuple[int, int], str]:
    """A model's chosen heads and why, configured ones first.

    Args:
        chosen: `chosen_heads.CHOSEN_HEADS` of one model.
    """
    reasons: dict[tuple[int, int], str] = {}
    for reason, why in REASONS.items():
        for head in chosen.filter(reason=reason).select("layer", "head").rows():
            reasons[head] = f"{reasons[head]}, {why}" if head in reasons else why
    return reasons


def noise_of_heads(model: str, tokens: list[Path], chosen: pl.DataFrame, rates: pl.DataFrame) -> alt.ConcatChart:
    """Draw `noise` of a model's chosen heads.

    Args:
        tokens: Parquet files of `ablated_tokens`, resample ablation.
        chosen: `chosen_heads.CHOSEN_HEADS` of the model.
        rates: `NOISE` of the model.
    """
    shown = heads_to_show(chosen)
    rows = pl.scan_parquet(tokens)
    return noise(model, shown, {h: rows.filter(layer=h[0], head=h[1]).select(READ).collect() for h in shown}, rates)


def noise(
    model: str, shown: dict[tuple[int, int], str], tokens: dict[tuple[int, int], pl.DataFrame], rates: pl.DataFrame
) -> alt.ConcatChart:
    """Draw delta_logit against direct_effect (logits) of single tokens, a panel for each head.

    Args:
        shown: heads and why they were chosen, of `heads_to_show`.
        tokens: their token rows of resample ablation (`ablated_tokens`).
        rates: `NOISE` of the model.
    """
    columns = math.ceil(len(shown) / math.ceil(len(shown) / COLUMNS))  # rows of equal length, if possible
    panels = []
    for index, ((layer, head), why) in enumerate(shown.items()):
        drawn = draw_tokens(tokens[layer, head])
        x_title = "Direct effect (logits)" if index >= len(shown) - columns else None
        y_title = "Change of the logit (logits)" if index % columns == 0 else None
        axis = alt.Axis(title=y_title, grid=False)
        panel = token_panel(drawn, *domains(drawn), x_title, axis, SIZE, SIZE)
        of_head = rates.filter(heads="one", layer=layer, head=head, quantity="overcorrected")
        lines = [
            f"overcorrected: {_percent(of_head, 'control')} of control tokens,",
            f"{_percent(of_head, 'top')} of top tokens",
        ]
        title = alt.Title(f"L{layer}H{head}: {why}", subtitle=lines, subtitleColor=theme.MUTED, subtitleFontSize=10)
        panels.append(panel.properties(title=title))
    return theme.themed(
        alt.concat(*panels, columns=columns, spacing=30),
        f"Noise of self-repair, {model}: change of the correct token's logit against the direct effect of a head on "
        "single tokens, both in logits, resample ablation. Tokens above zero with a positive direct effect are "
        "overcorrected.",
        [
            f"{model}; resample ablation; up to {DRAWN} control and {DRAWN} top tokens, at random. "
            "Dashed: y = \u2212x; panels have axes of their own.",
            "Overcorrected: the logit rises though the direct effect is positive; share of such tokens, 95 % interval.",
        ],
    )


def _percent(rates: pl.DataFrame, tokens: str) -> str:
    (rate,) = rates.filter(tokens=tokens).to_dicts()
    return f"{100 * rate['value']:.0f} % [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


def noise_components(table: pl.DataFrame) -> alt.ConcatChart:
    """Draw the shares of documents, tokens and partners in the variance of self-repair, stacked, a bar for each head.

    Shares are unbiased, and may be a little below zero; such a one is drawn as nothing, with its interval.

    Args:
        table: `NOISE` of one or several models; a row of panels each.
    """
    models = theme.names(table)
    panels = []
    for row, model in enumerate(models):
        for column, (tokens, title) in enumerate(SETS.items()):
            shares = _shares(table.filter(model=model, tokens=tokens))
            x_title = "Share of the variance of self-repair (%)" if row == len(models) - 1 else None
            panel = _bars(shares, model if column == 0 else None, x_title)
            panels.append(panel.properties(title=title) if row == 0 else panel)
    return theme.themed(
        alt.concat(*panels, columns=len(SETS)),
        "Sources of noise: share in percent of the variance of self-repair between documents, between tokens of a "
        "document "
        f"and between the rows that replace a token's, for chosen heads of {', '.join(models)}, with 95 % intervals.",
        [
            "Resample ablation, each row with several partners; unbiased nested variance components. Lines: 95 % "
            "intervals of where two shares meet,",
            "bootstrap by document, cut at the edge of the axis.",
        ],
    )


def _shares(table: pl.DataFrame) -> pl.DataFrame:
    """Shares of each head, and where its bars begin and end."""
    wide = (
        table.filter(pl.col("quantity").str.starts_with("share_"))
        .with_columns(part=pl.col("quantity").str.strip_prefix("share_"), name=pl.format("L{}H{}", "layer", "head"))
        .select("layer", "head", "name", "part", "value", "low", "high")
    )
    ends = wide.pivot(on="part", index="name", values="value")
    first = pl.col("document").clip(0, 1)
    second = (1 - pl.col("partner")).clip(0, 1)
    placed = {"document": (pl.lit(0.0), first), "token": (first, second), "partner": (second, pl.lit(1.0))}
    spans = [
        ends.select("name", pl.lit(part).alias("part"), start=start, end=end) for part, (start, end) in placed.items()
    ]
    return wide.join(pl.concat(spans), on=["name", "part"]).sort("layer", "head", maintain_order=True)


def _bars(shares: pl.DataFrame, model: str | None, x_title: str | None) -> alt.LayerChart:
    named = shares.with_columns(component=pl.col("part").replace_strict(COMPONENTS))
    order = theme.names(named, "name")
    axis = alt.Axis(title=x_title, values=[0, 0.25, 0.5, 0.75, 1], labelExpr="format(datum.value * 100, 'd')")
    scale = alt.Scale(domain=AXIS, nice=False)
    y = alt.Y("name:N", sort=order, title=model, axis=alt.Axis() if model else alt.Axis(labels=False, ticks=False))
    bars = (
        alt.Chart(theme.embed(named))
        .mark_bar(clip=True)
        .encode(
            x=alt.X("start:Q", scale=scale, axis=axis),
            x2="end:Q",
            y=y,
            color=alt.Color("component:N", scale=COLORS, title=None),
            tooltip=[
                alt.Tooltip("name:N", title="head"),
                alt.Tooltip("component:N", title="variance"),
                *theme.estimate_tooltips("share", ".1%"),
            ],
        )
    )
    # The end of the first share is its own value, that of the second is what the third leaves.
    document = named.filter(part="document").select("name", "low", "high", dodge=pl.lit(-3))
    partner = named.filter(part="partner").select(
        "name", low=1 - pl.col("high"), high=1 - pl.col("low"), dodge=pl.lit(3)
    )
    lines = [
        alt.Chart(theme.embed(ends.drop("dodge")))
        .mark_rule(color=theme.INK, strokeWidth=1.2, clip=True, yOffset=ends["dodge"][0])
        .encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", y=y)
        for ends in (document, partner)
    ]
    width = theme.panel_width(len(SETS), theme.FULL_WIDTH - LABELS)
    return alt.layer(bars, *lines).properties(width=width, height=BAR * len(order))
