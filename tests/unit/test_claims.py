"""Claims: statistics from hand-worked tables, rules, verdicts about the paper's models and other models, the schema."""

import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
import yaml
from test_tables import statistics

from selfrepair.claims import statistics as claim_statistics
from selfrepair.claims import verdicts as claims
from selfrepair.claims.nulls import MIRROR, MIRRORS, difference, exponential_tail
from selfrepair.claims.paper_models import recognise
from selfrepair.claims.schema import HEAD_STATISTICS, NEURON_STATISTICS
from selfrepair.claims.statistics import Heads, Measured, Neurons, Tables
from selfrepair.claims.tables import OF_TWINS
from selfrepair.claims.verdicts import FAILED, HELD, UNDECIDED, UNMEASURED, Claim, Model, accepted, evaluate, holds
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
MOVED = ["moved_layer", "tokens", "quantity"]
ADDED = ["layer", "direction", "strength", "scale", "statistic"]
OTHERS = {
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


# By head (none for the mean): erasing, its mirror, their difference, and the other statistics of neurons.
NEURONS = {
    (None, None): {"first_neuron_anti_erases": 0.7, "mirror_of_first_neuron": 0.5, "erasure_beyond_mirror": 0.2},
    (3, 1): {"first_neuron_anti_erases": 0.6, "mirror_of_first_neuron": 0.65, "erasure_beyond_mirror": -0.05},
}
NEURONS[None, None] |= {"few_neurons_share": 0.35, "most_frequent_neuron": 0.4}


def of_neurons() -> pl.DataFrame:
    """Statistics of neurons, whose intervals are 0.02 below to 0.03 above."""
    rows = [
        ("m", layer, head, name, value, value - 0.02, value + 0.03)
        for (layer, head), values in NEURONS.items()
        for name, value in values.items()
    ]
    return frame(pl.DataFrame(rows, schema=list(NEURON_STATISTICS), orient="row").to_dict(), NEURON_STATISTICS)


def others() -> dict[str, pl.DataFrame]:
    """Tables of other experiments with the columns that statistics read; intervals are 0.02 below to 0.03 above."""
    found = {}
    for name, rows in OTHERS.items():
        index = rows[0][0]
        listed = [(*key, value, value - 0.02, value + 0.03) for _, key, value in rows]
        found[name] = pl.DataFrame(listed, schema=[*index, *INTERVAL], orient="row")
    return found | {claim_statistics.NEURON_STATISTICS: of_neurons()}


SHARES = {
    "scale_falls": 0.5,
    "overcorrected": 0.02,
    "mirrored": 0.04,
}  # a tenth of the layer, and this for the second head
SPREAD = {(2, 0): 1.4, (2, 1): 0.31, (3, 0): 0.0, (3, 1): 0.4}


def of_heads() -> Heads:
    """Heads of the hand-worked model."""
    heads = pl.concat([statistics("m", HEADS), statistics("m", ALL_TOKENS, tokens="all")])
    layers = pl.concat([statistics("m", LAYERS), statistics("m", UNFILTERED, tokens="all")])
    found = claim_statistics.head_tables(heads, layers)
    spread = pl.struct("layer", "head").map_elements(lambda at: SPREAD.get(tuple(at.values()), 9.0), pl.Float64)
    shares = {f"share_{name}": pl.col("layer") * 0.1 + pl.col("head") * step for name, step in SHARES.items()}
    return replace(found, heads=found.heads.with_columns(sd_self_repair=spread, **shares))


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


def twin(shift: float = -0.5) -> Tables:
    """Tables of a twin: every statistic of heads and neurons is so much away."""
    ends = [pl.col(name) + shift for name in INTERVAL]
    tables = measured().named
    return Tables({name: tables[name].with_columns(ends) for name in OF_TWINS})


def model(tables: Tables | None = None, paper_name: str | None = None, **changes) -> Model:
    return Model(
        **{"tables": tables or measured(), "parallel": False, "twin": twin(0.5), "paper_name": paper_name} | changes
    )


@pytest.fixture
def run() -> dict[str, Model]:
    return {"m": model()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heads_repaired", 4 / 8),
        ("late_heads_repaired", 3 / 4),
        ("late_repair_of_loss", 0.8 / 3.2),
        ("early_repair", -0.4),
        ("late_peak_lead", 0.6 - 0.2),  # layer 2 of 0 to 3, and the last
        ("penultimate_minus_last", 0.4),
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
        ("noisily_repaired", 1 / 4),  # 1.4 against 1.5, 0.31 against -0.3, 0 against 0.1, 0.4 against 0.3
        ("scale_falls", 0.25 + 0.25),
        ("overcorrected", 0.25 + 0.01),
        ("mirror_of_overcorrection", 0.25 + 0.02),
        ("overcorrection_beyond_mirror", -0.01),
        ("first_neuron_anti_erases", 0.7),
        ("mirror_of_first_neuron", 0.5),
        ("erasure_beyond_mirror", 0.2),
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
        found = claim_statistics.measure(name, measured()).value
    assert found == pytest.approx(value, abs=1e-12)


def test_intervals_are_read_with_the_statistics() -> None:
    drop = claim_statistics.measure("penultimate_minus_last", measured())
    assert (drop.value, drop.low, drop.high) == pytest.approx((0.4, 0.3, 0.5))
    neurons = claim_statistics.measure("first_neuron_anti_erases", measured(), (3, 1))
    assert (neurons.value, neurons.low, neurons.high) == pytest.approx((0.6, 0.58, 0.63))
    assert math.isnan(claim_statistics.measure("first_neuron_anti_erases", measured(), (0, 0)).value)


def test_neurons_are_counted_as_often_as_their_documents_are_drawn() -> None:
    n, erases, adds = (np.array(values) for values in ([4.0, 6.0], [3.0, 3.0], [1.0, 3.0]))
    sums = Neurons(n, erases, adds, n / 4, n, frequent=np.array([[1.0, 2.0], [4.0, 3.0]]))
    found = {name: function(sums).tolist() for name, function in claim_statistics.OF_NEURONS.items()}
    assert found == {
        "first_neuron_anti_erases": [0.75, 0.5],
        "mirror_of_first_neuron": [0.25, 0.5],
        "erasure_beyond_mirror": [0.5, 0.0],
        "few_neurons_share": [0.25, 0.25],
        "most_frequent_neuron": [0.5, 4 / 6],
    }


def test_a_last_layer_that_is_repaired_more_lies_above_the_one_before() -> None:
    drop = claim_statistics.OF_HEADS["penultimate_minus_last"](
        changed({(2, None): {"self_repair": 0.1}, (3, None): {"self_repair": 0.3}})
    )
    assert drop == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("repaired", "lead"),
    [
        ([0.0, 0.1, 0.2, 0.1, 0.5, 0.4], 0.1),
        ([0.0, 0.1, 0.2, 0.1, 0.5, 0.6], -0.1),  # the last layer is best
        ([0.0, 0.1, 0.2, 0.7, 0.5, 0.4], -0.2),  # layer 3 of 0 to 5 is not in the last third of the depth
        ([0.3, 0.1], math.nan),  # no layer is late but not last
        ([0.3], math.nan),
    ],
)
def test_the_best_late_layer_leads_unless_another_or_the_last_is_better(repaired: list[float], lead: float) -> None:
    layers = pl.DataFrame({"layer": range(len(repaired)), "mean_self_repair": repaired, "n_layers": len(repaired)})
    found = claim_statistics.OF_HEADS["late_peak_lead"](replace(of_heads(), layers=layers))
    assert found == pytest.approx(lead, nan_ok=True)


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
        ({"near_paper": 0.5}, 0.0, -0.01),  # the published sign, too
    ],
)
def test_rules(rule: dict, good: float, bad: float) -> None:
    one = claim(rule=rule)
    bounds = accepted(one, one.paper_value)
    assert holds(one, good, bounds) and not holds(one, bad, bounds) and not holds(one, math.nan, bounds)


