"""Claims: statistics from hand-worked tables, rules, verdicts about the paper's models and other models, the schema."""

import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml
from test_tables import statistics

from selfrepair.analysis.schema import HEAD_STATISTICS
from selfrepair.claims import statistics as claim_statistics
from selfrepair.claims import verdicts as claims
from selfrepair.claims.statistics import Heads, Tables
from selfrepair.claims.verdicts import FAILED, HELD, NOT_COMPARABLE, UNMEASURED, Claim, evaluate, holds
from selfrepair.core.tables import frame

ROOT = Path(__file__).parents[2]
LISTED = yaml.safe_load((ROOT / "config/claims.yaml").read_text())
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/claims.schema.yaml").read_text())

# Four layers of two heads. Self-repair of the layers: -0.4, 0.0, 0.6, 0.2; their direct effects: 1, 1, 2, 2.
HEADS = {
    (0, 0): {"direct_effect": 1.0, "delta_logit": -1.4, "self_repair": -0.4},
    (0, 1): {"direct_effect": 1.0, "delta_logit": -1.4, "self_repair": -0.4},
    (1, 0): {"direct_effect": 1.0, "delta_logit": -1.5, "self_repair": -0.5},
    (1, 1): {"direct_effect": 1.0, "delta_logit": -0.5, "self_repair": 0.5},
    (2, 0): {"direct_effect": 3.0, "delta_logit": -1.5, "self_repair": 1.5, "share_repair_norm": 0.2},
    (2, 1): {"direct_effect": 1.0, "delta_logit": -1.3, "self_repair": -0.3, "share_repair_norm": 0.4},
    (3, 0): {"direct_effect": 2.0, "delta_logit": -1.9, "self_repair": 0.1, "share_repair_norm": 0.1},
    (3, 1): {
        "direct_effect": 2.0,
        "delta_logit": -1.7,
        "self_repair": 0.3,
        "repair_mlp": -0.05,
        "repair_attention": 0.01,
        "share_repair_mlp": 0.3,
    },
}
LAYERS = {
    (0, None): {"direct_effect": 1.0, "self_repair": -0.4, "clipped_share_repair_norm": 0.2},
    (1, None): {"direct_effect": 1.0, "self_repair": 0.0, "clipped_share_repair_norm": 0.2},
    (2, None): {"direct_effect": 2.0, "ablated_direct_effect": 0.4, "self_repair": 0.6, "repair_norm": 0.3},
    (3, None): {"direct_effect": 2.0, "ablated_direct_effect": 0.4, "self_repair": 0.2, "repair_mlp": -0.1},
}
UNFILTERED = {(0, None): {"self_repair": -0.3}, (1, None): {"self_repair": 0.1}}


