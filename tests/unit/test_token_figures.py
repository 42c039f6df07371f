"""Figures of single tokens, of the final norm and of noise show the numbers of their tables."""

import polars as pl
import pytest

from selfrepair.analysis.final_norm import CLEAN
from selfrepair.analysis.schema import RATIO_BIN
from selfrepair.figures import ablation_types, noise, norm_scale, theme, token_scatter
from selfrepair.figures.norm_share import LINES, TWIN, norm_share
from selfrepair.figures.repair_breakdown import BARS, repair_breakdown
from selfrepair.figures.repair_by_depth import PARTS, WAYS, repair_by_depth
from tests.helpers.drawings import HEADS, LAYERS, MODELS, N_LAYERS, close, drawn, expected, shown, views
from tests.helpers.token_drawings import (
    ABLATIONS,
    HEADS_SHOWN,
    OF_HEADS,
    TOKEN_FIGURES,
    TOKENS,
    histogram_table,
    noise_table,
    norm_shares,
    token_table,
)


def panel(spec: dict, start: str) -> dict:
    """The panel whose title begins so."""
    (found,) = [p for p in spec["concat"] if title_of(p).startswith(start)]
    return found


def title_of(part: dict) -> str:
    title = part.get("title", "")
    return title if isinstance(title, str) else title["text"]


def rows_of(spec: dict, part: dict, mark: str) -> list[dict]:
    """Rows of the only layer of a panel with a mark and a tooltip."""
    layers = [v for v in part["layer"] if v["mark"]["type"] == mark and "tooltip" in v["encoding"]]
    (layer,) = layers
    return spec["datasets"][layer["data"]["name"]]


