"""Streaming over batches and shards writes down exactly what the whole measurement says."""

import itertools
from collections.abc import Iterable

import numpy as np
import polars as pl
import polars.testing
import pytest
import torch

from selfrepair.ablation import memory
from selfrepair.ablation import shard as ablation
from selfrepair.ablation.clean_run import CleanRun, run_clean
from selfrepair.ablation.effects import Measurement
from selfrepair.ablation.measure import measure, measure_units
from selfrepair.ablation.schema import CLEAN_TOKENS, CLIPPED, EFFECTS, ablated_tokens, by_layer
from selfrepair.ablation.shard import ablate_shard, shard_rows
from selfrepair.ablation.unit_names import coded_units
from selfrepair.tokens.rows import SampledTokens, sample_tokens, token_matrix

TOP, CONTROL = 0.05, 15
KEY = ["layer", "head", "row", "pos"]
FLOATS = {"rel_tol": 1e-4, "abs_tol": 1e-5}


@pytest.fixture(scope="module")
def sampled() -> SampledTokens:
    """Nine rows of ten tokens; documents straddle rows and shards."""
    generator = np.random.default_rng(5)
    texts = [generator.integers(1, 97, size=generator.integers(4, 16)).tolist() for _ in range(30)]
    names = pl.DataFrame({"name": [str(i) for i in range(30)], "kind": ["text"] * 30})
    return sample_tokens(encoded=texts, bos=0, separator=0, documents=names, n_rows=9, row_length=10, seed=1)


@pytest.fixture(scope="module")
def model(zoo):
    return zoo.folded("gpt2")


@pytest.fixture(scope="module")
def clean(model, sampled) -> CleanRun:
    return run_clean(model, sampled.tokens, TOP, CONTROL, seed=2)


@pytest.fixture(scope="module")
def whole(model, sampled) -> dict[str, Measurement]:
    tokens = torch.from_numpy(token_matrix(sampled.tokens))
    source = torch.from_numpy(sampled.rows["source"].to_numpy().astype(np.int64))
    return {kind: measure(model, tokens, source, kind) for kind in ("resample", "mean")}


def run(model, sampled, clean, kind="resample", shards=1, heads=None, **options) -> tuple[pl.DataFrame, ...]:
    """All shards, joined; sums of a document that lies in two shards are added."""
    heads = heads or model.heads
    parts = [
        ablate_shard(model, sampled.tokens, sampled.rows, clean, kind, heads, shard, shards, **options)
        for shard in range(shards)
    ]
    tokens, sums, later_heads = map(pl.concat, zip(*parts, strict=True))
    return tokens.sort(KEY), added(sums, by_layer(3)), added(later_heads, ["change"])


def added(sums: pl.DataFrame, layered: Iterable[str]) -> pl.DataFrame:
    layered = list(layered)
    single = [pl.col(n).arr.get(i).alias(f"{n}_{i}") for n in layered for i in range(sums.schema[n].size)]
    wide = sums.with_columns(single).drop(layered)
    return wide.group_by("layer", "head", "document").sum().sort("layer", "head", "document")


def assert_equal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.columns == expected.columns
    pl.testing.assert_frame_equal(found, expected, **FLOATS)


def columns_of(m: Measurement) -> dict[str, np.ndarray]:
    """The documented columns, from their definitions."""
    columns = {
        "direct_effect": m.direct_effect,
        "ablated_direct_effect": m.direct_effect + m.delta_direct_effect,
        "delta_logit": m.delta_logit,
        "self_repair": m.delta_logit - m.delta_direct_effect,
        "repair_norm": m.repair_norm,
        "repair_attention": m.repair_attention.sum(2),
        "repair_mlp": m.repair_mlp.sum(2),
    }
    return {name: value.numpy() for name, value in columns.items()}


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_make_no_difference(model, sampled, clean, shards):
    """Otherwise the number of jobs would change results."""
    for found, expected in zip(run(model, sampled, clean, shards=shards), run(model, sampled, clean), strict=True):
        assert_equal(found, expected)