def test_a_model_is_compared_with_its_own_published_value_and_others_with_its_sign() -> None:
    near = claim(rule={"near_paper": 0.05}, paper_value=-0.6, paper_values={"paper-a": -0.4, "paper-b": -0.8})
    run = {"first": model(paper_name="paper-a"), "second": model(paper_name="paper-b"), "other": model()}
    entry = judged(near, run)
    assert [one["holds"] for one in entry["models"]] == [True, False, True]
    assert [one["verdict"] for one in entry["models"]] == [UNDECIDED, FAILED, HELD]  # -0.4 ± 0.1
    assert entry["verdict"] == FAILED and entry["others"][HELD] == ["other"]
    unknown = judged(replace(near, paper_values={}), {"first": model(paper_name="paper-a")})
    assert (unknown["verdict"], unknown["models"][0]["verdict"]) == (UNMEASURED, UNMEASURED)
    assert unknown["reason"] == "nothing is published for those of the claim's models that are in the run"


def test_a_mean_over_models_needs_all_of_them() -> None:
    mean = claim(combine="mean", rule={"near_paper": 0.15}, paper_value=-0.4)
    some = judged(mean, {"a": model(paper_name="paper-a"), "other": model()})
    assert (some["verdict"], some["measured"]) == (UNMEASURED, None)
    assert some["reason"] == "the mean needs all heads of all 2 models; not in the run: paper-b"
    every = judged(mean, {"b": model(paper_name="paper-b"), "a": model(paper_name="paper-a"), "other": model()})
    assert every["verdict"] == HELD and every["measured"] == {"value": -0.4, "low": -0.5, "high": -0.3}
    narrow = judged(replace(mean, rule={"near_paper": 0.05}), {name: model(paper_name=name) for name in mean.about})
    assert narrow["verdict"] == UNDECIDED


