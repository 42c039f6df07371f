"""Units beyond heads, and later heads as responders, against plain patching in transformer_lens; their identities."""

import re

import pytest
import torch
from torch import Tensor

from selfrepair.ablation.effects import Measurement
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.measure import INTEGERS, measure, measure_units
from selfrepair.ablation.responders import LaterHeads
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.ablation.unit_names import Unit, coded_units, component_name, parse_unit
from selfrepair.ablation.units import unit_jobs
from tests.helpers.oracle import value_bias, z_name
from tests.unit.test_sweep import close

EFFECTS = ["direct_effect", "delta_logit", "delta_direct_effect", "repair_attention", "repair_mlp", "repair_norm"]
UNITS = [
    "L1.attn",
    "L0.mlp",
    "L1H2",
    "L2.mlp",
    "L0H1+L1H0",
    "L0H1+L0H2",
    "L0H3+L1.mlp",
    "L0.mlp+L2.attn",
    "L1.attn+L1.mlp",
]


@torch.no_grad()
def patched(bridge, tokens: Tensor, source: Tensor, unit: str, v: Tensor) -> dict[str, Tensor]:
    """The fields of a measurement of one unit: each member's output is the source's, wherever it is."""
    n_layers, n_heads = len(bridge.blocks), bridge.blocks[0].attn.W_O.shape[0]
    parts = parse_unit(unit, n_layers, n_heads).components

    def output(layer: int, part: int) -> str:
        return f"blocks.{layer}.hook_attn_out" if part == -1 else f"blocks.{layer}.hook_mlp_out"

    def patch(layer: int, part: int):
        def replaced(value: Tensor, hook: object) -> Tensor:
            value = value.clone()
            other = full[hook.name][source]
            if part < 0:
                return other
            value[:, :, part] = other[:, :, part]
            return value

        return (z_name(layer) if part >= 0 else output(layer, part), replaced)

    _, full = bridge.run_with_cache(tokens)
    full = {name: full[name].clone() for name in full}
    with bridge.hooks(fwd_hooks=[patch(*part) for part in parts]):
        _, ablated = bridge.run_with_cache(tokens)
    scale = full["ln_final.hook_scale"][:, :-1, 0]

    def direct(written: Tensor) -> Tensor:
        return (written[:, :-1] * v).sum(-1) / scale

    def member(of: dict[str, Tensor], layer: int, part: int) -> Tensor:
        if part == -2:
            return direct(of[output(layer, part)])
        heads = range(n_heads) if part == -1 else [part]
        bias, W_O = value_bias(bridge, layer, n_heads), bridge.blocks[layer].attn.W_O
        return sum(direct((of[z_name(layer)][:, :, h] - bias[h]) @ W_O[h]) for h in heads)

    of_source = {name: value[source] for name, value in full.items() if len(value) == len(source)}
    clean = {part: member(full, *part) for part in parts}
    other = {part: member(of_source, *part) for part in parts}
    change = {part: other[part] - clean[part] for part in parts}
    # Members are taken at the source's row, so their effects are of this row's v and scale.
    found = {"direct_effect": sum(clean.values()), "delta_direct_effect": sum(change.values())}
    last = f"blocks.{n_layers - 1}.hook_resid_post"
    ratio = ablated["ln_final.hook_scale"][:, :-1, 0] / scale
    found["delta_logit"] = direct(ablated[last]) / ratio - direct(full[last])
    for name, kind in (("repair_attention", -1), ("repair_mlp", -2)):
        responses = []
        for layer in range(n_layers):
            whole = direct(ablated[output(layer, kind)] - full[output(layer, kind)])
            own = [c for (at, part), c in change.items() if at == layer and (part == -2) == (kind == -2)]
            responses.append(whole - sum(own) if own else whole)
        found[name] = torch.stack(responses)
    found["repair_norm"] = direct(ablated[last]) / ratio * (1 - ratio)
    return found


def correct(bridge, rows: Tensor) -> Tensor:
    return (bridge.W_U - bridge.W_U.mean(1, keepdim=True)).T[rows[:, 1:]]


def test_units_are_what_patching_their_members_finds(zoo, bridge, rows, source, lens_architecture):
    """Otherwise the sweep ablates something else than the unit says."""
    m = measure_units(zoo.folded(lens_architecture), rows, source, UNITS)
    v = correct(bridge(lens_architecture), rows)
    for index, unit in enumerate(UNITS):
        expected = patched(bridge(lens_architecture), rows, source, unit, v)
        for name in EFFECTS:
            close(getattr(m, name)[index], expected[name], m, f"{unit}: {name}")


