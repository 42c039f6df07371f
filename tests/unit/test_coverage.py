"""Intervals hold the truth as often as they say, on documents whose truth is known."""

import numpy as np
import polars as pl
import pytest

from selfrepair.ablation.schema import EFFECTS
from selfrepair.benchmark.coverage import coverage, intervals, synthetic, truth

JUDGED = [
    *(f"mean of {name}" for name in ("direct_effect", "delta_logit", "self_repair")),
    *(f"share of {name}" for name in ("self_repair", "repair_norm")),
    *("clipped_share of repair_norm", "median of self_repair", "tokens overcorrected"),
]


@pytest.fixture(scope="module")
def found() -> pl.DataFrame:
    """Of 300 texts of 80 documents, which are worth about 25."""
    return coverage(synthetic("documents", 0.7, 8), documents=80, texts=300, replicates=400)


@pytest.mark.parametrize("statistic", JUDGED)
def test_intervals_hold_the_truth_as_often_as_they_say(found: pl.DataFrame, statistic: str) -> None:
    for row in found.filter(statistic=statistic, interval="as reported").to_dicts():
        assert 0.92 <= row["coverage"] <= 0.97, row
        assert row["worst"] >= 0.88, row


def test_a_selection_that_is_held_fixed_would_say_too_much(found: pl.DataFrame) -> None:
    """What other texts would select differs: that is most of what is unknown of a direct effect."""
    fixed = found.filter(statistic="mean of direct_effect", interval="fixed, percentiles")
    assert (fixed["coverage"] < 0.7).all()


@pytest.mark.slow
def test_few_documents_with_heavy_tails_cost_coverage_and_are_better_than_percentiles() -> None:
    """A third of the texts' documents is worth less than ten: what no interval can know is not in it."""
    heavy = coverage(synthetic("heavy tails", 1.2, 3), documents=50, texts=150, replicates=400)
    means = heavy.filter(pl.col("statistic").str.starts_with("mean"), of="heads")
    by_kind = {kind: rows["coverage"].mean() for (kind,), rows in means.group_by("interval")}
    assert by_kind["fixed, percentiles"] < by_kind["reselected, percentiles"] < by_kind["as reported"]
    assert by_kind["as reported"] >= 0.84
    shares = heavy.filter(pl.col("statistic").str.starts_with("share"), interval="as reported")
    assert (shares["coverage"] >= 0.9).all()


def test_a_text_that_is_the_whole_population_gives_intervals_around_the_truth() -> None:
    """Otherwise coverage would be of something else than what a run reports."""
    population = synthetic("small", 0.5, 8, documents=60)
    ends, worth = intervals(population, np.arange(60), 200, seed=1)
    assert 10 < worth < 60
    true = truth(population)
    for (of, statistic, kind), (low, high) in ends.items():
        assert (low <= true[of, statistic] + 1e-6).all() and (true[of, statistic] - 1e-6 <= high).all(), kind
    direct = population.effects[list(EFFECTS).index("direct_effect"), 0]
    assert true["heads", "mean of direct_effect"][0] == pytest.approx(
        np.sort(direct)[-int(0.02 * len(direct)) :].mean()
    )
