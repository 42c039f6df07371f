"""Studies of thresholds and of gradient estimates: statistics of single tokens worked out anew, figures of tables."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from selfrepair.ablation.estimates import sum_by_threshold
from selfrepair.ablation.schema import SUMMED, THRESHOLDS
from selfrepair.analysis.attribution import misses, rank_correlation, summarise
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.schema_beyond import ATTRIBUTION, BY_THRESHOLD, FINDINGS
from selfrepair.analysis.threshold import by_threshold
from selfrepair.figures.attribution import attribution
from selfrepair.figures.hand_off import RANKS, hand_off_matrix, hand_off_share
from selfrepair.figures.layer_units import layer_units
from selfrepair.figures.repairers import repairers
from selfrepair.figures.threshold import RULES, TWIN, threshold
from tests.helpers.drawings import close, drawn, shown
from tests.helpers.study_drawings import (
    STUDIED,
    attribution_table,
    findings_table,
    hand_off_table,
    repairers_table,
    sparsity_table,
    threshold_table,
    units_table,
)

HEADS = [(layer, head) for layer in range(4) for head in range(5)]
DOCUMENTS = np.repeat(np.arange(12), 50)
STUDIES = {s["id"]: s for s in yaml.safe_load(Path("config/studies.yaml").read_text())["studies"]}


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    """Single tokens of every head, with effects that differ between heads and documents."""
    generator = np.random.default_rng(4)
    shape = (len(HEADS), len(DOCUMENTS))
    of_head, of_document = generator.random((len(HEADS), 1)), 0.3 * generator.normal(size=12)[DOCUMENTS]
    tokens = {name: (generator.normal(size=shape) + of_head + of_document).astype(np.float32) for name in SUMMED}
    return tokens | {"logit": generator.normal(size=shape).astype(np.float32)}


@pytest.fixture(scope="module")
def estimates(values) -> pl.DataFrame:
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    return sum_by_threshold(HEADS, torch.from_numpy(DOCUMENTS), tensors, seed=1)


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("facts") / "model.json"
    path.write_text(json.dumps({"n_layers": 4, "n_heads": len(HEADS) // 4}))
    return path


def chosen(by: np.ndarray, share: float) -> np.ndarray:
    """Which tokens are those with the largest values of each head."""
    order = np.argsort(-by, axis=1, kind="stable")[:, : int(share * by.shape[1])]
    return np.put_along_axis(which := np.zeros(by.shape, bool), order, True, 1) or which


def of_statistic(table: pl.DataFrame, name: str) -> dict:
    return table.row(by_predicate=pl.col("statistic") == name, named=True)


def test_findings_are_those_that_were_written_down(estimates, facts):
    for study, found in (
        ("threshold", by_threshold("m", estimates, facts, 20, 1).findings),
        ("attribution", summarise("m", estimates, facts, 20, 1).findings),
    ):
        assert found["statistic"].to_list() == [STUDIES[study]["primary"], *STUDIES[study]["secondary"]]
        assert found.schema == {name: column.dtype for name, column in FINDINGS.items()}
        assert set(found["study"]) == {study} and set(found["n_documents"]) == {12}


def test_shares_are_ratios_of_sums_over_the_later_half(values, estimates, facts):
    result = by_threshold("m", estimates, facts, 200, 1)
    assert result.thresholds.schema == {name: column.dtype for name, column in BY_THRESHOLD.items()}
    assert len(result.thresholds) == 4 * len(THRESHOLDS) * (4 + 5)
    late = np.array([layer >= 2 for layer, _ in HEADS])[:, None]
    by = {"signed": values["direct_effect"], "size": np.abs(values["direct_effect"]), "logit": values["logit"]}
    shares = {}
    for rule, key in by.items():
        for share in THRESHOLDS[1:]:
            which = chosen(key, share) & late
            for quantity in ("self_repair", "repair_mlp"):
                part, effect = (values[name][which].astype(float).sum() for name in (quantity, "direct_effect"))
                shares[rule, share, quantity] = part / effect
                rows = result.thresholds.filter(rule=rule, threshold=share, quantity=quantity)
                assert rows.filter(statistic="share")["value"].item() == pytest.approx(part / effect, rel=1e-5)
                mean = rows.filter(statistic="mean")
                assert mean["value"].item() == pytest.approx(part / which.sum(), rel=1e-5)
                assert mean["n_tokens"].item() == which.sum()
                assert mean["n_documents"].item() == len(set(DOCUMENTS[which.any(0)]))
    found = {row["statistic"]: row for row in result.findings.to_dicts()}
    two, twenty = shares["signed", 0.02, "self_repair"], shares["signed", 0.2, "self_repair"]
    assert found["share_at_2"]["value"] == pytest.approx(two, rel=1e-5)
    assert found["share_at_20"]["value"] == pytest.approx(twenty, rel=1e-5)
    assert found["share_at_2_minus_20"]["value"] == pytest.approx(two - twenty, rel=1e-5)
    assert found["share_by_size"]["value"] == pytest.approx(shares["size", 0.02, "self_repair"], rel=1e-5)
    assert found["share_by_probability"]["value"] == pytest.approx(shares["logit", 0.02, "self_repair"], rel=1e-5)
    assert all(row["low"] < row["value"] < row["high"] for row in found.values())


def test_intervals_hold_the_tokens_fixed_and_draw_documents(values, estimates, facts):
    """The interval of the difference is that of sums of the same tokens, weighted by a sample's documents."""
    draws = Draws.of(pl.Series(DOCUMENTS), 200, 1)
    late = np.array([layer >= 2 for layer, _ in HEADS])[:, None]
    samples = []
    for weights in draws.weights:
        shares = []
        for share in (0.02, 0.2):
            which = (chosen(values["direct_effect"], share) & late) * weights[DOCUMENTS]
            shares.append((values["self_repair"] * which).sum() / (values["direct_effect"] * which).sum())
        samples.append(shares[0] - shares[1])
    low, high = draws.estimate(np.array(samples)).interval
    row = of_statistic(by_threshold("m", estimates, facts, 200, 1).findings, "share_at_2_minus_20")
    assert (row["low"], row["high"]) == pytest.approx((float(low), float(high)), rel=1e-4)


