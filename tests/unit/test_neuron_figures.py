"""Figures and the table about neurons show the numbers of their tables, and say so where there are none."""

import json
import re

import numpy as np
import polars as pl
import pytest

from selfrepair.ablation.schema_neurons import LISTED_NEURONS, NEURON_TOKENS
from selfrepair.analysis.schema_neurons import (
    ERASURE_NEURONS,
    NEURON_CUMULATIVE,
    NEURON_FREQUENCY,
    NEURON_HISTOGRAMS,
    NEURON_SHARES,
    NEURON_SPARSITY,
)
from selfrepair.core.tables import frame
from selfrepair.figures.erasure_scatter import DRAWN, erasure_scatter
from selfrepair.figures.neuron_cumulative import neuron_cumulative
from selfrepair.figures.neuron_frequency import neuron_frequency
from selfrepair.figures.neuron_histograms import neuron_histograms
from selfrepair.figures.neuron_panels import NOTHING
from selfrepair.figures.neuron_panels import SETS as WORDS
from selfrepair.figures.neuron_sparsity import neuron_sparsity
from selfrepair.report.tables import erasure_neurons
from tests.helpers.drawings import close, drawn, expected, number, shown, views

HEADS = [(0, 1, 1), (0, 1, 2), (1, 0, 2)]  # layer, head, layer of the MLP
SETS = ["direct_effect", "top_mlp_repair"]


def table(schema: dict, **inner: list) -> pl.DataFrame:
    """A table with every combination of the inner columns, for every head, MLP and set; numbers are all different."""
    names = list(inner)
    combinations = list(zip(*(inner[name] for name in names), strict=True))
    rows = []
    for layer, head, mlp in HEADS:
        for chosen in SETS:
            for values in combinations:
                key = {"model": "one", "layer": layer, "head": head, "mlp_layer": mlp, "token_set": chosen}
                row = key | dict(zip(names, values, strict=True))
                value = abs(number(*row.values()))
                row |= {"value": value, "low": value - 0.01, "high": value + 0.02, "n_tokens": 50, "n_documents": 5}
                rows.append(row | {name: number(name, *row.values()) for name in schema if name not in row})
    columns = {name: [row[name] for row in rows] for name in schema}
    return frame(columns, schema)


RANKS = list(range(50))
SPARSITY = table(NEURON_SPARSITY, threshold=[0.5] * 50 + [0.025] * 50, rank=RANKS * 2)
CUMULATIVE = table(NEURON_CUMULATIVE, rank=list(range(300)))
QUANTITIES = ["mlp_share", "top_percent_share", "top_5_share", "top_5_share_of_layer"]
HISTOGRAMS = table(
    NEURON_HISTOGRAMS,
    quantity=[name for name in QUANTITIES for _ in range(4)],
    bin_low=[0.0, 0.25, 0.5, 0.75] * 4,
    bin_high=[0.25, 0.5, 0.75, 1.0] * 4,
)
FREQUENCY = table(NEURON_FREQUENCY, place=list(range(20)), neuron=list(range(100, 120)))
SHARES = table(NEURON_SHARES, quantity=[*QUANTITIES, "first_erasing", "first_anti_erasing"])
ERASURE = table(
    ERASURE_NEURONS,
    place=list(range(5)),
    neuron=[7, 8, 9, 10, 11],
    context_1=[r"if x_1 >> 2 >>  é\n", "a >> b", None, "c >> d", "e >> f"],
    context_2=[None] * 5,
    context_3=[None] * 5,
)


