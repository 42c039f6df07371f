"""Variance components against brute force and known truth, zones by counting, partners against the plain sweep."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation import memory
from selfrepair.ablation.measure import measure
from selfrepair.ablation.partners import ablate_with_partners, partner_sources, spread_rows
from selfrepair.ablation.schema import PARTNERS, SELECTED, ablated_tokens
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.by_document import Selection
from selfrepair.analysis.noise import READ, summarise_noise, variance_components
from selfrepair.core.tables import frame
from tests.helpers.samples import drawn, top_tokens, with_ranks


def brute_force(values: np.ndarray, documents: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Variances by document, token and partner from every pair of values, one after the other."""
    places = list(itertools.product(range(values.shape[0]), range(values.shape[1])))
    of_document = [[place for place in places if documents[place[0]] == d] for d in range(len(weights))]
    sizes = [len({i for i, _ in own}) for own in of_document]
    used = [d for d, size in enumerate(sizes) if size > 1]

    def half(one: tuple[int, int], other: tuple[int, int]) -> float:
        return (values[one] - values[other]) ** 2 / 2

    between, within, repeated, count = 0.0, 0.0, 0.0, 0.0
    for d in used:
        own = of_document[d]
        weight = sum(weights[d] * weights[e] * sizes[d] * sizes[e] for e in used if e != d)
        count += weight
        for e in used:
            if e != d and weights[d] * weights[e]:
                cross = np.mean([half(one, other) for one in own for other in of_document[e]])
                between += weights[d] * weights[e] * sizes[d] * sizes[e] * cross
        within += weight * np.mean([half(a, b) for a in own for b in own if a[0] != b[0] and a[1] != b[1]])
        repeated += weight * np.mean([half(a, b) for a in own for b in own if a[0] == b[0] and a[1] != b[1]])
    if not count:
        return np.full(3, np.nan)
    between, within, repeated = between / count, within / count, repeated / count
    return np.array([between - within, within - repeated, repeated])


@pytest.fixture
def uneven() -> tuple[np.ndarray, np.ndarray]:
    """Values of 13 tokens of uneven documents, two of these with one token and one with none, and a large mean."""
    generator = np.random.default_rng(1)
    documents = np.array([0, 0, 0, 1, 2, 2, 2, 2, 2, 5, 4, 4, 4])
    return 100 + generator.normal(size=(13, 3)) + 2 * generator.normal(size=(6, 1))[documents], documents


def test_components_are_those_of_all_pairs(uneven):
    values, documents = uneven
    draws = Draws.of(pl.Series(range(6)), 20, 3)
    estimate = variance_components(values, documents, draws)
    wanted = brute_force(values, documents, np.ones(6))
    np.testing.assert_allclose(estimate.value[:3], wanted, rtol=1e-9)
    assert estimate.value[3] == pytest.approx(wanted.sum()) and estimate.value[4:].sum() == pytest.approx(1)
    np.testing.assert_allclose(estimate.value[4:], wanted / wanted.sum(), rtol=1e-9)
    assert len({tuple(weights) for weights in draws.weights}) > 15
    for draw, found in zip(draws.weights, estimate.samples, strict=True):
        np.testing.assert_allclose(found[:3], brute_force(values, documents, draw), rtol=1e-8)


def test_components_of_even_data_are_the_analysis_of_variance():
    generator = np.random.default_rng(2)
    n, tokens, partners = 7, 5, 4
    values = (
        generator.normal(size=(n, tokens, partners))
        + generator.normal(size=(n, tokens, 1))
        + generator.normal(size=(n, 1, 1))
    )
    draws = Draws.of(pl.Series(range(n)), 10, 1)
    found = variance_components(values.reshape(-1, partners), np.repeat(np.arange(n), tokens), draws)
    repeated = values.var(2, ddof=1).mean()
    # With partners that are crossed by number, an average over tokens still holds noise of its own.
    of_token = values.mean(2)
    assert found.value[2] == pytest.approx(repeated)
    within = of_token.var(1, ddof=1).mean() - repeated / partners
    assert found.value[1] == pytest.approx(within, abs=0.12)
    assert found.value[:3].sum() == pytest.approx(found.value[3])


