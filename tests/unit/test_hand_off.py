"""Who repairs whom: pairs and interventions against plain measurements, statistics against plain loops."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.held import ablate_held, strongest_pairs
from selfrepair.ablation.measure import measure, measure_units
from selfrepair.ablation.shard import ablate_shard
from selfrepair.ablation.unit_names import coded_units, late_heads
from selfrepair.analysis import hand_off
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.units import summarise_units
from selfrepair.models.load import load_model
from selfrepair.tokens.contexts import context
from selfrepair.tokens.rows import sample_tokens, token_matrix

TOP, REPLICATES = 0.2, 100


@pytest.fixture(scope="module")
def model():
    """Of six layers: with fewer, no layer is late and not the last."""
    return load_model("workflow/resources/models/tiny-pythia")


@pytest.fixture(scope="module")
def sampled():
    generator = np.random.default_rng(3)
    texts = [generator.integers(1, 97, size=generator.integers(4, 16)).tolist() for _ in range(60)]
    names = pl.DataFrame({"name": [str(i) for i in range(60)], "kind": ["text"] * 60})
    return sample_tokens(encoded=texts, bos=0, separator=0, documents=names, n_rows=18, row_length=10, seed=1)


@pytest.fixture(scope="module")
def rows(sampled):
    tokens = torch.from_numpy(token_matrix(sampled.tokens))
    return tokens, torch.from_numpy(sampled.rows["source"].to_numpy().astype(np.int64))


@pytest.fixture(scope="module")
def clean(model, sampled):
    return run_clean(model, sampled.tokens, TOP, 40, seed=2)


@pytest.fixture(scope="module")
def ablated(model, sampled, clean):
    return ablate_shard(model, sampled.tokens, sampled.rows, clean, "resample", model.heads, 0, 1)


@pytest.fixture(scope="module")
def later(model, rows, clean) -> np.ndarray:
    """Mean change of every later head on every ablated head's top tokens."""
    m = measure(model, *rows, responders="heads")
    means = []
    for layer, head in model.heads:
        top = clean.selected.filter(layer=layer, head=head)
        row, pos = (top[name].to_torch().long() for name in ("row", "pos"))
        means.append(m.repair_heads[layer, head][:, :, row, pos].mean(-1).flatten())
    return torch.stack(means).numpy()


def test_pairs_are_those_of_largest_repair(model, ablated, later):
    """Otherwise what is held is not what repairs most."""
    pairs = strongest_pairs(ablated[2], model.n_layers, model.n_heads, 3)
    late = late_heads(model.heads, model.n_layers)
    assert late == [(layer, head) for layer in (3, 4) for head in range(model.n_heads)]
    best = sorted(late, key=lambda head: -later[model.heads.index(head)].max())[:3]
    assert pairs == [(h, divmod(int(later[model.heads.index(h)].argmax()), model.n_heads)) for h in best]


def test_held_tokens_are_those_of_plain_measurements(model, sampled, rows, clean, ablated):
    pairs = strongest_pairs(ablated[2], model.n_layers, model.n_heads, 2)
    table = ablate_held(model, sampled.tokens, sampled.rows, clean.selected, pairs)
    assert len(table) == sum(clean.selected.filter(layer=h[0], head=h[1]).height for h, _ in pairs)
    m = measure(model, *rows, responders="heads")
    for (layer, head), (later_layer, later_head) in pairs:
        of_pair = table.filter(layer=layer, head=head)
        at = (of_pair["row"].to_torch().long(), of_pair["pos"].to_torch().long())
        names = [f"L{layer}H{head}+L{later_layer}H{later_head}", f"L{later_layer}H{later_head}"]
        both = measure_units(model, *rows, names)
        expected = {
            "direct_effect": m.direct_effect[layer, head],
            "self_repair": m.self_repair[layer, head],
            "handed": m.repair_heads[layer, head, later_layer, later_head],
            "later_direct_effect": both.direct_effect[1],
            "later_self_repair": both.self_repair[1],
            "pair_self_repair": both.self_repair[0],
        }
        for name, values in expected.items():
            assert of_pair[name].to_list() == pytest.approx(values[at].tolist(), rel=1e-3, abs=1e-4), name
        assert of_pair["fall"].abs().max() > 0
        if later_layer == model.n_layers - 1:  # only its MLP, and the norm, can stand in for a head of the last layer
            assert np.corrcoef(of_pair["fall"], of_pair["handed"])[0, 1] > 0.5


