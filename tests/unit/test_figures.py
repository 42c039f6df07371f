"""Figures show the numbers of their tables, say what they are, and are written whole in every format."""

import json
import re

import polars as pl
import pytest

from selfrepair.figures import theme
from selfrepair.figures.effect_scatter import effect_scatter
from selfrepair.figures.repair_split import repair_share, repair_split
from selfrepair.figures.responders import responders
from selfrepair.figures.save import save_chart
from selfrepair.figures.self_repair_by_depth import self_repair_by_depth
from selfrepair.figures.training_loss import training_loss
from tests.helpers.drawings import (
    FIGURES,
    HEADS,
    LAYERS,
    MODELS,
    N_HEADS,
    N_LAYERS,
    close,
    drawn,
    expected,
    responder_table,
    shown,
    statistics,
    training_tables,
    views,
)

OF_TRAINING = ("training_loss", "architecture_loss")
ALL_TOKENS = "Without selection ({:,} tokens)".format(HEADS.filter(tokens="all")["n_tokens"].max())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_valid_and_describes_itself(name):
    spec = FIGURES[name]().to_dict(validate=True)
    assert len(spec["description"]) > 80
    assert "95 %" in json.dumps(spec, ensure_ascii=False) or name in (*OF_TRAINING, "responders", "ablation_types")
    titles = [e.get("title") or "" for view in views(spec) for e in view["encoding"].values() if isinstance(e, dict)]
    titles += [e["axis"].get("title") or "" for view in views(spec) for e in view["encoding"].values() if "axis" in e]
    assert re.search(r"\((logits|nats per token|%)\)", str(titles)), "no axis or legend says its unit"
    assert any("tooltip" in view["encoding"] for view in views(spec))


@pytest.mark.parametrize("name", FIGURES)
def test_embedded_numbers_are_short(name):
    for rows in FIGURES[name]().to_dict()["datasets"].values():
        for value in (v for row in rows for v in row.values() if isinstance(v, float)):
            assert value == float(f"{value:.6g}")


def test_embed_gives_null_for_what_is_not_finite():
    table = pl.DataFrame({"x": [1 / 3, float("nan"), float("inf")]})
    assert theme.embed(table)["x"].to_list() == [0.333333, None, None]


@pytest.mark.parametrize("model", MODELS)
def test_depth_shows_self_repair_of_top_tokens(model):
    chart = self_repair_by_depth(HEADS, LAYERS)
    key = {"model": model, "tokens": "top", "quantity": "self_repair", "statistic": "mean"}
    names = ("layer", "head", "value", "low", "high")
    close(shown(drawn(chart, "circle", model, y="value"), *names), expected(HEADS, *names, **key))
    names = ("layer", "value", "low", "high")
    line, band = drawn(chart, "line", model, x="depth", y="value"), drawn(chart, "area", model, y="low", y2="high")
    close(shown(line, *names), expected(LAYERS, *names, **key))
    close(shown(band, *names), expected(LAYERS, *names, **key))


def test_depth_is_layer_over_layers():
    line = drawn(self_repair_by_depth(HEADS, LAYERS), "line", "one", x="depth")
    close(shown(line, "depth"), [(0.0,), (100 / 3,), (200 / 3,)])


def test_depth_spreads_heads_about_their_layer():
    dots = drawn(self_repair_by_depth(HEADS, LAYERS), "circle", "one", x="at")
    for layer in range(N_LAYERS):
        places = [row["at"] for row in dots if row["layer"] == layer]
        assert len(set(places)) == N_HEADS
        assert sum(places) / N_HEADS == pytest.approx(100 * layer / N_LAYERS, abs=1e-3)
        assert max(places) - min(places) < 100 / N_LAYERS


@pytest.mark.parametrize("n_models", range(1, 9))
def test_depth_fits_the_page_with_any_number_of_models(n_models):
    models = [f"model-{i}" for i in range(n_models)]
    heads, layers = statistics(True, models), statistics(False, models)
    spec = self_repair_by_depth(heads, layers).to_dict()
    assert [panel["title"] for panel in spec["concat"]] == models
    width = sum(panel["width"] for panel in spec["concat"][: spec["columns"]])
    assert width + theme.AXIS_WIDTH + theme.GAP * (spec["columns"] - 1) <= theme.FULL_WIDTH
    assert spec["columns"] <= theme.MAX_COLUMNS


@pytest.mark.parametrize(("tokens", "title"), [("all", ALL_TOKENS), ("top", "Top tokens of each head")])
def test_scatter_shows_effects_of_each_set_of_tokens(tokens, title):
    chart = effect_scatter(HEADS.filter(pl.col("model") == "one"))
    dots = drawn(chart, "circle", title, x="value_direct_effect", y="value_delta_logit", color="layer")
    for quantity in ("direct_effect", "delta_logit"):
        key = {"model": "one", "tokens": tokens, "quantity": quantity, "statistic": "mean"}
        columns = [f"{end}_{quantity}" for end in ("value", "low", "high")]
        wanted = expected(HEADS, "layer", "head", "value", "low", "high", **key)
        close(shown(dots, "layer", "head", *columns), wanted)
    assert all(row["y"] == -row["x"] for row in drawn(chart, "line", title, x="x", y="y"))