@pytest.mark.parametrize("truth", [(0.5, 2.0, 1.0), (2.0, 0.0, 1.0), (0.0, 1.0, 3.0)])
@pytest.mark.parametrize("row_effect", [0.0, 1.5])
def test_known_components_are_found_without_bias(truth, row_effect):
    """Also where a partner shifts a whole row alike, which belongs to the partners."""
    generator = np.random.default_rng(4)
    sizes = np.array([1, 2, 3, 30, 8, 8, 15, 4, 4, 25])
    documents = np.repeat(np.arange(len(sizes)), sizes)
    draws = Draws(np.arange(len(sizes)), np.ones((1, len(sizes)), dtype=int), 0)
    document, token, partner = truth
    found = []
    for _ in range(1000):
        values = (
            7
            + generator.normal(size=(len(sizes), 1))[documents] * document**0.5
            + generator.normal(size=(len(documents), 1)) * token**0.5
            + generator.normal(size=(len(documents), 3)) * partner**0.5
            + generator.normal(size=(len(sizes), 3))[documents] * row_effect**0.5
        )
        found.append(variance_components(values, documents, draws).value[:3])
    mean, error = np.mean(found, 0), np.std(found, 0) / len(found) ** 0.5
    assert (np.abs(mean - [document, token, partner + row_effect]) < 4 * error).all(), (mean, error)


def test_documents_that_vary_more_than_others_leave_no_bias():
    """Prose and code are such a mixture; weights by pairs would put what long documents have more of on documents."""
    generator = np.random.default_rng(5)
    sizes, spread = np.repeat([3, 30], 10), np.repeat([1.0, 3.0], 10)
    documents = np.repeat(np.arange(20), sizes)
    draws = Draws(np.arange(20), np.ones((1, 20), dtype=int), 0)
    found = []
    for _ in range(400):
        shared = generator.normal(size=(20, 1))[documents]
        own = generator.normal(size=(len(documents), 1)) * spread[documents][:, None]
        values = shared + own + generator.normal(size=(len(documents), 3))
        found.append(variance_components(values, documents, draws).value[0])
    assert abs(np.mean(found) - 1) < 4 * np.std(found) / len(found) ** 0.5


TOP = 0.4


def token_rows() -> pl.DataFrame:
    generator = np.random.default_rng(6)
    n = 300
    parts = [
        pl.DataFrame(
            {
                "layer": np.full(n, layer, np.int16),
                "head": np.full(n, head, np.int16),
                "document": np.arange(n, dtype=np.int32) // 50,
                "control": generator.random(n) < 0.4,
                "direct_effect": generator.normal(size=n).astype(np.float32),
                "delta_logit": generator.normal(size=n).astype(np.float32),
            }
        )
        for layer, head in ((1, 2), (0, 0))
    ]
    # Two tokens on the borders of the zones, and one beside.
    edges = {"direct_effect": [0.5] * 3, "delta_logit": [0.0, -0.5, 0.25]}
    columns = [pl.Series(name, values + parts[0][name][3:].to_list(), pl.Float32) for name, values in edges.items()]
    return with_ranks(pl.concat([parts[0].with_columns(columns), parts[1]]), TOP, seed=1)


def partner_rows() -> pl.DataFrame:
    generator = np.random.default_rng(8)
    row, pos, partner = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(10), np.arange(3), indexing="ij"))
    columns = {
        "layer": np.full(len(row), 1),
        "head": np.full(len(row), 2),
        "row": row,
        "pos": pos,
        "document": row,
        "selected": pos < 4,
        "partner": partner,
        "direct_effect": row * 1.0,
        "delta_logit": row * 1.0,
        "self_repair": generator.normal(size=len(row)) + row,
    }
    order = generator.permutation(len(row))
    return frame({name: value[order] for name, value in columns.items()}, PARTNERS)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    selection = Selection.of(token_rows().filter(layer=0)["document"], TOP, 300, 1)
    return summarise_noise("m", 2, token_rows(), partner_rows(), selection)


@pytest.mark.parametrize(("tokens", "flag"), [("top", "selected"), ("control", "control")])
@pytest.mark.parametrize("group", ["one", "all"])
def test_zones_are_counted(table, tokens, flag, group):
    rows = token_rows().filter(flag)
    if group == "one":
        rows = rows.filter(layer=1, head=2)
    counts = dict.fromkeys(("overcorrected", "repaired", "broken"), 0)
    for effect, change in rows.filter(pl.col("direct_effect") > 0).select("direct_effect", "delta_logit").rows():
        counts["overcorrected" if change > 0 else "repaired" if change > -effect else "broken"] += 1
    assert min(counts.values()) > 5
    of_group = table.filter(tokens=tokens, heads=group)
    of_group = of_group.filter(layer=1, head=2) if group == "one" else of_group
    for zone, count in counts.items():
        (row,) = of_group.filter(quantity=zone).to_dicts()
        assert row["value"] == pytest.approx(count / sum(counts.values()))
        assert row["n_tokens"] == sum(counts.values()) and row["n_documents"] == 6
        assert row["low"] < row["value"] < row["high"]


