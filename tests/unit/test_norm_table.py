"""The table of accountings and that of erasure neurons: which rows, in which order, and the same numbers in LaTeX."""

import polars as pl

from selfrepair.analysis.by_document import ALL, LATER, ONE
from selfrepair.analysis.final_norm import ACCOUNTINGS, NORM_PARTS, PARTS
from selfrepair.analysis.schema import NORM
from selfrepair.analysis.schema_neurons import ERASURE_NEURONS
from selfrepair.report import norm_table, tables


def norm_rows(
    models: tuple[str, ...] = ("m_b", "a"), ablations: tuple[str, ...] = ("resample", "zero")
) -> pl.DataFrame:
    """Rows of `NORM`; the value says model, ablation, heads, accounting and quantity by its digits."""
    rows = []
    for m, model in enumerate(models):
        for a, ablation in enumerate(ablations):
            for h, heads in enumerate((LATER, ALL, ONE)):
                for c, accounting in enumerate(ACCOUNTINGS[::-1]):
                    for q, quantity in enumerate((*PARTS, *NORM_PARTS)):
                        for statistic in ("mean", "share"):
                            value = m + a / 10 + h / 100 + c / 1000 + q / 10000
                            place = (0, 0) if heads == ONE else (None, None)
                            key = (model, ablation, 4, heads, *place, "top", accounting, quantity, statistic)
                            rows.append((*key, value, value - 0.5, value + 0.5, 10, 2, 1.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in NORM.items()}, orient="row")


def test_norm_table_has_a_row_for_each_accounting_of_groups_of_heads() -> None:
    rows, tex = norm_table.norm(norm_rows())
    assert rows.columns == list(norm_table.NORM_TABLE)
    keys = [
        (model, ablation, heads, accounting)
        for model in ("m_b", "a")
        for ablation in ("resample", "zero")
        for heads in (ALL, LATER)
        for accounting in ACCOUNTINGS
    ]
    assert rows.select("model", "ablation", "heads", "accounting").rows() == keys
    found = rows.filter(model="a", heads=ALL, ablation="zero", accounting=ACCOUNTINGS[0]).row(0, named=True)
    first = 1 + 0.1 + 0.01 + (len(ACCOUNTINGS) - 1) / 1000 + PARTS.index("norm") / 10000
    assert abs(found["mean_norm"] - first) < 1e-9 and abs(found["mean_norm_low"] - (first - 0.5)) < 1e-9
    assert r"\texttt{m\_b}" in tex and tex.count("clean") == 2, "LaTeX holds resample ablation and later heads only"
    assert "$0.002$" in tex and "$0.012$" not in tex


def erasure_rows() -> pl.DataFrame:
    rows = []
    for token_set in ("direct_effect", "top_mlp_repair"):
        for place in range(tables.ERASURE_SHOWN + 2):
            texts = (f"{token_set} a_b >> c{place}", None, None)
            numbers = (place, 100 + place, -0.5, -0.25, 0.75, 0.4, *texts, 0.3, 0.5, 20, 5)
            rows.append(("m", 2, 1, 3, token_set, *numbers))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in ERASURE_NEURONS.items()}, orient="row")


def test_erasure_table_shows_the_first_of_the_top_tokens_in_latex_and_all_in_the_csv() -> None:
    table = erasure_rows()
    rows, tex = tables.erasure_neurons(table)
    assert rows.equals(table)
    lines = [line for line in tex.splitlines() if r"\texttt{L2H1}" in line]
    assert len(lines) == tables.ERASURE_SHOWN and "top_mlp_repair" not in tex
    assert r"\texttt{3.100}" in lines[0] and "$-0.500$ & $-0.250$ & $40$ & [$30$, $50$] & $75$" in lines[0]
    assert r"a\_b" in lines[0] and r"\textbf{\texttt{\footnotesize c0}}" in lines[0]
