"""Folding changes no prediction and centres what it must, and bad directories are refused clearly."""

import json
import re
import shutil
from inspect import unwrap
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from selfrepair.models import checkpoint, fold
from selfrepair.models.checkpoint import Checkpoint
from selfrepair.models.directory import SUPPORTED, ModelDirectoryError, check_heads, parse_head, read_model_info
from selfrepair.models.load import load_model

LAYER_NORM = ["gpt2", "gpt2_untied", "neox_parallel", "neox_sequential", "opt", "gpt_neo"]


@torch.no_grad()
def test_folding_changes_no_log_probability(zoo, rows, architecture):
    """Otherwise what is measured is not the model."""
    expected = zoo.hugging_face(architecture)(rows).logits
    found = zoo.folded(architecture).logits(rows)
    error = (found.log_softmax(-1) - expected.log_softmax(-1)).abs().max() / expected.abs().max()
    assert error < 1e-5


@torch.no_grad()
def test_logits_are_centred_over_the_vocabulary(zoo, rows, architecture):
    """Otherwise a constant added to all logits, which changes no prediction, would count as an effect."""
    logits = zoo.folded(architecture).logits(rows)
    assert logits.mean(-1).abs().max() < 1e-5 * logits.abs().max()


@pytest.mark.parametrize("architecture", LAYER_NORM)
def test_everything_written_to_the_stream_is_centred_in_layer_norm_models(zoo, architecture):
    """Otherwise dividing by the scale is not the whole LayerNorm, and direct effects contain a part it removes."""
    model = zoo.folded(architecture)
    written = {"W_E": model.W_E} | ({} if model.W_pos is None else {"W_pos": model.W_pos})
    for index, layer in enumerate(model.layers):
        written |= {f"{name} {index}": getattr(layer, name) for name in ("W_O", "b_O", "W_out", "b_out")}
    off = {name: weight.mean(-1).abs().max().item() for name, weight in written.items()}
    assert max(off.values()) < 1e-6, off


def test_value_biases_are_folded_away(zoo, architecture):
    """Otherwise zero ablation would also take away what no head reads (experiments.md a.2)."""
    model = zoo.folded(architecture)
    for layer in model.layers:
        assert (layer.b_QKV[-model.n_kv_heads * model.d_head :] == 0).all()


def test_the_windows_and_blocks_are_those_of_the_config(zoo):
    """Otherwise a window that the test rows do not reach, or a block's order, would be lost silently."""
    assert [layer.window for layer in zoo.folded("gpt_neo").layers] == [None, 5, None]
    assert [layer.window for layer in zoo.folded("qwen2").layers] == [None, 5, 5]
    assert [layer.window for layer in zoo.folded("mistral").layers] == [5, 5, 5]
    assert [name for name in zoo.architectures if zoo.folded(name).parallel] == ["neox_parallel", "selfrepair_rms"]


def test_a_model_can_be_kept_in_float64(zoo, rows):
    """Otherwise `dtype` moves some tensors and leaves others."""
    model = load_model(zoo.folder("llama_gqa"), dtype=torch.float64)
    assert model.logits(rows).dtype == torch.float64
    torch.testing.assert_close(model.logits(rows).float(), zoo.folded("llama_gqa").logits(rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "llama_gqa"])
def test_rows_longer_than_the_positions_are_refused(zoo, architecture):
    """Otherwise a rotary model would extrapolate silently."""
    with pytest.raises(ValueError, match=r"has 64 positions; a row of 65 does not fit"):
        zoo.folded(architecture).embed(torch.zeros(1, 65, dtype=torch.long))


def test_a_model_that_folding_would_change_is_refused(zoo, monkeypatch):
    """Otherwise an unknown detail of a family (here: a wrong attention scale) would be measured all the same."""
    monkeypatch.setattr("selfrepair.models.fold._attention_scale", lambda *facts: 1.0)
    with pytest.raises(ValueError, match=r"log-probabilities .* differ from Hugging Face's"):
        load_model(zoo.folder("llama_gqa"))


# Directories that can't be used: the message names the file or the key, and the fix.


