"""A model that has learned nothing holds no more claims than chance allows, judged as if it were any other model."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

import selfrepair as sr
from selfrepair.ablation.chosen_heads import choose_heads, distinct
from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.neurons import ablate_with_neurons
from selfrepair.ablation.shard import ablate_shard
from selfrepair.claims.bootstrap import head_statistics, neuron_statistics
from selfrepair.claims.statistics import HEAD_STATISTICS, NEURON_STATISTICS, OF_EXPERIMENTS, Tables
from selfrepair.claims.verdicts import HELD, Claim, Model, evaluate
from selfrepair.models.shuffle import shuffle_model
from selfrepair.tokens.corpora import read_corpus
from selfrepair.tokens.rows import SampledTokens, sample_tokens
from selfrepair.tokens.tokenizer import encode

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "workflow/resources/models"
CORPUS = ROOT / "workflow/resources/corpora/python-stdlib/corpus.parquet"
LISTED = [Claim(**entry) for entry in yaml.safe_load((ROOT / "config/claims.yaml").read_text())["claims"]]
CLAIMS = [claim for claim in LISTED if claim.counted and claim.statistic not in OF_EXPERIMENTS]
ALLOWED = 2  # of 24


@pytest.fixture(scope="module")
def sampled() -> SampledTokens:
    documents = read_corpus(CORPUS, "text", "held_out", kinds=[]).head(60)
    return sample_tokens(*encode(MODELS / "tiny-gpt2", documents["text"].to_list()), documents, 20, 48, seed=1)


def tables(folder: Path, sampled: SampledTokens) -> Tables:
    """What claims are judged by, of a model on a small sample."""
    model = sr.load_model(folder)
    clean = run_clean(model, sampled.tokens, 0.05, 100, seed=1)
    kept, sums, _ = ablate_shard(model, sampled.tokens, sampled.rows, clean, "resample", model.heads, 0, 1)
    chosen = choose_heads("m", kept, [], 1)
    inputs = (model, sampled.tokens, sampled.rows, clean.selected, distinct(chosen))
    neurons = ablate_with_neurons(*inputs, [-1], 0.05)
    of_heads = head_statistics("m", kept, sums, clean.tokens, 0.05, 200, 1)
    of_neurons = neuron_statistics("m", neurons.tokens, chosen, clean.tokens, of_heads, 200, 1)
    return Tables({HEAD_STATISTICS: of_heads, NEURON_STATISTICS: of_neurons})


def held(folder: Path, sampled: SampledTokens, tmp_path: Path) -> list[str]:
    """Claims that held for a model, each against the model's own twin."""
    twin = tables(shuffle_model(folder, 7, tmp_path / "twin"), sampled)
    model = Model(tables(folder, sampled), sr.load_model(folder).parallel, twin)
    return [entry["id"] for entry in evaluate(CLAIMS, {"m": model}) if entry["others"][HELD]]


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-pythia", "tiny-llama"])
def test_shuffled_weights_hold_what_chance_allows(name: str, sampled: SampledTokens, tmp_path: Path) -> None:
    found = held(shuffle_model(MODELS / name, 11, tmp_path / "shuffled"), sampled, tmp_path)
    assert len(CLAIMS) == 24 and len(found) <= ALLOWED, found


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-pythia", "tiny-llama"])
def test_random_weights_hold_what_chance_allows(name: str, sampled: SampledTokens, tmp_path: Path) -> None:
    torch.manual_seed(3)
    folder = tmp_path / "random"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODELS / name)).save_pretrained(folder)
    found = held(folder, sampled, tmp_path)
    assert len(found) <= ALLOWED, found


def test_a_trained_model_holds_many(sampled: SampledTokens, tmp_path: Path) -> None:
    """Otherwise the test above would be met by verdicts that are never `held`."""
    assert len(held(MODELS / "tiny-gpt2", sampled, tmp_path)) >= 8


def test_a_twin_has_the_same_entries_in_another_order(tmp_path: Path) -> None:
    twin = shuffle_model(MODELS / "tiny-gpt2", 1, tmp_path / "twin")
    before, after = (load_file(folder / "model.safetensors") for folder in (MODELS / "tiny-gpt2", twin))
    assert set(before) == set(after)
    for name, tensor in before.items():
        assert torch.equal(tensor.flatten().sort().values, after[name].flatten().sort().values), name
    moved = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert {name for name in before if before[name].unique().numel() > 1} <= set(moved)
    again = load_file(shuffle_model(MODELS / "tiny-gpt2", 1, tmp_path / "again") / "model.safetensors")
    assert all(torch.equal(after[name], again[name]) for name in after)
    other = load_file(shuffle_model(MODELS / "tiny-gpt2", 2, tmp_path / "other") / "model.safetensors")
    assert not torch.equal(after["transformer.wte.weight"], other["transformer.wte.weight"])
    assert (twin / "tokenizer.json").is_file()
