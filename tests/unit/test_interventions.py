"""Skipped layers and added vectors are what plain runs find that share nothing with each other."""

import numpy as np
import polars as pl
import polars.testing
import pytest
import torch
from torch import Tensor

from selfrepair.ablation import iterative as intervention_run
from selfrepair.ablation.clean import clean_pass
from selfrepair.ablation.clean_run import CleanRun, run_clean
from selfrepair.ablation.interventions import add_to_stream, move_layers
from selfrepair.ablation.iterative import measure_moves, measure_repression, strongest_heads
from selfrepair.ablation.schema import ADDITIONS, MOVES
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import SampledTokens, sample_tokens, token_matrix

ABLATED = [2, 1]  # head of layers 0 and 1
STRENGTHS = [1.0, 3.0]


class Plain:
    """One whole forward pass, nothing of it shared: direct effects of all heads with any scale."""

    @torch.no_grad()
    def __init__(self, model: FoldedModel, rows: Tensor, skip=None, replace=None, add=None) -> None:
        v, _ = model.unembedding(rows[:, 1:])
        resid, self.written, self.pre = model.embed(rows[:, :-1]), [], []
        for index, layer in enumerate(model.layers):
            if add is not None and add[0] == index:
                resid = resid.clone()
                resid[add[1]] += add[2]
            self.pre.append(resid)
            z = model.attention_heads(layer, resid).clone()
            if replace is not None and replace[0] == index:
                z[:, :, replace[1]] = replace[2][:, :, replace[1]]
            heads = torch.einsum("rphd,hde->rphe", z, layer.W_O)
            self.written.append(heads)
            mid = resid + heads.sum(2) + layer.b_O
            if index != skip:
                resid = mid + model.mlp_out(layer, resid if model.parallel else mid)
        self.scale = (resid.square().mean(-1) + model.eps).sqrt() if model.final_norm else torch.ones(rows[:, 1:].shape)
        self.effects = torch.stack([(heads * v[:, :, None]).sum(-1).movedim(-1, 0) for heads in self.written])

    def z(self, model: FoldedModel, index: int) -> Tensor:
        return model.attention_heads(model.layers[index], self.pre[index])


def test_moved_and_ablated_effects_are_those_of_plain_runs(zoo, rows, source, architecture):
    model = zoo.folded(architecture)
    chosen = torch.tensor([4, 1, 2])  # sources lie among them and elsewhere
    found = move_layers(model, rows, source, chosen, ABLATED)
    clean = Plain(model, rows)
    close(found.direct_effect, (clean.effects / clean.scale)[:, :, chosen])
    for layer, head in enumerate(ABLATED):
        skipped = Plain(model, rows, skip=layer)
        ablated = Plain(model, rows, replace=(layer, head, clean.z(model, layer)[source]))
        close(found.moved[layer], (skipped.effects[layer + 1] / clean.scale)[:, chosen])
        close(found.ablated[layer], (ablated.effects[layer + 1] / clean.scale)[:, chosen])
        for changed in (found.moved, found.ablated):
            assert (changed[layer] - found.direct_effect[layer + 1]).abs().max() > 1e-3


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_each_addition_is_a_run_with_one_perturbed_position(zoo, rows, architecture, layer):
    """The original's definition: the vector is there at one position only, and the head is read at the same."""
    model, head = zoo.folded(architecture), 1
    row, pos = torch.tensor([0, 3, 3, 4]), torch.tensor([0, 4, 10, 7])
    other = torch.tensor([0, 2, 3, 2])
    noise = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(3))
    found = add_to_stream(model, rows[row], pos, layer, head, other, noise, STRENGTHS)
    assert found.directions == ("own", "other", "random")
    clean = Plain(model, rows)
    close(found.direct_effect, (clean.effects[layer, head] / clean.scale)[row, pos])
    for token in range(4):
        at = int(row[token]), int(pos[token])
        own, beside = (clean.written[layer][at][h] for h in (head, int(other[token])))
        centred = noise[token] - noise[token].mean()
        vectors = (own, beside, centred / centred.norm() * own.norm())
        for i, vector in enumerate(vectors):
            for j, strength in enumerate(STRENGTHS):
                new = Plain(model, rows, add=(layer, at, strength * vector))
                effect = new.effects[layer, head][at]
                close(found.clean_scale[i, j, token], effect / clean.scale[at])
                close(found.perturbed_scale[i, j, token], effect / new.scale[at])


def test_a_lone_head_has_no_other(zoo, rows):
    model = zoo.folded("gpt2")
    noise = torch.ones(1, model.d_model).cumsum(1)
    found = add_to_stream(model, rows[:1], torch.tensor([5]), 1, 0, None, noise, STRENGTHS)
    assert found.directions == ("own", "random")
    assert found.clean_scale.shape == (2, 2, 1)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max())


@pytest.fixture(scope="module")
def sampled() -> SampledTokens:
    """Nine rows of ten tokens; documents straddle rows."""
    generator = np.random.default_rng(5)
    texts = [generator.integers(1, 97, size=generator.integers(4, 16)).tolist() for _ in range(30)]
    names = pl.DataFrame({"name": [str(i) for i in range(30)], "kind": ["text"] * 30})
    return sample_tokens(encoded=texts, bos=0, separator=0, documents=names, n_rows=9, row_length=10, seed=1)


