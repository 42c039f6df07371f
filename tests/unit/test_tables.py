"""Tables: cells as TeX, one row per thing, and the same numbers in LaTeX and CSV."""

import re

import polars as pl
import pytest

from selfrepair.ablation.schema import EFFECTS
from selfrepair.analysis.schema import STATISTICS
from selfrepair.analysis.wide import wide
from selfrepair.claims.verdicts import PAPER
from selfrepair.core.tables import frame, write_csv
from selfrepair.report import tables
from selfrepair.report.claims_table import claims_table
from selfrepair.report.latex import escape, integer, interval, number, scientific

EFFECTS = list(EFFECTS)
PARTS = ("self_repair", "repair_norm", "repair_attention", "repair_mlp")


def statistics(model: str, means: dict[tuple[int, int | None], dict[str, float]], tokens: str = "top") -> pl.DataFrame:
    """Rows of `STATISTICS`: means as given (0 where not), intervals of +-0.1, shares of 0.5, medians of 9."""
    rows = []
    n_layers = 1 + max(layer for layer, _ in means)
    for (layer, head), given in means.items():
        values = [("mean", name, given.get(name, 0.0)) for name in EFFECTS]
        values += [("median", name, 9.0) for name in EFFECTS]
        values += [
            (kind, name, given.get(f"{kind}_{name}", 0.5)) for kind in ("share", "clipped_share") for name in PARTS
        ]
        rows += [
            (model, "resample", n_layers, layer, head, tokens, name, kind, value, value - 0.1, value + 0.1, 20, 5, 3.5)
            for kind, name, value in values
        ]
    return frame(dict(zip(STATISTICS, map(list, zip(*rows, strict=True)), strict=True)), STATISTICS)


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("a_b & 50% #1 $x {y}", r"a\_b \& 50\% \#1 \$x \{y\}"),
        ("back\\slash ~ ^", r"back\textbackslash{}slash \textasciitilde{} \textasciicircum{}"),
        ("L3H5 < 1 > 0 | x", r"L3H5 \textless{} 1 \textgreater{} 0 \textbar{} x"),
    ],
)
def test_every_special_character_is_escaped(text: str, tex: str) -> None:
    assert escape(text) == tex


def test_numbers_have_true_minus_signs_and_fixed_decimals() -> None:
    assert number(-0.12345, 3) == "$-0.123$"
    assert number(2, 2) == "$2.00$"
    assert number(-0.0004, 3) == "$0.000$", "a rounded zero has no sign"
    assert number(None, 3) == number(float("nan"), 3) == "--"
    assert interval(-1, 0.5, 1) == "[$-1.0$, $0.5$]"
    assert interval(None, 0.5, 1) == "--"
    assert integer(1234567) == r"$1\,234\,567$"
    assert scientific(3.14e-7) == r"$3.1\times10^{-7}$"


def test_wide_gives_one_row_per_head_and_keeps_its_interval() -> None:
    table = statistics("m", {(1, 0): {"self_repair": 2.0}, (0, 3): {"self_repair": -1.0}})
    spread = wide(pl.concat([table, statistics("m", {(0, 0): {"self_repair": 7.0}}, tokens="all")]), "top")
    assert spread.select("layer", "head").rows() == [(0, 3), (1, 0)]
    row = spread.row(1, named=True)
    assert (row["mean_self_repair"], row["mean_self_repair_low"], row["mean_self_repair_high"]) == (2.0, 1.9, 2.1)
    assert row["median_self_repair"] == 9.0 and row["n_tokens"] == 20


def test_medians_of_fewer_tokens_do_not_make_rows_of_their_own() -> None:
    table = statistics("m", {(0, 0): {"self_repair": 2.0}, (0, 1): {}}, tokens="all")
    median = pl.col("statistic") == "median"
    fewer = table.with_columns(n_tokens=pl.when(median).then(3).otherwise("n_tokens"))
    spread = wide(fewer, "all")
    assert spread.height == 2 and spread["n_tokens"].to_list() == [20, 20]
    assert spread["mean_self_repair"].to_list() == [2.0, 0.0] and spread["median_self_repair"].to_list() == [9.0, 9.0]