@pytest.fixture
def folder(zoo, tmp_path) -> Path:
    return Path(shutil.copytree(zoo.folder("gpt2"), tmp_path / "model"))


def refused(folder: Path, *said: str) -> None:
    with pytest.raises(ModelDirectoryError) as caught:
        load_model(folder)
    for words in said:
        assert words in str(caught.value)


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_absent_directory(tmp_path):
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "does not exist", "`path`")


def test_an_absent_relative_directory_is_told_apart_from_a_hub_id():
    """`models/mine` looks like a hub id: the message must offer both readings."""
    with pytest.raises(ValueError) as caught:
        load_model("models/no-such-model")
    assert "directory" in str(caught.value)
    assert "revision" in str(caught.value)


def test_no_config(folder):
    (folder / "config.json").unlink()
    refused(folder, "config.json is missing", "no Hugging Face model directory")


def test_a_config_that_is_no_json(folder):
    (folder / "config.json").write_text('{"model_type": ')
    refused(folder, "config.json can't be read as JSON", "restore")


def test_an_unsupported_architecture_is_named_with_the_supported_ones(folder):
    edit_config(folder, model_type="bloom")
    refused(folder, "config.json", "`bloom`", *SUPPORTED, "GPT-NeoX (Pythia)")


def test_a_config_without_a_model_type(folder):
    file = folder / "config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "model_type"}))
    refused(folder, "config.json", "not supported; supported are")


def test_post_norm_opt(zoo, tmp_path):
    folder = Path(shutil.copytree(zoo.folder("opt"), tmp_path / "opt"))
    edit_config(folder, do_layer_norm_before=False)
    refused(folder, "config.json", "do_layer_norm_before: false (post-norm OPT) is not supported")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("word_embed_proj_dim", 16, "word_embed_proj_dim"),
        ("quantization_config", {"quant_method": "gptq"}, "quantization_config"),
        ("rope_scaling", {"rope_type": "dynamic"}, "rope_type dynamic (supported: default"),
    ],
)
def test_what_the_folded_form_can_not_express(folder, key, value, said):
    edit_config(folder, **{key: value})
    refused(folder, "config.json", said, "is not supported")


@pytest.mark.parametrize("cut", [1, 1000, None])
def test_truncated_weights(folder, cut):
    """A download that stopped: near the end, in the middle, or before the first byte."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut] if cut else b"")
    refused(folder, "model.safetensors", "fetch it again")


def test_a_corrupt_header(folder):
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[8:20] = b"\xff" * 12
    file.write_bytes(raw)
    refused(folder, "model.safetensors has a corrupt header", "fetch it again")


def test_a_header_without_tensors(folder):
    save_file({}, folder / "model.safetensors", {"format": "pt"})
    refused(folder, "model.safetensors")


def test_only_pickled_weights(folder):
    """Loading a pickle can run any code."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(folder, "only as pickle (pytorch_model.bin)", "convert them to model.safetensors")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "holds no *.safetensors")


def split_into_shards(folder: Path) -> list[Path]:
    """Two shards and their index."""
    file = folder / "model.safetensors"
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    names = sorted(tensors)
    shards = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard, {"format": "pt"})
    file.unlink()
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return [folder / shard for shard in shards]


@torch.no_grad()
def test_a_model_in_shards_is_the_same_model(zoo, folder, rows):
    split_into_shards(folder)
    assert torch.equal(load_model(folder).logits(rows), zoo.folded("gpt2").logits(rows))


def test_a_truncated_shard(folder):
    cut = split_into_shards(folder)[1]
    cut.write_bytes(cut.read_bytes()[:-1000])
    refused(folder, cut.name, "fetch it again")


def test_a_missing_shard(folder):
    gone = split_into_shards(folder)[1]
    gone.unlink()
    refused(folder, gone.name, "model.safetensors.index.json", "is missing; fetch it again")


@pytest.mark.parametrize("revision", [None, "main", "0123abc", "G" * 40, "A" * 40, "0" * 41])
def test_a_revision_that_pins_nothing(revision):
    """A branch or a short hash can mean other weights tomorrow."""
    with pytest.raises(ValueError, match=r"org/name: `revision` must be a full commit hash \(40 hexadecimal digits\)"):
        load_model("org/name", revision=revision)


