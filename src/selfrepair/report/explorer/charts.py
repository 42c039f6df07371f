"""The charts of the explorer: Vega-Lite specifications without data, which the page fills in.

Words in braces are filled in too; `cells`, `chosen` and the like are names of data.
"""

from typing import Any

import altair as alt

from selfrepair.figures import theme

QUANTITIES = {
    "direct_effect": "direct effect",
    "ablated_direct_effect": "direct effect after ablation",
    "delta_logit": "change of the logit",
    "self_repair": "self-repair",
    "repair_norm": "repair by the final norm",
    "repair_attention": "repair by later attention",
    "repair_mlp": "repair by MLPs",
}
STATISTICS = {
    "mean": "mean",
    "median": "median",
    "share": "share of direct effect, ratio of sums",
    "clipped_share": "share of direct effect, clipped on each token",
}
UNITS = {"mean": "logits", "median": "logits", "share": "ratio", "clipped_share": "ratio"}
TOKENS = {"top": "top tokens of each head", "all": "all tokens", "control": "control sample"}
PARTS = {"repair_norm": "final norm", "repair_attention": "later attention", "repair_mlp": "MLPs"}
RESPONDERS = {"attention": "attention", "mlp": "MLP"}
KINDS = {"control": "control tokens", "top": "top tokens of the head"}
TOTAL = "#a8a8a8"  # light enough for an interval drawn over it
DIVERGING = "purplegreen"
FORMAT = ".4f"


def charts() -> dict[str, dict[str, Any]]:
    """Specification of every chart, by the id of its place in the page."""
    drawn = {
        "grid": head_grid(_numbers("{quantity} ({unit})")),
        "split": repair_split(),
        "responders": responders(),
        "hand_off": head_grid(_numbers("{quantity} ({unit})")[:1]),
        "scatter": token_scatter(),
        "neurons": neurons(),
    }
    return {name: chart.properties(width="container").to_dict() for name, chart in drawn.items()}


def words() -> dict[str, dict[str, str]]:
    """What the page calls quantities, statistics and the like."""
    return {
        "quantity": QUANTITIES,
        "statistic": STATISTICS,
        "unit": UNITS,
        "tokens": TOKENS,
        "part": PARTS,
        "responder": RESPONDERS,
        "kind": KINDS,
        "colour": {name: QUANTITIES[name] for name in ("direct_effect", "self_repair")},
    }


def head_grid(numbers: list[alt.Tooltip]) -> alt.LayerChart:
    """Heads by layer, coloured; data `cells` of all heads, `chosen` and `pinned` of those that are framed.

    Colours end at -`extent` and `extent`.
    """
    x = alt.X("head:O", title="Head", axis=alt.Axis(tickSize=0))
    y = alt.Y("layer:O", title="Layer", sort="descending", axis=alt.Axis(tickSize=0))
    scale = alt.Scale(
        scheme=DIVERGING, domainMin=alt.ExprRef("-extent"), domainMid=0, domainMax=alt.ExprRef("extent"), nice=False
    )
    color = alt.Color(
        "value:Q",
        title="{quantity} ({unit})",
        scale=scale,
        legend=alt.Legend(orient="top", gradientLength=200, titleLimit=300, tickCount=5, format="~g"),
    )
    base = alt.Chart(alt.NamedData("cells")).encode(x=x, y=y)
    empty = base.mark_rect(color="#f2f2f2", aria=False)
    measured = (
        base.transform_filter("isValid(datum.value)")
        .mark_rect(stroke="#bdbdbd", strokeWidth=0.5, cursor="pointer")
        .encode(
            color=color,
            description=alt.Description("label:N"),
            tooltip=[alt.Tooltip("name:N", title="head"), *numbers],
        )
    )
    framed = [
        alt.Chart(alt.NamedData(name))
        .mark_rect(filled=False, stroke=color, strokeWidth=width, strokeDash=dash, aria=False)
        .encode(x=x, y=y)
        for name, dash in (("pinned", [3, 2]), ("chosen", [1, 0]))
        for color, width in (("white", 6), (theme.INK, 3))
    ]
    chart = alt.layer(empty, measured, *framed).add_params(alt.param(name="extent", value=1))
    return theme.themed(chart, "Heat map of the heads of {model} by layer: {about}; unit: {unit}.")


def repair_split() -> alt.LayerChart:
    """Parts of a head's self-repair and their total; data `parts`."""
    domain = [*PARTS.values(), "total"]
    base = alt.Chart(alt.NamedData("parts")).encode(y=alt.Y("part:N", title=None, sort=domain))
    bars = base.mark_bar(height={"band": 0.6}).encode(
        x=alt.X("value:Q", title="Mean self-repair (logits), 95 % interval", axis=alt.Axis(grid=True, tickCount=6)),
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=domain, range=[theme.ORANGE, theme.BLUE, theme.GREEN, TOTAL]),
            legend=None,
        ),
        tooltip=[alt.Tooltip("part:N"), *_numbers("mean (logits)")],
    )
    interval = base.mark_rule(color=theme.INK, strokeWidth=1.5, aria=False).encode(x="low:Q", x2="high:Q")
    chart = alt.layer(bars, interval, _upright())
    return theme.themed(chart, "Bar chart of the parts of the self-repair of {head}: {summary}.")