def test_means_of_heads_and_their_error(values, estimates, facts):
    table = summarise("m", estimates, facts, 100, 1).heads
    assert table.schema == {name: column.dtype for name, column in ATTRIBUTION.items()}
    which = {"top": chosen(values["direct_effect"], 0.02), "all": np.ones_like(values["logit"], bool)}
    for (layer, head), index in zip(HEADS, range(len(HEADS)), strict=True):
        for tokens in which:
            own = which[tokens][index]
            rows = table.filter(layer=layer, head=head, tokens=tokens)
            found = dict(rows.select("quantity", "value").rows())
            wanted = {name: values[name][index][own].mean() for name in found if name != "error"}
            wanted["error"] = (values["estimate"] - values["delta_logit"])[index][own].mean()
            assert found == pytest.approx(wanted, abs=1e-5)
            assert set(rows["n_tokens"]) == {own.sum()}


def test_findings_of_attribution_by_hand(values, estimates, facts):
    table = summarise("m", estimates, facts, 100, 1).findings
    top = chosen(values["direct_effect"], 0.02)
    means = {name: (values[name] * top).sum(1) / top.sum(1) for name in ("delta_logit", "self_repair", "estimate")}
    error = means["estimate"] - means["delta_logit"]
    late = np.array([layer >= 2 for layer, _ in HEADS])
    pair = pl.DataFrame({"x": means["self_repair"][late], "y": error[late]})
    spearman = pair.select(pl.corr("x", "y", method="spearman")).item()
    assert of_statistic(table, "error_follows_repair")["value"] == pytest.approx(spearman)
    relative = np.abs(error[late]).sum() / np.abs(means["delta_logit"][late]).sum()
    assert of_statistic(table, "relative_error")["value"] == pytest.approx(relative, rel=1e-5)
    largest = [set(np.argsort(-np.abs(means[name]))[:2]) for name in ("delta_logit", "estimate")]
    assert of_statistic(table, "misses")["value"] == len(largest[0] - largest[1]) / 2


def test_what_is_missed_is_not_known_where_only_some_heads_were_measured(estimates, facts):
    """A tenth of the later half is not a tenth of all heads."""
    some = estimates.filter(pl.col("layer") >= 2)
    assert "misses" not in set(summarise("m", some, facts, 20, 1).findings["statistic"])


def test_rank_correlation_and_misses_of_a_few_heads():
    x = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, np.nan, 4]])
    y = np.array([[10.0, 20, 30, 40], [3, 4, 1, 2], [1, 2, 3, 4]])
    assert rank_correlation(x, y) == pytest.approx([1, -0.6, np.nan], nan_ok=True)
    exact, estimate = np.array([[-5.0, 1, 2, 0]]), np.array([[1.0, 3, -4, 2]])
    assert (
        misses(exact, estimate, 1) == [1.0]
        and misses(exact, estimate, 2) == [0.5]
        and misses(exact, estimate, 4) == [0]
    )


@pytest.mark.parametrize("model", ["one", "two"])
def test_threshold_shows_shares_of_every_rule(model):
    table = threshold_table()
    chart, names = threshold(table), ("threshold", "value", "low", "high")
    own = table.filter(model=model, quantity="self_repair", statistic="share")
    own = own.filter((pl.col("rule") != "random") | (pl.col("threshold") > 0.1))  # elsewhere effects may sum to zero
    lines = drawn(chart, "line", model, y="value")
    rows = [row for row in lines if row["line"] != TWIN[0] and row["value"] is not None]
    percent = own.with_columns(pl.col(names) * 100)
    close(shown(rows, *names), sorted(percent.select(names).rows()))
    for rule, (line, *_) in RULES.items():
        wanted = percent.filter(rule=rule).select(names).rows()
        close(shown([row for row in rows if row["line"] == line], *names), sorted(wanted))
    twin = [row["value"] for row in lines if row["line"] == TWIN[0]]
    of_twin = table.filter(model="one-shuffled", rule="signed", quantity="self_repair", statistic="share")
    assert sorted(twin) == pytest.approx(sorted(of_twin["value"] * 100), rel=1e-5) if model == "one" else not twin