def test_zones_are_of_the_top_tokens_of_each_sample():
    """With positive direct effects in the run, and not in every replicate's top tokens."""
    rows = token_rows().filter(layer=1).with_columns(direct_effect=pl.col("direct_effect") - 0.5)
    rows = with_ranks(rows, TOP, 1)
    selection = Selection.of(rows["document"], TOP, 50, 1)
    table = summarise_noise("m", 2, rows, partner_rows(), selection).filter(tokens="top", heads="one")
    samples = []
    for sample in range(len(selection.draws.weights)):
        top = top_tokens(drawn(rows, selection.draws, sample), TOP).filter(pl.col("direct_effect") > 0)
        samples.append((top["delta_logit"] > 0).mean())
    estimate = selection.draws.estimate(np.array(samples))
    row = table.row(by_predicate=pl.col("quantity") == "overcorrected", named=True)
    assert row["value"] == pytest.approx(samples[0])
    ends = estimate.interval_of_share(np.asarray(row["n_effective"]))
    assert (row["low"], row["high"]) == pytest.approx(tuple(map(float, ends)))


@pytest.mark.parametrize(("tokens", "width"), [("partners", 10), ("partners top", 4)])
def test_components_are_of_self_repair(table, tokens, width):
    rows = partner_rows().filter(pl.col("pos") < width).sort("row", "pos", "partner")
    values = rows["self_repair"].to_numpy().reshape(-1, 3).astype(float)
    wanted = brute_force(values, np.repeat(np.arange(6), width), np.ones(6))
    found = table.filter(tokens=tokens, heads="one", layer=1, head=2)
    for component, value in zip(("document", "token", "partner"), wanted, strict=True):
        (row,) = found.filter(quantity=f"variance_{component}").to_dicts()
        assert row["value"] == pytest.approx(value, rel=1e-5) and row["low"] < row["high"]
        assert (row["n_tokens"], row["n_documents"]) == (6 * width, 6)
        (share,) = found.filter(quantity=f"share_{component}").to_dicts()
        assert share["value"] == pytest.approx(value / wanted.sum(), rel=1e-5)


def test_no_column_is_read_that_is_not_kept():
    assert set(READ) <= set(ablated_tokens(2))


def test_partners_pair_no_row_with_its_own_documents():
    documents = np.repeat(np.arange(20)[:, None] // 2, 4, axis=1)
    source = (np.arange(20) + 2) % 20
    sources = partner_sources(documents, source, 4, seed=1)
    assert sources.shape == (4, 20) and (sources[0] == source).all()
    assert len({tuple(of_partner) for of_partner in sources}) == 4
    for of_partner in sources:
        assert sorted(of_partner) == list(range(20)) and not (documents[of_partner] == documents).any()
    np.testing.assert_array_equal(partner_sources(documents, source, 3, seed=1), sources[:3])
    assert (partner_sources(documents, source, 2, seed=2)[1] != sources[1]).any()


def test_rows_are_spread():
    assert spread_rows(100, 3).tolist() == [0, 50, 99] and spread_rows(2, 5).tolist() == [0, 1]


def test_partners_measure_what_the_sweep_does(zoo, rows, source, monkeypatch):
    """Each partner's rows are those of a measurement with its pairing, whatever the batches."""
    model = zoo.folded("neox_parallel")
    monkeypatch.setattr(memory, "tokens_at_once", lambda *_: 25)
    index = [a.ravel() for a in np.meshgrid(np.arange(5), np.arange(12), indexing="ij")]
    tokens = pl.DataFrame({"row": index[0], "pos": index[1], "token": rows.flatten().numpy(), "document": index[0]})
    pairs = pl.DataFrame({"row": np.arange(5), "source": source.numpy()})
    selected = pl.DataFrame(
        {"layer": [1, 2], "head": [2, 0], "row": [2, 4], "pos": [3, 0]},
        schema={name: SELECTED[name].dtype for name in ("layer", "head", "row", "pos")},
    )
    table = ablate_with_partners(model, tokens, pairs, selected, [(2, 0), (1, 2)], 3, 3, 7)
    assert table.schema == {name: column.dtype for name, column in PARTNERS.items()}
    assert len(table) == 2 * 3 * 11 * 3 and set(table["row"]) == {0, 2, 4}
    sources = partner_sources(np.arange(5)[:, None], source.numpy(), 3, 7)
    for partner, of_partner in enumerate(sources):
        m = measure(model, rows, torch.from_numpy(of_partner))
        for row in table.filter(partner=partner).to_dicts():
            at = row["layer"], row["head"], row["row"], row["pos"]
            assert row["self_repair"] == pytest.approx(m.self_repair[at].item(), abs=1e-5)
            assert row["direct_effect"] == pytest.approx(m.direct_effect[at].item(), abs=1e-5)
            assert row["delta_logit"] == pytest.approx(m.delta_logit[at].item(), abs=1e-5)
            assert row["document"] == row["row"]
            assert row["selected"] == (at in {(1, 2, 2, 3), (2, 0, 4, 0)})
