"""Llama measured as the paper's code did (experiments.md a.3, pitfall:llama-norm), against their procedure."""

from functools import partial
from pathlib import Path

import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.ablation.clean import clean_pass
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.measure import measure
from selfrepair.ablation.neuron_recorder import NeuronRecorder
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.models.directory import ModelDirectoryError
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import load_folded
from selfrepair.models.load import fold_to_disk
from tests.helpers.oracle import attention_projections

LLAMAS = ["llama_mha", "llama_gqa", "mistral"]


def as_published(zoo, architecture: str, folder: Path) -> FoldedModel:
    """The tiny models have norm gains far from one, so that leaving the gain out changes much."""
    fold_to_disk(zoo.folder(architecture), architecture, folder / "folded", "float32", authors_units=True)
    return load_folded(folder / "folded")


@torch.no_grad()
def authors(
    hf_model: torch.nn.Module, tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"]
) -> dict[str, Tensor]:
    """The authors' breakdown on an unfolded model: direct effects are raw outputs times raw columns of the unembedding.

    In float64. The final norm acts on logits only: transformer_lens's `apply_ln_to_stack` passed RMSNorm models by.
    """
    projections, layers = attention_projections(hf_model), hf_model.model.layers
    n_layers, n_heads = len(layers), hf_model.config.num_attention_heads
    u = hf_model.lm_head.weight[tokens[:, 1:]]

    def run(layer: int | None = None, head: int | None = None) -> dict[str, Tensor]:
        seen: dict[str, list[Tensor]] = {"z": [], "attention": [], "mlp": [], "resid": []}

        def enter(module: torch.nn.Module, args: tuple, index: int) -> tuple:
            z = args[0].unflatten(-1, (n_heads, -1))
            if index == layer:
                z = z.clone()
                z[:, :, head] = clean_z[layer][source][:, :, head]
            seen["z"].append(z)
            return (z.flatten(-2),)

        hooks = [p.register_forward_pre_hook(partial(enter, index=i)) for i, p in enumerate(projections)]
        hooks += [p.register_forward_hook(lambda m, a, out: seen["attention"].append(out)) for p in projections]
        hooks += [x.mlp.register_forward_hook(lambda m, a, out: seen["mlp"].append(out)) for x in layers]
        hooks.append(hf_model.model.norm.register_forward_pre_hook(lambda m, args: seen["resid"].append(args[0])))
        logits = hf_model(tokens, use_cache=False).logits[:, :-1]
        for hook in hooks:
            hook.remove()
        found = {name: torch.stack(parts)[..., :-1, :] for name, parts in seen.items() if name in ("attention", "mlp")}
        found["z"], found["resid"] = torch.stack(seen["z"]), seen["resid"][0][:, :-1]
        return found | {"logit": logits.gather(-1, tokens[:, 1:, None])[..., 0]}

    def direct(written: Tensor) -> Tensor:
        return (written * u).sum(-1)

    def head_effect(found: dict[str, Tensor], layer: int, head: int) -> Tensor:
        W_O = projections[layer].weight.T.unflatten(0, (n_heads, -1))[head]
        return direct(found["z"][layer][:, :-1, head] @ W_O)

    clean_z = None
    clean = run()
    clean_z = clean["z"]
    fields: dict[str, list[Tensor]] = {}
    for layer in range(n_layers):
        for head in range(n_heads):
            ablated = run(layer, head)
            delta_own = head_effect(ablated, layer, head) - head_effect(clean, layer, head)
            attention = direct(ablated["attention"] - clean["attention"])
            mlp = direct(ablated["mlp"] - clean["mlp"])
            delta_logit = ablated["logit"] - clean["logit"]
            values = {
                "direct_effect": head_effect(clean, layer, head),
                "delta_logit": delta_logit,
                "delta_direct_effect": delta_own,
                "self_repair": delta_logit - delta_own,
                "heads": attention.sum(0) - delta_own,
                "mlp": mlp.sum(0),
                "norm": delta_logit - attention.sum(0) - mlp.sum(0),  # what is left over
                "norm_by_formula": delta_logit - direct(ablated["resid"] - clean["resid"]),  # pitfall:llama-norm
            }
            for name, value in values.items():
                fields.setdefault(name, []).append(value)
    return {name: torch.stack(v).unflatten(0, (n_layers, n_heads)) for name, v in fields.items()} | {
        "logit": clean["logit"],
        "total": direct(clean["resid"]),
    }


