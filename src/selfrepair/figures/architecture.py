"""A controlled family: what each architectural feature does to self-repair, and how its trainings went."""

import altair as alt
import polars as pl

from selfrepair.figures import theme

PARTS = {
    "self_repair": "Self-repair",
    "repair_norm": "Final norm",
    "repair_attention": "Later attention",
    "repair_mlp": "MLPs",
}
MATCHED = {"steps": "same step", "loss": "same held-out loss"}
COLORS = [theme.BLUE, theme.VERMILION]
PART_COLORS = [theme.INK, theme.BLUE, theme.ORANGE, theme.GREEN]
EFFECTS = {"direct_effect": "Direct effect", "self_repair": PARTS["self_repair"]}
EFFECT_COLORS = [theme.VERMILION, theme.INK]
BASE = "base"
NAMES = 86  # px beside the first panel
ROW, APART = 26, 5  # px of an arm, and of its two estimates from its middle
STEPS = alt.Axis(values=[1, 10, 100, 1000], format="d", grid=False)
PANEL, COLUMNS = 130, 5  # px, and panels beside each other, of the losses


def architecture(arms: pl.DataFrame, differences: pl.DataFrame) -> alt.HConcatChart:
    """Draw differences of each arm to the base, of self-repair and of its parts: a dot per pair of seeds, intervals.

    Args:
        arms: `ARMS`.
        differences: `ARM_DIFFERENCES`.
    """
    bound = differences["bound"].max()
    base = arms.filter(arm=BASE).select("seed", "part", base="value")
    pairs = arms.filter(pl.col("arm") != BASE).join(base, on=["seed", "part"], maintain_order="left")
    dots = pairs.select("arm", "seed", "part", value=100 * (pl.col("value") - pl.col("base")))
    percent = (pl.col(name) * 100 for name in ("value", "low", "high"))
    estimates = differences.with_columns(*percent, matched=pl.col("matched").replace(MATCHED))
    order = theme.names(dots, "arm")
    panels = [
        _panel(dots.filter(part=part), estimates.filter(part=part), title, order, 100 * bound, index == 0)
        for index, (part, title) in enumerate(PARTS.items())
    ]
    return theme.themed(
        alt.hconcat(*panels, spacing=theme.GAP),
        "Difference of self-repair, and of its three parts, in percent of the direct effect, between models that "
        f"differ from the base in one feature ({', '.join(order)}) and the base: one dot per pair of seeds, means with "
        "95 % intervals at the same step and at the same held-out loss.",
        [
            "Arm minus base, in percent of the direct effect, heads of the later half on their top tokens. Dots: pairs "
            "of seeds at the last step.",
            f"Bars: 95 % intervals, bootstrap by seed and document. Shaded: within {100 * bound:.0f} %, no effect "
            "that matters.",
        ],
    )


def _panel(
    dots: pl.DataFrame, estimates: pl.DataFrame, title: str, order: list[str], bound: float, first: bool
) -> alt.LayerChart:
    ends = [-bound, bound, *dots["value"], *estimates["low"], *estimates["high"]]
    domain = theme.padded(min(ends), max(ends), 0.05)
    x = alt.X("value:Q", title="Difference (%)", scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(tickCount=4))
    names = alt.Axis(title=None, ticks=False, domain=False, labels=first, labelLimit=NAMES)
    y = alt.Y("arm:N", sort=order, axis=names)
    seen = [alt.Tooltip("arm:N"), alt.Tooltip("seed:Q")]
    seen.append(alt.Tooltip("value:Q", title="difference (%)", format=".1f"))
    nothing = pl.DataFrame({"low": [-bound], "high": [bound]})
    band = alt.Chart(theme.embed(nothing)).mark_rect(color=theme.GRID, opacity=0.6)
    single = alt.Chart(theme.embed(dots)).mark_circle(size=16, color=theme.MUTED, opacity=0.8)
    drawn: list[alt.Chart] = [
        band.encode(x=alt.X("low:Q", scale=alt.Scale(domain=domain, nice=False)), x2="high:Q"),
        alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=theme.MUTED, strokeWidth=0.8).encode(x=alt.datum(0)),
        single.encode(x=x, y=y, tooltip=seen),
    ]
    scale = alt.Scale(domain=list(MATCHED.values()), range=COLORS)
    color = alt.Color("matched:N", scale=scale, legend=alt.Legend(title="Compared at the"))
    tooltip = [
        *(alt.Tooltip(f"{name}:N") for name in ("arm", "matched", "answer")),
        *theme.estimate_tooltips("difference (%)", ".1f"),
    ]
    for matched, sign in zip(MATCHED.values(), (-1, 1), strict=True):
        place = alt.Chart(theme.embed(estimates.filter(matched=matched))).encode(y=y, color=color)
        bars = place.mark_rule(strokeWidth=1.6, yOffset=sign * APART)
        drawn.append(bars.encode(x=alt.X("low:Q"), x2="high:Q"))
        drawn.append(
            place.mark_point(filled=True, size=34, opacity=1, yOffset=sign * APART).encode(x=x, tooltip=tooltip)
        )
    width = (theme.FULL_WIDTH - NAMES - theme.GAP * (len(PARTS) - 1)) // len(PARTS)
    return alt.layer(*drawn).properties(title=title, width=width, height=ROW * len(order))


