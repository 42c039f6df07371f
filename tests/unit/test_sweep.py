"""The one-sweep measurement against two plain implementations of the definitions, and its identities."""

from dataclasses import fields, replace

import pytest
import torch

from selfrepair.ablation import memory
from selfrepair.ablation.clean import clean_pass, mean_z
from selfrepair.ablation.effects import DecompositionError, Measurement, TokenEffects, check_decomposition
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.measure import measure
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.models.folded import FoldedModel
from tests.helpers.oracle import hooks_oracle, hugging_face_oracle, z_name

FIELDS = [field.name for field in fields(Measurement) if field.name != "repair_heads"]
PRECISION = 1e-5  # of the largest logit; the two sides sum in another order, in float32


def close(found: torch.Tensor, expected: torch.Tensor, m: Measurement, name: str = "") -> None:
    assert found.shape == expected.shape, name
    error = (found - expected).abs().max() / m.logit.abs().max()
    assert error < PRECISION, f"{name} differs by {error:.1e} of the largest logit"


def same(found: Measurement, expected: Measurement) -> None:
    for name in FIELDS:
        close(getattr(found, name), getattr(expected, name), expected, name)


def swept(
    model: FoldedModel, rows: torch.Tensor, source: torch.Tensor, jobs: AblationJobs | None = None
) -> TokenEffects:
    jobs = jobs or AblationJobs.all_pairs(model.heads, torch.arange(len(rows)), rows.shape[1] - 1)
    return sweep(model, rows, source, "resample", jobs, no_means(model))


def equals_measurement(found: TokenEffects, whole: Measurement) -> None:
    """Every token of every run has the values of the whole measurement at its place."""
    layer, head, row = (found.jobs.per_token(value) for value in (found.jobs.layer, found.jobs.head, found.jobs.row))
    pos = found.jobs.pos
    for name in FIELDS:
        expected = getattr(whole, name)
        if name in ("logit", "scale"):
            expected = expected[found.rows]
        elif expected.ndim == 5:
            expected = expected.movedim(2, -1)[layer, head, row, pos]
        else:
            expected = expected[layer, head, row, pos]
        close(getattr(found, name), expected, whole, name)


# Against hook-by-hook patching.


def equals_hooks(zoo, bridge, rows, source, architecture: str, ablation: str) -> None:
    m = measure(zoo.folded(architecture), rows, source, ablation)
    expected = hooks_oracle(bridge(architecture), rows, source, ablation)
    for name in [*FIELDS, "self_repair"]:
        close(getattr(m, name), expected[name], m, name)


def test_every_field_is_what_patching_each_head_finds(zoo, bridge, rows, source, lens_architecture):
    """Otherwise the one sweep does not compute the paper's quantities."""
    equals_hooks(zoo, bridge, rows, source, lens_architecture, "resample")


@pytest.mark.parametrize("architecture", ["gpt2", "neox_parallel", "llama_gqa", "qwen2"])
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_zero_and_mean_are_what_patching_each_head_finds(zoo, bridge, rows, source, architecture, ablation):
    """Otherwise zero or mean ablation replaces a head's output by something else than it says."""
    equals_hooks(zoo, bridge, rows, source, architecture, ablation)


def test_the_ablated_model_is_hugging_faces(zoo, rows, source, architecture):
    """Otherwise folding and patching could be wrong together: here neither is involved, and all is in float64."""
    m = measure(zoo.folded(architecture), rows, source)
    logit, delta = hugging_face_oracle(zoo.hugging_face(architecture, torch.float64), rows, source)
    close(m.logit, logit, m, "logit")
    close(m.delta_logit, delta, m, "delta_logit")


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:A forward hook edited hook_scale")  # which is what is meant
@pytest.mark.parametrize("architecture", ["gpt2", "neox_parallel", "llama_gqa"])
def test_the_share_of_the_norm_is_what_freezing_its_scale_undoes(zoo, bridge, rows, source, architecture):
    """Otherwise `repair_norm` is bookkeeping, not a mechanism."""
    model, hooked = zoo.folded(architecture), bridge(architecture)
    m = measure(model, rows, source)
    _, clean = hooked.run_with_cache(rows)
    for layer, head in [(0, 1), (2, 3)]:

        def patch(z, hook, layer=layer, head=head):
            z = z.clone()
            z[:, :, head] = clean[z_name(layer)][source][:, :, head]
            return z

        def freeze(scale, hook):
            return clean["ln_final.hook_scale"]

        frozen = hooked.run_with_hooks(rows, fwd_hooks=[(z_name(layer), patch), ("ln_final.hook_scale", freeze)])
        frozen = (frozen - frozen.mean(-1, keepdim=True))[:, :-1].gather(-1, rows[:, 1:, None])[..., 0]
        close(m.repair_norm[layer, head], m.logit + m.delta_logit[layer, head] - frozen, m, f"L{layer}H{head}")