def test_scatter_names_each_zone_on_its_side():
    spec = effect_scatter(HEADS.filter(pl.col("model") == "one")).to_dict()
    for title in (ALL_TOKENS, "Top tokens of each head"):
        panel = next(panel for panel in spec["hconcat"] if panel["title"] == title)
        dots = next(v for v in views(spec) if title in v["titles"] and v["mark"].get("type") == "circle")
        x, y = (dots["encoding"][channel]["scale"]["domain"] for channel in "xy")
        places = {
            v["encoding"]["text"]["value"]: tuple(v["encoding"][channel]["value"] for channel in "xy")
            for v in views(spec)
            if title in v["titles"] and v["mark"].get("type") == "text"
        }
        above = {}
        for name, (x_px, y_px) in places.items():
            effect = x[0] + x_px / panel["width"] * (x[1] - x[0])
            change = y[1] - y_px / panel["height"] * (y[1] - y[0])
            above[name] = change > -effect
        assert above["Self-repair"]
        assert not above["Breakage"]
        assert "No self-repair" in above


def test_scatter_is_of_one_model():
    with pytest.raises(ValueError, match="too many values"):
        effect_scatter(HEADS)


@pytest.mark.parametrize("model", MODELS)
def test_split_stacks_the_parts_and_marks_the_total(model):
    chart = repair_split(LAYERS)
    bars = drawn(chart, "bar", model, x="layer", y="value", color="part")
    names = {"repair_norm": "final norm", "repair_attention": "later attention", "repair_mlp": "MLPs"}
    for quantity, part in names.items():
        key = {"model": model, "tokens": "top", "quantity": quantity, "statistic": "mean"}
        rows = [row for row in bars if row["part"] == part]
        close(shown(rows, "layer", "value"), expected(LAYERS, "layer", "value", **key))
    key = {"model": model, "tokens": "top", "quantity": "self_repair", "statistic": "mean"}
    names = ("layer", "value", "low", "high")
    close(shown(drawn(chart, "point", model, y="value"), *names), expected(LAYERS, *names, **key))


def test_split_has_room_for_the_whole_stack():
    spec = repair_split(LAYERS).to_dict()
    bars = [v for v in views(spec) if v["mark"].get("type") == "bar"]
    low, high = bars[0]["encoding"]["y"]["scale"]["domain"]
    for view in bars:
        for layer in range(N_LAYERS):
            values = [row["value"] for row in view["rows"] if row["layer"] == layer]
            assert low < sum(v for v in values if v < 0)
            assert sum(v for v in values if v > 0) < high


def share_view(value: float) -> tuple[dict, str]:
    """How the total's ratio of sums in layer 0 of model "one" is drawn when it has a value: its row and its mark."""
    at = (pl.col("layer") == 0) & (pl.col("quantity") == "self_repair") & (pl.col("statistic") == "share")
    at &= (pl.col("tokens") == "top") & (pl.col("model") == "one")
    table = LAYERS.with_columns(pl.when(at).then(value).otherwise("value").alias("value"))
    row = table.filter(at).row(0, named=True)
    for view in views(repair_share(table).to_dict()):
        if view["mark"]["type"] in ("circle", "point") and "Total" in view["titles"]:
            for shown_row in view["rows"]:
                if shown_row["layer"] == 0 and shown_row["way"] == "ratio of sums":
                    assert shown_row["value"] == pytest.approx(row["value"], rel=1e-5)
                    return shown_row, view["mark"].get("shape", view["mark"]["type"])
    raise AssertionError("the share is not drawn")


@pytest.mark.parametrize(
    ("value", "at", "mark"), [(-5.01, -1, "triangle-down"), (0.4, 0.4, "circle"), (7, 1, "triangle-up")]
)
def test_share_marks_what_lies_beyond_the_axis(value, at, mark):
    row, drawn_as = share_view(value)
    assert drawn_as == mark
    assert row["at"] == pytest.approx(at)