def test_layers_table_says_the_same_in_latex_and_rows() -> None:
    one = {"direct_effect": 1.0, "delta_logit": -0.75, "self_repair": 0.25, "repair_norm": 0.5, "repair_mlp": -0.25}
    rows, tex = tables.layers(wide(statistics("tiny_a", {(0, None): one}), "top"))
    assert rows.row(0, named=True) | {"share": 0.5} == rows.row(0, named=True)
    assert rows["self_repair_low"][0] == pytest.approx(0.15)
    assert rows["repair_norm_high"][0] == pytest.approx(0.6), "the parts have intervals too"
    assert rows.schema == {name: column.dtype for name, column in tables.LAYERS.items()}
    line = next(line for line in tex.splitlines() if line.startswith("$0$"))
    numbers = r"$1.000$ & $-0.750$ & $0.250$ & [$0.150$, $0.350$] & $0.500$ & $0.000$ & $-0.250$ & $0.50$ & $0.50$"
    assert line == rf"$0$ & {numbers} & $4$ \\"
    assert r"\texttt{tiny\_a}" in tex


def test_heads_table_takes_the_largest_direct_effects_of_each_model() -> None:
    effects = {(layer, head): {"direct_effect": layer + head / 10} for layer in range(3) for head in range(8)}
    both = pl.concat([wide(statistics(name, effects), "top") for name in ("b", "a")])
    rows, tex = tables.heads(both, count=3)
    assert rows["name"].to_list() == ["L2H7", "L2H6", "L2H5"] * 2
    assert rows["model"].to_list() == ["b"] * 3 + ["a"] * 3, "models stay in the order of the run"
    assert tex.count(r"\texttt{L2H7}") == 2 and "L1H7" not in tex
    assert rows.schema == {name: column.dtype for name, column in tables.HEADS.items()}


@pytest.mark.parametrize("function", [tables.layers, tables.heads])
def test_every_line_has_as_many_cells_as_the_table_has_columns(function) -> None:
    _, tex = function(wide(statistics("m", {(0, 0): {}, (1, 1): {}}), "top"))
    lines = [line for line in tex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(lines) == 3
    assert len({line.count("&") for line in lines}) == 1
    assert "toprule" in tex and "midrule" in tex and "bottomrule" in tex


MODEL = {"low": None, "high": None, "holds": None, "interval_agrees": None, "null": 0.25}
MODEL |= {"null_low": None, "null_high": None, "beyond_low": None, "beyond_high": None, "paper_value": None}
JUDGED = {"id": "a", "source": "s", "statistic": "x", "unit": "ratio", "rule": "below 1", "paper_value": 0.3}
JUDGED |= {
    "identity": False,
    "exploratory": False,
    "against": "twin",
    "wording": "5 % & more",
    "verdict": "not measured",
}
JUDGED |= {"others": {"held": ["m"], "did not hold": [], "undecided": ["n"], "models": 2}}


def test_claims_table_escapes_wording_and_marks_each_model() -> None:
    entry = MODEL | {"model": "m", "role": "other model", "value": -0.5, "verdict": "did not hold"}
    claim = JUDGED | {"models": [entry]}
    unmeasured = claim | {"statistic": None, "rule": None, "models": [], "wording": "never shown", "id": "b"}
    check = claim | {"identity": True, "wording": "true by construction", "id": "c"}
    explored = claim | {"exploratory": True, "wording": "only explored", "id": "e"}
    unsure = claim | {"models": [entry | {"verdict": "undecided"}], "id": "f"}
    rows, tex = claims_table([claim, unmeasured, check, explored, unsure])
    assert r"5 \% \& more" in tex and r"$-0.500$\,\makebox[1em][l]{$\times$}" in tex
    assert r"$-0.500$\,\makebox[1em][l]{?}" in tex and "1 of 2" in tex and "$0.25$" in tex
    assert all(words not in tex for words in ("never shown", "true by construction", "only explored"))
    assert r"\dimexpr0.86\linewidth-165pt" in tex, "what one model's column leaves"
    assert rows.select("id", "model", "value", "null").rows() == [
        ("a", "m", -0.5, 0.25),
        ("b", None, None, None),
        ("c", "m", -0.5, 0.25),
        ("e", "m", -0.5, 0.25),
        ("f", "m", -0.5, 0.25),
    ]


def test_of_many_models_the_papers_have_columns_of_claims_and_all_are_in_the_csv() -> None:
    roles = {**{f"other-{i}": "other model" for i in range(8)}, **{f"own-{i}": PAPER for i in range(3)}}
    models = [MODEL | {"model": m, "role": role, "value": 0.5, "verdict": "held"} for m, role in roles.items()]
    rows, tex = claims_table([JUDGED | {"models": models}])
    header = next(line for line in tex.splitlines() if line.startswith("Claim &"))
    assert re.findall(r"texttt\{([^}]+)\}", header) == [f"own-{i}" for i in range(3)] + [f"other-{i}" for i in range(5)]
    assert rows.height == 11


def test_csv_has_fixed_decimals(tmp_path) -> None:
    write_csv(pl.DataFrame({"value": [1 / 3, 2.0]}), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "value\n0.333333\n2.000000\n"
