"""A controlled family's configuration: what the decoder can't be, and arms that would be the base, are refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from family import SCHEMA, Family, read_family
from huggingface_hub.errors import StrictDataclassClassValidationError
from snakemake.exceptions import WorkflowError

from selfrepair.models.decoder import NORMS, DecoderConfig
from selfrepair.models.directory import ACTIVATIONS

ROOT = Path(__file__).parents[2]
ARCHITECTURE, KEPT = Path("config/studies/architecture.yaml"), Path("results/studies/architecture")
PLANNED = {
    "dropout": {"dropout": 0.1},
    "grouped": {"num_key_value_heads": 2},
    "tied": {"tie_word_embeddings": True},
    "deep": {"num_hidden_layers": 8, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256},
}
OF_TRAINING = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}
NOT_VARIED = {"rope_parameters"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is kept can be damaged, and Snakemake's notes are not the project's."""
    for shared in ("config", "workflow"):
        (tmp_path / shared).symlink_to(ROOT / shared)
    shutil.copytree(ROOT / KEPT, tmp_path / KEPT)
    monkeypatch.chdir(tmp_path)


def read(change: Callable[[dict[str, Any]], object] = lambda config: None) -> Family:
    config = yaml.safe_load(ARCHITECTURE.read_text())
    change(config)
    return read_family(config, [ARCHITECTURE])


def test_the_schema_has_the_decoders_fields_and_defaults() -> None:
    """Else a new switch could not be used, or an arm be taken for another than the base that is the same."""
    fields = yaml.safe_load(SCHEMA.read_text())["$defs"]["features"]["properties"]
    assert set(fields) == set(DecoderConfig.__annotations__) - OF_TRAINING - NOT_VARIED
    decoder = DecoderConfig()
    assert {name: field.get("default") for name, field in fields.items()} == {n: getattr(decoder, n) for n in fields}
    assert fields["norm"]["enum"] == list(NORMS) and set(fields["hidden_act"]["enum"]) <= set(ACTIVATIONS)


def test_every_planned_arm_is_accepted_and_what_is_kept_stays_so() -> None:
    family = read(lambda config: config["arms"].update(PLANNED))
    assert all(map(family.is_kept, ["base-1", "rotary-2", "swiglu-3", "dropout-1"])) and not family.is_kept("deep-1")
    for features in ({}, *family.config["arms"].values()):
        DecoderConfig(**family.config["base"] | features)