@pytest.mark.parametrize(
    ("rule", "shift", "verdict"),
    [
        ({"below": 0}, 0.5, HELD),
        ({"below": 0}, 0.05, UNDECIDED),  # no further from the null than the data can tell
        ({"below": 0}, -0.5, FAILED),  # meets the rule, but less than where nothing was learned
        ({"below": -0.35}, 0.5, UNDECIDED),  # the interval crosses the bound
        ({"below": -0.6}, 0.5, FAILED),
        ({"above": -0.6}, 0.5, FAILED),
        ({"above": -0.6}, -0.5, HELD),
        ({"between": [-0.6, 0]}, 0.5, HELD),  # the null lies above: most accepted values are below it
        ({"between": [-0.38, -0.36]}, 0.5, UNDECIDED),  # the interval holds the accepted values and more
        ({"between": [-2, -0.2]}, -0.5, HELD),  # beyond a null that is accepted itself: above it
        ({"between": [-2, -0.2]}, 0.15, FAILED),
        ({"below": -0.4 + 0.1}, 0.5, UNDECIDED),  # one end is the bound, which a strict rule leaves out
        ({"above": -0.4 + 0.1}, -0.5, FAILED),
        ({"between": [-0.5, -0.4 + 0.1]}, 0.5, HELD),
    ],
)
def test_a_verdict_asks_for_the_rule_and_for_a_distance_from_the_null(rule: dict, shift: float, verdict: str) -> None:
    """The statistic is -0.4, from -0.5 to -0.3; the twin's is so much higher, with as wide an interval."""
    (entry,) = judged(claim(rule=rule), {"m": model(twin=twin(shift))})["models"]
    assert entry["verdict"] == verdict
    assert (entry["null"], entry["null_low"]) == pytest.approx((-0.4 + shift, -0.5 + shift))
    assert entry["beyond_low"] == pytest.approx(-shift - 0.1 * 2**0.5, abs=1e-6)


def test_without_a_null_nothing_is_decided_unless_the_claim_has_none() -> None:
    alone = {"m": model(twin=None)}
    assert judged(claim(), alone)["models"][0]["verdict"] == UNDECIDED
    assert judged(claim(rule={"above": 0}), alone)["models"][0]["verdict"] == FAILED
    assert judged(claim(against="nothing"), alone)["models"][0]["verdict"] == HELD


def test_erasing_is_compared_with_its_mirror() -> None:
    erasing = claim(statistic="first_neuron_anti_erases", rule={"above": 0.5}, against="mirror", head="L3H1")
    paper, other = judged(erasing, {"a": model(paper_name="paper-a"), "other": model()})["models"]
    assert (paper["value"], paper["null"], paper["beyond_high"]) == pytest.approx((0.6, 0.65, -0.02))
    assert paper["verdict"] == FAILED and (other["value"], other["null"], other["verdict"]) == (0.7, 0.5, HELD)