def test_a_direction_is_read_in_place_of_the_correct_token(zoo, bridge, rows, source, lens_architecture):
    """Otherwise a difference of two logits would be measured as one of them."""
    model = zoo.folded(lens_architecture)
    alternative = (rows[:, 1:] + 1) % model.W_U.shape[1]
    m = measure_units(model, rows, source, UNITS[:5], alternative)
    whole = bridge(lens_architecture)
    v = correct(whole, rows) - (whole.W_U - whole.W_U.mean(1, keepdim=True)).T[alternative]
    scale_of = measure_units(model, rows, source, UNITS[:5])  # errors are measured by the logits
    for index, unit in enumerate(UNITS[:5]):
        expected = patched(whole, rows, source, unit, v)
        for name in EFFECTS:
            close(getattr(m, name)[index], expected[name], scale_of, f"{unit}: {name}")
    logits = model.logits(rows)[:, :-1]
    difference = logits.gather(-1, rows[:, 1:, None]) - logits.gather(-1, alternative[..., None])
    close(m.logit, difference[..., 0], scale_of, "logit")
    vector = model.unembedding(rows[:, 1:])[0] - model.unembedding(alternative)[0]
    along = measure_units(model, rows, source, UNITS[:5], vector)
    for name in EFFECTS:
        close(getattr(along, name), getattr(m, name), scale_of, name)


def test_single_heads_are_the_same_units(zoo, rows, source, architecture):
    """Otherwise there would be two engines."""
    model = zoo.folded(architecture)
    m = measure(model, rows, source)
    names = [component_name((layer, head)) for layer in range(model.n_layers) for head in range(model.n_heads)]
    units = measure_units(model, rows, source, names[::-1])
    for name in [*EFFECTS, "own_scale", "ablated_scale", "self_repair"]:
        close(getattr(units, name).flip(0), getattr(m, name).flatten(0, 1), m, name)


def test_all_heads_of_a_layer_are_its_attention(zoo, rows, source, architecture):
    """Otherwise attention is not the sum of its heads."""
    model = zoo.folded(architecture)
    heads = "+".join(f"L1H{head}" for head in range(model.n_heads))
    m = measure_units(model, rows, source, [heads, "L1.attn"])
    for name in [*EFFECTS, "own_scale"]:
        close(getattr(m, name)[0], getattr(m, name)[1], m, name)


def test_the_parts_sum_and_members_do_not_respond(zoo, rows, source, architecture):
    """Otherwise a set's later members would be counted among what repairs it."""
    model = zoo.folded(architecture)
    m = measure_units(model, rows, source, UNITS)
    parts = m.repair_attention.sum(1) + m.repair_mlp.sum(1) + m.repair_norm
    close(m.self_repair, parts, m)
    assert m.repair_mlp[UNITS.index("L0.mlp"), 0].abs().max() == 0
    assert m.repair_mlp[UNITS.index("L0.mlp+L2.attn"), 1].abs().max() > 0
    close(m.repair_attention[UNITS.index("L0.mlp+L2.attn"), 2], torch.zeros_like(m.logit), m)


def test_later_heads_sum_to_later_attention(zoo, bridge, rows, source, lens_architecture):
    """Otherwise who repairs whom is not the exact split."""
    model = zoo.folded(lens_architecture)
    m = measure(model, rows, source, batch_rows=3, responders="heads")
    close(m.repair_heads.sum(3), m.repair_attention, m)
    _, clean = bridge(lens_architecture).run_with_cache(rows)
    clean = {name: clean[name].clone() for name in clean}

    def resampled(z: Tensor, hook: object) -> Tensor:
        z = z.clone()
        z[:, :, 1] = clean[z_name(0)][source][:, :, 1]
        return z

    with bridge(lens_architecture).hooks(fwd_hooks=[(z_name(0), resampled)]):
        _, ablated = bridge(lens_architecture).run_with_cache(rows)
    layer, head = 2, 3
    change = (ablated[z_name(layer)] - clean[z_name(layer)])[:, :-1, head] @ bridge(lens_architecture).blocks[
        layer
    ].attn.W_O[head]
    expected = (change * correct(bridge(lens_architecture), rows)).sum(-1) / clean["ln_final.hook_scale"][:, :-1, 0]
    close(m.repair_heads[0, 1, layer, head], expected, m)