def test_what_the_decoder_refuses_is_refused_beforehand() -> None:
    for features in ({"num_key_value_heads": 3}, {"norm": "rms", "final_norm": False}, {"num_attention_heads": 7}):
        with pytest.raises(StrictDataclassClassValidationError):
            DecoderConfig(**features)
        with pytest.raises(WorkflowError, match=r"^arms\.odd"):
            read(lambda config, features=features: config["arms"].update(odd=features))


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"rotray": True}, "arms.odd: unknown key rotray; allowed are dropout, final_norm"),
        ({"model_type": "gpt2"}, "arms.odd: unknown key model_type"),
        ({"vocab_size": 9}, "arms.odd: unknown key vocab_size"),
        ({"dropout": 1.0}, "arms.odd.dropout: 1.0 is greater than or equal to the maximum of 1"),
        ({"dropout": -1}, "arms.odd.dropout: -1 is less than the minimum of 0"),
        ({"num_hidden_layers": 1}, "arms.odd.num_hidden_layers: 1 is less than the minimum of 2"),
        ({"num_attention_heads": 7}, "arms.odd.num_attention_heads: 7 do not divide a hidden_size of 128; change"),
        ({"num_key_value_heads": 3}, "arms.odd.num_key_value_heads: 3 do not divide the 8 heads; change"),
        ({"rotary": True, "hidden_size": 120}, "arms.odd.rotary: it turns pairs"),
        ({"norm": "batch"}, "arms.odd.norm: 'batch' is not one of ['layer', 'rms']"),
        ({"norm": "rms", "final_norm": False}, "arms.odd.norm: without a final norm"),
        ({"hidden_act": "mish"}, "arms.odd.hidden_act: 'mish' is not one of"),
        ({"hidden_size": "128"}, "arms.odd.hidden_size: '128' is not of type 'integer'"),
        ({"rotary": 1}, "arms.odd.rotary: 1 is not of type 'boolean'"),
        ({"hidden_size": 10**9}, "arms.odd.hidden_size: 1000000000 is greater than the maximum"),
        (
            {"max_position_embeddings": 127},
            "arms.odd.max_position_embeddings: 127 are fewer than the 128 tokens of a row",
        ),
        ({"dropout": 0, "rotary": False, "num_key_value_heads": 8}, "arms.odd: it does not differ from base; change"),
        ({"rotary": True}, "arms.odd: it does not differ from arms.rotary; change"),
        ({}, "arms.odd: {} should be non-empty"),
    ],
)
def test_an_arm_that_is_none_is_refused(features: dict[str, Any], said: str) -> None:
    """Otherwise the base would be trained under the arm's name, or a job fail after hours."""
    with pytest.raises(WorkflowError, match=f"^{re.escape(said)}"):
        read(lambda config: config["arms"].update(odd=features))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["base"].update(rotray=True), "base: unknown key rotray"),
        (lambda c: c["base"].update(num_hidden_layers=0), "base.num_hidden_layers: 0 is less than the minimum of 2"),
        (lambda c: c["base"].update(max_position_embeddings=100), "base.max_position_embeddings: 100 are fewer than"),
        (lambda c: c["measured"].update(row_length=129), "base.max_position_embeddings: 128 are fewer than the 129"),
        (lambda c: c["training"].update(checkpoints=[1, 2201]), "training.checkpoints: they must ascend and end"),
        (lambda c: c["measured"].update(rows=10**9), "measured.rows: 1000000000 is greater than the maximum"),
        (lambda c: c["adaptation"].update(rows=10**9), "adaptation.rows: 1000000000 is greater than the maximum"),
        (lambda c: c["training"].update(batch_rows=10**9), "training.batch_rows: 1000000000 is greater than"),
        (lambda c: c.update(corpus="README.md"), "corpus: 'README.md' does not match"),
        (lambda c: c.update(corpus="docs"), "corpus: 'docs' does not match"),
        (lambda c: c.update(corpus="no.parquet"), "corpus: corpus no.parquet does not exist"),
        (
            lambda c: c.update(corpus="c[1].parquet"),
            "corpus: corpus c[1].parquet does not exist; correct its path",
        ),
        (lambda c: c.update(tokenizer="models/{x}"), "tokenizer: `models/{x}` holds a brace"),
        (lambda c: c.update(tokenizer="docs"), "tokenizer: docs holds no tokenizer.json; put it there"),
    ],
)
def test_a_family_that_can_not_be_made_is_refused(change: Callable[[dict], object], said: str) -> None:
    with pytest.raises(WorkflowError, match=f"^{re.escape(said)}"):
        read(change)


def test_a_corpus_without_its_splits_is_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.parquet"
    pl.DataFrame({"text": ["a"], "split": ["train"]}).write_parquet(corpus)
    with pytest.raises(WorkflowError, match=r"^corpus: .* has no document of split held_out"):
        read(lambda config: config.update(corpus=str(corpus)))


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("arms/base-1/arm.json", '{"arm": "base", "se', "Unterminated string"),
        ("arms/rotary-2/arm.json", "[]", "it holds no JSON object"),
        ("arms/base-3/adaptation.json", "{}", "it lacks `training`"),
        ("arms.csv", "a,b\n1,2\n", "KeyError\\('arm'\\)"),
        ("differences.csv", "arm,bound\nrotary\n", "TypeError"),
        ("evidence.csv", "step\n1\n", "KeyError\\('seed'\\)"),
    ],
)
def test_a_damaged_kept_file_is_named(file: str, content: str, why: str) -> None:
    """Otherwise planning would end in a traceback, or what took hours be made again."""
    assert read().is_compared
    kept = KEPT / file
    kept.write_text(content)
    with pytest.raises(WorkflowError, match=rf"^{kept} is damaged \({why}.*\); `git checkout -- {kept}` restores it$"):
        _ = read().is_compared


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "{", "can't be read as JSON"),
        (lambda text: "[]", "holds no tokenizer"),
        (lambda text: text.replace('"dropout": null', '"dropout": 0.5'), "with a `dropout` of 0.5 .* set it to null"),
        (lambda text: text.replace("<|endoftext|>", "<s>"), "has no token <|endoftext|>, which separates"),
    ],
)
def test_a_tokenizer_that_can_not_serve_is_refused(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(ROOT / "workflow/resources/models/tiny-gpt2", folder, ignore=shutil.ignore_patterns("checkpoints"))
    file = folder / "tokenizer.json"
    assert json.loads(file.read_text())
    file.write_text(change(file.read_text()))
    with pytest.raises(WorkflowError, match=said.replace("|", r"\|")):
        read(lambda config: config.update(tokenizer=str(folder)))
