"""Direct effects of single neurons are those of a plain patched pass, and sum to their MLP's."""

import pytest
import torch

from selfrepair.ablation.clean import clean_pass
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.neuron_recorder import NeuronRecorder
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.models.folded import FoldedModel


def watched(model: FoldedModel, rows, source, jobs: AblationJobs, wanted: torch.Tensor) -> tuple:
    recorder = NeuronRecorder(set(range(model.n_layers)), wanted)
    m = sweep(model, rows, source, "resample", jobs, no_means(model), recorder)
    return m, recorder.effects(m.scale)


@torch.no_grad()
def patched_hidden(model: FoldedModel, rows, source, layer: int | None, head: int | None) -> list[torch.Tensor]:
    """Activations of every MLP in a run whose head is replaced by that of the source rows; nothing is shared."""
    resid, clean, found = model.embed(rows[:, :-1]), model.embed(rows[:, :-1]), []
    for index, block in enumerate(model.layers):
        z, clean_z = model.attention_heads(block, resid).clone(), model.attention_heads(block, clean)
        if index == layer:
            z[:, :, head] = clean_z[source][:, :, head]
        attention = model.attention_out(block, z)
        found.append(model.mlp_hidden(block, resid if model.parallel else resid + attention))
        resid, _ = model.resid_post(block, resid, attention)
        clean, _ = model.resid_post(block, clean, model.attention_out(block, clean_z))
    return found


def test_every_neuron_is_what_a_patched_run_finds(zoo, rows, source, architecture):
    """Otherwise an erasure neuron is an artefact of the sweep."""
    model = zoo.folded(architecture)
    jobs = AblationJobs.all_pairs([(0, 1), (1, 3)], torch.arange(5), 11).ordered()
    m, found = watched(model, rows, source, jobs, torch.ones(jobs.n_tokens, dtype=torch.bool))
    clean = patched_hidden(model, rows, source, None, None)
    v, _ = model.unembedding(rows[:, 1:])
    for layer, head in [(0, 1), (1, 3)]:
        ablated = patched_hidden(model, rows, source, layer, head)
        of_run = (jobs.layer == layer).nonzero()[:, 0]
        token = torch.cat([torch.arange(11) + int(jobs.length[:run].sum()) for run in of_run])
        first = layer + 1 if model.parallel else layer
        for later in range(first, model.n_layers):
            read = v @ model.layers[later].W_out.T / m.scale[..., None]
            effects = found[later]
            at = torch.searchsorted(effects.token, token)
            assert torch.equal(effects.token[at], token)
            scale = m.logit.abs().max()
            expected = (clean[later] * read).flatten(0, 1)
            assert (effects.direct_effect[at] - expected).abs().max() < 1e-5 * scale
            expected = ((ablated[later] - clean[later]) * read).flatten(0, 1)
            assert (effects.change[at] - expected).abs().max() < 1e-5 * scale


def test_neurons_sum_to_their_mlp(zoo, rows, source, architecture):
    model = zoo.folded(architecture)
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(5), 11).ordered()
    wanted = torch.rand(jobs.n_tokens, generator=torch.Generator().manual_seed(1)) < 0.3
    m, found = watched(model, rows, source, jobs, wanted)
    mlp = clean_pass(model, rows).mlp_direct_effect
    seen = 0
    for layer, effects in found.items():
        assert wanted[effects.token].all()
        change = m.repair_mlp[effects.token, layer]
        assert (effects.change.sum(1) - change).abs().max() < 1e-5 * m.logit.abs().max()
        direct = mlp[layer].flatten()[m.place[effects.token]]
        assert (effects.direct_effect.sum(1) + effects.bias - direct).abs().max() < 1e-5 * m.logit.abs().max()
        later = m.jobs.per_token(m.jobs.layer) < layer if model.parallel else m.jobs.per_token(m.jobs.layer) <= layer
        assert len(effects.token) == int((wanted & later).sum())
        seen += len(effects.token)
    assert seen > 0


@pytest.mark.parametrize("architecture", ["gpt2", "neox_parallel"])
def test_watching_changes_nothing(zoo, rows, source, architecture):
    model = zoo.folded(architecture)
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(5), 11).ordered()
    m, _ = watched(model, rows, source, jobs, torch.ones(jobs.n_tokens, dtype=torch.bool))
    assert torch.equal(m.self_repair, sweep(model, rows, source, "resample", jobs, no_means(model)).self_repair)