def test_batches_make_no_difference(model, sampled, clean, monkeypatch):
    """Of a batch that holds less than a row, the heads are divided."""
    expected = run(model, sampled, clean)
    for tokens in (9, 50, 300):
        monkeypatch.setattr(memory, "tokens_at_once", lambda *_, tokens=tokens: tokens)
        for found, table in zip(run(model, sampled, clean), expected, strict=True):
            assert_equal(found, table)


@pytest.fixture(scope="module")
def clean_rows(model, sampled) -> CleanRun:
    """As `clean`, with a control sample of whole rows."""
    return run_clean(model, sampled.tokens, TOP, CONTROL, seed=2, whole_rows=True)


@pytest.mark.parametrize("shards", [1, 3])
def test_measuring_only_the_selected_gives_the_same_token_rows(model, sampled, clean_rows, shards):
    """Selected mode leaves work out, not results."""
    found, *_ = run(model, sampled, clean_rows, shards=shards, measured="selected")
    expected, *_ = run(model, sampled, clean_rows)
    assert_equal(found, expected)


def test_sums_of_selected_mode_are_of_the_control_rows(model, sampled, clean_rows):
    """They stand for all tokens: nothing selected by its direct effect may get in. Other documents count as empty."""
    tokens, sums, _ = run(model, sampled, clean_rows, measured="selected")
    _, all_tokens, _ = run(model, sampled, clean_rows)
    assert sums.select("layer", "head", "document").equals(all_tokens.select("layer", "head", "document"))
    control = tokens.filter("control").group_by("layer", "head", "document").agg(pl.len(), pl.col("self_repair").sum())
    joined = sums.join(control, on=["layer", "head", "document"], how="left").fill_null(0)
    assert (joined["n"] == joined["len"]).all()
    assert joined["self_repair"].to_list() == pytest.approx(joined["self_repair_right"].to_list(), rel=1e-3, abs=1e-4)
    assert 0 < sums["n"].sum() < all_tokens["n"].sum()


def test_selected_mode_computes_less(model, sampled, clean_rows, monkeypatch):
    passed = []
    original = ablation.sweep
    monkeypatch.setattr(
        ablation, "sweep", lambda *args, **named: passed.append(args[4].n_tokens) or original(*args, **named)
    )
    run(model, sampled, clean_rows)
    whole = sum(passed)
    passed.clear()
    run(model, sampled, clean_rows, measured="selected")
    assert whole == 9 * 9 * 12
    assert sum(passed) < whole


def test_shards_take_every_row_once():
    for n_rows, shards in itertools.product((1, 5, 9), (1, 2, 4, 5)):
        rows = torch.cat([shard_rows(n_rows, shard, shards) for shard in range(shards)])
        assert rows.tolist() == list(range(n_rows))


def test_more_shards_than_rows(model, sampled, clean):
    """An empty shard writes empty tables; it must not fail a run that asked for more jobs than rows."""
    for found, expected in zip(run(model, sampled, clean, shards=11), run(model, sampled, clean), strict=True):
        assert_equal(found, expected)