def test_a_revision_for_a_directory(zoo):
    """transformers ignores it silently."""
    with pytest.raises(ValueError, match=re.escape(f"was given for {zoo.folder('gpt2')}, which is local")):
        load_model(zoo.folder("gpt2"), revision="0" * 40)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": None}, "source: None is no path; give a directory"),
        ({"device": "tpu"}, "device: 'tpu' can't be used"),
        ({"device": "meta"}, "device: 'meta' can't be used"),
        ({"device": "cuda:99"}, "device: 'cuda:99' can't be used"),
        ({"dtype": torch.float16}, "dtype torch.float16 is not supported"),
    ],
)
def test_an_argument_that_can_not_be_used_is_named(zoo, arguments, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        unwrap(load_model)(**{"source": zoo.folder("gpt2")} | arguments)  # as users have it, whom no type checks


def test_head_names(zoo):
    assert parse_head("L9H11") == (9, 11)
    info = read_model_info(zoo.folder("gpt2"))
    assert (info.n_layers, info.n_heads, info.max_positions) == (3, 4, 64)
    assert check_heads(info, ["L2H3", "L0H0"], "tiny") == [(2, 3), (0, 0)]


@pytest.mark.parametrize("name", ["9.11", "L9", "l9h11", "L-1H0", "L9H11 ", "H1L1", ""])
def test_a_malformed_head(name):
    with pytest.raises(ValueError, match=re.escape(f"`{name}` is no head; write it as L9H11")):
        parse_head(name)


@pytest.mark.parametrize("head", ["L3H0", "L0H4"])
def test_a_head_that_the_model_lacks(zoo, head):
    said = re.escape(f"models.tiny.heads: {head} is out of range; layers go from 0 to 2, heads from 0 to 3")
    with pytest.raises(ValueError, match=said):
        check_heads(read_model_info(zoo.folder("gpt2")), ["L0H0", head], "tiny")


def test_every_family_is_measured_by_some_test(zoo):
    """A family that is announced and never compared with Hugging Face is a promise."""
    assert {facts["model_type"] for facts in zoo.architectures.values()} == set(SUPPORTED)


def test_a_wrong_reading_of_the_files_is_found(zoo, monkeypatch):
    """The check would be worth nothing if it compared what was read with itself."""
    read = Checkpoint._read

    def doubled(self: Checkpoint, layers: range) -> dict[str, torch.Tensor]:
        return {n: 2 * value if n.endswith("down_proj.weight") else value for n, value in read(self, layers).items()}

    monkeypatch.setattr(Checkpoint, "_read", doubled)
    with pytest.raises(ValueError, match="differ from Hugging Face's"):
        load_model(zoo.folder("llama_gqa"))


def test_what_all_logits_have_in_common_hides_no_error(zoo, folder, monkeypatch):
    """It changes no prediction, however large it is beside the error."""
    shutil.copytree(zoo.folder("gpt2_untied"), folder, dirs_exist_ok=True)
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] += 100
    save_file(weights, file, {"format": "pt"})
    load_model(folder)
    original = fold._rest

    def damaged(*args):
        rest = original(*args)
        rest.b_U[0] += 3e-3 * zoo.folded("gpt2_untied").logits(torch.arange(97)[None, :64]).abs().max()
        return rest

    monkeypatch.setattr(fold, "_rest", damaged)
    with pytest.raises(ValueError, match="of the largest centred logit"):
        load_model(folder)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_number_format_that_torch_takes_by_default_changes_nothing(zoo, rows, architecture, default):
    torch.set_default_dtype(default)
    try:
        found = load_model(zoo.folder(architecture)).logits(rows)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, zoo.folded(architecture).logits(rows))


def test_a_large_model_is_compared_group_by_group(zoo, monkeypatch):
    """Otherwise it would have to fit into memory twice."""
    monkeypatch.setattr(checkpoint, "WHOLE_BYTES", 0)
    assert Checkpoint(zoo.folder("llama_gqa")).whole() is None
    load_model(zoo.folder("llama_gqa"))
