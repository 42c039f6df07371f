"""Statistics against plain loops, and intervals against the truth they must cover."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selfrepair.ablation.schema import ablated_tokens, by_layer, document_sums
from selfrepair.analysis.bootstrap import PERCENTILES, Estimate, bootstrap_draws, median, ratio_of_sums
from selfrepair.analysis.head_estimates import EFFECTS, PARTS
from selfrepair.analysis.heads import Summary, summarise
from selfrepair.analysis.schema import RESPONDERS, STATISTICS
from selfrepair.core.tables import frame

FINITE = st.floats(-100, 100, width=32)


def test_draws_are_documents_with_replacement():
    """As many documents as there are, each equally likely; otherwise intervals have the wrong width."""
    draws = bootstrap_draws(7, 4000, seed=1)
    assert draws.shape == (4000, 7)
    assert (draws.sum(1) == 7).all()
    assert draws.mean(0) == pytest.approx(np.ones(7), abs=0.08)
    assert draws.var(0) == pytest.approx(np.full(7, 6 / 7), abs=0.12)
    assert np.array_equal(draws, bootstrap_draws(7, 4000, seed=1))
    assert not np.array_equal(draws, bootstrap_draws(7, 4000, seed=2))


@given(hnp.arrays(np.float64, (5, 3), elements=FINITE), hnp.arrays(np.int64, (5, 3), elements=st.integers(0, 9)))
def test_ratio_of_sums_is_that_of_the_drawn_documents(numerator, n):
    """Replicates where no drawn document has a token don't count; otherwise one infinity ends the interval."""
    draws = bootstrap_draws(5, 6, seed=0)
    estimate = ratio_of_sums(numerator, n.astype(float), draws)
    for item in range(3):
        if n[:, item].sum():
            assert estimate.value[item] == pytest.approx(numerator[:, item].sum() / n[:, item].sum())
        for replicate, counts in enumerate(draws):
            drawn = [document for document, count in enumerate(counts) for _ in range(count)]
            tokens = sum(n[document, item] for document in drawn)
            found = estimate.replicates[replicate, item]
            if tokens:
                assert found == pytest.approx(sum(numerator[d, item] for d in drawn) / tokens, abs=1e-9)
            else:
                assert np.isnan(found)