# Twenty heads on all tokens: two change the logit by 4 and 3, the others by 0.5 each.
ALL_TOKENS = {(index // 2, index % 2): {"delta_logit": -0.5} for index in range(20)}
ALL_TOKENS |= {(3, 0): {"delta_logit": -4.0}, (5, 1): {"delta_logit": 3.0}}
INTERVAL = ["value", "low", "high"]
PLACED = ["heads", "tokens", "quantity", "layer", "head"]
OF_NEURONS = ["layer", "head", "mlp_layer", "token_set", "quantity"]
FREQUENCY = ["layer", "head", "mlp_layer", "token_set", "place"]
MOVED = ["moved_layer", "tokens", "quantity"]
ADDED = ["layer", "direction", "strength", "scale", "statistic"]
OTHERS = {
    "resample/norm": [
        (["heads", "tokens", "quantity", "statistic"], ("later half", "top", "scale_ratio", "above_1"), 0.7),
        (["heads", "tokens", "quantity", "statistic"], ("all", "top", "scale_ratio", "above_1"), 0.2),
        (["heads", "tokens", "quantity", "statistic"], ("later half", "control", "scale_ratio", "above_1"), 0.3),
        (["heads", "tokens", "quantity", "statistic"], ("later half", "top", "scale_ratio", "mean"), 1.1),
    ],
    "noise": [
        (PLACED, ("later half", "top", "overcorrected", None, None), 0.06),
        (PLACED, ("later half", "control", "overcorrected", None, None), 0.4),
        (PLACED, ("later half", "top", "repaired", None, None), 0.5),
        (PLACED, ("one", "top", "overcorrected", 2, 0), 0.1),
    ],
    "neurons/shares": [
        (OF_NEURONS, (2, 0, 3, "direct_effect", "first_anti_erasing"), 0.8),
        (OF_NEURONS, (3, 1, 3, "direct_effect", "first_anti_erasing"), 0.6),
        (OF_NEURONS, (2, 0, 3, "top_mlp_repair", "first_anti_erasing"), 0.1),
        (OF_NEURONS, (2, 0, 2, "direct_effect", "first_anti_erasing"), 0.2),
        (OF_NEURONS, (2, 0, 3, "direct_effect", "top_percent_share"), 0.35),
    ],
    "neurons/frequency": [
        (FREQUENCY, (2, 0, 3, "direct_effect", 0), 0.6),
        (FREQUENCY, (2, 0, 3, "direct_effect", 1), 0.3),
        (FREQUENCY, (3, 1, 3, "direct_effect", 0), 0.2),
        (FREQUENCY, (2, 0, 3, "top_mlp_repair", 0), 0.9),
        (FREQUENCY, (2, 0, 1, "direct_effect", 0), 0.9),
    ],
    "iterative/moving": [
        (MOVED, (None, "all", "correlation"), 0.75),
        (MOVED, (None, "top", "correlation"), 0.1),
        (MOVED, (1, "all", "correlation"), 0.2),
        (MOVED, (None, "all", "change_moving"), 0.3),
    ],
    "iterative/repression": [
        (ADDED, (None, "own", 1.0, "perturbed", "ratio"), 0.85),
        (ADDED, (None, "own", 1.0, "clean", "ratio"), 0.97),
        (ADDED, (None, "random", 1.0, "clean", "ratio"), 0.99),
        (ADDED, (None, "own", 1.0, "clean", "ratio_beyond_random"), -0.02),
        (ADDED, (None, "own", 3.0, "clean", "ratio_beyond_random"), -0.4),
        (ADDED, (None, "own", 1.0, "perturbed", "ratio_beyond_random"), -0.1),
        (ADDED, (None, "own", 3.0, "clean", "ratio"), 0.5),
        (ADDED, (None, "own", 1.0, "clean", "share_repressed"), 0.1),
        (ADDED, (None, "own", 1.0, "perturbed", "share_repressed"), 0.6),
        (ADDED, (2, "own", 1.0, "clean", "ratio"), 0.2),
    ],
}


def others() -> dict[str, pl.DataFrame]:
    """Tables of other experiments with the columns that statistics read; intervals are 0.02 below to 0.03 above."""
    found = {}
    for name, rows in OTHERS.items():
        index = rows[0][0]
        listed = [(*key, value, value - 0.02, value + 0.03) for _, key, value in rows]
        found[name] = pl.DataFrame(listed, schema=[*index, *INTERVAL], orient="row")
    return found


SPREAD = {(2, 0): 1.4, (2, 1): 0.31, (3, 0): 0.0, (3, 1): 0.4}


def of_heads() -> Heads:
    """Heads of the hand-worked model."""
    heads = pl.concat([statistics("m", HEADS), statistics("m", ALL_TOKENS, tokens="all")])
    layers = pl.concat([statistics("m", LAYERS), statistics("m", UNFILTERED, tokens="all")])
    found = claim_statistics.head_tables(heads, layers)
    spread = pl.struct("layer", "head").map_elements(lambda at: SPREAD.get(tuple(at.values()), 9.0), pl.Float64)
    return replace(found, heads=found.heads.with_columns(sd_self_repair=spread))


def tables_of(heads: Heads, name: str = "m") -> Tables:
    """Tables with the statistics of some heads, whose intervals are made 0.1 to each side."""
    values = {statistic: function(heads) for statistic, function in claim_statistics.OF_HEADS.items()}
    facts = [(name, heads.n_layers, len(heads.heads), key, v, v - 0.1, v + 0.1) for key, v in values.items()]
    listed = frame(dict(zip(HEAD_STATISTICS, zip(*facts, strict=True), strict=True)), HEAD_STATISTICS)
    return Tables({claim_statistics.HEAD_STATISTICS: listed} | others())


def measured() -> Tables:
    """Tables of the hand-worked model."""
    return tables_of(of_heads())


def changed(layers: dict) -> Heads:
    """The hand-worked model with other layers."""
    return replace(
        of_heads(), layers=claim_statistics.head_tables(statistics("m", HEADS), statistics("m", layers)).layers
    )


@pytest.fixture
def run() -> dict[str, Tables]:
    return {"m": measured()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heads_repaired", 4 / 8),
        ("late_heads_repaired", 3 / 4),
        ("late_repair_of_loss", 0.8 / 3.2),
        ("early_repair", -0.4),
        ("peak_depth", 2 / 4),
        ("last_layer_drop", 0.4),
        ("late_self_repair_share", 0.8 / 4),
        ("late_norm_share", 0.3 / 4),
        ("late_attention_share", 0.0),
        ("late_mlp_share", -0.1 / 4),
        ("penultimate_norm_share", 0.3),
        ("last_norm_share", 0.3),  # 0.1 and the 0.5 that `statistics` puts where nothing is given
        ("clipped_norm_share", 0.35),
        ("last_layer_responders", 0.06),
        ("unfiltered_repair", -0.1),
        ("logit_falls_less_than_direct_effect", 4 / 8),
        ("heavy_tail", 7 / 16),
        ("spread_exceeds_mean", 2 / 4),  # 1.4 against 1.5, 0.4 against 0.3, 0.31 against 0.3, 0 against 0.1
        ("scale_falls", 0.7),
        ("overcorrected", 0.06),
        ("first_neuron_anti_erases", 0.7),
        ("few_neurons_share", 0.35),
        ("most_frequent_neuron", 0.4),
        ("moving_correlation", 0.75),
        ("repression_ratio", 0.85),
        ("repression_beyond_random", -0.02),
        ("heads_repressed", 0.6),
        ("last_mlp_share", 0.4),
    ],
)
def test_statistic_of_hand_worked_tables(name: str, value: float) -> None:
    if name in claim_statistics.OF_HEADS:
        found = claim_statistics.OF_HEADS[name](of_heads())
    else:
        found = claim_statistics.OF_EXPERIMENTS[name](measured()).value
    assert found == pytest.approx(value, abs=1e-12)


def test_intervals_are_read_with_the_statistics(run: dict[str, Tables]) -> None:
    drop = claim_statistics.measure("last_layer_drop", run["m"])
    assert (drop.value, drop.low, drop.high) == pytest.approx((0.4, 0.3, 0.5))
    neurons = claim_statistics.measure("first_neuron_anti_erases", run["m"])
    assert (neurons.low, neurons.high) == pytest.approx((0.68, 0.73))


def test_a_last_layer_that_is_repaired_more_has_a_negative_drop() -> None:
    drop = claim_statistics.OF_HEADS["last_layer_drop"](
        changed({(2, None): {"self_repair": 0.1}, (3, None): {"self_repair": 0.3}})
    )
    assert drop == pytest.approx(-0.2)


@pytest.mark.parametrize(("n_layers", "quarter"), [(1, 1), (3, 1), (4, 1), (6, 1), (8, 2), (12, 3)])
def test_the_first_quarter_is_no_more_than_a_quarter_but_for_the_first_layer(n_layers: int, quarter: int) -> None:
    layers = pl.DataFrame({"layer": range(n_layers), "mean_self_repair": [float(at) for at in range(n_layers)]})
    heads = replace(of_heads(), layers=layers.with_columns(n_layers=n_layers))
    assert claim_statistics.OF_HEADS["early_repair"](heads) == sum(range(quarter)) / quarter


def claim(**changes) -> Claim:
    base = {"id": "x", "source": "s", "wording": "w", "about": ["paper-a", "paper-b"], "statistic": "early_repair"}
    base |= {"unit": "logits", "rule": {"below": 0}, "paper_value": 0.3}
    return Claim(**base | changes)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"above": 0.5}, 0.51, 0.5),
        ({"below": 0}, -0.01, 0.0),
        ({"between": [0, 1]}, 1.0, 1.01),
        ({"near_paper": 0.1}, 0.39, 0.41),
    ],
)
def test_rules(rule: dict, good: float, bad: float) -> None:
    assert holds(claim(rule=rule), good)
    assert not holds(claim(rule=rule), bad)
    assert not holds(claim(rule=rule), float("nan"))