@pytest.mark.parametrize("architecture", LLAMAS)
def test_every_quantity_is_the_authors(zoo, rows, source, tmp_path, architecture):
    """A value bias is folded into the attention bias, as transformer_lens did: their z is without it."""
    expected = authors(zoo.hugging_face(architecture, torch.float64), rows, source)
    m = measure(as_published(zoo, architecture, tmp_path), rows, source)
    found = {name: getattr(m, name) for name in ("logit", "delta_logit", "delta_direct_effect", "self_repair")}
    found |= {"heads": m.repair_attention.sum(2), "mlp": m.repair_mlp.sum(2), "norm": m.repair_norm}
    if architecture != "llama_gqa":  # it has value biases, which are not the head's own
        found["direct_effect"] = m.direct_effect
    for name, value in found.items():
        close = 2e-5 * expected[name].abs().max().item()
        torch.testing.assert_close(
            value.double(), expected[name], atol=close, rtol=0, msg=lambda text, n=name: n + text
        )
    torch.testing.assert_close(expected["norm"], expected["norm_by_formula"], atol=1e-9, rtol=0)


def test_it_is_another_measurement_than_the_right_one(zoo, rows, source, tmp_path):
    """Logits change alike, up to the centring; direct effects, and what is called the norm's part, do not."""
    wrong = measure(as_published(zoo, "llama_mha", tmp_path), rows, source)
    right = measure(zoo.folded("llama_mha"), rows, source)
    largest = right.direct_effect.abs().max()
    assert (wrong.direct_effect - right.direct_effect).abs().max() > 0.1 * largest
    assert (wrong.repair_norm - right.repair_norm).abs().max() > 0.1 * right.repair_norm.abs().max()
    torch.testing.assert_close(wrong.scale, right.scale)
    torch.testing.assert_close(wrong.ablated_scale, right.ablated_scale)


def test_the_clean_pass_selects_by_the_same_direct_effects(zoo, rows, source, tmp_path):
    model = as_published(zoo, "llama_mha", tmp_path)
    clean, m = clean_pass(model, rows), measure(model, rows, source)
    torch.testing.assert_close(clean.direct_effect, m.direct_effect, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(clean.logit, m.logit, atol=1e-4, rtol=1e-4)
    expected = authors(zoo.hugging_face("llama_mha", torch.float64), rows, source)["total"]
    whole = clean.direct_effect.sum((0, 1)) + clean.mlp_direct_effect.sum(0) + clean.other_direct_effect
    torch.testing.assert_close(whole.double(), expected, atol=1e-4, rtol=1e-5)


def test_models_with_layer_norm_are_refused(zoo, tmp_path):
    with pytest.raises(
        ModelDirectoryError, match=r"`as_published` applies to models with RMSNorm only .* not to `gpt2`"
    ):
        fold_to_disk(zoo.folder("gpt2"), "gpt2", tmp_path / "folded", "float32", authors_units=True)
    assert not (tmp_path / "folded").exists()


def test_single_neurons_are_refused(zoo, rows, source, tmp_path):
    """Their direct effects would be divided by a scale that these do not have."""
    model = as_published(zoo, "llama_mha", tmp_path)
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(len(rows)), rows.shape[1] - 1)
    recorder = NeuronRecorder({0}, torch.ones(jobs.n_tokens, dtype=torch.bool))
    with pytest.raises(ValueError, match="folded as published"):
        sweep(model, rows, source, "resample", jobs, no_means(model), recorder)
