"""Gradient estimates beside finite differences and one backward pass; sums by threshold beside plain sorting."""

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation import estimates as estimates_module
from selfrepair.ablation import memory
from selfrepair.ablation.estimates import estimate_heads, gradient_estimates, sum_by_threshold
from selfrepair.ablation.measure import measure
from selfrepair.ablation.schema import ESTIMATES, RULES, SUMMED, THRESHOLDS
from tests.helpers.oracle import attention_projections

STEP = 1e-4  # of the change of z; central differences are off by its square


@torch.no_grad()
def patched_logits(model, tokens, source, layer, head, step):
    """Logits of the correct next tokens where a head's z goes a part of the way to that of another row."""
    resid = model.embed(tokens[:, :-1])
    for index, block in enumerate(model.layers):
        z = model.attention_heads(block, resid)
        if index == layer:
            z = z.clone()
            z[:, :, head] += step * (z[source] - z)[:, :, head]
        resid, _ = model.resid_post(block, resid, model.attention_out(block, z))
    logits = model.final(resid) @ model.W_U + model.b_U
    return logits.gather(-1, tokens[:, 1:, None])[..., 0]


def test_an_estimate_is_the_slope_of_a_small_ablation(zoo, architecture, rows, source):
    model = zoo.folded(architecture).in_precision("float64")
    heads = model.heads
    found = gradient_estimates(model, rows, source, heads, torch.arange(5))
    assert found.dtype == torch.float64
    for (layer, head), estimate in zip(heads, found, strict=True):
        up, down = (patched_logits(model, rows, source, layer, head, step) for step in (STEP, -STEP))
        torch.testing.assert_close(estimate, (up - down) / (2 * STEP), rtol=1e-5, atol=1e-6)
    assert found.abs().mean() > 0.01


def test_summed_over_positions_it_is_what_one_backward_pass_gives(zoo, architecture, rows, source):
    """As users of attribution patching compute it: gradient of the summed logits of Hugging Face's own model."""
    hf_model = zoo.hugging_face(architecture, torch.float64)
    z = []

    def keep(module, args):
        z.append(args[0])
        args[0].retain_grad()

    for projection in attention_projections(hf_model):
        projection.register_forward_pre_hook(keep)
    logits = hf_model(rows, use_cache=False).logits
    logits = logits - logits.mean(-1, keepdim=True)
    logits[:, :-1].gather(-1, rows[:, 1:, None]).sum().backward()
    n_heads = hf_model.config.num_attention_heads
    by_layer = [(of.grad * (of[source] - of)).unflatten(-1, (n_heads, -1)).sum((1, 3)).T for of in z]
    model = zoo.folded(architecture)
    found = gradient_estimates(model, rows, source, model.heads, torch.arange(5)).sum(-1)
    torch.testing.assert_close(found, torch.cat(by_layer).detach().float(), rtol=1e-3, atol=1e-3)