@pytest.fixture(scope="module")
def clean(zoo, sampled) -> CleanRun:
    return run_clean(zoo.folded("gpt2"), sampled.tokens, 0.2, 5, seed=2)


def test_strongest_heads_come_first(clean):
    order = strongest_heads(clean.selected)
    means = {
        (layer, head): clean.selected.filter(layer=layer, head=head)["direct_effect"].mean() for layer, head in order
    }
    assert len(order) == 12 and order == sorted(order, key=means.get, reverse=True)


@pytest.mark.parametrize("chunk", [20, 10_000])
def test_sums_of_moves_are_of_all_tokens_and_of_top_tokens(zoo, sampled, clean, chunk, monkeypatch):
    """Whatever the batches."""
    monkeypatch.setattr(intervention_run, "chunk_tokens", lambda model: chunk)
    model = zoo.folded("gpt2")
    table = measure_moves(model, sampled.tokens, sampled.rows, clean.selected)
    assert table.schema == {name: column.dtype for name, column in MOVES.items()}
    matrix = torch.from_numpy(token_matrix(sampled.tokens))
    documents = torch.from_numpy(token_matrix(sampled.tokens, "document")[:, 1:])
    source = torch.from_numpy(sampled.rows["source"].to_numpy().astype(np.int64))
    order = strongest_heads(clean.selected)
    ablated = [next(head for at, head in order if at == layer) for layer in range(2)]
    whole = move_layers(model, matrix, source, torch.arange(9), ablated)
    effect = clean_pass(model, matrix).direct_effect
    for layer, head in [(1, 0), (2, 3)]:
        top = torch.zeros(9, 9, dtype=torch.bool)
        for row, pos in clean.selected.filter(layer=layer - 1, head=ablated[layer - 1]).select("row", "pos").rows():
            top[row, pos] = True
        for tokens, mask in (("all", torch.ones_like(top)), ("top", top)):
            of_head = table.filter(layer=layer, head=head, tokens=tokens)
            assert sorted(of_head["document"]) == documents[mask].unique().tolist()
            for row in of_head.iter_rows(named=True):
                here = mask & (documents == row["document"])
                x, y = effect[layer, head][here].double(), whole.moved[layer - 1, head][here].double()
                assert row["n"] == here.sum()
                assert row["ablated_head"] == ablated[layer - 1]
                expected = {
                    "direct_effect": x.sum(),
                    "moved": y.sum(),
                    "ablated": whole.ablated[layer - 1, head][here].double().sum(),
                    "direct_effect_squared": (x * x).sum(),
                    "moved_squared": (y * y).sum(),
                    "direct_effect_moved": (x * y).sum(),
                    "moved_layer_effect": effect[layer - 1].sum(0).double().mean(),
                }
                for name, value in expected.items():
                    assert row[name] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name


def repressed(zoo, sampled, clean, count=9) -> pl.DataFrame:
    heads = [(1, 2), (2, 0)]
    return measure_repression(
        zoo.folded("gpt2"), sampled.tokens, clean.tokens, clean.selected, heads, STRENGTHS, count, seed=4
    )


def test_additions_are_at_top_tokens_and_know_their_documents(zoo, sampled, clean):
    table = repressed(zoo, sampled, clean)
    assert table.schema == {name: column.dtype for name, column in ADDITIONS.items()}
    places = ["layer", "head", "row", "pos"]
    assert table.group_by("layer", "head", "direction", "strength").len()["len"].to_list() == [9] * 12
    assert len(table.unique([*places, "direction", "strength"])) == len(table)
    joined = table.join(clean.selected, on=places, how="left", suffix="_selected")
    difference = joined["direct_effect"] - joined["direct_effect_selected"]
    assert difference.null_count() == 0 and difference.abs().max() < 1e-5
    joined = table.join(clean.tokens, on=["row", "pos"], suffix="_clean")
    assert (joined["document"] == joined["document_clean"]).all()


def test_additions_are_written_to_the_right_rows(zoo, sampled, clean):
    model = zoo.folded("gpt2")
    matrix = torch.from_numpy(token_matrix(sampled.tokens))
    plain = Plain(model, matrix)
    for row in repressed(zoo, sampled, clean).filter(direction="own").iter_rows(named=True):
        layer, head, at = row["layer"], row["head"], (row["row"], row["pos"])
        new = Plain(model, matrix, add=(layer, at, row["strength"] * plain.written[layer][at][head]))
        effect = new.effects[layer, head][at]
        assert row["new_direct_effect"] == pytest.approx(float(effect / plain.scale[at]), rel=1e-4, abs=1e-5)
        assert row["new_direct_effect_perturbed"] == pytest.approx(float(effect / new.scale[at]), rel=1e-4, abs=1e-5)


def test_additions_do_not_depend_on_batches(zoo, sampled, clean, monkeypatch):
    whole = repressed(zoo, sampled, clean)
    monkeypatch.setattr(intervention_run, "chunk_tokens", lambda model: 20)
    key = ["layer", "head", "row", "pos", "direction", "strength"]
    pl.testing.assert_frame_equal(repressed(zoo, sampled, clean).sort(key), whole.sort(key), rel_tol=1e-4, abs_tol=1e-5)


def test_all_top_tokens_are_taken_where_there_are_fewer(zoo, sampled, clean):
    table = repressed(zoo, sampled, clean, count=1000)
    per_head = len(clean.selected.filter(layer=1, head=2))
    assert len(table) == per_head * 2 * 3 * len(STRENGTHS)
