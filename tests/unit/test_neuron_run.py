"""Neurons of chosen heads: tables against plain sums, selection by outcome, batches that change nothing."""

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation import neuron_tables
from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.effects import DecompositionError
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.measure import measure
from selfrepair.ablation.neuron_recorder import NeuronEffects, NeuronRecorder
from selfrepair.ablation.neurons import ablate_with_neurons, check_neurons, neuron_layers
from selfrepair.ablation.schema_neurons import LISTED_NEURONS
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.core.tables import frame
from selfrepair.tokens.schema import ROWS, TOKENS

HEADS, LAYERS, FRACTION = [(0, 1), (0, 3), (1, 2), (2, 0)], [-1, -2], 0.3
LENGTH = 11


def token_table(rows) -> tuple[pl.DataFrame, pl.DataFrame]:
    n_rows = len(rows)
    row, pos = (index.ravel() for index in np.indices(rows.shape))
    document = pl.Series(row // 2, dtype=pl.Int32)
    columns = {"row": row, "pos": pos, "token": rows.flatten().numpy(), "document": document, "offset": pos}
    tokens = frame(columns | {"answer": [False] * len(row), "alternative": [None] * len(row)}, TOKENS)
    tokens = tokens.with_columns(pl.when(pl.col("pos") > 0).then("document").alias("document"))
    return tokens, frame({"row": np.arange(n_rows), "source": [3, 0, 4, 1, 2]}, ROWS)


@pytest.fixture(params=["gpt2", "neox_parallel", "llama_gqa"])
def setting(request, zoo, rows, source):
    model = zoo.folded(request.param)
    tokens, pairs = token_table(rows)
    selected = run_clean(model, tokens, FRACTION, 5, 1).selected
    return model, rows, source, tokens, pairs, selected


def run(setting, **options):
    model, _, _, tokens, pairs, selected = setting
    return ablate_with_neurons(model, tokens, pairs, selected, HEADS, LAYERS, FRACTION, **options)


def every_neuron(
    model, rows, source, heads
) -> dict[tuple[int, int, int], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Clean direct effect and change of every neuron, and the MLP's clean direct effect, on every token."""
    found = {}
    for layer, head in heads:
        jobs = AblationJobs.all_pairs([(layer, head)], torch.arange(len(rows)), LENGTH).ordered()
        recorder = NeuronRecorder(set(range(model.n_layers)), torch.ones(jobs.n_tokens, dtype=torch.bool))
        m = sweep(model, rows, source, "resample", jobs, no_means(model), recorder)
        for mlp, e in recorder.effects(m.scale).items():
            found[layer, head, mlp] = (e.direct_effect, e.change, e.direct_effect.sum(1) + e.bias)
    return found


def test_tables_are_plain_sums_over_every_neuron(setting):
    model, rows, source, _, _, selected = setting
    found = run(setting)
    m = measure(model, rows, source)
    effects = every_neuron(model, rows, source, HEADS)
    count = int(FRACTION * rows.shape[0] * LENGTH)
    expected_keys = set()
    for layer, head in HEADS:
        repair = m.repair_mlp[layer, head].sum(0).flatten()
        outcome = repair.sort(descending=True, stable=True).indices[:count]
        of_head = selected.filter(layer=layer, head=head)
        effect = torch.from_numpy(of_head["row"].to_numpy().astype(int) * LENGTH + of_head["pos"].to_numpy())
        outcome, effect = (chosen[chosen % LENGTH > 0] for chosen in (outcome, effect))
        for mlp in (1, 2):
            if (layer, head, mlp) not in effects:
                assert layer == mlp == 2 or (model.parallel and layer >= mlp) or layer > mlp
                assert found.tokens.filter(layer=layer, head=head, mlp_layer=mlp).is_empty()
                continue
            direct, change, mlp_effect = effects[layer, head, mlp]
            for name, chosen in (("direct_effect", effect), ("top_mlp_repair", outcome)):
                key = {"layer": layer, "head": head, "mlp_layer": mlp}
                expected_keys.add((*key.values(), name))
                table = found.tokens.filter(f"by_{name}", **key)
                place = table["row"].to_numpy().astype(int) * LENGTH + table["pos"].to_numpy()
                assert sorted(place) == sorted(chosen.tolist())
                d, c = direct[place], change[place]
                close(table["direct_effect"], m.direct_effect[layer, head].flatten()[place])
                close(table["self_repair"], m.self_repair[layer, head].flatten()[place])
                close(table["repair_mlp"], repair[place])
                close(table["mlp_direct_effect"], mlp_effect[place])
                close(table["mlp_change"], m.repair_mlp[layer, head, mlp].flatten()[place])
                close(table["positive_change"], c.clamp(min=0).sum(1))
                close(table["absolute_change"], c.abs().sum(1))
                ranked = c.sort(dim=1, descending=True, stable=True)
                close(table["top_percent_change"], ranked.values[:, : max(1, c.shape[1] // 100)].sum(1))
                close(table["top_5_change"], ranked.values[:, :5].sum(1))
                listed = min(LISTED_NEURONS, c.shape[1])
                close(table["neuron_change"].to_numpy()[:, :listed], ranked.values[:, :listed])
                named = torch.from_numpy(table["neuron"].to_numpy()[:, :listed].astype(int))
                close(c.gather(1, named), ranked.values[:, :listed])
                close(table["neuron_direct_effect"].to_numpy()[:, :listed], d.gather(1, named))
                assert np.isnan(table["neuron_change"].to_numpy()[:, listed:]).all()
                assert (table["neuron"].to_numpy()[:, listed:] == -1).all()
                neurons = found.neurons.filter(token_set=name, **key)
                assert neurons["neuron"].to_list() == list(range(c.shape[1]))
                assert set(neurons["n_tokens"]) == {len(place)}
                close(neurons["direct_effect"], d.mean(0))
                close(neurons["change"], c.mean(0))
                close(neurons["erasing"], (d < 0).double().mean(0))
                close(neurons["anti_erasing"], ((d < 0) & (c > 0)).double().mean(0))
                first = torch.zeros_like(c).scatter_(1, ranked.indices[:, :1], 1)
                often = torch.zeros_like(c).scatter_(1, ranked.indices[:, :10], 1)
                close(neurons["first"], first.mean(0))
                close(neurons["top_10"], often.mean(0))
                ranks = found.ranks.filter(token_set=name, **key)
                assert set(ranks["n_tokens"]) == {len(place)}
                close(ranks["cumulative_share"], (ranked.values.abs().cumsum(1) / c.abs().sum(1, keepdim=True)).mean(0))
                close(ranks["median_direct_effect"], d.gather(1, ranked.indices).median(0).values)
    assert expected_keys == set(found.neurons.select("layer", "head", "mlp_layer", "token_set").unique().rows())


def close(found, expected: torch.Tensor) -> None:
    found = torch.tensor(found.to_numpy() if isinstance(found, pl.Series) else np.asarray(found))
    assert found.shape == expected.shape
    scale = max(1.0, expected.abs().max().item())
    assert (found.double() - expected.double()).abs().max() < 2e-5 * scale


def test_batches_change_nothing(setting, monkeypatch):
    """Otherwise results depend on the memory of the machine."""
    whole = run(setting)
    monkeypatch.setattr("selfrepair.ablation.neurons.tokens_at_once", lambda *_: LENGTH)
    monkeypatch.setattr("selfrepair.ablation.neurons.chunk_tokens", lambda _: 2)
    parts = run(setting)
    for name in ("tokens", "neurons", "ranks"):
        one, other = getattr(whole, name), getattr(parts, name)
        assert one.schema == other.schema and len(one) == len(other)
    keys = ["layer", "head", "mlp_layer", "row", "pos", "by_direct_effect", "by_top_mlp_repair"]
    assert whole.tokens.select(keys).equals(parts.tokens.select(keys))
    for table, names in (
        ("ranks", ["cumulative_share", "median_direct_effect"]),
        ("neurons", list(neuron_tables.SUMS)),
    ):
        for name in names:
            close(getattr(whole, table)[name], torch.from_numpy(getattr(parts, table)[name].to_numpy().copy()))


def test_medians_are_of_a_sample_spread_over_the_set(monkeypatch):
    monkeypatch.setattr(neuron_tables, "MEDIAN_TOKENS", 4)
    chosen = torch.zeros(3, 10, dtype=torch.bool)
    chosen.view(-1)[torch.arange(2, 22, 2)] = True  # ten tokens: every third is taken
    assert neuron_tables._spread_evenly(chosen).flatten().nonzero()[:, 0].tolist() == [2, 8, 14, 20]


def test_layers_count_from_the_end():
    assert neuron_layers([-1, 0, 5], 6) == [0, 5]
    with pytest.raises(ValueError, match=r"6 layers, so not 6, -7; -1 is the last"):
        neuron_layers([6, -7, 2], 6)


def test_neurons_that_do_not_sum_to_their_mlp_are_refused(zoo, rows, source):
    model = zoo.folded("gpt2")
    jobs = AblationJobs.all_pairs([(0, 1)], torch.arange(2), LENGTH).ordered()
    recorder = NeuronRecorder({2}, torch.ones(jobs.n_tokens, dtype=torch.bool))
    m = sweep(model, rows, source, "resample", jobs, no_means(model), recorder)
    e = recorder.effects(m.scale)[2]
    check_neurons(m, 2, e)
    wrong = e.change.clone()
    wrong[3, 4] += 1e-3 * m.logit.abs().max()
    with pytest.raises(DecompositionError, match="layer 2: the neurons miss their MLP's change by"):
        check_neurons(m, 2, NeuronEffects(e.token, e.direct_effect, wrong, e.bias))
    with pytest.raises(DecompositionError):
        check_neurons(m, 2, NeuronEffects(e.token, e.direct_effect, wrong * torch.nan, e.bias))