def test_heads_and_rows_can_be_chosen_and_are_taken_in_parts(zoo, rows, source, monkeypatch):
    model = zoo.folded("llama_gqa")
    whole = gradient_estimates(model, rows, source, model.heads, torch.arange(5))
    monkeypatch.setattr(estimates_module, "chunk_tokens", lambda _: 25)
    heads, some = [(0, 1), (2, 0), (2, 1), (2, 3)], torch.tensor([1, 4])
    places = [model.heads.index(head) for head in heads]
    found = gradient_estimates(model, rows, source, heads, some)
    torch.testing.assert_close(found, whole[places][:, some], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_the_derivative_is_taken_in_float32(zoo, rows, source, precision):
    model = zoo.folded("gpt2")
    wanted = gradient_estimates(model, rows, source, [(1, 1)], torch.arange(5))
    found = gradient_estimates(model.in_precision(precision), rows, source, [(1, 1)], torch.arange(5))
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 0.03 * wanted.norm()  # the weights are rounded, what flows is not


def by_sorting(values: dict[str, np.ndarray], by: np.ndarray, count: int) -> dict[str, float]:
    """Sums of values over the tokens with the largest `by`."""
    first = sorted(range(len(by)), key=lambda token: -by[token])[:count]
    return {name: sum(float(value[token]) for token in first) for name, value in values.items()}


def test_sums_up_to_a_threshold_are_those_of_sorted_tokens():
    generator, n = np.random.default_rng(3), 400
    heads, documents = [(0, 1), (2, 0)], np.repeat(np.arange(8), 50)
    values = {name: generator.normal(size=(2, n)).astype(np.float32) for name in (*SUMMED, "logit")}
    values["direct_effect"] = values["direct_effect"].round(1)  # of equal values the earlier token comes first
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    table = sum_by_threshold(heads, torch.from_numpy(documents), tensors, seed=1)
    assert table.schema == {name: column.dtype for name, column in ESTIMATES.items()}
    by = {"signed": values["direct_effect"], "size": np.abs(values["direct_effect"]), "logit": values["logit"]}
    counts = [1, 2, 4, 8, 20, 40, 80, 200, 400]
    for place, (layer, head) in enumerate(heads):
        for threshold, count in zip(THRESHOLDS, counts, strict=True):
            of_head = table.filter(pl.col("threshold") <= threshold, layer=layer, head=head)
            for rule, key in by.items():
                found = of_head.filter(rule=rule).select("n", *SUMMED).sum().row(0, named=True)
                wanted = by_sorting({name: values[name][place] for name in SUMMED}, key[place], count)
                assert found == pytest.approx(wanted | {"n": count}, rel=1e-5, abs=1e-5)
            assert of_head.filter(rule="random")["n"].sum() == count
    signed = table.filter(rule="signed", layer=0, head=1)
    for document in range(8):
        own = signed.filter(document=document)
        assert own["n"].sum() == 50
        assert own["estimate"].sum() == pytest.approx(values["estimate"][0][documents == document].sum(), abs=1e-4)


def test_tokens_are_drawn_at_random_by_the_seed_and_for_each_head_anew():
    documents = torch.arange(1000)  # a token each
    values = {name: torch.zeros(2, 1000) for name in (*SUMMED, "logit")}

    def drawn(seed: int) -> list[set[int]]:
        table = sum_by_threshold([(0, 0), (0, 1)], documents, values, seed)
        top = table.filter(pl.col("threshold") <= 0.02, rule="random")
        return [set(top.filter(head=head)["document"]) for head in (0, 1)]

    first = drawn(1)
    assert first == drawn(1) and first != drawn(2) and first[0] != first[1]
    assert all(len(tokens) == 20 and max(tokens) > 500 for tokens in first)


def test_every_rule_says_what_it_ranks_by():
    assert all(rule in ESTIMATES["rule"].meaning for rule in RULES)


def tables(rows, source):
    index = [a.ravel() for a in np.meshgrid(np.arange(5), np.arange(12), indexing="ij")]
    tokens = {"row": index[0], "pos": index[1], "token": rows.flatten().numpy(), "document": index[0]}
    return pl.DataFrame(tokens), pl.DataFrame({"row": np.arange(5), "source": source.numpy()})


@pytest.mark.parametrize("architecture", ["neox_parallel", "mistral"])
def test_a_measurement_holds_what_the_sweep_finds(zoo, rows, source, architecture, monkeypatch):
    model = zoo.folded(architecture)
    monkeypatch.setattr(memory, "tokens_at_once", lambda *_: 25)
    table = estimate_heads(model, *tables(rows, source), model.heads, 3, seed=1)
    m = measure(model, rows, source)
    some = torch.tensor([0, 2, 4])
    estimate = gradient_estimates(model, rows, source, model.heads, some)
    for place, (layer, head) in enumerate(model.heads):
        for rule in RULES:
            of_head = table.filter(layer=layer, head=head, rule=rule)
            for column, row in enumerate(some.tolist()):
                found = of_head.filter(document=row).select("n", *SUMMED).sum().row(0, named=True)
                exact = m.delta_logit[layer, head, row]
                wanted = {
                    "n": 11,
                    "direct_effect": m.direct_effect[layer, head, row].sum(),
                    "delta_logit": exact.sum(),
                    "self_repair": m.self_repair[layer, head, row].sum(),
                    "repair_norm": m.repair_norm[layer, head, row].sum(),
                    "repair_attention": m.repair_attention[layer, head, :, row].sum(),
                    "repair_mlp": m.repair_mlp[layer, head, :, row].sum(),
                    "estimate": estimate[place, column].sum(),
                    "absolute_error": (estimate[place, column] - exact).abs().sum(),
                }
                assert found == pytest.approx({name: float(v) for name, v in wanted.items()}, rel=1e-4, abs=1e-4)
        by_logit = table.filter(pl.col("threshold") <= 0.2, layer=layer, head=head, rule="logit")
        largest = m.logit[some].flatten().argsort(descending=True)[:6]
        wanted = m.delta_logit[layer, head, some].flatten()[largest].sum().item()
        assert by_logit["n"].sum() == 6 and by_logit["delta_logit"].sum() == pytest.approx(wanted, abs=1e-4)


def test_a_memory_too_small_is_named_before_work(zoo, rows, source):
    with pytest.raises(ValueError, match="raise `memory`"):
        estimate_heads(zoo.folded("gpt2"), *tables(rows, source), [(0, 0)], 3, 1, memory_mb=1)
