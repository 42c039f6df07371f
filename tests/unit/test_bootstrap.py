"""Samples of documents, statistics in each of them, and intervals where they are easily wrong."""

from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selfrepair.analysis.bootstrap import Draws, Estimate, effective, median, ratio_of_sums, student, wilson
from selfrepair.analysis.by_document import Selection, top_totals, top_weights

FINITE = st.floats(-100, 100, width=32)


def draws_of(n_documents: int, replicates: int = 8, seed: int = 0) -> Draws:
    return Draws.of(pl.Series(range(n_documents)), replicates, seed)


def test_replicates_are_documents_with_replacement():
    """As many documents as there are, each equally likely; otherwise intervals have the wrong width."""
    draws = Draws.of(pl.Series([8, 3, 3, 5, 0, 1, 2, 9, None]), 4000, seed=1)
    assert draws.documents.tolist() == [0, 1, 2, 3, 5, 8, 9]
    assert draws.weights.shape == (1 + 4000 + 7, 7)
    run, replicates, left_out = draws.weights[0], draws.weights[1:4001], draws.weights[4001:]
    assert (run == 1).all() and np.array_equal(left_out, 1 - np.eye(7))
    assert (replicates.sum(1) == 7).all()
    assert replicates.mean(0) == pytest.approx(np.ones(7), abs=0.08)
    assert replicates.var(0) == pytest.approx(np.full(7, 6 / 7), abs=0.12)
    assert not np.array_equal(draws.weights, Draws.of(pl.Series(draws.documents), 4000, seed=2).weights)


@given(hnp.arrays(np.float64, (5, 3), elements=FINITE), hnp.arrays(np.int64, (5, 3), elements=st.integers(0, 9)))
def test_ratio_of_sums_is_that_of_the_drawn_documents(numerator, n):
    """A sample where no document has a token has no ratio; otherwise one infinity ends the interval."""
    draws = draws_of(5)
    estimate = ratio_of_sums(numerator, n.astype(float), draws)
    for item in range(3):
        for counts, found in zip(draws.weights, estimate.samples[:, item], strict=True):
            drawn = [document for document, count in enumerate(counts) for _ in range(count)]
            tokens = sum(n[document, item] for document in drawn)
            if tokens:
                assert found == pytest.approx(sum(numerator[d, item] for d in drawn) / tokens, abs=1e-9)
            else:
                assert np.isnan(found)


@given(st.lists(st.tuples(FINITE, st.integers(0, 3)), min_size=1, max_size=100))
def test_the_median_is_that_of_the_drawn_tokens(tokens):
    """In a sample a token counts as often as its document was drawn."""
    values, documents = np.array([v for v, _ in tokens]), np.array([d for _, d in tokens])
    draws = draws_of(4)
    found = median(values, draws.weights.T[documents])
    assert found[0] == sorted(values)[(len(values) - 1) // 2]
    for counts, value in zip(draws.weights, found, strict=True):
        drawn = sorted(v for v, document in tokens for _ in range(counts[document]))
        assert np.array_equal(value, drawn[(len(drawn) - 1) // 2] if drawn else np.nan, equal_nan=True)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 40))
def test_the_top_tokens_of_a_sample_are_the_first_of_its_tokens(documents, count):
    weights = draws_of(5).weights.T[documents]
    counts = np.minimum(count, weights.sum(0))
    for sample, found in enumerate(top_weights(weights, counts).T):
        drawn = [token for token, weight in enumerate(weights[:, sample]) for _ in range(weight)]
        assert found.tolist() == np.bincount(drawn[: counts[sample]], minlength=len(documents)).tolist()


def test_a_replicate_that_selects_more_than_was_kept_is_an_error():
    """A mean over the tokens that happen to be there would be of other tokens, and nobody would know."""
    tokens = pl.DataFrame({"layer": 0, "head": 0, "document": [0, 1], "rank": [0, 1], "x": [1.0, 2.0]})
    selection = Selection.of(pl.Series(np.arange(100) % 10), 0.1, 100, seed=0)
    with pytest.raises(ValueError, match="more replicates than foreseen"):
        top_totals(tokens, ["x"], [(0, 0)], selection)


# Intervals.


def ends_of(estimate: Estimate) -> tuple[float, float]:
    return tuple(end.item() for end in estimate.interval)


def estimate_of(replicates: np.ndarray, left_out: np.ndarray, value: float) -> Estimate:
    return Estimate(np.concatenate([[value], replicates, left_out]), len(replicates))


def test_an_interval_of_a_symmetric_statistic_is_a_little_wider_than_its_percentiles():
    """Many equal documents: Student's t for their number; nothing is accelerated."""
    generator = np.random.default_rng(0)
    replicates = np.sort(generator.normal(size=20001))
    contributions = NormalDist().inv_cdf
    left_out = -np.array([contributions((i + 0.5) / 60) for i in range(60)]) / 60
    low, high = estimate_of(replicates, left_out, 0.0).interval
    # Kurtosis of the contributions is a little below 3, so the degrees of freedom are capped at 59: t is 2.001.
    z = 2.001 * (60 / 59) ** 0.5
    assert high == pytest.approx(np.quantile(replicates, NormalDist().cdf(z)), abs=0.02)
    assert low == pytest.approx(np.quantile(replicates, NormalDist().cdf(-z)), abs=0.02)


def test_an_interval_leans_to_where_single_documents_pull():
    """A document that adds much says that more of its kind may be out there."""
    replicates, left_out = np.linspace(-3, 3, 1001), np.zeros(40)
    left_out[0] = -1.0  # without it the statistic falls
    low, high = ends_of(estimate_of(replicates, left_out, 0.0))
    assert high > -low
    mirrored = ends_of(estimate_of(-replicates[::-1], -left_out, 0.0))
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high))


@pytest.mark.parametrize(("degrees", "quantile"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e9, 1.960)])
def test_quantiles_of_students_t_are_those_of_tables(degrees, quantile):
    assert student(np.array(float(degrees))) == pytest.approx(quantile, rel=2e-3)


