"""Numbers and whole tables as LaTeX, for `booktabs` and `longtable` alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "--"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def escape(text: str) -> str:
    """Escape every character that TeX would not print as it is; what can't be printed shows as a middle dot."""
    printable = (character if character.isprintable() or character == "\n" else "·" for character in text)
    return "".join(_SPECIAL.get(character, character) for character in printable)


def number(value: float | None, decimals: int) -> str:
    """Write a number with fixed decimals and a true minus sign; a dash where it is missing."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    return f"${text.removeprefix('-') if float(text) == 0 else text}$"


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """Write the ends of an interval."""
    if low is None or high is None:
        return MISSING
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def integer(value: int | None) -> str:
    """Write a whole number, thousands apart by thin spaces."""
    return MISSING if value is None else f"${value:,}$".replace(",", r"\,")


def scientific(value: float | None) -> str:
    """Write a number in powers of ten, to two significant digits."""
    if value is None or not math.isfinite(value):
        return MISSING
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"${mantissa}\times10^{{{int(exponent)}}}$"


@dataclass(frozen=True)
class LatexColumn:
    """A column of a table: where its cells come from and how they are set.

    Attributes:
        key: key of the cell's value; an interval takes `<key>_low` and `<key>_high`.
        head: TeX of the header.
        kind: number, interval, integer, scientific, code (a name) or tex (already TeX).
        decimals: of numbers and intervals.
        align: letter (or `p{...}`) of the column.
    """

    key: str
    head: str
    kind: str = "number"
    decimals: int = 3
    align: str = "r"

    def cell(self, row: dict[str, Any]) -> str:
        """Set one cell."""
        if self.kind == "interval":
            return interval(row[f"{self.key}_low"], row[f"{self.key}_high"], self.decimals)
        value = row[self.key]
        match self.kind:
            case "number":
                return number(value, self.decimals)
            case "integer":
                return integer(value)
            case "scientific":
                return scientific(value)
            case "code":
                return rf"\texttt{{{escape(value)}}}"
            case _:
                return value


def table(
    columns: Sequence[LatexColumn],
    groups: Sequence[tuple[str | None, Sequence[dict[str, Any]]]],
    spans: Sequence[tuple[str, int]] = (),
    environment: str = "tabular",
) -> str:
    """Set a whole table.

    Args:
        groups: rows in groups; a group with a name (TeX) begins with a line of its own.
        spans: headings above the header, each over as many columns as it says; an empty one has no rule.
        environment: `tabular`, or `longtable` for a table that may run over pages.
    """
    lines = [rf"\begin{{{environment}}}{{@{{}}{''.join(column.align for column in columns)}@{{}}}}", r"\toprule"]
    if spans:
        lines += [_line(rf"\multicolumn{{{width}}}{{c}}{{{head}}}" for head, width in spans), _rules(spans)]
    lines += [_line(column.head for column in columns), r"\midrule"]
    if environment == "longtable":
        lines += [r"\endhead", r"\bottomrule", r"\endlastfoot"]
    for index, (name, rows) in enumerate(groups):
        if index:
            lines.append(r"\addlinespace")
        if name is not None:
            lines.append(rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{{name}}} \\*")
        lines += [_line(column.cell(row) for column in columns) for row in rows]
    if environment != "longtable":
        lines.append(r"\bottomrule")
    return "\n".join([*lines, rf"\end{{{environment}}}", ""])


def _line(cells: Any) -> str:
    return " & ".join(cells) + r" \\"


def _rules(spans: Sequence[tuple[str, int]]) -> str:
    first, rules = 1, []
    for head, width in spans:
        if head:
            rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    return "".join(rules)