def test_overcorrection_is_compared_with_its_mirror() -> None:
    one = judged(claim(statistic="overcorrected", rule={"above": 0.01}, against="mirror"), {"m": model(twin=None)})
    (entry,) = one["models"]
    assert (entry["value"], entry["null"]) == pytest.approx((0.26, 0.27))
    assert (entry["beyond_low"], entry["beyond_high"]) == pytest.approx((-0.11, 0.09)) and entry["verdict"] == UNDECIDED


def test_heavy_tails_are_compared_with_exponential_importance() -> None:
    tail = judged(claim(statistic="heavy_tail", rule={"above": 0.33}, against="exponential"), {"m": model()})
    (entry,) = tail["models"]
    assert entry["null"] == pytest.approx(exponential_tail(8).value, abs=1e-6) and entry["null"] > 0.33
    assert exponential_tail(48).value == pytest.approx(0.331, abs=0.005)  # ln 10 / 10 + 1 / 10 for many heads
    assert exponential_tail(10_00).value == pytest.approx(0.1 * (1 + math.log(10)), abs=0.003)


def test_the_interval_of_a_difference_holds_both_errors() -> None:
    found = difference(Measured(1.0, 0.7, 1.4), Measured(0.2, 0.1, 0.6))
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.8 - 0.5, 0.8 + 0.17**0.5))
    assert difference(Measured(1.0), Measured(0.2, 0.1, 0.6)) == Measured(0.8)


