"""Training is resumable to the bit, its baseline is right, and what it writes is a model directory."""

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from selfrepair.models import train as train_module
from selfrepair.models.families import DECODER
from selfrepair.models.load import load_model
from selfrepair.models.train import Training, bigram_loss, checkpoint_steps, rows_at, token_stream, train
from selfrepair.tokens.tokenizer import train_bpe

STEPS = 12
TEXTS = ["the cat sat on the mat and the dog sat on the log\n" * 3, "a bird in the hand is worth two in the bush\n" * 3]
TOKENIZER = train_bpe(TEXTS, 270)
ARCHITECTURES = {
    "gpt2": {
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 16,
        "attn_pdrop": 0,
        "embd_pdrop": 0,
        "resid_pdrop": 0,
    },
    "llama": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
        "tie_word_embeddings": True,
    },
    DECODER: {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
        "dropout": 0.2,
    },
}


def training(family: str, **changes: object) -> Training:
    settings = {
        "architecture": {"model_type": family} | ARCHITECTURES[family],
        "steps": STEPS,
        "batch_rows": 3,
        "row_length": 12,
        "learning_rate": 3e-3,
        "warmup_steps": 4,
        "weight_decay": 0.1,
        "seed": 5,
        "checkpoints": 3,
    }
    return Training(**settings | changes)