def test_share_shows_both_ways_side_by_side():
    chart = repair_share(LAYERS.filter(pl.col("model") == "two"))
    bars = drawn(chart, "rule", "Final norm", x="layer", y="low", xOffset="way")
    for statistic, way in (("share", "ratio of sums"), ("clipped_share", "mean of the share clipped")):
        key = {"model": "two", "tokens": "top", "quantity": "repair_norm", "statistic": statistic}
        rows = [row for row in bars if row["way"].startswith(way)]
        names = ("layer", "value", "low", "high")
        close(shown(rows, *names), expected(LAYERS, *names, **key))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_responders_are_means_over_the_heads_of_a_layer(model, part):
    spec = responders(responder_table()).to_dict()
    cells = [v for v in views(spec) if model in v["titles"]][["attention", "mlp"].index(part)]
    table = responder_table().filter(model=model, part=part, tokens="top")
    first = 1 if part == "attention" else 0  # attention of the head's own layer can't respond, the MLP can
    wanted = [
        (layer, later, table.filter(layer=layer, later_layer=later)["value"].mean())
        for layer in range(N_LAYERS)
        for later in range(layer + first, N_LAYERS)
    ]
    close(shown(cells["rows"], "layer", "later_layer", "value"), wanted)
    name = {"attention": "attention", "mlp": "MLP"}[part]
    assert f"layer of the {name}" in [tip["title"] for tip in cells["encoding"]["tooltip"]]


@pytest.mark.parametrize(("silent_heads", "drawn_cells"), [(range(N_HEADS), 5), ([0], 6)])
def test_the_own_mlp_of_a_parallel_block_is_left_empty(silent_heads, drawn_cells):
    own = (pl.col("part") == "mlp") & (pl.col("later_layer") == 1) & (pl.col("layer") == 1)
    own &= pl.col("head").is_in(list(silent_heads))
    table = responder_table().with_columns(pl.when(own).then(0.0).otherwise("value").alias("value"))
    spec = responders(table).to_dict()
    for model in MODELS:
        assert len([v for v in views(spec) if model in v["titles"]][1]["rows"]) == drawn_cells


def test_responders_have_zero_in_the_middle_of_the_colours():
    for view in views(responders(responder_table()).to_dict()):
        low, high = view["encoding"]["color"]["scale"]["domain"]
        assert low == -high < 0
        assert max(abs(row["value"]) for row in view["rows"]) <= high * (1 + 1e-5)


def test_training_shows_both_losses_and_the_baselines():
    logs, baselines = training_tables()
    chart = training_loss(logs, baselines)
    for index, model in enumerate(MODELS):
        rows = drawn(chart, "line", model, x="millions", y="loss", color="text")
        trained = [row for row in rows if row["text"] == "training batches"]
        held_out = [row for row in rows if row["text"] == "held-out text"]
        close(shown(trained, "millions", "loss"), [(0.4096, 8.0 + index), (0.8192, 5.5), (4.096, 3.25)])
        close(shown(held_out, "millions", "loss"), [(4.096, 3.5 + index)])
        rules = {row["name"]: row["loss"] for row in drawn(chart, "rule", model, y="loss")}
        assert rules == {"Finished": [3.4, 4.4][index], "Bigram": [4.9, 4.8][index]}


def test_a_table_without_the_statistic_is_refused():
    with pytest.raises(ValueError, match="no mean of self_repair on top tokens"):
        self_repair_by_depth(HEADS.filter(tokens="all"), LAYERS)


@pytest.mark.parametrize("name", FIGURES)
def test_every_format_is_written(name, tmp_path):
    chart = FIGURES[name]()
    paths = {suffix: tmp_path / f"{name}.v1.{suffix}" for suffix in ("json", "pdf", "svg", "png", "html")}
    save_chart(chart, list(paths.values()))
    assert sorted(tmp_path.iterdir()) == sorted(paths.values()), "temporary files are left or a file is missing"
    assert json.loads(paths["json"].read_text()) == chart.to_dict()
    assert paths["pdf"].read_bytes().startswith(b"%PDF-")
    assert paths["svg"].read_text().startswith("<svg")
    png = paths["png"].read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert 3 * 300 < int.from_bytes(png[16:20], "big") < 6.9 * 300, "wider than the page at 300 dpi, or tiny"
    page = paths["html"].read_text()
    assert '<html lang="en">' in page
    assert re.search(r"<title>[^<]{10,}</title>", page)
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page), (
        "the page loads something from the network"
    )
    assert not re.search(r"@import|url\(\s*['\"]?http", page)
    assert "window.vegaEmbed" in page
    assert f'"description": {json.dumps(chart.to_dict()["description"])}' in page


def test_an_unknown_format_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="gif"):
        save_chart(FIGURES["responders"](), [tmp_path / "a.svg", tmp_path / "a.gif"])
    assert not list(tmp_path.iterdir())


def test_a_name_with_markup_stays_text(tmp_path):
    table = responder_table().with_columns(model=pl.lit("</script><b>"))
    save_chart(responders(table), [tmp_path / "a.html"])
    page = (tmp_path / "a.html").read_text()
    assert page.count("</script>") == 2


def test_a_picture_is_the_same_every_time(tmp_path):
    for run in "ab":
        save_chart(FIGURES["effect_scatter"](), [tmp_path / f"{run}.svg", tmp_path / f"{run}.json"])
    for suffix in ("svg", "json"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