def test_a_model_is_compared_with_its_own_published_value_and_a_mean_with_the_published_mean() -> None:
    published = claim(rule={"near_paper": 0.05}, paper_values={"paper-a": 0.1, "paper-b": 0.5})
    assert holds(published, 0.12, "paper-a") and not holds(published, 0.3, "paper-a")
    assert holds(published, 0.34) and not holds(published, 0.36)


def test_a_model_for_which_nothing_is_published_is_not_comparable(run: dict[str, Tables]) -> None:
    near = claim(rule={"near_paper": 0.05}, paper_values={"paper-a": -0.4})
    found = judged(near, {"paper-a": run["m"], "paper-b": run["m"], "other": run["m"]})
    assert [(model["holds"], model["verdict"]) for model in found["models"]] == [
        (True, HELD),
        (None, NOT_COMPARABLE),
        (None, NOT_COMPARABLE),
    ]
    assert found["verdict"] == HELD and found["reason"].startswith("held for 1 of 1 models measured, of 2 ")
    assert found["reason"].endswith("; for 1 more nothing was measured or is published")
    alone = judged(near, {"paper-b": run["m"]})
    assert (alone["verdict"], alone["measured"], alone["models"][0]["value"]) == (UNMEASURED, None, -0.4)
    assert alone["reason"] == "nothing is published for those of the claim's models that are in the run"


