"""The explorer shows what the tables of the run hold."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from selfrepair.report.explorer.charts import QUANTITIES, charts
from selfrepair.report.explorer.data import (
    DRAWN,
    EXPLORER,
    LATER_HEADS,
    READ,
    _hand_off,
    head_name,
    model_data,
    to_json,
)
from selfrepair.report.explorer.page import Run, inert, page, read_run
from selfrepair.report.explorer.text import BEFORE, SHOWN, pieces
from tests.browser.random_run import (
    ABLATIONS,
    HOSTILE,
    PARTIAL,
    decode,
    every_head,
    tables,
    write_page,
    write_run,
)

ROOT = Path(__file__).parents[2]
TABLES = tables("whole", 3, 4, every_head(3, 4), seed=1)
DATA = model_data(TABLES, decode, seed=0)
HEADS = list(enumerate(every_head(3, 4)))


def close(found: float, wanted: float) -> bool:
    return found == pytest.approx(wanted, rel=1e-4)


def test_the_keys_are_the_documented_ones():
    assert list(DATA) == list(EXPLORER)
    assert all(set(READ) <= set(rows.columns) for rows in TABLES.tokens.values())


def test_statistics_are_those_of_the_table():
    for row in TABLES.heads.iter_rows(named=True):
        index = DATA["heads"].index(head_name(row["layer"], row["head"]))
        found = DATA["statistics"][row["ablation"]][row["tokens"]][row["statistic"]][row["quantity"]][index]
        assert all(close(*pair) for pair in zip(found, (row["value"], row["low"], row["high"]), strict=True))
        counts = DATA["counts"][row["ablation"]][row["tokens"]][row["statistic"]][index]
        assert counts == [row["n_tokens"], row["n_documents"], pytest.approx(row["n_effective"], rel=1e-3)]


def test_which_tokens_were_measured_is_in_the_data():
    selected = tables("whole", 3, 4, every_head(3, 4), measure="selected", seed=1)
    assert DATA["measure"] == {"resample": "all", "zero": "selected"}
    assert set(model_data(selected, decode, seed=0)["measure"].values()) == {"selected"}


def test_the_first_head_has_the_largest_self_repair():
    means = TABLES.heads.filter(ablation="resample", tokens="top", statistic="mean", quantity="self_repair")
    largest = means.filter(pl.col("value") == means["value"].max())
    assert DATA["start"] == head_name(largest["layer"][0], largest["head"][0])


def test_responses_are_those_of_the_table():
    for row in TABLES.responders.iter_rows(named=True):
        index = DATA["heads"].index(head_name(row["layer"], row["head"]))
        found = DATA["responders"][row["ablation"]][row["tokens"]][row["part"]][index]
        assert close(found[row["later_layer"]], row["value"])


@pytest.mark.parametrize("kind", ["control", "top"])
def test_scattered_tokens_are_token_rows_of_their_kind(kind):
    scatter = DATA["scatter"][kind]
    flag = {"control": "control", "top": "selected"}[kind]
    for index, (layer, head) in HEADS:
        rows = TABLES.tokens["resample"].filter(flag, layer=layer, head=head).sort("row", "pos")
        assert len(rows) <= DRAWN, "all of them are drawn"
        assert scatter["direct_effect"][index] == pytest.approx(rows["direct_effect"].to_list(), rel=1e-4)
        for ablation in ABLATIONS:
            of_head = TABLES.tokens[ablation].filter(flag, layer=layer, head=head).sort("row", "pos")
            assert scatter["delta_logit"][ablation][index] == pytest.approx(of_head["delta_logit"].to_list(), rel=1e-4)
        texts = scatter["text"] if kind == "control" else scatter["text"][index]
        assert len(texts) == len(rows)


def test_the_same_control_tokens_are_drawn_for_all_heads(monkeypatch):
    monkeypatch.setattr("selfrepair.report.explorer.data.DRAWN", 5)
    scatter = model_data(TABLES, decode, seed=3)["scatter"]
    assert {len(values) for values in scatter["control"]["direct_effect"]} == {5} == {len(scatter["control"]["text"])}
    assert {len(values) for values in scatter["top"]["direct_effect"]} == {5}
    assert scatter == model_data(TABLES, decode, seed=3)["scatter"]
    assert scatter != model_data(TABLES, decode, seed=4)["scatter"]


def test_contexts_are_the_strongest_tokens_with_the_text_before_them():
    matrix = TABLES.sampled.sort("row", "pos")["token"].to_numpy().reshape(-1, 40)
    for index, (layer, head) in HEADS:
        strongest = TABLES.selected.filter(layer=layer, head=head).sort("direct_effect", descending=True).head(SHOWN)
        shown = DATA["contexts"][index]
        assert [(c["row"], c["pos"]) for c in shown] == strongest.select("row", "pos").rows()
        for context in shown:
            first = max(0, context["pos"] + 1 - BEFORE)
            tokens = matrix[context["row"], first : context["pos"] + 2]
            assert context["pieces"] == [decode([token]) for token in tokens]


def test_only_kept_predictions_of_the_head_have_effects_in_context():
    for index, (layer, head) in HEADS:
        for ablation in ABLATIONS:
            rows = TABLES.tokens[ablation].filter(layer=layer, head=head)
            kept = {(r["row"], r["pos"]): r for r in rows.iter_rows(named=True)}
            for context in DATA["contexts"][index]:
                first = max(0, context["pos"] + 1 - BEFORE)
                predicted = {first + place: i for i, place in enumerate(context["kept"])}
                assert context["pos"] + 1 in predicted
                for at in range(first + 1, context["pos"] + 2):
                    row = kept.get((context["row"], at - 1))
                    assert (row is None) == (at not in predicted)
                    if row:
                        assert close(context["direct_effect"][predicted[at]], row["direct_effect"])
                        assert close(context["self_repair"][ablation][predicted[at]], row["self_repair"])


def test_promoted_and_suppressed_tokens_are_those_of_the_table():
    for index, (layer, head) in HEADS:
        assert list(DATA["lens"][index]) == ["promoted", "suppressed"]
        for sign, found in DATA["lens"][index].items():
            rows = TABLES.lens.filter(layer=layer, head=head, sign=sign).sort("place")
            assert [text for text, _ in found] == [decode([token]) for token in rows["token"]]
            assert [effect for _, effect in found] == pytest.approx(rows["direct_effect"].to_list(), rel=1e-4)


def test_neurons_are_the_most_frequent_of_the_measured_heads():
    assert list(DATA["neurons"]) == ["L2H3"]
    rows = TABLES.frequency.filter((pl.col("token_set") == "direct_effect") & (pl.col("place") < 10))
    found = DATA["neurons"]["L2H3"]["frequency"]
    assert [entry["neuron"] for entry in found] == rows["neuron"].to_list()
    assert all(close(entry["value"], value) for entry, value in zip(found, rows["value"], strict=True))
    assert all(len(entry["contexts"]) == 3 for entry in DATA["neurons"]["L2H3"]["erasure"])


def test_a_model_with_heads_left_out_shows_the_others():
    data = model_data(tables("partial", 3, 4, PARTIAL, seed=2), decode, seed=0)
    assert data["heads"] == ["L0H1", "L0H2", "L2H0", "L2H3"]
    assert len(data["contexts"]) == 4 and data["n_heads"] == 4


def test_what_is_not_finite_becomes_null():
    nan = TABLES.heads.with_columns(low=pl.lit(float("nan")))
    data = model_data(TABLES.__class__(**{**vars(TABLES), "heads": nan}), decode, seed=0)
    assert data["statistics"]["zero"]["all"]["mean"]["self_repair"][0][1] is None
    assert json.loads(to_json(data)) == data


def test_pieces_add_up_to_the_text_and_keep_characters_whole():
    letters = "naïve, 日本 ok".encode()

    def by_byte(tokens: list[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    found = pieces(list(letters), by_byte)
    assert len(found) == len(letters)
    assert "".join(found) == letters.decode()
    assert found[2:4] == ["", "ï"]


def test_pieces_keep_the_space_that_a_tokenizer_drops_at_the_start():
    words = ["the", "cat", "sat"]
    assert pieces([0, 1, 2], lambda tokens: " ".join(words[token] for token in tokens)) == ["the", " cat", " sat"]


def test_charts_fill_in_their_own_data_and_have_descriptions():
    for name, spec in charts().items():
        assert spec["description"], name
        assert spec["width"] == "container"
        assert "url" not in json.dumps(spec).replace(spec["$schema"], "")


def test_a_page_loads_nothing_and_holds_its_runs(tmp_path):
    write_run(tmp_path / "one", [TABLES])
    write_page(tmp_path / "explorer.html", [tmp_path / "one"])
    text = (tmp_path / "explorer.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", text.replace(inert(HOSTILE), ""))
    assert "default-src 'none'" in text
    (data,) = re.findall(r'<script type="application/json" id="data-0-0">(.*?)</script>', text, re.DOTALL)
    assert json.loads(data) == DATA
    (index,) = re.findall(r'<script type="application/json" id="index">(.*?)</script>', text, re.DOTALL)
    assert json.loads(index)["runs"] == [{"name": "one", "models": [{"name": "whole", "data": "data-0-0"}]}]
    assert json.loads(index)["words"]["quantity"] == QUANTITIES


def test_the_command_of_the_readme_writes_a_page_of_two_runs(tmp_path, monkeypatch):
    (command,) = re.findall(
        r"^python (workflow/scripts/write_explorer.py .*)$", (ROOT / "docs/workflow.md").read_text(), re.M
    )
    for run in ("demo", "mine"):
        write_run(tmp_path / "results" / run, [TABLES])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", command.split())
    runpy.run_path(str(ROOT / command.split()[0]))
    text = (tmp_path / "explorer.html").read_text()
    (index,) = re.findall(r'<script type="application/json" id="index">(.*?)</script>', text, re.DOTALL)
    assert [run["name"] for run in json.loads(index)["runs"]] == ["demo", "mine"]


def test_runs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two runs are named one"):
        page([Run("one", {}), Run("one", {})])


def test_a_folder_without_the_data_is_refused_with_the_fix(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of a finished run"):
        read_run(tmp_path)
    write_run(tmp_path / "one", [TABLES])
    missing = tmp_path / "one/analysis/whole/explorer.json"
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=f"make it with `snakemake {missing}`"):
        read_run(tmp_path / "one")


def test_of_later_heads_those_that_respond_most_are_shown():
    """Otherwise the explorer would hide who repairs a head."""
    values = np.linspace(-1, 0.5, 40)
    table = pl.DataFrame(
        {
            "model": "m",
            "layer": 0,
            "head": 1,
            "later_layer": np.repeat([1, 2], 20),
            "later_head": np.tile(np.arange(20), 2),
            "value": values,
            "low": values,
            "high": values,
        }
    )
    shown = _hand_off(table)
    assert len(shown) == LATER_HEADS
    assert min(abs(entry["value"]) for entry in shown) >= np.sort(np.abs(values))[-LATER_HEADS]
    assert shown[0] == {"layer": 0, "head": 1, "later_layer": 1, "later_head": 0, "value": -1.0}