@given(st.lists(st.tuples(FINITE, st.integers(0, 3)), min_size=1, max_size=20))
def test_the_median_is_that_of_the_drawn_tokens(tokens):
    """In a replicate a token counts as often as its document was drawn."""
    values, documents = np.array([v for v, _ in tokens]), np.array([d for _, d in tokens])
    draws = bootstrap_draws(4, 8, seed=0)
    estimate = median(values, documents, draws)
    assert estimate.value == sorted(values)[(len(values) - 1) // 2]
    for replicate, counts in enumerate(draws):
        drawn = sorted(value for value, document in tokens for _ in range(counts[document]))
        expected = drawn[(len(drawn) - 1) // 2] if drawn else np.nan
        assert np.array_equal(estimate.replicates[replicate], expected, equal_nan=True)


def test_the_mean_over_heads_is_taken_within_each_replicate():
    """Averaging the ends of the heads' intervals instead would be too wide."""
    estimate = Estimate(np.array([[1.0, 3.0]]), np.array([[[0.0, 4.0]], [[4.0, 0.0]]])).mean(1)
    assert estimate.value.tolist() == [2.0]
    assert [end.tolist() for end in estimate.interval] == [[2.0], [2.0]]


def test_intervals_cover_the_truth_on_clustered_data():
    """Tokens of a document share most of their noise; intervals that ignored it would be several times too narrow."""
    generator, covered = np.random.default_rng(0), 0
    for trial in range(200):
        size = generator.integers(20, 60, size=60)
        shared = generator.normal(size=60)
        sums = np.array([n * (0.5 + s) + generator.normal(size=n).sum() for n, s in zip(size, shared, strict=True)])
        low, high = ratio_of_sums(sums, size.astype(float), bootstrap_draws(60, 300, trial)).interval
        covered += low <= 0.5 <= high
    assert 0.88 <= covered / 200 <= 0.99


# The summary of a run, on a table small enough for loops.

N_LAYERS, REPLICATES, SEED = 3, 20, 11


def tables(heads: list[tuple[int, int]]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """All tokens of a run with random effects, the rows that are kept of it, and its sums by document."""
    generator = np.random.default_rng(3)
    places = [(layer, head, row, pos) for layer, head in heads for row in range(6) for pos in range(10)]
    n = len(places)
    columns = dict(zip(("layer", "head", "row", "pos"), map(list, zip(*places, strict=True)), strict=True))
    columns["document"] = [(row * 10 + pos) // 8 for _, _, row, pos in places]
    columns["selected"] = (generator.random(n) < 0.2).tolist()
    columns["control"] = [(row * 10 + pos) % 3 == 0 for _, _, row, pos in places]
    floats = ["logit", "ablated_logit", "scale", "ablated_scale", "own_scale", *EFFECTS]
    columns |= {name: generator.normal(0.4, 1, size=n).astype(np.float32) for name in floats}
    columns |= {name: generator.normal(size=(n, N_LAYERS)).astype(np.float32) for name in by_layer(N_LAYERS)}
    whole = frame(columns, ablated_tokens(N_LAYERS))
    sums = []
    for (layer, head, document), group in whole.group_by("layer", "head", "document", maintain_order=True):
        entry = {"layer": layer, "head": head, "document": document, "n": len(group)}
        entry |= {name: group[name].cast(pl.Float64).sum() for name in EFFECTS}
        entry |= {f"clipped_{part}": clipped(group, part).sum() for part in PARTS}
        entry |= {name: group[name].to_numpy().astype(float).sum(0).tolist() for name in by_layer(N_LAYERS)}
        sums.append(entry)
    schema = document_sums(N_LAYERS)
    sums = pl.DataFrame(sums, schema_overrides={name: column.dtype for name, column in schema.items()}).select(*schema)
    return whole, whole.filter(pl.col("selected") | pl.col("control")), sums


def clipped(group: pl.DataFrame, part: str) -> np.ndarray:
    return np.clip(group[part].to_numpy().astype(float) / group["direct_effect"].to_numpy(), 0, 1)


def brute(group: pl.DataFrame, statistic: str, quantity: str, sample: pl.DataFrame) -> float:
    if statistic == "mean":
        return group[quantity].cast(pl.Float64).mean()
    if statistic == "median":
        return sorted(sample[quantity])[(len(sample) - 1) // 2]
    if statistic == "share":
        return group[quantity].cast(pl.Float64).sum() / group["direct_effect"].cast(pl.Float64).sum()
    return clipped(group, quantity).mean()


def drawn(table: pl.DataFrame, documents: list[int], counts: np.ndarray) -> pl.DataFrame:
    """The tokens of the drawn documents, each as often as it was drawn."""
    parts = [table.filter(document=d) for d, count in zip(documents, counts, strict=True) for _ in range(count)]
    return pl.concat(parts)


def brute_layer(statistic: str, quantity: str, group: pl.DataFrame) -> float:
    """The layer's statistic in a replicate; NaN where a head lost all its tokens."""
    if statistic == "share":
        return brute(group, statistic, quantity, group)
    heads = [h for layer, h in HEADS if layer == group["layer"][0]]
    means = [group.filter(head=h)[quantity].cast(pl.Float64).mean() for h in heads]
    return float("nan") if None in means else np.mean(means)


HEADS = [(0, 0), (0, 1), (2, 0), (2, 3)]


@pytest.fixture(scope="module")
def summary() -> tuple[pl.DataFrame, pl.DataFrame, Summary]:
    whole, kept, sums = tables(HEADS)
    half = pl.col("document") < 4
    # Sums of a document that lies in two shards arrive in two rows; the order of rows is any.
    shards = pl.concat([sums.filter(~half), sums.filter(half)])
    return whole, kept, summarise("m", "zero", kept.sample(fraction=1, shuffle=True, seed=0), shards, REPLICATES, SEED)


def select(whole: pl.DataFrame, tokens: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tokens that a mean is over, and those that a median is over."""
    return (whole.filter("selected"),) * 2 if tokens == "top" else (whole, whole.filter("control"))


@pytest.mark.parametrize("tokens", ["top", "all"])
def test_every_statistic_of_every_head(summary, tokens):
    whole, _, result = summary
    group, sample = select(whole, tokens)
    heads = result.heads.filter(tokens=tokens)
    assert heads.schema == {name: column.dtype for name, column in STATISTICS.items()}
    assert len(heads) == len(HEADS) * (2 * len(EFFECTS) + 2 * len(PARTS))
    documents = sorted(whole["document"].unique())
    draws = bootstrap_draws(len(documents), REPLICATES, SEED)
    for entry in heads.iter_rows(named=True):
        own = [table.filter(layer=entry["layer"], head=entry["head"]) for table in (group, sample)]
        asked = entry["statistic"], entry["quantity"]
        assert (entry["model"], entry["ablation"]) == ("m", "zero")
        behind = own[1] if asked[0] == "median" else own[0]
        assert entry["n_tokens"] == len(behind)
        assert entry["n_documents"] == behind["document"].n_unique()
        assert entry["value"] == pytest.approx(brute(own[0], *asked, own[1]), rel=1e-5, abs=1e-6), asked
        if asked[1] == "repair_mlp":  # the interval, by drawing tables
            again = [[drawn(table, documents, counts) for table in own] for counts in draws]
            values = [brute(g, *asked, s) for g, s in again if len(g) and len(s)]
            assert (entry["low"], entry["high"]) == pytest.approx(
                np.percentile(values, PERCENTILES), rel=1e-4, abs=1e-5
            )


@pytest.mark.parametrize("tokens", ["top", "all"])
def test_every_statistic_of_every_layer(summary, tokens):
    """Unweighted means over heads; a share is the ratio of the sums over the layer's heads."""
    whole, _, result = summary
    group, sample = select(whole, tokens)
    layers = result.layers.filter(tokens=tokens)
    documents = sorted(whole["document"].unique())
    draws = bootstrap_draws(len(documents), REPLICATES, SEED)
    assert layers["layer"].unique().sort().to_list() == [0, 2]
    assert layers["head"].is_null().all()
    for entry in layers.iter_rows(named=True):
        asked, here = (entry["statistic"], entry["quantity"]), {"layer": entry["layer"]}
        members = [head for layer, head in HEADS if layer == entry["layer"]]
        of_heads = [brute(group.filter(**here, head=h), *asked, sample.filter(**here, head=h)) for h in members]
        expected = brute(group.filter(**here), *asked, sample) if asked[0] == "share" else np.mean(of_heads)
        assert entry["value"] == pytest.approx(expected, rel=1e-5, abs=1e-6), asked
        if asked in (("mean", "repair_mlp"), ("share", "repair_mlp")):  # the interval, by drawing tables
            values = [brute_layer(*asked, drawn(group.filter(**here), documents, counts)) for counts in draws]
            assert (entry["low"], entry["high"]) == pytest.approx(
                np.nanpercentile(values, PERCENTILES), rel=1e-4, abs=1e-5
            )


def test_one_head_in_every_layer_still_gives_rows_about_layers():
    """Otherwise a study of one head a layer would list its heads twice and its layers never."""
    _, kept, sums = tables([(0, 1), (2, 3)])
    result = summarise("m", "zero", kept, sums, 5, SEED)
    assert result.heads["head"].unique().sort().to_list() == [1, 3]
    assert result.layers["head"].is_null().all()


@pytest.mark.parametrize("tokens", ["top", "all"])
def test_responders_are_mean_changes_by_later_layer(summary, tokens):
    whole, _, result = summary
    group, _ = select(whole, tokens)
    responders = result.responders.filter(tokens=tokens)
    assert responders.schema == {name: column.dtype for name, column in RESPONDERS.items()}
    assert len(responders) == len(HEADS) * 2 * N_LAYERS
    for entry in responders.iter_rows(named=True):
        values = group.filter(layer=entry["layer"], head=entry["head"])[f"repair_{entry['part']}_by_layer"].to_numpy()
        assert entry["value"] == pytest.approx(values[:, entry["later_layer"]].mean(), rel=1e-4, abs=1e-6)