@pytest.mark.parametrize("kind", ["resample", "mean"])
def test_token_rows_are_those_of_the_whole_measurement(model, sampled, clean, whole, kind):
    """Tokens that some replicate selects and control tokens, no others, with the values of the measurement."""
    m, (tokens, *_) = whole[kind], run(model, sampled, clean, kind, shards=2)
    assert tokens.schema == {name: column.dtype for name, column in ablated_tokens(3).items()}
    control = set(clean.tokens.filter("control").select("row", "pos").rows())
    document = token_matrix(sampled.tokens, "document")
    seen = set()
    expected = columns_of(m)
    for entry in tokens.iter_rows(named=True):
        at = tuple(entry[name] for name in KEY)
        place = at[2:]
        seen.add(at)
        assert entry["control"] == (place in control)
        assert entry["control"] or entry["rank"] is not None
        assert entry["document"] == document[place[0], place[1] + 1]
        assert entry["logit"] == pytest.approx(m.logit[place].item(), rel=1e-4, abs=1e-5)
        assert entry["ablated_logit"] == pytest.approx((m.logit[place] + m.delta_logit[at]).item(), rel=1e-4, abs=1e-4)
        assert entry["scale"] == pytest.approx(m.scale[place].item(), rel=1e-4)
        assert entry["ablated_scale"] == pytest.approx(m.ablated_scale[at].item(), rel=1e-4)
        assert entry["own_scale"] == pytest.approx(m.own_scale[at].item(), rel=1e-4)
        for name, value in expected.items():
            assert entry[name] == pytest.approx(value[at], rel=1e-3, abs=1e-4), name
        for name in ("repair_attention", "repair_mlp"):
            by_layer = getattr(m, name)[(*at[:2], slice(None), *place)].tolist()
            assert entry[f"{name}_by_layer"] == pytest.approx(by_layer, rel=1e-3, abs=1e-4)
    selected, candidates = (set(table.select(KEY).rows()) for table in (clean.selected, clean.candidates))
    assert seen == candidates | {(*head, *place) for head in model.heads for place in control}
    assert set(tokens.filter("selected").select(KEY).rows()) == selected
    ranked = tokens.drop_nulls("rank").select(*KEY, "rank").sort(KEY)
    assert ranked.equals(clean.candidates.select(*KEY, "rank").sort(KEY))
    assert len(tokens) == len(seen)


def test_sums_are_of_every_token_by_document(model, sampled, clean, whole):
    """Ratios of sums and the bootstrap over documents rest on these."""
    _, sums, _ = run(model, sampled, clean, shards=3)
    document = token_matrix(sampled.tokens, "document")[:, 1:]
    values = columns_of(whole["resample"])
    effect = values["direct_effect"]
    clipped = {name: np.clip(values[name.removeprefix("clipped_")] / effect, 0, 1) for name in CLIPPED}
    assert len(sums) == 12 * len(np.unique(document))
    for entry in sums.iter_rows(named=True):
        here = document == entry["document"]
        assert entry["n"] == here.sum()
        for name, value in (values | clipped).items():
            total = value[entry["layer"], entry["head"]][here].astype(np.float64).sum()
            assert entry[name] == pytest.approx(total, rel=1e-3, abs=1e-3), name
        for part, later in itertools.product(("repair_attention", "repair_mlp"), range(3)):
            total = getattr(whole["resample"], part)[entry["layer"], entry["head"], later].numpy()[here].sum()
            assert entry[f"{part}_by_layer_{later}"] == pytest.approx(total, rel=1e-3, abs=1e-3)


def test_later_heads_are_summed_over_top_tokens_by_document(model, sampled, clean, whole):
    """Who repairs whom rests on these."""
    *_, later = run(model, sampled, clean, shards=2, measured="selected")
    tokens = torch.from_numpy(token_matrix(sampled.tokens))
    source = torch.from_numpy(sampled.rows["source"].to_numpy().astype(np.int64))
    m = measure(model, tokens, source, responders="heads")
    document = token_matrix(sampled.tokens, "document")[:, 1:]
    top = clean.selected.with_columns(document=document[clean.selected["row"], clean.selected["pos"]])
    assert later.select("layer", "head", "document").rows() == sorted(
        top.select("layer", "head", "document").unique().rows()
    )
    for entry in later.iter_rows(named=True):
        here = top.filter(layer=entry["layer"], head=entry["head"], document=entry["document"])
        assert entry["n"] == len(here)
        row, pos = (here[name].to_torch().long() for name in ("row", "pos"))
        changes = m.repair_heads[entry["layer"], entry["head"]][:, :, row, pos]
        found = [entry[f"change_{i}"] for i in range(12)]
        assert found == pytest.approx(changes.sum(-1).flatten().tolist(), rel=1e-3, abs=1e-4)


