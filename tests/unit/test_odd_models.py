"""Model directories as people have them: read as Hugging Face reads them, or refused by what they are."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from selfrepair.ablation.clean import clean_pass
from selfrepair.models.directory import DEFAULT_POSITIONS, POSITIONS, SUPPORTED, ModelDirectoryError
from selfrepair.models.load import fold_to_disk, load_model
from tests.conftest import VOCABULARY

TOKENS = torch.randint(
    VOCABULARY, (2, 48), generator=torch.Generator().manual_seed(3)
)  # past every window, and the check


def edited(folder: Path, **fields: object) -> Path:
    """Change the configuration; a field that is None is set to null."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def without(folder: Path, *fields: str) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in fields}))
    return folder


def index(folder: Path, text: str) -> None:
    (folder / "model.safetensors").rename(folder / "x.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)


def tokenizer(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)


def stale_index(folder: Path) -> Path:
    """Shards of another model and their index beside the whole file, as `save_pretrained` leaves them."""
    other = AutoModelForCausalLM.from_pretrained(folder)
    for parameter in other.parameters():
        parameter.data = -parameter.data
    whole = folder / "model.safetensors"
    kept = whole.read_bytes()
    other.save_pretrained(folder, max_shard_size="20KB")
    assert (folder / "model.safetensors.index.json").is_file()
    whole.write_bytes(kept)
    return folder


# By what is odd: the model of the zoo, and the change.
READ: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "a whole file beside shards of another model": ("llama_gqa", stale_index),
    "Llama that names a window": (
        "llama_gqa",
        lambda folder: edited(folder, layer_types=["sliding_attention"] * 3, sliding_window=5),
    ),
    "GPT-2 with another family's activation": ("gpt2", lambda folder: edited(folder, hidden_act="relu")),
    "Llama with another family's activation": ("llama_gqa", lambda f: edited(f, activation_function="relu")),
    "GPT-2 with key-value heads": ("gpt2", lambda folder: edited(folder, num_key_value_heads=2)),
    "NeoX with key-value heads": ("neox_parallel", lambda folder: edited(folder, num_key_value_heads=2)),
    "Llama that does not say how long rows may be": ("llama_gqa", lambda folder: without(folder, *POSITIONS)),
    "quantization_config: null": ("gpt2", lambda folder: edited(folder, quantization_config=None)),
    "an attention that needs a package": (
        "llama_gqa",
        lambda folder: edited(folder, _attn_implementation="flash_attention_2"),
    ),
}
REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "weights of MLX": (
        "llama_gqa",
        lambda folder: edited(folder, quantization={"group_size": 64, "bits": 4}),
        "quantization (weights of MLX) is not supported",
    ),
    "a configuration without layers": (
        "gpt2",
        lambda folder: without(folder, "n_layer"),
        "n_layer or num_layers is None",
    ),
    "a configuration that is a list": (
        "gpt2",
        lambda folder: (folder / "config.json").write_text("[]"),
        "config.json is no JSON object",
    ),
    "a tokenizer of another model": (
        "gpt2",
        lambda folder: tokenizer(folder, '{"model": {"vocab": {"a": 0, "b": 97}}}'),
        "has the token 97, but the model's embedding has 97 rows",
    ),
    "a tokenizer of pieces, of another model": (
        "llama_gqa",
        lambda folder: tokenizer(folder, json.dumps({"model": {"vocab": [["a", 0.0]] * 98}})),
        "has the token 97, but the model's embedding has 97 rows",
    ),
    "a tokenizer cut short": ("gpt2", lambda folder: tokenizer(folder, '{"model": {'), "tokenizer.json is corrupt"),
    "an index that is a list": (
        "gpt2",
        lambda folder: index(folder, "[]"),
        "model.safetensors.index.json is corrupt",
    ),
    "an index without a map": (
        "gpt2",
        lambda folder: index(folder, '{"weight_map": null}'),
        "model.safetensors.index.json is corrupt",
    ),
}


@pytest.fixture
def copy(zoo, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(zoo.folder(name), tmp_path / name))


@pytest.mark.parametrize("odd", READ)
def test_an_odd_directory_is_read_as_hugging_face_reads_it(copy, odd: str) -> None:
    name, change = READ[odd]
    folder = change(copy(name))
    config = AutoConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    theirs = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = theirs(TOKENS).logits[:, :-1]
    expected = (logits - logits.mean(-1, keepdim=True)).gather(2, TOKENS[:, 1:, None])[..., 0]
    found = clean_pass(load_model(folder), TOKENS).logit
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * logits.abs().max().item())


@pytest.mark.parametrize("family", SUPPORTED)
def test_lengths_of_rows_that_are_not_said_are_those_of_hugging_faces_classes(family: str) -> None:
    defaults = AutoConfig.for_model(family)
    assert DEFAULT_POSITIONS[family] == next(getattr(defaults, name) for name in POSITIONS if hasattr(defaults, name))


@pytest.mark.parametrize("odd", REFUSED)
def test_what_can_not_be_read_is_refused_by_what_it_is(copy, odd: str) -> None:
    name, change, said = REFUSED[odd]
    folder = copy(name)
    change(folder)
    with pytest.raises(ModelDirectoryError, match=re.escape(said)):
        load_model(folder)


def test_the_check_reaches_as_far_as_the_rows_that_are_measured(copy, tmp_path: Path, monkeypatch) -> None:
    """A fault that shows late in a row only, here in positions beyond the fortieth, is found if rows are as long."""
    from selfrepair.models import fold

    original = fold._rest

    def damaged(*args):
        rest = original(*args)
        rest.W_pos[40:] += 1
        return rest

    monkeypatch.setattr(fold, "_rest", damaged)
    folder = copy("gpt2")
    fold_to_disk(folder, "gpt2", tmp_path / "short", "float32", row_length=16)
    with pytest.raises(ValueError, match="log-probabilities of the folded model differ"):
        fold_to_disk(folder, "gpt2", tmp_path / "long", "float32", row_length=64)