def token_rows(count: int) -> pl.DataFrame:
    rows = []
    for layer, head, mlp in HEADS:
        for index in range(count):
            values = {name: number(name, layer, head, mlp, index) for name in NEURON_TOKENS}
            row = values | {"layer": layer, "head": head, "mlp_layer": mlp, "row": index // 10, "pos": index % 10}
            row |= {"by_direct_effect": index % 2 == 0, "by_top_mlp_repair": index % 3 == 0, "document": index // 20}
            for name in ("neuron_direct_effect", "neuron_change"):
                row[name] = [number(name, layer, head, mlp, index, rank) for rank in range(LISTED_NEURONS)]
            rows.append(row | {"neuron": list(range(index, index + LISTED_NEURONS))})
    return frame({name: [row[name] for row in rows] for name in NEURON_TOKENS}, NEURON_TOKENS)


FIGURES = {
    "neuron_sparsity": lambda: neuron_sparsity(SPARSITY),
    "neuron_cumulative": lambda: neuron_cumulative(CUMULATIVE),
    "erasure_scatter": lambda: erasure_scatter(token_rows(60), SHARES),
    "neuron_histograms": lambda: neuron_histograms(HISTOGRAMS),
    "neuron_frequency": lambda: neuron_frequency(FREQUENCY),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_valid_and_describes_itself(name):
    spec = FIGURES[name]().to_dict(validate=True)
    assert len(spec["description"]) > 80
    assert "95 %" in json.dumps(spec, ensure_ascii=False)
    encodings = [e for view in views(spec) for e in view["encoding"].values() if isinstance(e, dict)]
    titles = [str(e.get("title")) for e in encodings]
    titles += [str(e["axis"].get("title")) for e in encodings if isinstance(e.get("axis"), dict)]
    assert re.search(r"\((logits|%|% of tokens)\)", str(titles)), "no axis or legend says its unit"
    assert any("tooltip" in view["encoding"] for view in views(spec))
    for rows in spec["datasets"].values():
        for value in (v for row in rows for v in row.values() if isinstance(v, float)):
            assert value == float(f"{value:.6g}")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: neuron_sparsity(SPARSITY.clear()),
        lambda: neuron_cumulative(CUMULATIVE.clear()),
        lambda: erasure_scatter(token_rows(1).clear(), SHARES.clear()),
        lambda: neuron_histograms(HISTOGRAMS.clear()),
        lambda: neuron_frequency(FREQUENCY.clear()),
    ],
)
def test_a_model_without_such_neurons_gets_a_figure_that_says_so(draw):
    assert NOTHING in json.dumps(draw().to_dict(validate=True))


def percent(rows: list[tuple]) -> list[tuple]:
    """Values, lows and highs, the last three of each row, in percent."""
    return [(*row[:-3], *(100 * value for value in row[-3:])) for row in rows]


@pytest.mark.parametrize("key", HEADS)
def test_panels_show_the_values_of_their_head_and_mlp(key):
    layer, head, mlp = key
    title = f"L{layer}H{head}, MLP {mlp}"
    of_key = {"layer": layer, "head": head, "mlp_layer": mlp}
    ends = ("value", "low", "high")
    lines = drawn(neuron_sparsity(SPARSITY), "line", title, x="n", y="value", color="threshold", strokeDash="token_set")
    for chosen, words in WORDS.items():
        found = sorted((row["n"] - 1, *(row[e] for e in ends)) for row in lines if row["token_set"] == words)
        close(found, percent(expected(SPARSITY, "rank", *ends, token_set=chosen, **of_key)))
    assert {row["threshold"] for row in lines} == {"50 %", "2.5 %"}

    chart = neuron_cumulative(CUMULATIVE)
    names = ("rank", "median_direct_effect")
    for mark, encoded in (("circle", {"color": "median_direct_effect"}), ("line", {"stroke": "token_set"})):
        rows = drawn(chart, mark, title, x="n", y="value", **encoded)
        for chosen, words in WORDS.items():
            of_set = [row for row in rows if row["token_set"] == words]
            ranks = [row["n"] - 1 for row in of_set]
            assert {0, 1, 2, 297, 298, 299} <= set(ranks), "both ends are drawn"
            wanted = expected(CUMULATIVE.filter(pl.col("rank").is_in(ranks), token_set=chosen), *names, *ends, **of_key)
            found = sorted((row["n"] - 1, row["median_direct_effect"], *(row[e] for e in ends)) for row in of_set)
            close(found, percent(wanted))

    dots = drawn(neuron_frequency(FREQUENCY), "circle", title, x="at", y="value", color="token_set")
    wanted = percent(expected(FREQUENCY, "neuron", *ends, **of_key))
    close(shown(dots, "neuron", *ends), sorted(wanted))


def test_histograms_are_of_the_last_mlp_and_of_both_sets_of_tokens():
    spec = neuron_histograms(HISTOGRAMS).to_dict()
    for mark, words in (("rect", WORDS["direct_effect"]), ("circle", WORDS["top_mlp_repair"])):
        layers = [v for v in views(spec) if v["mark"]["type"] == mark]
        wanted = [
            (key, quantity) for key in HEADS[1:] for quantity in ("mlp_share", "top_5_share", "top_percent_share")
        ]
        assert len(layers) == len(wanted)
        for layer, ((at, head, mlp), quantity) in zip(layers, wanted, strict=True):
            assert words in json.dumps(layer["transform"]), "each mark has its set of tokens"
            key = {"layer": at, "head": head, "mlp_layer": mlp, "quantity": quantity}
            names = ("bin_low", "bin_high", "value", "low", "high")
            for chosen, of_set in WORDS.items():
                rows = [row for row in layer["rows"] if row["token_set"] == of_set]
                table_rows = expected(HISTOGRAMS, *names, token_set=chosen, **key)
                close(shown(rows, *names), [tuple(100 * v for v in r) for r in table_rows])


def test_a_share_of_all_mlps_names_none():
    text = json.dumps(neuron_histograms(HISTOGRAMS).to_dict())
    assert '"title": "L1H0"' in text and '"title": "L1H0, MLP 2"' in text


def test_scatter_shows_the_first_neuron_of_each_token_before_and_after():
    tokens = token_rows(60)
    chart = erasure_scatter(tokens, SHARES).to_dict()
    found = [v["rows"] for v in views(chart) if v["mark"]["type"] == "circle"]
    wanted = [(key, chosen) for chosen in SETS for key in HEADS[1:]]
    assert len(found) == len(wanted)
    for rows, ((layer, head, mlp), chosen) in zip(found, wanted, strict=True):
        of_panel = tokens.filter(f"by_{chosen}", layer=layer, head=head, mlp_layer=mlp).to_dicts()
        pairs = [(r["neuron_direct_effect"][0], r["neuron_direct_effect"][0] + r["neuron_change"][0]) for r in of_panel]
        for f, w in zip(shown(rows, "clean", "ablated"), sorted(pairs), strict=True):
            assert f == pytest.approx(w, rel=1e-4, abs=1e-6)
        share = SHARES.filter(quantity="first_anti_erasing", token_set=chosen, layer=layer, head=head, mlp_layer=mlp)
        assert f"{100 * share['value'].item():.0f} % [" in json.dumps(chart)
    bars = [v["rows"] for v in views(chart) if v["mark"]["type"] == "rect"]
    assert [sum(row["count"] for row in rows) for rows in bars] == [30, 30, 20, 20]


def test_a_scatter_of_many_tokens_draws_some_of_them_and_counts_all():
    chart = erasure_scatter(token_rows(1200), SHARES).to_dict()
    dots = [v["rows"] for v in views(chart) if v["mark"]["type"] == "circle"]
    assert all(DRAWN / 2 < len(rows) <= DRAWN for rows in dots)
    assert np.max([row["row"] for row in dots[0]]) > 110, "they are spread over the run"
    bars = [v["rows"] for v in views(chart) if v["mark"]["type"] == "rect"]
    assert sum(row["count"] for row in bars[0]) == 600


def test_table_of_erasure_neurons_is_of_top_tokens_and_plain_ascii():
    rows, tex = erasure_neurons(ERASURE)
    assert rows.equals(ERASURE), "the CSV holds both sets"
    assert tex.isascii() and tex.count(r"\texttt{L0H1}") == 6 and tex.count(r"\texttt{L1H0}") == 3
    first = ERASURE.filter(token_set="direct_effect").row(0, named=True)
    line = next(line for line in tex.splitlines() if r"\texttt{L0H1} & \texttt{1.7}" in line)
    assert (
        f"${first['direct_effect']:.3f}$ & ${first['ablated_direct_effect']:.3f}$ & ${100 * first['value']:.0f}$"
        in line
    )
    assert r"\texttt{\footnotesize if x\_1 \textgreater{}\textgreater{} 2} \textbf{\texttt{\footnotesize  " in line
    assert r"\textbackslash{}xe9\textbackslash{}n}}" in line
    assert "& -- \\\\" in tex, "a neuron that no token row lists has no text"