def test_a_held_head_does_not_respond(zoo, rows, source, architecture):
    """Otherwise "held clean" would hold nothing; later heads still respond."""
    model = zoo.folded(architecture)
    units = [Unit(((0, 1),)), Unit(((0, 1),), held=((1, 0),))]
    jobs = unit_jobs(units, torch.arange(len(rows)), rows.shape[1] - 1)

    kept = LaterHeads(model, jobs.n_tokens)
    m = sweep(model, rows, source, "resample", jobs, no_means(model), units=units, responders=kept)
    held, change = m.jobs.per_token(m.jobs.head) == 1, kept.effects(m)
    assert change[held][:, 1, 0].abs().max() == 0
    assert change[~held][:, 1, 0].abs().max() > 0
    assert (change[held][:, 2] - change[~held][:, 2]).abs().max() > 0
    assert torch.equal(m.delta_direct_effect[held], m.delta_direct_effect[~held])


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("L1", "neither a head"),
        ("L3.ffn", "neither a head"),
        ("L01H1", "neither a head"),
        ("", "neither a head"),
        ("L9H0", "not L9H0"),
        ("L0H4", "not L0H4"),
        ("L1H1+L1H1", "twice"),
        ("L1H1+L1.attn", "twice"),
    ],
)
def test_units_that_are_none_are_refused(unit, said):
    """Otherwise a typing error would be measured as something else."""
    with pytest.raises(ValueError, match=said):
        parse_unit(unit, 3, 4)


def test_what_is_read_and_what_a_sweep_refuses(zoo, rows, source):
    named = {(0, -1): "L0.attn", (0, -2): "L0.mlp", (1, -1): "L1.attn", (1, -2): "L1.mlp", (1, -3): "L1H2+L1.mlp"}
    assert {code: str(unit) for code, unit in coded_units(["L1.mlp+L1H2"], 2, 4).items()} == named
    assert str(parse_unit("L2.mlp+L0H1", 3, 4)) == "L0H1+L2.mlp"
    model = zoo.folded("gpt2")
    units = list(coded_units([], model.n_layers, model.n_heads).values())
    jobs = unit_jobs(units, torch.arange(2), 5)
    assert isinstance(jobs, AblationJobs)
    with pytest.raises(ValueError, match="units are resampled"):
        sweep(model, rows, source, "zero", jobs, no_means(model), units=units)
    with pytest.raises(ValueError, match="direction: its shape is"):
        measure_units(model, rows, source, ["L0.mlp"], rows)