def test_a_mean_over_models_needs_all_of_them(run: dict[str, Tables]) -> None:
    mean = claim(combine="mean", rule={"near_paper": 0.05}, paper_value=-0.4)
    some = judged(mean, {"paper-a": run["m"], "other": run["m"]})
    assert (some["verdict"], some["measured"]) == (UNMEASURED, None)
    assert some["reason"] == "the mean needs all heads of all 2 models; not in the run: paper-b"
    every = judged(mean, {"paper-b": run["m"], "paper-a": run["m"], "other": run["m"]})
    assert every["verdict"] == HELD and every["measured"]["value"] == -0.4
    assert {model["verdict"] for model in every["models"]} == {NOT_COMPARABLE}


def test_a_model_of_one_layer_has_no_last_layer_but_one() -> None:
    one = {(0, 0): {"self_repair": 0.1}}
    layers = pl.concat([statistics("m", {(0, None): {}}, tokens=tokens) for tokens in ("top", "all")])
    heads = claim_statistics.head_tables(statistics("m", one), layers)
    assert math.isnan(claim_statistics.OF_HEADS["penultimate_norm_share"](heads))


def test_what_is_not_a_number_is_not_measured() -> None:
    nothing = replace(of_heads(), heads=of_heads().heads.clear().with_columns(sd_self_repair=pl.lit(None, pl.Float64)))
    found = judged(claim(statistic="penultimate_norm_share"), {"m": tables_of(nothing)})
    assert (found["models"][0]["value"], found["models"][0]["holds"]) == (None, False)


def judged(one: Claim, run: dict[str, Tables], parallel: dict[str, bool] | None = None) -> dict:
    (entry,) = evaluate([one], run, parallel or dict.fromkeys(run, False))
    assert list(entry) == [name for name in claims.VERDICT], "documented keys, in their order"
    assert all(set(model) == set(claims.MODEL_VERDICT) for model in entry["models"])
    return entry