@pytest.mark.parametrize(("statistic", "way"), [(s, w) for s, w in WAYS.items()])
@pytest.mark.parametrize("quantity", PARTS)
def test_depth_of_parts_shows_each_model(statistic, way, quantity):
    spec = repair_by_depth(LAYERS).to_dict()
    at = list(PARTS).index(quantity) * len(WAYS) + list(WAYS).index(statistic)
    factor = way[2]
    rows = [row for row in spec["datasets"][spec["concat"][at]["layer"][2]["data"]["name"]]]
    wanted = LAYERS.filter(quantity=quantity, statistic=statistic, tokens="top")
    wanted = wanted.with_columns(pl.col("value", "low", "high") * factor, depth=100 * pl.col("layer") / N_LAYERS)
    names = ("model", "layer", "depth", "value", "low", "high")
    found = sorted(tuple(row[name] for name in names) for row in rows)
    for f, w in zip(found, sorted(wanted.select(names).rows()), strict=True):
        assert f[:2] == w[:2] and f[2:] == pytest.approx(w[2:], rel=1e-5)
    colors = spec["concat"][at]["layer"][2]["encoding"]["color"]["scale"]
    assert colors["domain"] == MODELS and len(set(colors["range"])) == len(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_breakdown_shows_every_bar(model):
    chart = repair_breakdown(LAYERS)
    bars = drawn(chart, "bar", model, y="value", color="bar")
    for quantity, (name, _) in BARS.items():
        of_bar = [row for row in bars if row["bar"] == name]
        key = {"model": model, "tokens": "top", "statistic": "mean", "quantity": quantity}
        names = ("layer", "value", "low", "high")
        close(shown(of_bar, *names), expected(LAYERS, *names, **key))
    assert len(bars) == N_LAYERS * len(BARS)


@pytest.mark.parametrize("head", HEADS_SHOWN)
def test_scale_histogram_holds_all_tokens_on_the_axis(head):
    spec = TOKEN_FIGURES["norm_scale"]().to_dict()
    part = panel(spec, f"L{head[0]}H{head[1]}: {HEADS_SHOWN[head]}")
    (area,) = [v for v in part["layer"] if v["mark"]["type"] == "area"]
    rows = spec["datasets"][area["data"]["name"]]
    low, high = area["encoding"]["x"]["scale"]["domain"]
    assert low <= 1 <= high
    for ablation in ABLATIONS:
        counts = histogram_table().filter(layer=head[0], head=head[1], tokens="top", ablation=ablation)
        bars = sorted((r for r in rows if r["ablation"] == ablation), key=lambda r: r["bar"])
        assert any(r["ratio"] == 1 for r in bars), "a bar begins at 1"
        for bar in bars[:-1]:
            inside = counts.filter(
                (pl.col("bin") * RATIO_BIN).is_between(bar["ratio"] - 1e-9, bar["to"] - 1e-9, "left")
            )
            assert bar["share"] == pytest.approx(100 * inside["count"].sum() / counts["count"].sum(), rel=1e-5)
        assert bars[-1]["share"] == 0 and bars[-1]["ratio"] == pytest.approx(high)
        assert sum(b["share"] for b in bars) >= 100 * (1 - 4 * norm_scale.BEYOND)


def test_scale_titles_say_how_many_are_above_1():
    part = panel(TOKEN_FIGURES["norm_scale"]().to_dict(), "L2H1")
    assert part["title"]["subtitle"] == [
        "resample: 52 % [42, 62] above 1; of control tokens 57 % [47, 67]",
        "zero: 62 % [52, 72] above 1; of control tokens 67 % [57, 77]",
    ]


def test_scale_is_of_heads_of_the_last_layer():
    one = HEADS.filter(model="one")
    top = one.filter(tokens="top", statistic="mean", layer=N_LAYERS - 1)
    best = {q: top.filter(quantity=q).sort("value")["head"][-1] for q in norm_scale.WHY}
    found = norm_scale.heads_to_show(one, [(0, 0), (N_LAYERS - 1, 0), (N_LAYERS - 1, 1)])
    assert found[N_LAYERS - 1, best["direct_effect"]].startswith("largest direct effect")
    assert "most repaired" in found[N_LAYERS - 1, best["repair_norm"]]
    assert set(found) == {(N_LAYERS - 1, 0), (N_LAYERS - 1, 1)}
    assert ablation_types.head_to_show(one) == (N_LAYERS - 1, best["direct_effect"])


def test_tokens_of_both_sets_are_drawn():
    table = token_table(1)
    rows = token_scatter.draw_tokens(table)
    for name, flag in ((token_scatter.CONTROL, "control"), (token_scatter.TOP, "selected")):
        assert sorted(rows.filter(kind=name)["row"]) == sorted(table.filter(flag)["row"])
    many = token_scatter.draw_tokens(token_table(1, 5000))
    assert many["kind"].value_counts()["count"].to_list() == [token_scatter.DRAWN] * 2
    assert many.equals(token_scatter.draw_tokens(token_table(1, 5000)))


@pytest.mark.parametrize("kind", TOKENS)
def test_kinds_of_ablation_show_their_tokens(kind):
    spec = TOKEN_FIGURES["ablation_types"]().to_dict()
    assert [title_of(p) for p in spec["concat"]] == ["Mean ablation", "Zero ablation", "Resample ablation"]
    rows = rows_of(spec, panel(spec, kind.capitalize()), "circle")
    check_tokens(rows, TOKENS[kind])


@pytest.mark.parametrize("head", HEADS_SHOWN)
def test_noise_shows_tokens_and_rates(head):
    spec = TOKEN_FIGURES["noise"]().to_dict()
    part = panel(spec, f"L{head[0]}H{head[1]}: {HEADS_SHOWN[head]}")
    check_tokens(rows_of(spec, part, "circle"), OF_HEADS[head])
    control, top = (
        f"{35 + head[0]} % [{30 + head[0]}, {40 + head[0]}]",
        f"{30 + head[0]} % [{25 + head[0]}, {35 + head[0]}]",
    )
    assert part["title"]["subtitle"] == [f"overcorrected: {control} of control tokens,", f"{top} of top tokens"]


def check_tokens(rows: list[dict], table: pl.DataFrame) -> None:
    names = ["row", "pos", "direct_effect", "delta_logit"]
    wanted = [(*r, token_scatter.CONTROL) for r in table.filter("control").select(names).rows()]
    wanted += [(*r, token_scatter.TOP) for r in table.filter("selected").select(names).rows()]
    found = sorted(tuple(row[name] for name in (*names, "kind")) for row in rows)
    for f, w in zip(found, sorted(wanted), strict=True):
        assert f[:2] == w[:2] and f[4] == w[4] and f[2:4] == pytest.approx(w[2:4], rel=1e-5)


def test_the_falling_line_stays_in_its_panel():
    data = theme.falling_line([-1.0, 2.0], [-1.5, 0.5]).to_dict()["datasets"]
    (rows,) = data.values()
    assert rows == [{"x": -0.5, "y": 0.5}, {"x": 1.5, "y": -1.5}]


def test_heads_for_noise_are_the_chosen_ones_configured_first():
    reasons = [
        "most_self_repair",
        "most_noise",
        "configured",
        "least_noise",
        "largest_direct_effect",
        "most_self_repair",
    ]
    chosen = pl.DataFrame({"layer": [0, 1, 2, 3, 1, 5], "head": [0] * 6, "reason": reasons})
    assert list(noise.heads_to_show(chosen).items()) == [
        ((2, 0), "configured"),
        ((1, 0), "most noise, largest direct effect"),
        ((3, 0), "least noise"),
        ((0, 0), "most self-repair"),
        ((5, 0), "most self-repair"),
    ]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("column", "tokens"), [(0, "partners"), (1, "partners top")])