def architecture_loss(course: pl.DataFrame) -> alt.ConcatChart:
    """Draw held-out loss against steps: a panel for each arm, every seed a line, the base in grey.

    Args:
        course: `ARM_COURSE`.
    """
    table = course.filter(part="self_repair").select("arm", "seed", "step", "held_out_loss")
    base, arms = table.filter(arm=BASE), [name for name in theme.names(table, "arm") if name != BASE]
    columns = theme.columns_of(len(arms), COLUMNS)
    width = theme.panel_width(columns)
    domain = theme.padded(table["held_out_loss"].min(), table["held_out_loss"].max(), 0.03)
    panels = []
    for index, name in enumerate(arms):
        y = alt.Y(
            "held_out_loss:Q",
            scale=alt.Scale(domain=[table["held_out_loss"].min() - 0.2, domain[1]], nice=False),
            axis=theme.left_only(["Held-out loss", "(nats per token)"], index, columns),
        )
        lines = [
            alt.Chart(theme.embed(of))
            .mark_line(strokeWidth=1, color=color, opacity=0.7)
            .encode(
                x=alt.X("step:Q", title="Step", scale=alt.Scale(type="log", nice=False), axis=STEPS),
                y=y,
                detail="seed:N",
                tooltip=[
                    *(alt.Tooltip(f"{column}:N") for column in ("arm", "seed", "step")),
                    alt.Tooltip("held_out_loss:Q", title="loss (nats per token)", format=".3f"),
                ],
            )
            for of, color in ((base, theme.MUTED), (table.filter(arm=name), theme.BLUE))
        ]
        panels.append(alt.layer(*lines).properties(title=name, width=width, height=PANEL))
    return theme.themed(
        alt.concat(*panels, columns=columns),
        f"Held-out loss against steps of training, of every seed of {', '.join(arms)}, beside all seeds of the base.",
        ["Blue: seeds of the arm; grey: of the base. Loss per token, on a tenth of the held-out text."],
    )


def architecture_course(course: pl.DataFrame) -> alt.HConcatChart:
    """Draw the base along training: held-out loss, mean direct effect, self-repair and its parts; every seed a line.

    Args:
        course: `ARM_COURSE`.
    """
    base = course.filter(arm=BASE)
    width = (theme.FULL_WIDTH - 3 * theme.AXIS_WIDTH) // 3
    x = alt.X("step:Q", title="Step", scale=alt.Scale(type="log", nice=False), axis=STEPS)
    about = [alt.Tooltip("seed:N"), alt.Tooltip("step:Q")]
    whole = base.filter(part="self_repair").with_columns(self_repair=pl.col("value") * pl.col("direct_effect"))
    losses = alt.Chart(theme.embed(whole.select("seed", "step", "held_out_loss")))
    y = alt.Y("held_out_loss:Q", title="Held-out loss (nats per token)", scale=alt.Scale(zero=False))
    seen = [*about, alt.Tooltip("held_out_loss:Q", format=".3f")]
    line = losses.mark_line(strokeWidth=1, color=theme.BLUE, opacity=0.7)
    panels = [line.encode(x=x, y=y, detail="seed:N", tooltip=seen)]
    effects = whole.drop("value").unpivot(list(EFFECTS), index=["seed", "step"], variable_name="of")
    scale = alt.Scale(domain=list(EFFECTS.values()), range=EFFECT_COLORS)
    line = alt.Chart(theme.embed(effects.with_columns(pl.col("of").replace(EFFECTS)))).mark_line(
        strokeWidth=1, opacity=0.7
    )
    panels.append(
        line.encode(
            x=x,
            y=alt.Y("value:Q", title="Mean per token (logits)"),
            color=alt.Color("of:N", scale=scale, title=None),
            detail="seed:N",
            tooltip=[*about, alt.Tooltip("of:N"), alt.Tooltip("value:Q", title="logits", format=".3f")],
        )
    )
    parts = base.select(
        "seed", "step", pl.col("part").replace(PARTS), *(pl.col(n) * 100 for n in ("value", "low", "high"))
    )
    colors = alt.Scale(domain=list(PARTS.values()), range=PART_COLORS)
    shown = alt.Chart(theme.embed(parts)).encode(
        x=x,
        color=alt.Color("part:N", scale=colors, legend=alt.Legend(title=None, columns=2)),
        detail="seed:N",
    )
    y = alt.Y("value:Q", title="Share of direct effect (%)", scale=alt.Scale(nice=False))
    band = shown.mark_area(opacity=0.1).encode(y=alt.Y("low:Q"), y2="high:Q")
    lines = shown.mark_line(strokeWidth=1.2).encode(y=y, tooltip=[*about, *theme.estimate_tooltips("share (%)", ".1f")])
    panels.append(alt.layer(theme.level(0), band, lines))
    return theme.themed(
        alt.hconcat(
            *(panel.properties(width=width, height=PANEL) for panel in panels), spacing=theme.GAP
        ).resolve_scale(color="independent"),
        "The base of the family along training: held-out loss in nats per token, mean direct effect and self-repair of "
        "the late heads in logits, and self-repair with its parts in percent of it, against the step, a line a seed.",
        ["Heads of the later half on their top tokens. Lines: seeds. Bands: 95 % intervals, bootstrap by document."],
    )