@pytest.mark.parametrize(
    ("share", "n", "low", "high"), [(0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0), (0.5, 10, 0.2366, 0.7634)]
)
def test_score_intervals_are_those_of_the_formula(share, n, low, high):
    """Wilson 1927; of none in ten, up to z^2 / (n + z^2)."""
    ends = wilson(np.array(share), np.array(float(n)), np.array(1.959964))
    assert tuple(map(float, ends)) == pytest.approx((low, high), abs=1e-4)


def test_a_share_of_all_tokens_is_not_certain():
    """All 60 tokens of 6 documents: as sure as six documents can be, not as sixty tokens."""
    n = np.full((6, 1), 10.0)
    low, high = ratio_of_sums(n, n, draws_of(6, 200)).interval_of_share(effective(n))
    assert high == 1 and low == pytest.approx(6 / (6 + 2.571**2), rel=1e-3)


def test_a_share_of_tokens_is_as_wide_as_its_replicates_vary():
    generator = np.random.default_rng(1)
    n = np.full((80, 1), 40.0)
    independent = generator.binomial(40, 0.5, size=(80, 1)).astype(float)
    clustered = 40.0 * (generator.random((80, 1)) < 0.5)
    for numerator, tokens in ((independent, 3200), (clustered, 80)):
        low, high = ratio_of_sums(numerator, n, draws_of(80, 1000)).interval_of_share(effective(n))
        assert high - low == pytest.approx(2 * 2 * (0.25 / tokens) ** 0.5, rel=0.25)


def test_a_share_of_all_heads_is_not_certain():
    same = np.ones(50)
    low, high = estimate_of(same, np.ones(9), 1.0).interval_of_heads(20)
    assert high == 1 and low == pytest.approx(20 / (20 + 1.96**2), rel=1e-3)
    replicates = np.linspace(0.2, 0.8, 1001)
    low, high = estimate_of(replicates, np.linspace(0.49, 0.51, 9), 0.5).interval_of_heads(10**6)
    assert low <= 0.2151 and high >= 0.7849, "no narrower than the replicates"


def test_the_mean_over_heads_is_taken_within_each_sample():
    """Averaging the ends of the heads' intervals instead would be too wide."""
    samples = np.array([[1.0, 3.0], [0.0, 4.0], [4.0, 0.0], [1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    estimate = Estimate(samples, 3).mean(0)
    assert estimate.value == 2 and [float(end) for end in estimate.interval] == [2, 2]


# What statistics are attacked with.


def test_equal_data_have_an_interval_of_no_width():
    n = np.arange(1.0, 9)[:, None]
    low, high = ratio_of_sums(3 * n, n, draws_of(8, 100)).interval
    assert low == pytest.approx(3) and high == pytest.approx(3)


@pytest.mark.parametrize("documents", [1, 2])
def test_of_a_single_document_there_is_no_interval(documents):
    """One document says nothing about others; two say little, and all of it is in the interval."""
    values = np.arange(1.0, 1 + documents)[:, None]
    estimate = ratio_of_sums(values, np.ones_like(values), draws_of(documents, 100))
    low, high = ends_of(estimate)
    if documents == 1:
        assert np.isnan(low) and np.isnan(high)
    else:
        assert (low, high) == (1, 2)


def test_what_one_document_alone_has_gets_no_interval():
    """Its tokens are alike in all replicates that have any: an interval of no width would be a lie."""
    n = np.array([[5.0], [0.0], [0.0]])
    estimate = ratio_of_sums(2 * n, n, draws_of(3, 100))
    assert estimate.value == 2 and np.isnan(ends_of(estimate)).all()


def test_a_dominant_document_makes_the_interval_as_wide_as_all_replicates():
    """Few degrees of freedom: the interval may not look as if there were forty documents."""
    n, values = np.ones((40, 1)), np.zeros((40, 1))
    n[0], values[0] = 200, 200 * 5
    estimate = ratio_of_sums(values, n, draws_of(40, 500))
    assert effective(n) < 2 and estimate.degrees < 2.5
    low, high = ends_of(estimate)
    assert low == 0 and high == pytest.approx(estimate.samples[1:501].max(), rel=1e-3)


def test_replicates_without_a_value_do_not_count():
    generator = np.random.default_rng(0)
    replicates = generator.normal(size=999)
    left_out = generator.normal(size=30) / 30
    whole = ends_of(estimate_of(replicates, left_out, 0.0))
    assert ends_of(estimate_of(np.concatenate([replicates, np.full(500, np.nan)]), left_out, 0.0)) == pytest.approx(
        whole
    )


def test_kish_counts_equal_documents_fully_and_a_dominant_one_alone():
    tokens = np.array([[10.0, 1000.0, 0.0], [10.0, 1.0, 0.0], [10.0, 1.0, 0.0]])
    assert effective(tokens).tolist() == pytest.approx([3, 1002**2 / 1000002, 0])