def test_statistics_are_what_plain_loops_give(model, ablated, clean, sampled, later, tmp_path):
    """Otherwise the finding is not the one that was written down."""
    facts = tmp_path / "model.json"
    facts.write_text(json.dumps({"n_layers": model.n_layers, "n_heads": model.n_heads}))
    pairs = strongest_pairs(ablated[2], model.n_layers, model.n_heads, 2)
    held = ablate_held(model, sampled.tokens, sampled.rows, clean.selected, pairs)
    found = hand_off.summarise("m", ablated[2], held, clean.tokens, sampled.tokens, str, facts, REPLICATES, 1)
    for entry in found.hand_off.iter_rows(named=True):
        ablated_head = model.heads.index((entry["layer"], entry["head"]))
        place = entry["later_layer"] * model.n_heads + entry["later_head"]
        assert entry["value"] == pytest.approx(later[ablated_head, place], rel=1e-3, abs=1e-5)
        assert entry["later_layer"] > entry["layer"]
    documents = Draws.of(clean.tokens["document"], REPLICATES, 1).documents
    halves = []
    for parity in (0, 1):
        of_half = ablated[2].filter(pl.col("document").is_in(documents[documents % 2 == parity].tolist()))
        means = []
        for layer, head in late_heads(model.heads, model.n_layers):
            of_head = of_half.filter(layer=layer, head=head)
            means.append(np.array(of_head["change"].to_list()).sum(0) / of_head["n"].sum())
        halves.append(np.array(means))
    top, whole, top_of_others, whole_of_others = 0.0, 0.0, 0.0, 0.0
    named = late_heads(model.heads, model.n_layers)
    for ranked, measured in (halves, halves[::-1]):
        for at, (by, values) in enumerate(zip(ranked, measured, strict=True)):
            top += values[by.argmax()] if by.max() > 0 else 0
            whole += values[by > 0].sum()
            by_others = np.zeros_like(by)
            for later_head in range((named[at][0] + 1) * model.n_heads, len(by)):
                before = [i for i, (layer, _) in enumerate(named) if layer < later_head // model.n_heads and i != at]
                by_others[later_head] = np.mean([ranked[i][later_head] for i in before])
            top_of_others += values[by_others.argmax()] if by_others.max() > 0 else 0
            whole_of_others += values[by_others > 0].sum()
    values = dict(found.findings.select("statistic", "value").rows())
    assert values["strongest_share"] == pytest.approx(top / whole, rel=1e-4)
    assert values["strongest_of_others"] == pytest.approx(top_of_others / whole_of_others, rel=1e-4)
    assert found.sparsity["value"].to_list()[-1] == pytest.approx(1)
    numbers = []
    for layer, head in late_heads(model.heads, model.n_layers):
        positive = np.sort(later[model.heads.index((layer, head))].clip(0))[::-1]
        if positive.sum() > 0:  # of a head that none repairs there is no half
            numbers.append(next(k for k in range(1, 99) if positive[:k].sum() >= positive.sum() / 2))
    assert values["heads_of_half"] == pytest.approx(np.mean(numbers))
    assert values["held_clean"] == pytest.approx(held["fall"].sum() / held["handed"].sum(), rel=1e-4)
    first = found.pairs.row(0, named=True)
    of_pair = held.filter(layer=first["layer"], head=first["head"])
    effect = (of_pair["direct_effect"] + of_pair["later_direct_effect"]).sum()
    assert first["share_of_pair"] == pytest.approx(of_pair["pair_self_repair"].sum() / effect, rel=1e-3)
    row, pos = of_pair.sort("handed")["row", "pos"].row(-1)
    assert first["context_1"] == context(token_matrix(sampled.tokens)[row], pos, str)
    assert (found.findings["low"] <= found.findings["value"]).all()


def test_without_late_heads_nothing_is_found_and_nothing_fails(model, sampled, clean, ablated, tmp_path):
    """A run of single heads may have none."""
    facts = tmp_path / "model.json"
    facts.write_text(json.dumps({"n_layers": model.n_layers, "n_heads": model.n_heads}))
    early = ablated[2].filter(layer=0)
    held = ablate_held(model, sampled.tokens, sampled.rows, clean.selected, [])
    found = hand_off.summarise("m", early, held, clean.tokens, sampled.tokens, str, facts, REPLICATES, 1)
    assert found.findings["value"].is_nan().all()
    assert found.pairs.is_empty()


def test_layers_are_judged_by_sums_over_their_top_tokens(model, sampled, rows):
    """N2: otherwise attention and MLPs would be compared on other tokens than was written down."""
    sets = ["L0H1+L2.mlp"]
    clean = run_clean(model, sampled.tokens, TOP, 40, seed=1, sets=sets)
    coded = coded_units(sets, model.n_layers, model.n_heads)
    arguments = (model, sampled.tokens, sampled.rows, clean, "resample", model.heads, 0, 1)
    of_units, _, _ = ablate_shard(*arguments, units=coded)
    of_heads, _, _ = ablate_shard(*arguments)
    found = summarise_units("m", of_units, of_heads, clean.tokens, sets, TOP, REPLICATES, 1)
    names = {"attention": "attn", "mlp": "mlp"}
    shares = {}
    for kind, written in names.items():
        units = [f"L{layer}.{written}" for layer in range(model.n_layers) if 2 * layer >= model.n_layers]
        m = measure_units(model, *rows, units)
        count = int(TOP * m.logit.numel())
        top = m.direct_effect.flatten(1).argsort(dim=1, descending=True)[:, :count]
        shares[kind] = (
            m.self_repair.flatten(1).gather(1, top).sum() / m.direct_effect.flatten(1).gather(1, top).sum()
        ).item()
    values = dict(found.findings.select("statistic", "value").rows())
    assert values["attention"] == pytest.approx(shares["attention"], rel=1e-3)
    assert values["mlp"] == pytest.approx(shares["mlp"], rel=1e-3)
    assert values["attention_minus_mlp"] == pytest.approx(shares["attention"] - shares["mlp"], rel=1e-2, abs=1e-4)
    kinds = found.units.filter(statistic="share", quantity="self_repair")
    assert kinds.filter(unit="L0H1+L2.mlp").height == 1
    assert kinds.filter(unit="heads").height == model.n_layers + 1