def test_without_a_model_of_the_paper_nothing_is_decided(run: dict[str, Tables]) -> None:
    entry = judged(claim(), run)
    assert entry["verdict"] == UNMEASURED and entry["measured"] is None
    assert entry["reason"] == "none of the claim's models are in the run with all their heads"
    (model,) = entry["models"]
    assert (model["role"], model["verdict"], model["value"]) == ("other model", "would hold", -0.4)
    assert judged(claim(rule={"above": 0}), run)["models"][0]["verdict"] == "would not hold"


def test_every_model_of_the_paper_must_hold(run: dict[str, Tables]) -> None:
    good = run["m"]
    bad = tables_of(changed(LAYERS | {(0, None): {"self_repair": 0.4}}), "b")
    assert judged(claim(), {"paper-a": good})["verdict"] == HELD
    assert judged(claim(), {"paper-a": good})["measured"]["value"] == -0.4
    assert judged(claim(), {"paper-a": bad})["verdict"] == FAILED
    assert judged(claim(), {"paper-a": good, "paper-b": bad})["verdict"] == FAILED
    assert judged(claim(), {"paper-a": good, "elsewhere": bad})["verdict"] == HELD, "other models decide nothing"
    both = judged(claim(), {"paper-a": good, "paper-b": bad})
    assert both["reason"] == "held for 1 of 2 models measured, of 2 that the claim is about"
    mean = judged(claim(combine="mean", rule={"between": [-0.01, 0.01]}), {"paper-a": good, "paper-b": bad})
    assert mean["verdict"] == HELD and mean["measured"] == {"value": 0.0, "low": -0.1, "high": 0.1}


def test_an_interval_across_the_threshold_does_not_agree(run: dict[str, Tables]) -> None:
    assert judged(claim(rule={"below": -0.2}), run)["models"][0]["interval_agrees"] is True
    assert judged(claim(rule={"below": -0.35}), run)["models"][0]["interval_agrees"] is False
    table = run["m"][claim_statistics.HEAD_STATISTICS].with_columns(low=pl.lit(None, pl.Float64))
    unknown = Tables(run["m"].named | {claim_statistics.HEAD_STATISTICS: table})
    assert judged(claim(rule={"below": -0.2}), {"m": unknown})["models"][0]["interval_agrees"] is None


def test_a_claim_about_parallel_blocks_leaves_other_models_out(run: dict[str, Tables]) -> None:
    parallel = claim(parallel=True)
    assert judged(parallel, run)["models"] == []
    assert len(judged(parallel, run, {"m": True})["models"]) == 1


def test_models_with_heads_left_out_are_not_whole(run: dict[str, Tables]) -> None:
    models = pl.DataFrame({"model": ["m"], "n_layers": [4], "n_heads": [2]})
    assert claim_statistics.complete(models, [run["m"]]) == run
    assert claim_statistics.complete(models.with_columns(n_heads=3), [run["m"]]) == {}


def test_a_claim_about_a_head_is_judged_by_it_in_the_papers_models_alone(
    run: dict[str, Tables],
) -> None:
    of_head = claim(statistic="first_neuron_anti_erases", rule={"above": 0.65}, head="L3H1")
    found = judged(of_head, {"paper-a": run["m"], "other": run["m"]})
    assert [model["value"] for model in found["models"]] == [0.6, 0.7]
    assert found["verdict"] == FAILED
    absent = judged(claim(statistic="first_neuron_anti_erases", rule={"above": 0}, head="L0H0"), {"paper-a": run["m"]})
    assert (absent["verdict"], absent["reason"]) == (UNMEASURED, "the run did not measure what the statistic needs")


def test_neurons_of_other_layers_than_the_last_decide_nothing(run: dict[str, Tables]) -> None:
    shares = run["m"]["neurons/shares"].filter(pl.col("mlp_layer") < 3)
    found = judged(
        claim(statistic="first_neuron_anti_erases"),
        {"paper-a": Tables(run["m"].named | {"neurons/shares": shares})},
    )
    assert found["verdict"] == UNMEASURED and found["models"][0]["value"] is None


