"""`tokenize` gives the rows that the workflow would, whatever beginning-of-text token there is."""

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

import selfrepair as sr
from selfrepair.models.directory import ModelDirectoryError
from selfrepair.tokens.corpus_file import CorpusError

MODEL = Path(__file__).parents[2] / "workflow/resources/models/tiny-gpt2"
TEXT = "Return a new array of given shape and type, filled with zeros. " * 20


def without(folder: Path, *tokens: str) -> Path:
    """The tokenizer of the shipped models, less some of its special tokens."""
    folder.mkdir()
    for file in MODEL.glob("tokenizer*"):
        shutil.copy(file, folder)
    config = folder / "tokenizer_config.json"
    lines = [line for line in config.read_text().splitlines() if not any(f'"{token}"' in line for token in tokens)]
    config.write_text("\n".join(lines))
    return folder


def test_rows_begin_with_bos_and_hold_the_text_in_order() -> None:
    tokens = sr.tokenize(MODEL, TEXT, row_length=16)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert tokens.shape == (len(ids) // 15, 16) and tokens.dtype == torch.int64
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    assert tokens[:, 1:].flatten().tolist() == ids[: tokens[:, 1:].numel()]
    assert torch.equal(sr.tokenize(sr.load_model(MODEL), TEXT, 16), tokens)


def test_a_tokenizer_without_bos_takes_its_end_of_text(tmp_path: Path) -> None:
    folder = without(tmp_path / "eos", "bos_token")
    assert AutoTokenizer.from_pretrained(folder).bos_token_id is None
    assert torch.equal(sr.tokenize(folder, TEXT, 16), sr.tokenize(MODEL, TEXT, 16))


def test_what_cannot_be_cut_into_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a row of 128 needs 127"):
        sr.tokenize(MODEL, "too short", 128)
    for model in (MODEL, sr.load_model(MODEL)):
        with pytest.raises(ValueError, match="129 is more than the 128 positions"):
            sr.tokenize(model, TEXT, 129)
    with pytest.raises(ModelDirectoryError, match="owner/name does not exist; for a model of a hub"):
        sr.tokenize("owner/name", TEXT, 16)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelDirectoryError, match=r"config\.json can't be read as JSON"):
        sr.tokenize(tmp_path, TEXT, 16)
    with pytest.raises(ValueError, match="at least 2"):
        sr.tokenize(MODEL, TEXT, 1)
    with pytest.raises(CorpusError, match="no bos_token and no eos_token"):
        sr.tokenize(without(tmp_path / "none", "bos_token", "eos_token"), TEXT, 16)
    with pytest.raises(ValueError, match="row_length: it must be a whole number, not 16"):
        sr.tokenize(MODEL, TEXT, 16.0)
    with pytest.raises(TypeError, match="model: it must be what `load_model` returns, or a path, not NoneType"):
        sr.tokenize(None, TEXT, 16)
    with pytest.raises(CorpusError, match=r"a text holds .*ud800', half of a character"):
        sr.tokenize(MODEL, TEXT + "\ud800", 16)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen2"])
def test_a_directory_without_a_tokenizer_is_said_to_be_one(tmp_path: Path, family: str) -> None:
    """transformers invents an empty one, by which every text has no tokens."""
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    with pytest.raises(CorpusError, match="holds no tokenizer; put its"):
        sr.tokenize(tmp_path, TEXT, 16)


def test_a_tokenizer_that_fails_on_a_text_is_named(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "<s>": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>").save_pretrained(tmp_path)
    with pytest.raises(CorpusError, match=f"{tmp_path}: the tokenizer fails on a text .*UNK"):
        sr.tokenize(tmp_path, TEXT, 16)
