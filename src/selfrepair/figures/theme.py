"""The look of all figures: size, type, colours that colour-blind readers can tell apart, and shared building blocks."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl
import polars.selectors as cs

from selfrepair.models.directory import twins

PX_PER_INCH = 96
FULL_WIDTH = 648  # px: both columns of a journal page, 6.75 in
MAX_COLUMNS = 4  # panels beside each other
AXIS_WIDTH = 56  # px beside a row of panels, for its axis and the margins
GAP = 12  # px between panels

INK, MUTED, GRID = "#222222", "#595959", "#e6e6e6"
# Okabe and Ito (2008)
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"
MODEL_COLORS = [BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK]
ABLATION_COLORS = {"resample": BLUE, "zero": ORANGE, "mean": GREEN}

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
alt.data_transformers.disable_max_rows()

CONFIG = {
    "font": FONT,
    "background": "white",
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 10,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "gridColor": GRID,
        "gridWidth": 0.7,
        "tickSize": 4,
        "labelOverlap": True,
    },
    "axisX": {"grid": False},
    "axisXBand": {"labelAngle": 0},
    "axisY": {"grid": True},
    "axisYBand": {"grid": False},
    "legend": {
        "labelFontSize": 10,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "labelLimit": 480,
        "columnPadding": 18,
        "symbolSize": 50,
        "symbolOpacity": 1,
        "rowPadding": 2,
        "orient": "top",
        "offset": 6,
        "padding": 4,
    },
    "title": {"fontSize": 11, "fontWeight": "bold", "color": INK, "anchor": "start", "frame": "group", "offset": 5},
    "concat": {"spacing": GAP},
    "text": {"fontSize": 10, "color": MUTED},
}

Panel = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.HConcatChart | alt.VConcatChart


def themed(chart: Any, description: str, notes: Sequence[str] = ()) -> Any:
    """Give a finished figure the common look, a description for screen readers and lines of notes above it."""
    title = alt.Title(
        list(notes), fontSize=10, fontWeight="normal", color=MUTED, frame="bounds", lineHeight=13, offset=8
    )
    return chart.properties(description=description, **({"title": title} if notes else {})).configure(**CONFIG)


def embed(table: pl.DataFrame) -> pl.DataFrame:
    """Turn a table into chart data, its numbers rounded to 6 significant digits, and null where not finite."""
    return table.with_columns(pl.when(cs.float().is_finite()).then(cs.float().round_sig_figs(6)))


def pick(table: pl.DataFrame, statistic: str, tokens: str, quantities: Sequence[str]) -> pl.DataFrame:
    """Return the rows of `STATISTICS` of one statistic and set of tokens, without those two columns.

    Raises:
        ValueError: there are none.
    """
    rows = table.filter(
        (pl.col("statistic") == statistic) & (pl.col("tokens") == tokens) & pl.col("quantity").is_in(quantities)
    )
    if rows.is_empty():
        raise ValueError(f"the table holds no {statistic} of {', '.join(quantities)} on {tokens} tokens")
    return rows.select("model", "n_layers", "layer", "head", "quantity", "value", "low", "high")


def names(table: pl.DataFrame, column: str = "model") -> list[str]:
    """Return the names in a column, in order of appearance."""
    return table[column].unique(maintain_order=True).to_list()


def with_twins(table: pl.DataFrame) -> tuple[list[str], dict[str, str]]:
    """Return a table's models in order of appearance, and of each null twin among them the model that it is of."""
    found = names(table)
    of = {twin: name for twin, name in twins(found).items() if twin in found}
    return [name for name in found if name not in of], of


def describe_ablation(table: pl.DataFrame) -> str:
    """Name the ablation of a table, such as "Resample ablation"."""
    return " and ".join(names(table, "ablation")).capitalize() + " ablation"


