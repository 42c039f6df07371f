"""AblationJobs are ordered, cut and divided without losing a token."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.ablation.jobs import ROUNDED, AblationJobs, carried_rows


@st.composite
def some_runs(draw: st.DrawFn) -> AblationJobs:
    """Distinct (layer, head, row) in any order, of any lengths."""
    places = draw(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=20, unique=True))
    lengths = draw(st.lists(st.integers(1, 12), min_size=len(places), max_size=len(places)))
    return AblationJobs(*torch.tensor(places, dtype=torch.long).view(-1, 3).T, torch.tensor(lengths, dtype=torch.long))


def listed(jobs: AblationJobs) -> list[tuple[int, ...]]:
    return list(zip(*(t.tolist() for t in (jobs.layer, jobs.head, jobs.row, jobs.length)), strict=True))


@given(some_runs())
def test_the_order_of_a_sweep(jobs):
    """By layer, or a run would join after its layer; then by length, as equal lengths attend together."""
    assert listed(jobs.ordered()) == sorted(listed(jobs), key=lambda run: (run[0], run[3], run[1], run[2]))


@given(some_runs(), st.integers(1, 30))
def test_chunks_hold_every_token_once(jobs, size):
    parts, token = [], 0
    for chunk, at in jobs.chunks(size):
        assert at.start == token
        assert at.stop - at.start == chunk.n_tokens
        assert chunk.n_tokens <= size or len(chunk) == 1
        token = at.stop
        parts += listed(chunk)
    assert parts == listed(jobs)


@given(some_runs(), st.integers(12, 60))
def test_batches_hold_every_run_once_and_keep_rows_together(jobs, size):
    batches = list(jobs.batches(size))
    assert sorted(run for batch in batches for run in listed(batch)) == sorted(listed(jobs))
    per_row = {row: sum(run[3] for run in listed(jobs) if run[2] == row) for row in jobs.row.tolist()}
    for batch in batches:
        assert batch.n_tokens <= size
        for row in batch.row.unique().tolist():
            whole = sum(run[3] for run in listed(batch) if run[2] == row) == per_row[row]
            assert whole or per_row[row] > size or len(batch.row.unique()) == 1 or row == int(batch.row[0])


def test_a_batch_too_small_for_a_run_is_refused():
    with pytest.raises(ValueError, match="a job of 12 tokens does not fit into a batch of 5"):
        list(AblationJobs.all_pairs([(0, 0)], torch.tensor([0]), 12).batches(5))


def test_tokens_of_runs_lie_one_after_the_other():
    jobs = AblationJobs(torch.tensor([0, 1]), torch.tensor([2, 0]), torch.tensor([5, 4]), torch.tensor([3, 2]))
    assert jobs.pos.tolist() == [0, 1, 2, 0, 1]
    assert jobs.per_token(jobs.row).tolist() == [5, 5, 5, 4, 4]


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_runs_reach_the_last_wanted_token_and_hardly_further(seed, n_pos):
    """Cut earlier, a token would be missing; a row without one is not run at all."""
    wanted = torch.rand(2, 3, n_pos, generator=torch.Generator().manual_seed(seed)) < 0.1
    rows = torch.tensor([4, 7, 9])
    found = {run[:3]: run[3] for run in listed(AblationJobs.covering(wanted, [(0, 1), (2, 0)], rows))}
    for index, head in enumerate([(0, 1), (2, 0)]):
        for local, row in enumerate(rows.tolist()):
            positions = wanted[index, local].nonzero().flatten()
            if len(positions) == 0:
                assert (*head, row) not in found
            else:
                needed = int(positions[-1]) + 1
                assert needed <= found[(*head, row)] <= min(n_pos, needed + ROUNDED - 1)


def test_carried_rows_hold_each_source_once_and_say_where_it_is() -> None:
    rows, sources = torch.tensor([2, 5, 7, 9]), torch.tensor([7, 4, 1, 4])
    present, at = carried_rows(rows, sources)
    assert present[:4].tolist() == rows.tolist() and sorted(present[4:].tolist()) == [1, 4]
    assert present[at].tolist() == sources.tolist()
    alone, same = carried_rows(rows, rows)
    assert alone.tolist() == rows.tolist() and alone[same].tolist() == rows.tolist()


def test_tokens_of_a_head_are_a_slice_where_they_lie_together():
    """Otherwise a GPU is kept waiting for lists of tokens that need not be made."""
    cpu = torch.device("cpu")
    together = AblationJobs.all_pairs([(1, 3), (1, 5)], torch.arange(2), 4)
    assert together.by_head(cpu) == [(3, slice(0, 8)), (5, slice(8, 16))]
    apart = replace(together, length=torch.tensor([2, 4, 2, 4])).ordered()
    found = apart.by_head(cpu)
    assert [(head, where.tolist()) for head, where in found] == [(3, [0, 1, 4, 5, 6, 7]), (5, [2, 3, 8, 9, 10, 11])]