def run(folder: Path, family: str, **changes: object) -> Path:
    stream = token_stream(TEXTS * 3, TOKENIZER)
    train(
        training(family, **changes),
        TOKENIZER,
        stream,
        stream[:100],
        folder / "model",
        folder / "state",
        lambda line: None,
    )
    return folder / "model"


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Save and log as often as twelve steps allow."""
    monkeypatch.setattr(train_module, "SAVE_EVERY", 4)
    monkeypatch.setattr(train_module, "LOG_EVERY", 2)
    monkeypatch.setattr(train_module, "EVALUATE_EVERY", 4)


class KilledError(RuntimeError):
    pass


@pytest.mark.parametrize("family", list(ARCHITECTURES))
@pytest.mark.parametrize("died_at", [3, 6, 9])
def test_a_killed_training_resumes_to_the_same_model(tmp_path, monkeypatch, family, died_at):
    """Otherwise the shipped weights could not be made again on a machine that was interrupted."""
    whole = run(tmp_path / "whole", family)
    schedule = train_module._schedule

    def dying(step: int, settings: Training) -> float:
        if step == died_at:
            raise KilledError
        return schedule(step, settings)

    monkeypatch.setattr(train_module, "_schedule", dying)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", family)
    assert not (tmp_path / "killed" / "model").exists()
    monkeypatch.setattr(train_module, "_schedule", schedule)
    resumed = run(tmp_path / "killed", family)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(files) == 4  # the model and three checkpoints
    assert files == sorted(path.relative_to(resumed) for path in resumed.rglob("*.safetensors"))
    for file in files:
        expected, found = load_file(whole / file), load_file(resumed / file)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected), file
    logs = [pl.read_csv(folder / "training.csv").drop("seconds") for folder in (whole, resumed)]
    assert logs[0].equals(logs[1])


def test_a_training_never_resumes_from_the_state_of_another(tmp_path, monkeypatch):
    """Otherwise changed settings would be written beside weights that they did not make."""
    monkeypatch.setattr(train_module, "_finish", stop)
    with pytest.raises(KilledError):
        run(tmp_path, "gpt2")
    monkeypatch.undo()
    after = load_file(run(tmp_path, "gpt2", seed=77) / "model.safetensors")
    alone = load_file(run(tmp_path / "alone", "gpt2", seed=77) / "model.safetensors")
    assert all(torch.equal(after[name], alone[name]) for name in alone)
    assert not (tmp_path / "state").exists()


def stop(*arguments: object) -> None:
    raise KilledError


def test_what_training_writes_is_a_model_that_learned(tmp_path):
    folder = run(tmp_path, "llama", steps=60, learning_rate=1e-2)
    assert (folder / "tokenizer.json").is_file()
    log = pl.read_csv(folder / "training.csv")
    assert log.columns == ["step", "tokens", "learning_rate", "train_loss", "held_out_loss", "seconds"]
    assert log["train_loss"][-1] < log["train_loss"][0] - 1
    summary = json.loads((folder / "training.json").read_text())
    assert summary["training"]["steps"] == 60
    assert math.isfinite(summary["held_out_loss_bigram"])
    # The loss that it reports is that of the model that others load.
    model = load_model(folder)
    held_out = token_stream(TEXTS * 3, TOKENIZER)[:100]
    rows = rows_at(held_out, torch.arange(0, 88, 11), 12, 0)
    with torch.no_grad():
        logs = model.logits(rows[:, :-1]).log_softmax(-1).gather(-1, rows[:, 1:, None])
    assert -logs.mean().item() == pytest.approx(summary["held_out_loss"], rel=1e-4)
    for checkpoint in (folder / "checkpoints").iterdir():
        assert load_model(checkpoint).n_layers == 2
    assert summary["parameters"] == sum(t.numel() for t in load_file(folder / "model.safetensors").values())


def test_a_diverging_training_stops(tmp_path):
    with pytest.raises(FloatingPointError, match=r"training diverged at step \d+: loss .*; lower learning_rate"):
        run(tmp_path, "gpt2", learning_rate=1e38, warmup_steps=1)


def test_the_rate_warms_up_and_falls_to_zero():
    settings = training("gpt2")
    rates = [train_module._schedule(step, settings) for step in range(1, STEPS + 1)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize(("steps", "count"), [(20000, 12), (1000, 4), (12, 3), (100, 2), (100, 1), (100, 0)])
def test_checkpoints_are_spaced_by_their_logarithm(steps, count):
    """Early training, where most changes, gets as many checkpoints as late training."""
    chosen = checkpoint_steps(steps, count)
    assert len(chosen) == count
    if count:
        assert chosen[-1] == steps
    if count > 2:
        assert chosen[0] == 1
        ratios = [b / a for a, b in pairwise(chosen)]
        assert ratios == pytest.approx([steps ** (1 / (count - 1))] * (count - 1), rel=0.35)


def brute_bigram_loss(train_tokens: list[int], rows: list[list[int]], vocabulary_size: int) -> float:
    """Witten-Bell: after n sightings of a token with k distinct successors the bigram weighs n / (n + k)."""
    unigram, pairs = Counter(train_tokens), Counter(pairwise(train_tokens))
    losses = []
    for row in rows:
        for first, second in pairwise(row):
            single = (unigram[second] + 1) / (len(train_tokens) + vocabulary_size)
            n = sum(count for (a, _), count in pairs.items() if a == first)
            k = sum(1 for a, _ in pairs if a == first)
            probability = single if n == 0 else n / (n + k) * pairs[first, second] / n + k / (n + k) * single
            losses.append(-math.log(probability))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("unseen", [False, True])
def test_the_bigram_baseline(unseen):
    """A model is worth measuring if it beats this; after a token never seen in training the unigram model speaks."""
    generator = torch.Generator().manual_seed(0)
    stream = torch.randint(0, 6, (200,), generator=generator)
    rows = torch.randint(0, 7 if unseen else 6, (4, 9), generator=generator)
    expected = brute_bigram_loss(stream.tolist(), rows.tolist(), 8)
    assert bigram_loss(stream, rows, 8) == pytest.approx(expected)


def test_rows_begin_with_the_beginning_of_text():
    rows = rows_at(torch.arange(10, 30), torch.tensor([0, 5]), 4, bos=0)
    assert rows.tolist() == [[0, 10, 11, 12], [0, 15, 16, 17]]


def test_documents_end_with_a_separator():
    stream = token_stream(["a b", "c"], TOKENIZER).tolist()
    assert stream == [*TOKENIZER.encode("a b").ids, 0, *TOKENIZER.encode("c").ids, 0]


def test_a_tokenizer_that_cuts_or_fills_up_texts_gives_the_whole_stream() -> None:
    odd = train_bpe(TEXTS, 270)
    odd.enable_truncation(4)
    odd.enable_padding(length=500)
    assert torch.equal(token_stream(TEXTS, odd), token_stream(TEXTS, TOKENIZER))