BAD = {
    "a misspelt ablation": ({"ablation": "zeros"}, "ablation: 'zeros' is not known; use one of resample, zero, mean"),
    "misspelt responders": ({"responders": "head"}, "responders: 'head' is not known"),
    "no batch": ({"batch_rows": 0}, "batch_rows: it must be a whole number from 1, not 0"),
    "half a batch": ({"batch_rows": 1.5}, "batch_rows: it must be a whole number from 1, not 1.5"),
    "a batch that is true": ({"batch_rows": True}, "batch_rows: it must be a whole number from 1, not True"),
    "fewer sources than rows": ({"source": torch.zeros(1, dtype=torch.long)}, "source: it must name one of the"),
    "a source that there is not": ({"source": torch.full((6,), 6)}, "source: it must name one of the"),
    "a source of numbers with a point": ({"source": torch.zeros(6)}, "source: it must be a tensor of integers"),
    "a token that there is not": ({"tokens": torch.full((6, 5), 97)}, "tokens: 97 is none of the model's 97"),
    "a row of one token": ({"tokens": torch.zeros(6, 1, dtype=torch.long)}, "tokens: 6 rows of 1"),
    "tokens without rows": ({"tokens": torch.zeros(6, dtype=torch.long)}, "tokens: they must be integers of the form"),
    "tokens that are true": ({"tokens": torch.ones(6, 5, dtype=torch.bool)}, "tokens: they must be integers"),
    "complex tokens": ({"tokens": torch.ones(6, 5, dtype=torch.cfloat)}, "tokens: they must be integers"),
    "a row replaced by itself": (
        {"source": torch.tensor([5, 1, 0, 2, 3, 4])},
        "row 1 is replaced by row 1, of the same tokens",
    ),
    "a single row": (
        {"tokens": torch.arange(5)[None], "source": torch.zeros(1, dtype=torch.long)},
        "row 0 is replaced by row 0, of the same tokens, so that nothing changes; name another of the 1 rows",
    ),
    "a row replaced by an equal one": (
        {"tokens": torch.ones(6, 5, dtype=torch.long)},
        "row 0 is replaced by row 5, of the same tokens",
    ),
    "a row replaced by one that only ends otherwise": (
        {"tokens": torch.tensor([[0, 1, 2], [0, 1, 3]]), "source": torch.tensor([-1, 0])},
        "row 0 is replaced by row 1, of the same tokens",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_argument_that_can_not_be_used_is_named(zoo, bad):
    """A misspelt ablation would otherwise be measured as another one."""
    arguments, said = BAD[bad]
    usual = {"tokens": torch.arange(30).view(6, 5), "source": torch.arange(6).roll(1)}
    with pytest.raises(ValueError, match=re.escape(said)):
        measure(zoo.folded("gpt2"), **usual | arguments)


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_only_resampling_needs_rows_that_differ(zoo, rows, kind):
    m = measure(zoo.folded("gpt2"), rows[:1], torch.zeros(1, dtype=torch.long), kind)
    assert m.delta_logit.abs().max() > 0.01


@pytest.mark.parametrize("dtype", INTEGERS)
def test_tokens_of_any_whole_numbers_are_the_same(zoo, rows, source, dtype):
    model, other = zoo.folded("gpt2"), (rows[:, 1:] + 1) % 97
    found = measure_units(model, rows.to(dtype), source.to(dtype), ["L1.mlp"], other.to(dtype))
    assert torch.equal(found.delta_logit, measure_units(model, rows, source, ["L1.mlp"], other).delta_logit)


def test_a_direction_of_doubles_is_that_of_floats(zoo, rows, source):
    model, vector = zoo.folded("gpt2"), torch.randn(5, 11, 32, generator=torch.Generator().manual_seed(0))
    found, expected = (measure_units(model, rows, source, ["L1.mlp"], v) for v in (vector.double(), vector))
    assert torch.equal(found.delta_logit, expected.delta_logit) and found.delta_logit.dtype == torch.float32


NO_DIRECTION = "direction: it must be a tensor of integers"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tokens: tokens - 97, "is none of the model's 97"),
        (lambda tokens: tokens + 97, "is none of the model's 97"),
        (lambda tokens: tokens > 50, NO_DIRECTION),
        (lambda tokens: tokens.to(torch.cfloat), NO_DIRECTION),
        (lambda tokens: tokens.tolist(), NO_DIRECTION),
    ],
)
def test_a_direction_that_is_none_is_refused(zoo, rows, source, change, said):
    """A negative token would be measured as one from the vocabulary's end."""
    with pytest.raises(ValueError, match=said):
        measure_units(zoo.folded("gpt2"), rows, source, ["L1.attn"], change(rows[:, 1:]))


@pytest.mark.parametrize("units", ["L0H1", [1], [("L0H1",)], None])
def test_units_are_a_list_of_names(zoo, rows, source, units):
    with pytest.raises(TypeError, match="units: they must be a list of names"):
        measure_units(zoo.folded("gpt2"), rows, source, units)


def test_a_model_must_be_loaded(zoo, rows, source):
    for model in (zoo.folder("gpt2"), zoo.hugging_face("gpt2")):
        with pytest.raises(TypeError, match="model: it must be what `load_model` returns, not"):
            measure(model, rows, source)


def test_numbers_that_would_be_rounded_are_refused(zoo, rows, source):
    """Of the last layer's heads the split would sum to the total all the same."""
    model = zoo.folded("gpt2")
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=r"torch\.autocast is on"):
        measure_units(model, rows, source, ["L2H0"])
    along = torch.ones(*rows[:, 1:].shape, model.d_model)
    along[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="direction: it holds NaN or infinite numbers"):
        measure_units(model, rows, source, ["L1.attn"], along)


def test_a_direction_that_is_zero_is_refused(zoo, rows, source):
    with pytest.raises(ValueError, match="direction: it is zero in row 0 at 0; an alternative must be another token"):
        measure_units(zoo.folded("gpt2"), rows, source, ["L1.attn"], rows[:, 1:])
    with pytest.raises(ValueError, match="units: there are none"):
        measure_units(zoo.folded("gpt2"), rows, source, [])


def test_a_unit_in_another_order_is_the_same():
    with pytest.raises(ValueError, match=r"unit 'L1H0\+L0H1' is measured already, as L0H1\+L1H0"):
        coded_units(["L0H1+L1H0", "L1H0+L0H1"], 3, 4)


def test_public_names(zoo, rows, source):
    import selfrepair as sr

    m = sr.measure_units(zoo.folded("gpt2"), rows, source, ["L0.mlp"])
    assert isinstance(m, Measurement)
    assert m.delta_logit.shape == (1, len(rows), rows.shape[1] - 1)