# Identities of the definitions.


def test_the_parts_sum_to_self_repair_on_every_token(zoo, rows, source, architecture):
    """Otherwise the decomposition is not one."""
    m = measure(zoo.folded(architecture), rows, source)
    parts = m.repair_attention.sum(2) + m.repair_mlp.sum(2) + m.repair_norm
    assert ((m.self_repair - parts).abs() / m.logit.abs().amax(-1, keepdim=True)).max() < 1e-5
    close(m.self_repair, m.delta_logit - m.delta_direct_effect, m)
    assert m.self_repair.abs().max() > 0.1  # the rows do exercise it


def test_both_closed_forms_of_the_norms_share(zoo, rows, source, architecture):
    """experiments.md a.9: (l' - b)(1 - S'/S) = (S/S' - 1) u.r'/S; otherwise the definition was mistaken."""
    model = zoo.folded(architecture)
    m = measure(model, rows, source)
    unbiased = m.logit + m.delta_logit - model.b_U[rows[:, 1:]]
    ratio = m.ablated_scale / m.scale
    close(m.repair_norm, unbiased * (1 - ratio), m)
    ablated_dot = unbiased * m.ablated_scale  # u.r'
    close(m.repair_norm, (1 / ratio - 1) * ablated_dot / m.scale, m)


def test_nothing_responds_before_the_head(zoo, rows, source, architecture):
    """Otherwise causality is broken: earlier layers, and the MLP beside the head in parallel blocks, can't see it."""
    model = zoo.folded(architecture)
    m = measure(model, rows, source)
    for layer in range(model.n_layers):
        assert (m.repair_attention[layer, :, : layer + 1] == 0).all()
        first = layer + 1 if model.parallel else layer
        assert (m.repair_mlp[layer, :, :first] == 0).all()
        assert (m.repair_mlp[layer, :, first:].abs().amax((0, 2, 3)) > 0).all()
        assert (m.repair_attention[layer, :, layer + 1 :].abs().amax((0, 2, 3)) > 0).all()


def test_only_the_norm_repairs_the_last_layer_of_parallel_blocks(zoo, rows, source):
    """As in the authors' published Pythia results, where these entries are exactly zero."""
    m = measure(zoo.folded("neox_parallel"), rows, source)
    assert (m.repair_attention[-1] == 0).all()
    assert (m.repair_mlp[-1] == 0).all()
    close(m.self_repair[-1], m.repair_norm[-1], m)


def test_the_same_first_token_carries_no_effect(zoo, rows, source, architecture):
    """pitfall:first-position: rows share their first token, so resampling leaves position 0 as it was."""
    m = measure(zoo.folded(architecture), rows, source)
    assert m.delta_logit[..., 0].abs().max() < PRECISION * m.logit.abs().max()
    assert m.delta_logit[..., 1:].abs().max() > 0.1


def test_resampling_from_itself_changes_nothing(zoo, rows, architecture):
    """Otherwise the ablated pass differs from the clean one by more than the ablation."""
    m = swept(zoo.folded(architecture), rows, torch.arange(len(rows)))
    for name in ("delta_logit", "delta_direct_effect", "repair_attention", "repair_mlp", "repair_norm"):
        close(getattr(m, name), torch.zeros_like(getattr(m, name)), m, name)


def test_direct_effects_of_all_components_sum_to_the_logit(zoo, rows, source, architecture):
    """Otherwise some writer to the stream is left out or counted twice."""
    model = zoo.folded(architecture)
    clean, m = clean_pass(model, rows), measure(model, rows, source)
    parts = clean.direct_effect.sum((0, 1)) + clean.mlp_direct_effect.sum(0) + clean.other_direct_effect
    close(parts + model.b_U[rows[:, 1:]], m.logit, m)
    close(clean.direct_effect, m.direct_effect, m)
    close(clean.scale, m.scale, m)