def columns_of(n_panels: int, most: int = MAX_COLUMNS) -> int:
    """How many of the panels stand in a row: as equal rows as fit, of at most so many."""
    rows = -(-n_panels // most)
    return -(-n_panels // rows)


def panel_width(columns: int, available: int = FULL_WIDTH) -> int:
    """Width (px) of each of `columns` panels that share a row and its axis."""
    return min((available - AXIS_WIDTH - GAP * (columns - 1)) // columns, 400)


def padded(low: float, high: float, share: float = 0.12) -> list[float]:
    """Axis domain that holds an interval and zero, with a margin of `share` of its length at both ends."""
    low, high = min(low, 0.0), max(high, 0.0)
    margin = share * (high - low) or 1.0
    return [low - margin, high + margin]


def left_only(title: str | list[str], panel: int, columns: int, **axis: Any) -> alt.Axis:
    """Vertical axis of a panel: labelled in the first column only, grid lines in all."""
    if panel % columns == 0:
        return alt.Axis(title=title, **axis)
    return alt.Axis(title=None, labels=False, ticks=False, domain=False, **axis)


def estimate_tooltips(title: str, form: str) -> list[alt.Tooltip]:
    """What the mouse shows of the columns `value`, `low` and `high`."""
    return [
        alt.Tooltip("value:Q", title=title, format=form),
        alt.Tooltip("low:Q", title="95 % interval, low", format=form),
        alt.Tooltip("high:Q", title="95 % interval, high", format=form),
    ]


def line_with_band(base: alt.Chart, y: alt.Y, tooltip: list[alt.Tooltip], **line: Any) -> list[alt.Chart]:
    """A line over its band from `low` to `high`, with points that show numbers; all end with the panel.

    Args:
        line: encodings of the line alone.
    """
    return [
        base.mark_area(opacity=0.15, clip=True).encode(y=alt.Y("low:Q", scale=y["scale"]), y2="high:Q"),
        base.mark_line(strokeWidth=1.5, clip=True).encode(y=y, **line),
        base.mark_point(filled=True, size=16, opacity=1, clip=True).encode(y=y, tooltip=tooltip),
    ]


def interval_bars(base: alt.Chart, **mark: Any) -> alt.Chart:
    """Bars from column `low` to column `high`, at the x of `base`, on its y scale, in its colour."""
    return base.mark_rule(**({"strokeWidth": 1} | mark)).encode(y=alt.Y("low:Q"), y2="high:Q")


def level(value: float, **mark: Any) -> alt.Chart:
    """A thin line across a panel at a value of its y axis."""
    style = {"color": MUTED, "strokeWidth": 0.8} | mark
    return alt.Chart(alt.InlineData(values=[{}])).mark_rule(**style).encode(y=alt.datum(value))


def falling_line(x_domain: list[float], y_domain: list[float]) -> alt.Chart:
    """The part of the dashed line y = -x that lies within a panel's domains."""
    ends = [max(x_domain[0], -y_domain[1]), min(x_domain[1], -y_domain[0])]
    data = pl.DataFrame({"x": ends, "y": [-end for end in ends]})
    base = alt.Chart(embed(data)).mark_line(strokeDash=[5, 3], strokeWidth=1.2, color=INK)
    return base.encode(x=alt.X("x:Q"), y=alt.Y("y:Q"))


def zero_lines() -> list[alt.Chart]:
    """Thin lines across a panel where x and y are zero."""
    upright = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=GRID, strokeWidth=1.2).encode(x=alt.datum(0))
    return [level(0, color=GRID, strokeWidth=1.2), upright]


def words(text: str, x: float, y: float, **mark: Any) -> alt.Chart:
    """Text at a place of a panel (px from its upper left corner), outlined in white."""
    base = alt.Chart(alt.InlineData(values=[{}])).encode(x=alt.value(x), y=alt.value(y), text=alt.value(text))
    style = {"fontStyle": "italic", "baseline": "middle"} | mark
    return base.mark_text(stroke="white", strokeWidth=3, **style) + base.mark_text(**style)


def nothing(text: str) -> Any:
    """In place of a figure a line that says why there is none."""
    return words(text, 0, 12, align="left").properties(width=FULL_WIDTH - AXIS_WIDTH, height=24)
