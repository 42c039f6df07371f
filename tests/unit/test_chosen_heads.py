"""Heads are chosen by what was measured, and by nothing else."""

import polars as pl
import pytest

from selfrepair.ablation.chosen_heads import CHOSEN_HEADS, READ, choose_heads, distinct, read_chosen
from selfrepair.ablation.schema import ablated_tokens
from selfrepair.core.tables import write_csv

MEANS = {  # direct effect and self-repair on top tokens
    (0, 0): {"direct_effect": -1.0, "self_repair": 9.0},  # repaired most, but of negative direct effect
    (0, 1): {"direct_effect": 0.1, "self_repair": 0.0},
    (1, 0): {"direct_effect": 2.0, "self_repair": 0.5},
    (1, 1): {"direct_effect": 1.0, "self_repair": 0.7},
    (2, 0): {"direct_effect": 0.2, "self_repair": 0.9},
}
CONTROL = {  # direct effects and self-repairs on the control tokens
    (0, 0): ([1.0, 1.0], [-50.0, 50.0]),
    (0, 1): ([1.0, 1.0], [-100.0, 100.0]),  # noisiest, but of small direct effect
    (1, 0): ([3.0, -4.0], [1.0, 3.0]),  # 1 / sqrt(12.5)
    (1, 1): ([1.0, 1.0], [-2.0, 4.0]),  # 3
    (2, 0): ([1.0, 1.0], [0.5, 1.5]),  # 0.5
}


def tokens(control=CONTROL) -> pl.DataFrame:
    rows = [
        (layer, head, False, True, effect, repair)
        for (layer, head), pairs in control.items()
        for effect, repair in zip(*pairs, strict=True)
    ]
    # Top tokens do not count for the noise; their means are those of `MEANS`.
    rows += [
        (layer, head, True, False, mean["direct_effect"] + shift, mean["self_repair"] + shift)
        for (layer, head), mean in MEANS.items()
        for shift in (-100.0, 100.0)
    ]
    schema = {name: column.dtype for name, column in ablated_tokens(3).items() if name in READ}
    return pl.DataFrame(rows, schema={name: schema[name] for name in READ}, orient="row")


def test_heads_are_chosen_by_hand_computed_numbers(tmp_path):
    chosen = choose_heads("m", tokens(), [(0, 1), (0, 0)], 2)
    assert chosen.schema == {name: column.dtype for name, column in CHOSEN_HEADS.items()}
    found = [(*row[1:4], pytest.approx(row[4], abs=1e-5)) for row in chosen.rows()]
    assert found == [
        (0, 1, "configured", 0.0),
        (0, 0, "configured", 9.0),
        (2, 0, "most_self_repair", 0.9),
        (1, 1, "most_self_repair", 0.7),
        (1, 1, "most_noise", 3.0),
        (1, 0, "least_noise", 1 / 12.5**0.5),
        (1, 0, "largest_direct_effect", 2.0),
        (1, 0, "large_direct_effect", 2.0),
        (1, 1, "large_direct_effect", 1.0),
    ]
    assert distinct(chosen) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    write_csv(chosen, tmp_path / "chosen.csv")
    assert read_chosen(tmp_path / "chosen.csv").drop("value").equals(chosen.drop("value"))


def test_a_head_without_direct_effect_has_no_noise():
    zero = CONTROL | {(1, 1): ([0.0, 0.0], [1.0, 2.0])}
    chosen = choose_heads("m", tokens(zero), [], 1)
    assert chosen.filter(reason="most_noise").select("layer", "head").rows() == [(2, 0)]
    assert "configured" not in chosen["reason"]


def test_a_configured_head_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="m: L2H1 under `highlight_heads` was not measured"):
        choose_heads("m", tokens(), [(2, 1)], 1)