def test_mean_z_leaves_out_the_last_position(zoo, rows):
    """The last position predicts nothing; its z must not move the mean."""
    model, other = zoo.folded("gpt2"), rows.clone()
    other[:, -1] = (rows[:, -1] + 1) % 97
    assert torch.equal(mean_z(model, rows), mean_z(model, other))


# Independence of how the work is divided.


@pytest.mark.parametrize("ablation", ["resample", "mean"])
@pytest.mark.parametrize("batch_rows", [1, 2, 5, 100])
def test_results_do_not_depend_on_the_batch_size(zoo, rows, source, batch_rows, ablation):
    model = zoo.folded("llama_gqa")
    same(measure(model, rows, source, ablation, batch_rows), measure(model, rows, source, ablation, 4))


def test_results_do_not_depend_on_the_rows_of_the_batch(zoo, rows, source):
    """Otherwise a shard's results depend on the other rows of the run."""
    model = zoo.folded("gpt2")
    equals_measurement(
        swept(model, rows, source, AblationJobs.all_pairs(model.heads, torch.tensor([4, 1]), 11)),
        measure(model, rows, source),
    )


def test_results_do_not_depend_on_how_many_runs_pass_together(zoo, rows, source, monkeypatch):
    expected = measure(zoo.folded("neox_sequential"), rows, source)
    monkeypatch.setattr(memory, "CHUNK_BYTES", {"cpu": 0})
    monkeypatch.setattr(memory, "SMALLEST_CHUNK", 30)
    same(measure(zoo.folded("neox_sequential"), rows, source), expected)


def test_some_heads_alone_are_as_among_all(zoo, rows, source):
    """Otherwise one ablated pass leaks into another."""
    model = zoo.folded("mistral")
    jobs = AblationJobs.all_pairs([(0, 3), (1, 0), (1, 2)], torch.arange(len(rows)), 11)
    equals_measurement(swept(model, rows, source, jobs), measure(model, rows, source))


def test_runs_that_are_cut_are_as_whole_ones(zoo, rows, source, architecture, monkeypatch):
    """Otherwise measuring only what is wanted would change it: runs of any heads, rows and lengths, side by side."""
    model = zoo.folded(architecture)
    monkeypatch.setattr(memory, "CHUNK_BYTES", {"cpu": 0})
    monkeypatch.setattr(memory, "SMALLEST_CHUNK", 40)
    draw = torch.Generator().manual_seed(3)
    every = AblationJobs.all_pairs(model.heads, torch.arange(len(rows)), 11)
    some = every[torch.randperm(len(every), generator=draw)[:25]]
    cut = replace(some, length=torch.randint(1, 12, (25,), generator=draw))
    equals_measurement(swept(model, rows, source, cut), measure(model, rows, source))


# Checks made while it runs.


def test_a_head_that_is_not_there_is_refused(zoo, rows, source):
    """Otherwise a typing error would be measured as something else."""
    with pytest.raises(ValueError, match=r"gpt2 has 3 layers of 4 heads, so not \[\(1, 4\)\]"):
        swept(zoo.folded("gpt2"), rows, source, AblationJobs.all_pairs([(1, 4)], torch.arange(5), 11))


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_a_broken_decomposition_is_named(zoo, rows, source, wrong):
    """Otherwise a wrong number would reach a table."""
    model = zoo.folded("gpt2")
    m = swept(model, rows, source)
    check_decomposition(m)
    run = (m.jobs.layer == 1) & (m.jobs.head == 2) & (m.jobs.row == 3)
    tampered = m.repair_mlp.clone()
    tampered[(m.jobs.per_token(run) & (m.jobs.pos == 4)).nonzero(), 2] += wrong
    said = "is not finite" if wrong != wrong else "misses self-repair by"
    with pytest.raises(DecompositionError, match=f"layer 1, head 2, row 3: .*{said}"):
        check_decomposition(replace(m, repair_mlp=tampered))


def test_an_overflowing_model_is_refused(zoo, rows, source):
    """Weights that are not finite (a broken download, float16) give an error, not a table of NaN."""
    model = zoo.folded("gpt2")
    broken = replace(model.layers[1], b_out=torch.full_like(model.layers[1].b_out, float("nan")))
    model = replace(model, layers=(model.layers[0], broken, model.layers[2]))
    with pytest.raises(DecompositionError, match=r"layer 0, head 0, .*is not finite"):
        measure(model, rows, source)
    with pytest.raises(ArithmeticError, match="direct effects and biases miss the logit"):
        clean_pass(model, rows)