@pytest.mark.parametrize("model", ["one", "two"])
def test_attribution_shows_error_against_self_repair(model):
    chart, table = attribution(attribution_table(), findings_table()), attribution_table().filter(tokens="top")
    rows = drawn(chart, "point", model, x="value_self_repair", y="value_error")
    wide = table.pivot(on="quantity", index=["model", "layer", "head"], values="value")
    names = ("layer", "head", "self_repair", "error")
    own = [row for row in rows if "shuffled" not in row["heads"]]
    close(
        shown(own, "layer", "head", "value_self_repair", "value_error"),
        sorted(wide.filter(model=model).select(names).rows()),
    )
    assert all((row["heads"] == "later half") == (row["layer"] >= 2) for row in own)
    twin = [row for row in rows if "shuffled" in row["heads"]]
    assert {row["layer"] for row in twin} == ({2, 3} if model == "one" else set())
    said = json.dumps(chart.to_dict())
    assert "r = -0.70 [-0.99, -0.50]" in said and ("shuffled: r = -0.90" in said) == ("one-shuffled" in STUDIED)


@pytest.mark.parametrize("model", ["one", "two"])
def test_units_are_shown_by_depth_and_beside_shuffled_weights(model):
    rows = units_table().filter(pl.col("layer").is_not_null(), model=model, quantity="self_repair", statistic="share")
    panels = drawn(layer_units(units_table()), "point", model, y="value")
    wanted = rows.select(pl.col("layer") / 4 * 100, pl.col("value", "low", "high") * 100)
    close(shown(panels, "depth", "value", "low", "high"), sorted(wanted.rows()))
    of_twin = drawn(layer_units(units_table()), "point", "shuffled weights", y="value")
    twin = units_table().filter(
        pl.col("layer").is_not_null(), model="one-shuffled", quantity="self_repair", statistic="share"
    )
    close(shown(of_twin, "value"), sorted((100 * twin["value"]).to_frame().rows()))


def test_shares_of_later_heads_end_where_there_is_nothing_to_share():
    table = sparsity_table().filter(pl.col("rank") <= RANKS)
    rows = drawn(hand_off_share(sparsity_table()), "line", "one", y="value")
    own = table.filter(model="one").select("rank", pl.col("value") * 100)
    close(shown([row for row in rows if row["weights"] == "trained"], "rank", "value"), sorted(own.rows()))
    twin = [row["rank"] for row in rows if row["weights"] != "trained"]
    assert sorted(twin) == list(range(2, RANKS + 1)), "an interval wider than all there is says nothing"
    assert {row["weights"] for row in drawn(hand_off_share(sparsity_table()), "line", "two", y="value")} == {"trained"}


@pytest.mark.parametrize("model", ["one", "two"])
def test_repairers_of_prose_stand_beside_those_of_each_distribution(model):
    found = repairers_table().drop_nulls("value").filter(model=model)
    names = {"strongest_own": "strongest there", "strongest_on_first": "strongest on prose"}
    wanted = found.select("tokens", pl.col("statistic").replace(names), pl.col("value") * 100).rows()
    if model == "one":
        wanted += [(tokens, "strongest there, shuffled weights", 40) for tokens in ("prose", "ioi (answers)")]
    rows = drawn(repairers(repairers_table()), "point", model, x="value")
    assert shown(rows, "tokens", "series") == sorted(row[:2] for row in wanted)
    close(shown(rows, "value"), sorted(row[2:] for row in wanted))


@pytest.mark.parametrize("nothing", [repairers_table().clear(), repairers_table().with_columns(value=pl.lit(None))])
def test_without_a_known_share_the_figure_says_so(nothing):
    assert "No share of repair" in str(repairers(nothing).to_dict())


def test_the_matrix_holds_each_late_head_with_its_later_heads():
    spec = hand_off_matrix(hand_off_table()).to_dict()
    cells = [row for rows in spec["datasets"].values() for row in rows if "ablated" in row]
    late = hand_off_table().filter(pl.col("layer") >= 2)
    names = late.select(
        pl.format("L{}H{}", "layer", "head"), pl.format("L{}H{}", "later_layer", "later_head").alias("later")
    )
    assert shown(cells, "ablated", "responds") == sorted(names.rows())
    close(shown(cells, "x", "y", "value"), sorted(late.select("head", "later_head", "value").rows()))
    assert {(row["x"], row["y"]) for row in cells} == {(0, 0), (0, 1), (1, 0), (1, 1)}
