"""Real models that others trained, where they are at hand: loading, folding and measuring hold on real weights."""

import polars as pl
import pytest
import torch

import selfrepair as sr
from selfrepair.models.directory import read_model_info
from selfrepair.tokens.rows import sample_tokens, token_matrix
from selfrepair.tokens.tokenizer import encode

N_ROWS, LENGTH = 8, 48


@pytest.fixture(scope="module", params=["stories260K", "gpt280K"])
def measured(request, shared):
    """A model, rows of stories it knows, and its measurement."""
    folder = shared(f"models/{request.param}")
    text = shared("text/tinystories/tinystories_sample_2MiB.txt").read_text()[:60_000]
    stories = [story.strip() for story in text.split("<|endoftext|>")][:-1]
    encoded, bos, separator = encode(folder, stories)
    names = pl.DataFrame({"name": [str(i) for i in range(len(stories))], "kind": ["text"] * len(stories)})
    sampled = sample_tokens(
        encoded=encoded, bos=bos, separator=separator, documents=names, n_rows=N_ROWS, row_length=LENGTH, seed=0
    )
    tokens = torch.from_numpy(token_matrix(sampled.tokens))
    source = torch.tensor(sampled.rows.sort("row")["source"].to_list())
    model = sr.load_model(folder)
    return folder, model, tokens, sr.measure(model, tokens, source, ablation="resample")


def test_the_model_is_the_directorys(measured):
    folder, model, _, _ = measured
    info = read_model_info(folder)
    assert (model.name, model.family, model.n_layers, model.n_heads) == (folder.name, info.family, 5, 8)


@torch.no_grad()
def test_folding_changes_no_log_probability(measured):
    """gpt280K's unembedding is poorly centred on purpose: folding must centre it without moving a prediction."""
    from transformers import AutoModelForCausalLM

    folder, model, tokens, _ = measured
    expected = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()(tokens).logits
    found = model.logits(tokens)
    assert (found.log_softmax(-1) - expected.log_softmax(-1)).abs().max() < 1e-5 * expected.abs().max()
    assert found.mean(-1).abs().max() < 1e-4


@torch.no_grad()
def test_the_model_knows_its_stories(measured):
    """Its loss is far below that of guessing (6.2): tokens and weights belong together."""
    _, model, tokens, _ = measured
    log_probability = model.logits(tokens)[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])
    assert -log_probability.mean() < 3


def test_the_decomposition_holds_on_every_token(measured):
    _, _, _, m = measured
    parts = m.repair_attention.sum(2) + m.repair_mlp.sum(2) + m.repair_norm
    assert ((m.self_repair - parts).abs().amax(-1) / m.logit.abs().amax(-1)).max() < 1e-5


def test_top_tokens_suffer_less_than_their_direct_effect(measured):
    """The paper's finding in small: ablating costs the tokens that a head helps most, on average over heads."""
    _, _, _, m = measured
    effect, delta = m.direct_effect.flatten(2).flatten(0, 1), m.delta_logit.flatten(2).flatten(0, 1)
    top = effect.topk(effect.shape[1] // 50, dim=1).indices
    assert effect.gather(1, top).mean() > 0.2
    assert delta.gather(1, top).mean() < 0