FACTS = {"family": "gpt2", "n_layers": 12, "n_heads": 12, "d_model": 768, "d_vocab": 50257}
WEIGHTS = {"model.safetensors": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"}


def test_the_papers_models_are_known_by_commit_weights_or_shape_and_by_no_name() -> None:
    papers = LISTED["paper_models"]
    other = FACTS | {"name": "gpt2-small", "weights_sha256": {"model.safetensors": "0" * 64}}
    assert recognise(other, None, papers) is None, "its weights are on record, and are others"
    assert recognise(other | {"weights_sha256": WEIGHTS}, None, papers) == ("gpt2-small", "weights")
    commit = {"hub": "openai-community/gpt2", "revision": papers["gpt2-small"]["revision"]}
    assert recognise(other, commit, papers) == ("gpt2-small", "commit")
    moved = commit | {"revision": "0" * 40}
    assert recognise(other, moved, papers) is None
    assert recognise(other | {"weights_sha256": WEIGHTS}, moved, papers) == ("gpt2-small", "weights")
    medium = {"n_layers": 24, "n_heads": 16, "d_model": 1024}
    assert recognise(other | medium, None, papers) == ("gpt2-medium", "shape")


def test_a_model_of_one_layer_has_no_last_layer_but_one() -> None:
    one = {(0, 0): {"self_repair": 0.1}}
    layers = pl.concat([statistics("m", {(0, None): {}}, tokens=tokens) for tokens in ("top", "all")])
    heads = claim_statistics.head_tables(statistics("m", one), layers)
    assert math.isnan(claim_statistics.OF_HEADS["penultimate_norm_share"](heads))


def test_what_is_not_a_number_is_not_measured() -> None:
    nothing = {f"share_{name}": pl.lit(None, pl.Float64) for name in SHARES}
    empty = of_heads().heads.clear().with_columns(sd_self_repair=pl.lit(None, pl.Float64), **nothing)
    found = judged(claim(statistic="penultimate_norm_share"), {"m": model(tables_of(replace(of_heads(), heads=empty)))})
    assert (found["models"][0]["value"], found["models"][0]["verdict"]) == (None, UNMEASURED)


def judged(one: Claim, run: dict[str, Model]) -> dict:
    (entry,) = evaluate([one], run)
    assert list(entry) == list(claims.VERDICT), "documented keys, in their order"
    assert all(set(model) == set(claims.MODEL_VERDICT) for model in entry["models"])
    return entry


def test_without_a_model_of_the_paper_nothing_is_decided_of_it(run: dict[str, Model]) -> None:
    entry = judged(claim(), run)
    assert entry["verdict"] == UNMEASURED and entry["measured"] is None
    assert entry["reason"] == "none of the claim's models are in the run with all their heads"
    assert entry["others"] == {HELD: ["m"], FAILED: [], UNDECIDED: [], "models": 1}
    assert judged(claim(rule={"above": 0}), run)["others"] == {HELD: [], FAILED: ["m"], UNDECIDED: [], "models": 1}


def test_every_model_of_the_paper_must_hold() -> None:
    good = model(paper_name="paper-a")
    bad = model(tables_of(changed(LAYERS | {(0, None): {"self_repair": 0.4}}), "b"), "paper-b")
    assert judged(claim(), {"x": good})["verdict"] == HELD
    assert judged(claim(), {"x": good})["measured"]["value"] == -0.4
    assert judged(claim(), {"x": bad})["verdict"] == FAILED
    both = judged(claim(), {"x": good, "y": bad})
    assert both["verdict"] == FAILED
    assert both["reason"] == "held for 1 of 2 models measured, of 2 that it is about"
    elsewhere = judged(claim(), {"x": good, "y": replace(bad, paper_name=None)})
    assert elsewhere["verdict"] == HELD, "other models decide nothing"
    undecided = judged(claim(), {"x": good, "y": model(paper_name="paper-b", twin=None)})
    assert undecided["verdict"] == UNDECIDED


@pytest.mark.parametrize(
    ("rule", "agrees"),
    [
        ({"below": -0.2}, True),
        ({"below": -0.35}, False),
        ({"below": -0.4 + 0.1}, False),
        ({"between": [-0.41, -0.39]}, False),
        ({"above": 0}, True),
        ({"above": -0.4 + 0.1}, True),
    ],
)
def test_an_interval_agrees_if_all_of_it_gives_the_same_answer(rule: dict, agrees: bool, run: dict[str, Model]) -> None:
    assert judged(claim(rule=rule), run)["models"][0]["interval_agrees"] is agrees


def test_a_claim_about_parallel_blocks_leaves_other_models_out(run: dict[str, Model]) -> None:
    parallel = claim(parallel=True)
    assert judged(parallel, run)["models"] == []
    assert len(judged(parallel, {"m": model(parallel=True)})["models"]) == 1


def test_a_claim_that_published_data_contradict_carries_both_numbers(run: dict[str, Model]) -> None:
    words = claim(id="words", paper_value=0.3, contradicted_by="data")
    data = claim(id="data", paper_value=0.21, paper_source="files")
    found = evaluate([words, data], run)
    assert [entry["contradiction"] for entry in found] == [{"paper_value": 0.21, "paper_source": "files"}, None]


def test_tables_are_read_from_a_models_folder(tmp_path: Path) -> None:
    tables = measured()
    for name, table in tables.named.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table.write_parquet(tmp_path / f"{name}.parquet")
    found = claim_statistics.read_tables(tmp_path)
    assert list(found.named) == list(claim_statistics.TABLES)
    assert all(found[name].equals(tables[name]) for name in claim_statistics.TABLES)


def test_a_claim_without_statistic_gives_its_reason(run: dict[str, Model]) -> None:
    entry = judged(claim(statistic=None, rule={}, reason="needs neurons"), run)
    assert (entry["verdict"], entry["reason"], entry["models"]) == (UNMEASURED, "needs neurons", [])


def test_the_listed_claims_fit_their_schema_and_can_be_judged(run: dict[str, Model]) -> None:
    jsonschema.validate(LISTED, SCHEMA)
    entries = [Claim(**entry) for entry in LISTED["claims"]]
    assert len({entry.id for entry in entries}) == len(entries)
    assert all(set(entry.about) <= set(LISTED["paper_models"]) for entry in entries)
    assert all(set(entry.paper_values) <= set(entry.about) for entry in entries)
    by_id = {entry.id: entry for entry in entries}
    assert all(by_id[entry.contradicted_by].statistic == entry.statistic for entry in entries if entry.contradicted_by)
    found = evaluate(entries, run)
    assert {entry["verdict"] for entry in found} == {UNMEASURED}
    nulls = {name for names in MIRRORS.values() for name in names}
    assert {entry.statistic for entry in entries if entry.against == MIRROR} == set(MIRRORS)
    assert {entry.statistic for entry in entries} - {None} | nulls == set(claim_statistics.STATISTICS), (
        "each statistic serves a claim"
    )
    assert claims.expected_by_chance(entries) == pytest.approx(0.025 * 24)


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
        {"against": "luck"},
        {"extra": 1},
    ],
)
def test_schema_refuses(change: dict) -> None:
    entry = {key: value for key, value in LISTED["claims"][0].items() if key != "paper_values"} | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(LISTED | {"claims": [entry]}, SCHEMA)
