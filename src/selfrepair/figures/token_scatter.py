"""A panel of single tokens: direct effect of a head against the change of the logit when it is ablated."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

CONTROL, TOP = "control tokens", "top tokens of the head"
COLORS = alt.Scale(domain=[CONTROL, TOP], range=[theme.SKY, theme.VERMILION])
DRAWN = 400  # tokens of either kind; more only cover each other
READ = ["row", "pos", "selected", "control", "direct_effect", "delta_logit"]  # columns of the token rows
SIDE = 0.02  # of an axis beyond the tokens


def draw_tokens(tokens: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Draw at most `DRAWN` control tokens and as many top tokens of a head, with which of the two they are in `kind`.

    Args:
        tokens: token rows of one head and ablation (`ablated_tokens`).
    """
    tokens = tokens.sort("row", "pos")  # so that the same are drawn of every kind of ablation
    sets = [(CONTROL, tokens.filter("control")), (TOP, tokens.filter("selected"))]
    drawn = [rows.sample(min(DRAWN, len(rows)), seed=seed).with_columns(kind=pl.lit(name)) for name, rows in sets]
    return pl.concat(drawn).select("row", "pos", "kind", pl.col("direct_effect", "delta_logit").cast(pl.Float64))


def domains(drawn: pl.DataFrame) -> tuple[list[float], list[float]]:
    """Axes (logits) that hold all drawn tokens, and zero."""
    effect, change = drawn["direct_effect"], drawn["delta_logit"]
    return theme.padded(effect.min(), effect.max(), SIDE), theme.padded(change.min(), change.max(), SIDE)


def token_panel(
    drawn: pl.DataFrame,
    x_domain: list[float],
    y_domain: list[float],
    x_title: str | None,
    y_axis: alt.Axis,
    width: int,
    height: int,
) -> alt.LayerChart:
    """Draw tokens of `draw_tokens`, the line y = -x, and where both are zero."""
    dots = (
        alt.Chart(theme.embed(drawn))
        .mark_circle(size=9, opacity=0.55, clip=True)
        .encode(
            x=alt.X("direct_effect:Q", title=x_title, scale=alt.Scale(domain=x_domain, nice=False)),
            y=alt.Y("delta_logit:Q", scale=alt.Scale(domain=y_domain, nice=False), axis=y_axis),
            color=alt.Color("kind:N", scale=COLORS, title=None),
            tooltip=[
                alt.Tooltip("row:Q"),
                alt.Tooltip("pos:Q"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("direct_effect:Q", title="direct effect (logits)", format=".4f"),
                alt.Tooltip("delta_logit:Q", title="change of logit (logits)", format=".4f"),
            ],
        )
    )
    layers = [*theme.zero_lines(), dots, theme.falling_line(x_domain, y_domain)]
    return alt.layer(*layers).properties(width=width, height=height)