def test_units_go_the_way_of_heads(model, sampled):
    """Otherwise a layer's attention or MLP would be another measurement than `measure_units`."""
    sets = ["L0H1+L2.mlp"]
    clean = run_clean(model, sampled.tokens, TOP, CONTROL, seed=2, sets=sets)
    units = coded_units(sets, 3, 4)
    tokens, sums, later = run(model, sampled, clean, shards=2, units=units)
    matrix = torch.from_numpy(token_matrix(sampled.tokens))
    source = torch.from_numpy(sampled.rows["source"].to_numpy().astype(np.int64))
    names = sorted(units)
    m = measure_units(model, matrix, source, [str(units[name]) for name in names])
    assert sorted(tokens.select("layer", "head").unique().rows()) == names
    count = int(TOP * m.logit.numel())
    for index, name in enumerate(names):
        of_unit = tokens.filter(layer=name[0], head=name[1])
        place = (index, of_unit["row"].to_torch().long(), of_unit["pos"].to_torch().long())
        for column in ("direct_effect", "delta_logit", "self_repair", "repair_norm", "own_scale"):
            expected = getattr(m, column)[place].tolist()
            assert of_unit[column].to_list() == pytest.approx(expected, rel=1e-3, abs=1e-4), column
        order = m.direct_effect[index].flatten().argsort(descending=True)[:count]
        top = of_unit.filter("selected").sort("rank")
        assert (top["row"] * 9 + top["pos"]).to_list() == order.tolist()
    assert sums.select("layer", "head").unique().height == later.select("layer", "head").unique().height == len(units)


def test_selected_tokens_are_the_top_of_a_full_sort(model, sampled, clean, whole):
    """experiments.md a.11: for each head, the int(share n) tokens of largest signed clean direct effect."""
    effect = whole["resample"].direct_effect
    count = int(TOP * effect[0, 0].numel())
    for layer, head in model.heads:
        chosen = clean.selected.filter(layer=layer, head=head).sort("rank")
        assert chosen["rank"].to_list() == list(range(count))
        order = effect[layer, head].flatten().argsort(descending=True)[:count]
        assert (chosen["row"] * 9 + chosen["pos"]).to_list() == order.tolist()
        expected = effect[layer, head].flatten()[order].tolist()
        assert chosen["direct_effect"].to_list() == pytest.approx(expected, rel=1e-4)


def test_the_clean_table_holds_every_token(clean, sampled, whole):
    assert clean.tokens.schema == {name: column.dtype for name, column in CLEAN_TOKENS.items()}
    assert clean.tokens.select("row", "pos").rows() == list(itertools.product(range(9), range(9)))
    assert clean.tokens["control"].sum() == CONTROL
    assert clean.tokens["document"].to_list() == token_matrix(sampled.tokens, "document")[:, 1:].ravel().tolist()
    logits = whole["resample"].logit.flatten().tolist()
    assert clean.tokens["logit"].to_list() == pytest.approx(logits, rel=1e-4, abs=1e-5)


def test_heads_may_be_asked_for_in_any_order(model, sampled, clean):
    """Otherwise the effects of one head would be written under the name of another."""
    in_order = run(model, sampled, clean, heads=[(0, 1), (1, 2), (2, 0)])
    for found, expected in zip(run(model, sampled, clean, heads=[(2, 0), (0, 1), (1, 2)]), in_order, strict=True):
        assert_equal(found, expected)


def test_a_share_of_no_direct_effect_is_none():
    """A head that writes nothing has no share: 0, not NaN, or one such token would spoil every sum."""
    from selfrepair.ablation.shard import TokenIndex, _DocumentSums

    zero, one, place = torch.zeros(2), torch.ones(2), torch.zeros(2, dtype=torch.long)
    values = {name: one for name in EFFECTS} | {name: torch.zeros(2, 3) for name in by_layer(3)}
    sums = _DocumentSums(1, 3, torch.tensor([[4, 4]]), torch.ones(1, 2, dtype=torch.bool))
    sums.add(values | {"direct_effect": zero, "repair_mlp": zero}, TokenIndex(place, place, torch.arange(2)))
    assert sums.table([(0, 0)]).select(*CLIPPED).row(0) == (0.0, 0.0, 0.0, 0.0)
