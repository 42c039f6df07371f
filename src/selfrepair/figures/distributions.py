"""Mean self-repair of the later heads on other text and on generated prompts against the same on the first text."""

import altair as alt
import numpy as np
import polars as pl

from selfrepair.figures import theme

LARGEST, SPACING = 150, 16  # px of a panel, and between panels
AXIS = 36  # px beside each panel
KEY = ["layer", "head"]
RIGHT = {"preferred": "right one preferred", "first": "right"}  # share of answers that the clean model gives


def distributions(heads: pl.DataFrame, accuracy: pl.DataFrame, findings: pl.DataFrame) -> theme.Panel:
    """Draw mean self-repair (logits) of each later head: rows of panels for models, columns for distributions.

    Args:
        heads: `DISTRIBUTION_HEADS` of models, of which null twins are not drawn; on prompts their answers are.
        accuracy: `ACCURACY`; of distributions that are not reported there is a text in place of the heads.
        findings: `FINDINGS` of the study.
    """
    first, *others = theme.names(heads, "distribution")
    if others:
        models, _ = theme.with_twins(heads)
        rows = [_row(*(table.filter(model=model) for table in (heads, accuracy, findings))) for model in models]
        chart = alt.vconcat(*rows, spacing=18)
    else:
        chart = theme.nothing(f"This run measured no distribution but {first}.")
    return theme.themed(
        chart,
        f"Self-repair on several distributions: mean self-repair of each head of the later half on {', '.join(others)} "
        f"against the same on {first}, in logits, with 95 % intervals and rank correlations.",
        [
            f"One dot per head of the later half of the layers; resample ablation. Across: top tokens of {first}. Up:",
            "top tokens of other text, or answers of prompts. Bars and brackets: 95 % intervals, bootstrap by document",
            f"or prompt. \u03c1: Spearman's rank correlation over the heads. Dashed: as on {first}.",
        ],
    )


def _row(heads: pl.DataFrame, accuracy: pl.DataFrame, findings: pl.DataFrame) -> alt.HConcatChart:
    """The panels of one model."""
    (model,), (first, *others) = theme.names(heads), theme.names(heads, "distribution")
    size = min((theme.FULL_WIDTH - SPACING * (len(others) - 1)) // len(others) - AXIS, LARGEST)
    means = heads.filter((2 * pl.col("layer") >= pl.col("n_layers")) & (pl.col("heads") == "one"))
    means = means.filter(quantity="self_repair", statistic="mean")
    across = means.filter(distribution=first).select(*KEY, "value", "low", "high")
    panels: list[alt.LayerChart] = []
    for distribution in others:
        answers = accuracy.filter(distribution=distribution)[:1]  # the share preferred, where there is one
        label, tokens = (distribution, "top") if answers.is_empty() else (f"{distribution} (answers)", "answers")
        lines = [f"{RIGHT[which]}: {100 * share:.0f} %" for which, share in answers["statistic", "value"].rows()]
        if answers["reported"].all():
            lines = [f"\u03c1 = {_correlation(findings, label)}", *lines, " "][:2]
            up = means.filter(distribution=distribution, tokens=tokens)
            panel = _scatter(across.join(up, on=KEY, suffix="_up"), first, leftmost=not panels)
        else:
            panel, lines = theme.words("not shown", size / 2, size / 2), [*lines, " "]
        title = alt.Title(distribution, subtitle=lines, subtitleColor=theme.MUTED, subtitleFontSize=9)
        panels.append(panel.properties(width=size, height=size, title=title))
    halves = _correlation(findings, f"{first} (halves)")
    title = f"{model} (one half of the documents of {first} against the other: \u03c1 = {halves})"
    return alt.hconcat(*panels, spacing=SPACING, title=alt.Title(title, offset=8))


def _scatter(means: pl.DataFrame, first: str, leftmost: bool) -> alt.LayerChart:
    """Heads by `value` on the first distribution and `value_up` on another."""
    x_domain, y_domain = _domain(means, ""), _domain(means, "_up")
    axis = {"tickCount": 4, "grid": False, "labelBound": True}
    x_axis = alt.Axis(title=f"On {first} (logits)", **axis)
    y_axis = alt.Axis(title="Self-repair (logits)" if leftmost else None, titleFontSize=10, **axis)
    x = alt.X("value:Q", scale=alt.Scale(domain=x_domain, nice=False), axis=x_axis)
    y = alt.Y("value_up:Q", scale=alt.Scale(domain=y_domain, nice=False), axis=y_axis)
    base = alt.Chart(theme.embed(means)).encode(color=alt.value(theme.BLUE))
    across = base.mark_rule(opacity=0.4).encode(x=alt.X("low:Q"), x2="high:Q", y=y)
    upright = base.mark_rule(opacity=0.4).encode(x=x, y=alt.Y("low_up:Q"), y2="high_up:Q")
    dots = base.mark_circle(size=18, opacity=0.9).encode(x=x, y=y, tooltip=_tooltip(first))
    ends = pl.DataFrame({"end": [max(x_domain[0], y_domain[0]), min(x_domain[1], y_domain[1])]})
    line = alt.Chart(theme.embed(ends)).mark_line(strokeDash=[5, 3], strokeWidth=1, color=theme.INK)
    return alt.layer(*theme.zero_lines(), line.encode(x="end:Q", y="end:Q"), across, upright, dots)


def _domain(means: pl.DataFrame, of: str) -> list[float]:
    low, high = (means.select(f"{end}{of}", f"value{of}").to_numpy() for end in ("low", "high"))
    return theme.padded(np.nanmin(low), np.nanmax(high), 0.06)


def _correlation(findings: pl.DataFrame, tokens: str) -> str:
    found = findings.filter(statistic="rank_correlation", tokens=tokens).select("value", "low", "high").row(0)
    value, *ends = ("" if end is None else f"{end:.2f}".replace("-", "\u2212") for end in found)
    return (f"{value} [{', '.join(ends)}]" if all(ends) else value) or "not defined"


def _tooltip(first: str) -> list[alt.Tooltip]:
    numbers = {
        "value": f"on {first}",
        "low": "95 % low",
        "high": "95 % high",
        "value_up": "here",
        "low_up": "95 % low",
        "high_up": "95 % high",
    }
    return [
        *(alt.Tooltip(f"{name}:Q") for name in KEY),
        *(alt.Tooltip(f"{name}:Q", title=f"{title} (logits)", format=".4f") for name, title in numbers.items()),
    ]