def test_components_are_stacked_to_the_whole(model, column, tokens):
    spec = noise.noise_components(noise_table()).to_dict()
    part = spec["concat"][2 * MODELS.index(model) + column]
    rows = rows_of(spec, part, "bar")
    assert [row["name"] for row in rows[::3]] == ["L0H0", "L2H1"]
    for layer, head in HEADS_SHOWN:
        of_head = {row["part"]: row for row in rows if row["name"] == f"L{layer}H{head}"}
        table = noise_table().filter(model=model, tokens=tokens, layer=layer, head=head)
        share = {part: table.filter(quantity=f"share_{part}")["value"][0] for part in noise.COMPONENTS}
        assert {part: row["value"] for part, row in of_head.items()} == pytest.approx(share)
        first, second = max(share["document"], 0), 1 - share["partner"]
        ends = [(of_head[part]["start"], of_head[part]["end"]) for part in noise.COMPONENTS]
        assert ends == [pytest.approx(end) for end in ((0, first), (first, second), (second, 1))]
    rules = [spec["datasets"][v["data"]["name"]] for v in part["layer"] if v["mark"]["type"] == "rule"]
    document = table_of(model, tokens, "share_document")
    partner = table_of(model, tokens, "share_partner")
    wanted = [document, [(name, 1 - high, 1 - low) for name, low, high in partner]]
    for rule, of_rule in zip(rules, wanted, strict=True):
        assert {row["name"]: (row["low"], row["high"]) for row in rule} == {
            name: pytest.approx(ends) for name, *ends in of_rule
        }


def table_of(model: str, tokens: str, quantity: str) -> list[tuple]:
    rows = noise_table().filter(model=model, tokens=tokens, quantity=quantity)
    return rows.select(pl.format("L{}H{}", "layer", "head"), "low", "high").rows()


@pytest.mark.parametrize("name", ["noise", "ablation_types"])
def test_tokens_beyond_an_axis_are_none(name):
    """Every drawn token lies within its panel."""
    spec = TOKEN_FIGURES[name]().to_dict()
    for view in views(spec):
        if view["mark"]["type"] == "circle":
            (x_low, x_high), (y_low, y_high) = (view["encoding"][axis]["scale"]["domain"] for axis in "xy")
            for row in view["rows"]:
                assert x_low < row["direct_effect"] < x_high and y_low < row["delta_logit"] < y_high


def test_the_norms_share_is_drawn_by_accounting_and_beside_the_twin():
    table = norm_shares(["one", "two", "two-shuffled"])
    spec = norm_share(table).to_dict()
    assert [title_of(part) for part in spec["concat"]] == ["one", "two"]
    for model, lines in (("one", list(LINES.values())), ("two", [*LINES.values(), TWIN])):
        found = rows_of(spec, panel(spec, model), "point")
        assert {row["line"] for row in found} == {name for name, *_ in lines}
        for (accounting, quantity), (name, *_) in LINES.items():
            wanted = table.filter(model=model, accounting=accounting, quantity=quantity).sort("layer")
            values = [row["value"] for row in sorted(found, key=lambda row: row["layer"]) if row["line"] == name]
            assert values == pytest.approx((100 * wanted["value"]).to_list(), rel=1e-5)
    twin = [row["value"] for row in rows_of(spec, panel(spec, "two"), "point") if row["line"] == TWIN[0]]
    wanted = table.filter(model="two-shuffled", accounting=CLEAN, quantity="norm")
    assert sorted(twin) == pytest.approx(sorted((100 * wanted["value"]).to_list()), rel=1e-5)