def test_the_papers_models_are_known_by_their_other_names(run: dict[str, Tables]) -> None:
    near = claim(about=["gpt2-small"], rule={"near_paper": 0.1}, paper_values={"gpt2-small": -0.45}, paper_value=-0.45)
    found = judged(near, {"gpt2": run["m"]})
    assert found["verdict"] == HELD and found["models"][0]["role"] == "paper's model"
    mean = judged(claim(about=["gpt2-small"], combine="mean", rule={"below": 0}), {"gpt2": run["m"]})
    assert mean["verdict"] == HELD


def test_a_claim_that_published_data_contradict_carries_both_numbers(run: dict[str, Tables]) -> None:
    words = claim(id="words", paper_value=0.3, contradicted_by="data")
    data = claim(id="data", paper_value=0.21, paper_source="files")
    found = evaluate([words, data], run, {"m": False})
    assert [entry["contradiction"] for entry in found] == [{"paper_value": 0.21, "paper_source": "files"}, None]


def test_tables_are_read_from_a_models_folder(tmp_path: Path, run: dict[str, Tables]) -> None:
    for name, table in run["m"].named.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table.write_parquet(tmp_path / f"{name}.parquet")
    found = claim_statistics.read_tables(tmp_path)
    assert list(found.named) == list(claim_statistics.TABLES)
    assert all(found[name].equals(run["m"][name]) for name in claim_statistics.TABLES)


def test_a_claim_without_statistic_gives_its_reason(run: dict[str, Tables]) -> None:
    entry = judged(claim(statistic=None, rule={}, reason="needs neurons"), {"paper-a": run["m"]})
    assert (entry["verdict"], entry["reason"], entry["models"]) == (UNMEASURED, "needs neurons", [])


def test_the_listed_claims_fit_their_schema_and_can_be_judged(run: dict[str, Tables]) -> None:
    jsonschema.validate(LISTED, SCHEMA)
    entries = [Claim(**entry) for entry in LISTED["claims"]]
    assert len({entry.id for entry in entries}) == len(entries)
    assert all(set(entry.about) <= set(LISTED["paper_models"]) for entry in entries)
    assert all(set(entry.paper_values) <= set(entry.about) for entry in entries)
    by_id = {entry.id: entry for entry in entries}
    assert all(by_id[entry.contradicted_by].statistic == entry.statistic for entry in entries if entry.contradicted_by)
    found = evaluate(entries, run, {"m": True})
    assert {entry["verdict"] for entry in found} == {UNMEASURED}
    assert {entry.statistic for entry in entries} - {None} == set(claim_statistics.STATISTICS), (
        "each statistic serves a claim"
    )


def test_a_published_mean_is_the_mean_of_the_published_values() -> None:
    for entry in LISTED["claims"]:
        values = list(entry.get("paper_values", {}).values())
        if values:
            assert entry["paper_value"] == pytest.approx(sum(values) / len(values), abs=0.001), entry["id"]


def test_every_bound_has_a_reason_and_the_identity_is_not_a_claim() -> None:
    assert all(entry["bound_reason"] for entry in LISTED["claims"] if entry["statistic"])
    assert [entry["id"] for entry in LISTED["claims"] if entry.get("identity")] == ["parallel-last-layer"]


def test_schema_and_statistics_are_in_step() -> None:
    named = SCHEMA["properties"]["claims"]["items"]["properties"]["statistic"]["enum"]
    assert named == [None, *claim_statistics.STATISTICS]


@pytest.mark.parametrize(
    "change",
    [
        {"statistic": "no_such"},
        {"rule": {"above": 0, "below": 1}},
        {"rule": {"over": 0}},
        {"id": "claim-2"},
        {"statistic": None},
        {"rule": {"near_paper": 0.1}, "paper_value": None},
        {"bound_reason": None},
        {"extra": 1},
    ],
)
def test_schema_refuses(change: dict) -> None:
    entry = {key: value for key, value in LISTED["claims"][0].items() if key != "paper_values"} | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(LISTED | {"claims": [entry]}, SCHEMA)
