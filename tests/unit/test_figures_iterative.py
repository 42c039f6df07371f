"""The figures of the iterative-inference experiments show the numbers of their tables."""

import json

import polars as pl
import pytest

from selfrepair.figures.iterative import layer_moving, self_repression
from tests.helpers.drawings import MODELS, close, expected, moving_table, repression_table, shown, views

CHANGES = {"x": "change_moving", "y": "change_ablating"}


@pytest.mark.parametrize(("mark", "marked"), [("circle", False), ("diamond", True)])
def test_moving_shows_both_changes_over_all_tokens(mark, marked):
    """Every head once, as a diamond if it follows the marked layer."""
    spec = layer_moving(moving_table()).to_dict()
    for index, model in enumerate(MODELS):
        panel = [
            view for layer in spec["concat"][index]["layer"] for view in views(layer | {"datasets": spec["datasets"]})
        ]
        (view,) = [view for view in panel if view["mark"].get("shape") == mark]
        assert view["transform"] == [{"filter": f"{'' if marked else '!'}datum.marked"}]
        assert {c: view["encoding"][c]["field"] for c in "xy"} == {c: f"value_{name}" for c, name in CHANGES.items()}
        for name in CHANGES.values():
            wanted = expected(
                moving_table(), "moved_layer", "head", "value", "low", "high", model=model, tokens="all", quantity=name
            )
            columns = [f"{end}_{name}" for end in ("value", "low", "high")]
            close(shown(view["rows"], "moved_layer", "head", *columns), wanted)
        assert all(row["marked"] == (row["moved_layer"] == 1) for row in view["rows"])


def test_moving_names_the_correlations_of_all_layers_and_of_the_marked_one():
    spec = layer_moving(moving_table()).to_dict()
    for index, model in enumerate(MODELS):
        of_model = moving_table().filter(model=model, tokens="all", quantity="correlation")
        for line, which in zip(
            spec["concat"][index]["title"]["subtitle"], (pl.col("moved_layer").is_null(), pl.col("marked")), strict=True
        ):
            for number in of_model.filter(which).select("value", "low", "high").row(0):
                assert f"{number:.2f}".replace("-", "\u2212") in line


@pytest.mark.parametrize("model", MODELS)
def test_repression_shows_means_and_single_heads_on_both_scales(model):
    spec = self_repression(repression_table()).to_dict()
    names = {"own": "its own output", "other": "another head's output", "random": "a random direction"}
    percent = pl.col("value", "low", "high") * 100
    table = repression_table().filter(model=model, statistic="ratio").with_columns(percent)
    table = table.with_columns(pl.col("direction").replace_strict(names))
    row = MODELS.index(model) * 2
    for panel, scale in zip(spec["concat"][row : row + 2], ("perturbed", "clean"), strict=True):
        lines = [layer for layer in panel["layer"] if layer["mark"]["type"] == "line"]
        thin, thick = (spec["datasets"][layer["data"]["name"]] for layer in lines)
        columns = ("direction", "strength", "value", "low", "high")
        of_scale = table.filter(scale=scale)
        close_rows(thick, of_scale.filter(pl.col("head").is_null()), columns)
        own = of_scale.filter(pl.col("head").is_not_null(), direction=names["own"])
        close_rows(thin, own.with_columns(receiver=pl.format("L{}H{}", "layer", "head")), ("receiver", *columns))


def close_rows(rows: list[dict], table: pl.DataFrame, columns: tuple[str, ...]) -> None:
    found, wanted = shown(rows, *columns), sorted(table.select(columns).rows())
    texts = sum(isinstance(value, str) for value in wanted[0])
    assert [row[:texts] for row in found] == [row[:texts] for row in wanted]
    close([row[texts:] for row in found], [row[texts:] for row in wanted])


def test_repression_names_the_scales_and_the_heads_without_a_change():
    spec = self_repression(repression_table()).to_dict()
    assert [panel.get("title") for panel in spec["concat"]] == [
        "Scale of the perturbed pass (the original)",
        "Clean scale",
        None,
        None,
    ]
    text = json.dumps(spec)
    assert text.count('"datum": 100') == len(spec["concat"])


def test_both_say_that_they_are_exploratory():
    for chart in (layer_moving(moving_table()), self_repression(repression_table())):
        spec = chart.to_dict()
        assert "exploratory" in spec["description"] and "Exploratory" in spec["title"]["text"][0]