def responders() -> alt.LayerChart:
    """Response of every layer that can respond; data `responses`, and `layers`, all of the model."""
    names = list(RESPONDERS.values())
    x = alt.X("layer:O", title="Layer that responds", axis=alt.Axis(tickSize=0))
    # Gives all heads of a model the same axis.
    layers = alt.Chart(alt.NamedData("layers")).mark_point(opacity=0, aria=False, tooltip=None).encode(x=x)
    bars = (
        alt.Chart(alt.NamedData("responses"))
        .mark_bar()
        .encode(
            x=x,
            xOffset=alt.XOffset("part:N", scale=alt.Scale(domain=names)),
            y=alt.Y("value:Q", title="Mean response (logits)", axis=alt.Axis(tickCount=5)),
            color=alt.Color("part:N", title=None, scale=alt.Scale(domain=names, range=[theme.BLUE, theme.GREEN])),
            tooltip=[
                alt.Tooltip("layer:O"),
                alt.Tooltip("part:N"),
                alt.Tooltip("value:Q", title="mean response (logits)", format=FORMAT),
            ],
        )
    )
    chart = alt.layer(layers, bars, theme.level(0, aria=False))
    return theme.themed(chart, "Bar chart of who repairs {head}: mean response of later layers. {summary}.")


def token_scatter() -> alt.LayerChart:
    """Single tokens of a head; data `tokens`, and `line`, the ends of y = -x."""
    x = alt.X("direct_effect:Q", title="Direct effect (logits)", axis=alt.Axis(tickCount=6))
    y = alt.Y("delta_logit:Q", title="Change of the logit (logits)", axis=alt.Axis(grid=False, tickCount=6))
    names = list(KINDS.values())
    dots = (
        alt.Chart(alt.NamedData("tokens"))
        .mark_point(filled=True, size=28, opacity=0.65)
        .encode(
            x=x,
            y=y,
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=names, range=[theme.SKY, theme.VERMILION])),
            shape=alt.Shape("kind:N", title=None, scale=alt.Scale(domain=names, range=["circle", "triangle-up"])),
            tooltip=[
                alt.Tooltip("text:N", title="context >> predicted"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("direct_effect:Q", title="direct effect (logits)", format=FORMAT),
                alt.Tooltip("delta_logit:Q", title="change of the logit (logits)", format=FORMAT),
            ],
        )
    )
    line = (
        alt.Chart(alt.NamedData("line"))
        .mark_line(strokeDash=[5, 3], strokeWidth=1.2, color=theme.INK, aria=False)
        .encode(x="direct_effect:Q", y="delta_logit:Q")
    )
    chart = alt.layer(theme.level(0, aria=False), _upright(), dots, line)
    return theme.themed(
        chart,
        "Scatter of single tokens of {head}: change of the logit when the head is ablated against its direct effect, "
        "in logits. {summary}.",
    )


def neurons() -> alt.LayerChart:
    """Neurons that change most often; data `neurons`, whose `mlp` names a layer of `{mlps}`."""
    base = alt.Chart(alt.NamedData("neurons")).encode(
        y=alt.Y("name:N", title=None, sort=None),
        color=alt.Color("mlp:N", title=None, scale=alt.Scale(range=theme.MODEL_COLORS)),
    )
    dots = base.mark_circle(size=60, opacity=1).encode(
        x=alt.X(
            "value:Q",
            title=["Share of top tokens on which it is", "among the 10 that change most"],
            axis=alt.Axis(format="%", grid=True, tickCount=5),
        ),
        tooltip=[
            alt.Tooltip("name:N", title="neuron"),
            *_numbers("share of tokens"),
            alt.Tooltip("direct_effect:Q", title="mean direct effect (logits)", format=FORMAT),
            alt.Tooltip("change:Q", title="mean change (logits)", format=FORMAT),
        ],
    )
    interval = base.mark_rule(strokeWidth=1.5, aria=False).encode(x="low:Q", x2="high:Q")
    return theme.themed(
        alt.layer(interval, dots), "Dot chart of the neurons that respond most often to ablating {head}: {summary}."
    )


def _numbers(title: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("value:Q", title=title, format=FORMAT),
        alt.Tooltip("low:Q", title="95 % interval, low", format=FORMAT),
        alt.Tooltip("high:Q", title="95 % interval, high", format=FORMAT),
    ]


def _upright() -> alt.Chart:
    """A thin line where x is zero."""
    return (
        alt.Chart(alt.InlineData(values=[{}]))
        .mark_rule(color=theme.MUTED, strokeWidth=0.8, aria=False)
        .encode(x=alt.datum(0))
    )
