"""The selected tokens are exactly the top share, whatever the batches; the control sample is uniform and fixed."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.ablation import reselection, selection
from selfrepair.ablation.reselection import bootstrap_draws, jackknife, rank_tokens, top_count
from selfrepair.ablation.selection import TopTokens, control_sample


@st.composite
def streams(draw: st.DrawFn) -> tuple[torch.Tensor, list[int], int]:
    """Values of some heads with many ties, cut into batches of any size, and how many tokens to keep."""
    heads, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    values = draw(st.lists(st.integers(-3, 3), min_size=heads * tokens, max_size=heads * tokens))
    cuts = sorted(draw(st.sets(st.integers(1, tokens), max_size=5)) | {tokens})
    return torch.tensor(values, dtype=torch.float32).view(heads, tokens), cuts, draw(st.integers(1, 45))


@given(streams(), st.sampled_from([1, 7, selection.PENDING]))
def test_top_tokens_are_those_of_a_full_sort(stream, pending):
    """Otherwise "the top 2 %" would mean something else for every batch size; of equal values the earlier is kept."""
    with mock.patch.object(selection, "PENDING", pending):
        check_stream(*stream)


def check_stream(values: torch.Tensor, cuts: list[int], count: int) -> None:
    top, first = TopTokens(len(values), count), 0
    for last in cuts:
        top.add(values[:, first:last], first)
        first = last
    best, tokens = top.best()
    for head, of_head in enumerate(values.tolist()):
        expected = sorted(range(len(of_head)), key=lambda token: (-of_head[token], token))[:count]
        assert tokens[head].tolist() == expected
        assert best[head].tolist() == [of_head[token] for token in expected]


def test_selection_is_of_signed_effects():
    """A large negative direct effect is not a top one (experiments.md a.11)."""
    top = TopTokens(1, 2)
    top.add(torch.tensor([[-9.0, 1.0, 0.5, -0.1]]), 0)
    assert top.best()[1].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("n", "fraction", "count"), [(6350, 0.02, 127), (99, 0.02, 1), (10, 0.02, 1), (149, 0.02, 2), (50, 1.0, 50)]
)
def test_the_count_is_the_papers(n, fraction, count):
    """int(0.02 n), as in the authors' code; never nothing."""
    assert top_count(n, fraction) == count


@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 600), st.integers(0, 2**32), st.booleans())
def test_a_control_sample_is_a_fixed_set_of_tokens(n_rows, length, count, seed, whole_rows):
    """Otherwise tokens would be counted twice, or differ between the models of a run."""
    n_tokens = n_rows * length
    sample = control_sample(n_rows, length, count, seed, whole_rows)
    assert len(sample) == min(-(-count // length) * length if whole_rows else count, n_tokens)
    if whole_rows:
        assert (np.bincount(sample // length) % length == 0).all()
    assert (np.diff(sample) > 0).all()
    assert sample[0] >= 0 and sample[-1] < n_tokens
    assert np.array_equal(sample, control_sample(n_rows, length, count, seed, whole_rows))


@pytest.mark.parametrize("whole_rows", [False, True])
def test_a_control_sample_is_uniform(whole_rows):
    """Every token equally often over seeds; a biased sample would bias every median over all tokens."""
    drawn = np.bincount(
        np.concatenate([control_sample(4, 5, 5, seed, whole_rows) for seed in range(2000)]), minlength=20
    )
    # Expected 500 each, standard deviation about 19.
    assert drawn.min() > 500 - 5 * 19
    assert drawn.max() < 500 + 5 * 19


def test_another_seed_draws_another_sample():
    assert not np.array_equal(control_sample(100, 10, 10, 0, False), control_sample(100, 10, 10, 1, False))


@st.composite
def texts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    """Direct effects of a head with ties, documents of unequal length, and the share of top tokens."""
    n = draw(st.integers(2, 30))
    effects = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    documents = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n).map(sorted))
    return np.array([effects], np.float32), np.array(documents), draw(st.sampled_from([0.02, 0.2, 0.5, 1.0]))


@given(texts())
def test_ranked_tokens_are_all_that_replicates_select_and_no_more(text):
    """One missing and an interval would be of other tokens; one too many is measured for nothing."""
    effects, documents, fraction = text
    with mock.patch.object(reselection, "FORESEEN", 20):
        (ranked,) = rank_tokens(effects, documents, fraction, seed=5)
    order = sorted(range(len(documents)), key=lambda token: (-effects[0, token], token))
    assert ranked.tolist() == order[: len(ranked)]
    names = np.unique(documents)
    folds = [[int(name != left_out) for name in names] for left_out in names] if len(names) > 1 else []
    deepest = top_count(len(documents), fraction)
    for counts in [*bootstrap_draws(len(names), 20, seed=5).tolist(), *folds]:
        drawn = [place for place, token in enumerate(order) for _ in range(counts[list(names).index(documents[token])])]
        deepest = max(deepest, drawn[top_count(len(drawn), fraction) - 1] + 1)
    assert len(ranked) == deepest


def test_the_first_replicates_do_not_depend_on_their_number():
    """A run of fewer replicates than were foreseen draws the same ones; their tokens are there."""
    assert np.array_equal(bootstrap_draws(9, 50, seed=3), bootstrap_draws(9, 2000, seed=3)[:50])


def test_many_documents_are_left_out_in_sets():
    weights = jackknife(1000)
    assert weights.shape == (100, 1000)
    assert ((1 - weights).sum(0) == 1).all() and ((1 - weights).sum(1) == 10).all()
    assert np.array_equal(jackknife(7), 1 - np.eye(7))
    assert jackknife(1).shape == (0, 1), "nothing is left of a single document"
