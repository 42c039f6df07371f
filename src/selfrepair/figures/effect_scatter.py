"""Direct effect of every head against the change of the logit when it is ablated (the paper's per-head scatter)."""

from math import atan2, cos, degrees, sin

import altair as alt
import numpy as np
import polars as pl

from selfrepair.figures import theme

TOKENS = {"all": "Without selection ({:,} tokens)", "top": "Top tokens of each head"}
EFFECT, CHANGE = "direct_effect", "delta_logit"
WIDTH, HEIGHT = 240, 240  # px of a panel
LABEL = (74, 14)  # px that the longest name of a zone takes
STEPS = 20  # places tried for a label along each side

Point = tuple[float, float]


def effect_scatter(heads: pl.DataFrame) -> alt.HConcatChart:
    """Draw mean delta_logit against mean direct_effect (logits) per head of one model, on all and on top tokens.

    A head on the dashed line y = -x loses its direct effect and nothing else happens; above it later parts of the
    model repair the loss, below it they add to it.

    Args:
        heads: `STATISTICS` of one model.
    """
    (model,) = theme.names(heads)
    panels = [_panel(heads, tokens) for tokens in TOKENS]
    chart = alt.hconcat(*panels, spacing=30).resolve_scale(color="shared")
    return theme.themed(
        chart,
        f"Direct effect and change of the logit, {model}: mean change of the correct token's logit when a head is "
        "ablated against the head's mean direct effect, both in logits, with 95 % intervals, on tokens without "
        "selection and on each head's top tokens. Heads above the line y = -x are self-repaired, heads below it break.",
        [
            f"{model}; {theme.describe_ablation(heads).lower()}; one dot per head. "
            "Bars: 95 % intervals, bootstrap by document."
        ],
    )


def _panel(heads: pl.DataFrame, tokens: str) -> alt.LayerChart:
    means = theme.pick(heads, "mean", tokens, [EFFECT, CHANGE])
    table = means.pivot(on="quantity", index=["layer", "head"], values=["value", "low", "high"])
    title = TOKENS[tokens].format(heads.filter(tokens=tokens, statistic="mean")["n_tokens"].max())
    x_domain = theme.padded(table[f"low_{EFFECT}"].min(), table[f"high_{EFFECT}"].max())
    y_domain = theme.padded(table[f"low_{CHANGE}"].min(), table[f"high_{CHANGE}"].max())
    x = alt.X(
        f"value_{EFFECT}:Q",
        title="Direct effect of the head (logits)",
        scale=alt.Scale(domain=x_domain, nice=False),
        axis=alt.Axis(tickCount=5),
    )
    y = alt.Y(
        f"value_{CHANGE}:Q",
        title="Change of the logit on ablation (logits)" if tokens == "all" else None,
        scale=alt.Scale(domain=y_domain, nice=False),
        axis=alt.Axis(tickCount=6, grid=False),
    )
    color = alt.Color(
        "layer:Q",
        title="Layer",
        scale=alt.Scale(scheme=alt.SchemeParams("viridis", extent=[0, 0.9]), domain=[0, heads["layer"].max()]),
        legend=alt.Legend(orient="right", tickMinStep=1, format="d", gradientLength=160),
    )
    base = alt.Chart(theme.embed(table)).encode(color=color)
    across = base.mark_rule(opacity=0.4).encode(x=alt.X(f"low_{EFFECT}:Q"), x2=f"high_{EFFECT}:Q", y=y)
    upright = base.mark_rule(opacity=0.4).encode(x=x, y=alt.Y(f"low_{CHANGE}:Q"), y2=f"high_{CHANGE}:Q")
    dots = base.mark_circle(size=min(28.0, 9000 / len(table)), opacity=0.9).encode(x=x, y=y, tooltip=_tooltip())
    crosses = [(x, "value") for x in ("value", "low", "high")] + [("value", y) for y in ("low", "high")]
    points = [point for x, y in crosses for point in table.select(f"{x}_{EFFECT}", f"{y}_{CHANGE}").rows()]
    return alt.layer(
        *theme.zero_lines(),
        theme.falling_line(x_domain, y_domain),
        across,
        upright,
        dots,
        *_zones(points, x_domain, y_domain),
    ).properties(width=WIDTH, height=HEIGHT, title=title)


def _tooltip() -> list[alt.Tooltip]:
    numbers = [alt.Tooltip("layer:Q"), alt.Tooltip("head:Q")]
    for column, title in ((EFFECT, "direct effect"), (CHANGE, "change of logit")):
        numbers.append(alt.Tooltip(f"value_{column}:Q", title=f"{title} (logits)", format=".4f"))
        numbers += [
            alt.Tooltip(f"{end}_{column}:Q", title=f"{title}, 95 % {end}", format=".4f") for end in ("low", "high")
        ]
    return numbers


def _zones(points: list[Point], x_domain: list[float], y_domain: list[float]) -> list[alt.LayerChart]:
    """Name the zones, each where it is farthest from the points (logits)."""
    x_px, y_px = WIDTH / (x_domain[1] - x_domain[0]), HEIGHT / (y_domain[1] - y_domain[0])
    dots = [((x - x_domain[0]) * x_px, (y_domain[1] - y) * y_px) for x, y in points]
    slope = atan2(y_px, x_px)

    def line_at(x: float) -> float:
        return (y_domain[1] + x / x_px + x_domain[0]) * y_px

    def beside_line(x: float, side: int) -> Point:
        return x + side * LABEL[1] / 2 * sin(slope), line_at(x) - side * LABEL[1] / 2 * cos(slope)

    columns = [LABEL[0] / 2 + i / STEPS * (WIDTH - LABEL[0]) for i in range(STEPS + 1)]
    rows = [LABEL[1] / 2 + j / STEPS * (HEIGHT - LABEL[1]) for j in range(STEPS + 1)]
    spots = [(x, y) for x in columns for y in rows]
    line = [x for x in columns if LABEL[0] / 2 < line_at(x) < HEIGHT - LABEL[0] / 2]
    zones = {
        "Self-repair": (0.0, [(x, y) for x, y in spots if y + LABEL[1] < line_at(x - LABEL[0] / 2)]),
        "Breakage": (0.0, [(x, y) for x, y in spots if y - LABEL[1] > line_at(x + LABEL[0] / 2)]),
        "No self-repair": (slope, [beside_line(x, side) for x in line for side in (1, -1)]),
    }
    return [
        theme.words(name, *_emptiest(places, angle, dots), angle=degrees(angle))
        for name, (angle, places) in zones.items()
        if places
    ]


def _emptiest(places: list[Point], angle: float, dots: list[Point]) -> Point:
    """Return the place (px) whose label, turned by `angle`, is farthest from any dot."""
    along = LABEL[0] / 2 * np.linspace(-1, 1, 5)[:, None] * [cos(angle), sin(angle)]
    reached = np.array(places)[:, None] + along  # place, point of the label, axis
    away = np.linalg.norm(reached[:, :, None] - np.array(dots), axis=-1).min((1, 2))
    return places[int(away.argmax())]
