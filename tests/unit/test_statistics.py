"""The summary of a run against plain loops, in every sample of documents."""

import numpy as np
import polars as pl
import pytest

from selfrepair.ablation.schema import ablated_tokens, by_layer, document_sums
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.head_estimates import EFFECTS, PARTS
from selfrepair.analysis.heads import Summary, summarise
from selfrepair.analysis.schema import RESPONDERS, STATISTICS
from selfrepair.core.tables import frame
from tests.helpers.samples import drawn, top_tokens, with_ranks

N_LAYERS, REPLICATES, SEED, TOP = 3, 20, 11, 0.2


def tables(heads: list[tuple[int, int]]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """All tokens of a run with random effects, the rows that are kept of it, and its sums by document."""
    generator = np.random.default_rng(3)
    places = [(layer, head, row, pos) for layer, head in heads for row in range(6) for pos in range(10)]
    n = len(places)
    columns = dict(zip(("layer", "head", "row", "pos"), map(list, zip(*places, strict=True)), strict=True))
    columns["document"] = [(row * 10 + pos) // 8 for _, _, row, pos in places]
    columns["control"] = [(row * 10 + pos) % 3 == 0 for _, _, row, pos in places]
    floats = ["logit", "ablated_logit", "scale", "ablated_scale", "own_scale", *EFFECTS]
    columns |= {name: generator.normal(0.4, 1, size=n).astype(np.float32) for name in floats}
    columns |= {name: generator.normal(size=(n, N_LAYERS)).astype(np.float32) for name in by_layer(N_LAYERS)}
    columns |= {"selected": [False] * n, "rank": [None] * n}
    whole = with_ranks(frame(columns, ablated_tokens(N_LAYERS)), TOP, SEED)
    sums = []
    for (layer, head, document), group in whole.group_by("layer", "head", "document", maintain_order=True):
        entry = {"layer": layer, "head": head, "document": document, "n": len(group)}
        entry |= {name: group[name].cast(pl.Float64).sum() for name in EFFECTS}
        entry |= {f"clipped_{part}": clipped(group, part).sum() for part in PARTS}
        entry |= {name: group[name].to_numpy().astype(float).sum(0).tolist() for name in by_layer(N_LAYERS)}
        sums.append(entry)
    schema = document_sums(N_LAYERS)
    sums = pl.DataFrame(sums, schema_overrides={name: column.dtype for name, column in schema.items()}).select(*schema)
    return whole, whole.filter(pl.col("rank").is_not_null() | pl.col("control")), sums


def clean_tokens(whole: pl.DataFrame) -> pl.DataFrame:
    """All tokens of the run once."""
    return whole.unique(["row", "pos"])


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


def brute_of(whole: pl.DataFrame, tokens: str, statistic: str, quantity: str) -> float:
    group, sample = select(whole, tokens)
    return brute(group, statistic, quantity, sample)


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
    shuffled = kept.sample(fraction=1, shuffle=True, seed=0)
    return whole, kept, summarise("m", "zero", shuffled, shards, clean_tokens(whole), TOP, REPLICATES, SEED)


def select(whole: pl.DataFrame, tokens: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tokens that a mean is over, and those that a median is over."""
    return (top_tokens(whole, TOP),) * 2 if tokens == "top" else (whole, whole.filter("control"))


def interval(draws: Draws, of_sample) -> tuple[float, float]:
    """The interval of what is made of each sample."""
    return tuple(map(float, draws.estimate(np.array(list(map(of_sample, range(len(draws.weights)))))).interval))


@pytest.mark.parametrize("tokens", ["top", "all"])
def test_every_statistic_of_every_head(summary, tokens):
    whole, _, result = summary
    group, sample = select(whole, tokens)
    heads = result.heads.filter(tokens=tokens)
    assert heads.schema == {name: column.dtype for name, column in STATISTICS.items()}
    assert len(heads) == len(HEADS) * (2 * len(EFFECTS) + 2 * len(PARTS))
    draws = Draws.of(whole["document"], REPLICATES, SEED)
    for entry in heads.iter_rows(named=True):
        own = [table.filter(layer=entry["layer"], head=entry["head"]) for table in (group, sample)]
        asked = entry["statistic"], entry["quantity"]
        assert (entry["model"], entry["ablation"]) == ("m", "zero")
        behind = own[1] if asked[0] == "median" else own[0]
        assert entry["n_tokens"] == len(behind)
        assert entry["n_documents"] == behind["document"].n_unique()
        assert entry["value"] == pytest.approx(brute(own[0], *asked, own[1]), rel=1e-5, abs=1e-6), asked
        lengths = behind["document"].value_counts()["count"].to_numpy()
        assert entry["n_effective"] == pytest.approx(lengths.sum() ** 2 / (lengths**2).sum())
        if asked[1] == "repair_mlp":  # the interval, by drawing tables that select their own top tokens
            of_head = whole.filter(layer=entry["layer"], head=entry["head"])
            ends = interval(draws, lambda sample, t=of_head, a=asked: brute_of(drawn(t, draws, sample), tokens, *a))
            assert (entry["low"], entry["high"]) == pytest.approx(ends, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("tokens", ["top", "all"])
def test_every_statistic_of_every_layer(summary, tokens):
    """Unweighted means over heads; a share is the ratio of the sums over the layer's heads."""
    whole, _, result = summary
    group, sample = select(whole, tokens)
    layers = result.layers.filter(tokens=tokens)
    draws = Draws.of(whole["document"], REPLICATES, SEED)
    assert layers["layer"].unique().sort().to_list() == [0, 2]
    assert layers["head"].is_null().all()
    for entry in layers.iter_rows(named=True):
        asked, here = (entry["statistic"], entry["quantity"]), {"layer": entry["layer"]}
        members = [head for layer, head in HEADS if layer == entry["layer"]]
        of_heads = [brute(group.filter(**here, head=h), *asked, sample.filter(**here, head=h)) for h in members]
        expected = brute(group.filter(**here), *asked, sample) if asked[0] == "share" else np.mean(of_heads)
        assert entry["value"] == pytest.approx(expected, rel=1e-5, abs=1e-6), asked
        if asked in (("mean", "repair_mlp"), ("share", "repair_mlp")):  # the interval, by drawing tables
            of_layer = whole.filter(**here)
            ends = interval(
                draws,
                lambda sample, t=of_layer, a=asked: brute_layer(*a, select(drawn(t, draws, sample), tokens)[0]),
            )
            assert (entry["low"], entry["high"]) == pytest.approx(ends, rel=1e-4, abs=1e-5)


def test_one_head_in_every_layer_still_gives_rows_about_layers():
    """Otherwise a study of one head a layer would list its heads twice and its layers never."""
    whole, kept, sums = tables([(0, 1), (2, 3)])
    result = summarise("m", "zero", kept, sums, clean_tokens(whole), TOP, 5, SEED)
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
