"""A model folded a group of layers at a time is the same model, checked against the same logits, in less memory."""

import gc
import re
import weakref
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_load import refused, split_into_shards

from selfrepair.ablation.program import read_sampled
from selfrepair.benchmark.loading import measure_loading
from selfrepair.benchmark.random_model import Shape
from selfrepair.core.files import TableError
from selfrepair.models import checkpoint, fold
from selfrepair.models.checkpoint import Checkpoint, run
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import load_folded, save_folded
from selfrepair.models.load import fold_to_disk, load_model
from selfrepair.models.precision import stored

REST = range(0)


@pytest.fixture
def one_layer_groups(monkeypatch):
    monkeypatch.setattr(fold, "GROUP_BYTES", 1)


def assert_same(found: FoldedModel, expected: FoldedModel, tolerance: float = 0) -> None:
    assert found.n_layers == expected.n_layers
    for one, other in [(found, expected), *zip(found.layers, expected.layers, strict=True)]:
        for field in fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, torch.Tensor):
                torch.testing.assert_close(
                    a, b, atol=tolerance, rtol=0, msg=lambda said, at=field.name: f"{at}: {said}"
                )
            elif field.name not in ("layers", "directory"):
                assert a == b, field.name


def test_a_model_folded_layer_by_layer_is_the_same(zoo, architecture, one_layer_groups):
    """Otherwise a model would depend on how many of its layers fit into memory."""
    folding = fold.Folding(zoo.folder(architecture), architecture)
    model, error = replace(folding.rest, layers=tuple(folding.layers())), folding.error
    assert_same(model, zoo.folded(architecture), tolerance=1e-6)
    assert error < 1e-5


@pytest.mark.parametrize("step", [1, 2, 3])
def test_logits_through_the_groups_are_hugging_faces(zoo, rows, architecture, step):
    """Otherwise the folded model would be checked against another one."""
    checkpoint = Checkpoint(zoo.folder(architecture))
    stream, _ = run(checkpoint.group(REST), rows)
    for first in range(0, 3, step):
        stream, _ = run(checkpoint.group(range(first, min(first + step, 3))), rows, stream)
    _, logits = run(checkpoint.group(REST), rows, stream)
    with torch.no_grad():
        torch.testing.assert_close(logits, zoo.hugging_face(architecture)(rows).logits, atol=1e-5, rtol=0)


def test_only_one_group_is_in_memory(zoo, monkeypatch, one_layer_groups):
    """Otherwise a large model would be in memory whole after all."""
    models, sizes, group = [], [], Checkpoint.group

    def watched(self: Checkpoint, layers: range) -> torch.nn.Module:
        model = group(self, layers)
        gc.collect()
        assert not any(before() for before in models)
        models.append(weakref.ref(model))
        sizes.append((len(layers), model.get_input_embeddings().weight.shape[0]))
        return model

    monkeypatch.setattr(Checkpoint, "group", watched)
    monkeypatch.setattr(checkpoint, "WHOLE_BYTES", 0)  # it counts as large
    load_model(zoo.folder("llama_gqa"))
    assert sizes == [(0, 97), (1, 8), (1, 8), (1, 8), (0, 97)]


def change_tensors(folder: Path, change: Callable[[dict], dict]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


@pytest.fixture
def copied(zoo, tmp_path):
    """A function that copies a model's directory."""

    def copy(architecture: str) -> Path:
        folder = tmp_path / architecture
        folder.mkdir()
        for file in zoo.folder(architecture).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    return copy


def test_the_first_gpt2_had_names_without_prefix_and_masks_among_its_weights(zoo, copied, one_layer_groups):
    folder = copied("gpt2")
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in range(3)}
    masks |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(3)}
    change_tensors(folder, lambda t: {name.removeprefix("transformer."): t[name] for name in t} | masks)
    assert_same(load_model(folder), zoo.folded("gpt2"))


def test_old_neox_checkpoints_hold_rotary_frequencies_and_masks(zoo, copied, one_layer_groups):
    folder = copied("neox_parallel")
    layers = [f"gpt_neox.layers.{i}.attention" for i in range(3)]
    buffers = {f"{layer}.rotary_emb.inv_freq": torch.full((2,), 7.0) for layer in layers}
    buffers |= {f"{layer}.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool) for layer in layers}
    buffers |= {f"{layer}.masked_bias": torch.tensor(-1e9) for layer in layers}
    change_tensors(folder, lambda t: t | buffers)
    model = load_model(folder, name="neox_parallel")
    assert_same(model, zoo.folded("neox_parallel"))


def test_a_variant_beside_the_weights_is_left_alone(zoo, copied):
    folder = copied("gpt2")
    tensors = load_file(folder / "model.safetensors")
    save_file({name: -tensor for name, tensor in tensors.items()}, folder / "model_ema.safetensors", {"format": "pt"})
    assert_same(load_model(folder), zoo.folded("gpt2"))


@pytest.mark.parametrize(
    "name", ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "model.norm.weight"]
)
def test_a_missing_tensor(copied, one_layer_groups, name):
    """Hugging Face would draw it at random."""
    folder = copied("llama_gqa")
    change_tensors(folder, lambda t: {key: t[key] for key in t if key != name})
    refused(folder, f"model.safetensors lacks the tensor {name}", "fetch it again")


def test_a_missing_tensor_of_a_model_in_shards(copied):
    folder, name = copied("llama_gqa"), "model.layers.1.mlp.down_proj.weight"
    change_tensors(folder, lambda t: {key: t[key] for key in t if key != name})
    split_into_shards(folder)
    refused(folder, f"model.safetensors.index.json lacks the tensor {name}")


def test_a_shard_that_lacks_what_the_index_places_there(copied):
    folder = copied("llama_gqa")
    file = split_into_shards(folder)[0]
    tensors = load_file(file)
    name, _ = tensors.popitem()
    save_file(tensors, file, {"format": "pt"})
    refused(folder, f"{file} lacks the tensor {name}, which model.safetensors.index.json places there")


# On disk


@pytest.mark.parametrize("sharded", [False, True])
def test_a_model_folded_to_disk_is_the_model(zoo, copied, architecture, tmp_path, one_layer_groups, sharded):
    """Otherwise the ablation's jobs would not measure the model that was checked."""
    folder, expected = copied(architecture), zoo.folded(architecture)
    if sharded:
        split_into_shards(folder)
    facts = fold_to_disk(folder, architecture, tmp_path / "folded", "float32")
    loaded = load_folded(tmp_path / "folded")
    assert_same(loaded, expected, tolerance=1e-6)
    assert (facts["n_layers"], facts["d_mlp"]) == (3, expected.layers[0].W_in.shape[1])
    assert facts["load_error"] < 1e-5
    assert facts["folded_sha256"].keys() == {
        "rest.safetensors",
        *(f"layer-{index:03}.safetensors" for index in range(3)),
    }
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in facts["folded_sha256"].values())


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float64"])
def test_weights_are_rounded_once_on_writing(zoo, tmp_path, precision):
    model = zoo.folded("llama_gqa")
    save_folded(model, model.layers, tmp_path / "folded", precision)
    loaded = load_folded(tmp_path / "folded")
    assert_same(loaded, model.in_precision(precision))
    assert loaded.layers[0].W_in.dtype == stored(model.W_E, precision).dtype
    assert loaded.inverse_frequencies.dtype == torch.float32
    kept = load_file(tmp_path / "folded" / "layer-001.safetensors")["W_in"]
    assert kept.dtype == (torch.bfloat16 if precision == "bfloat16" else torch.float32)


def test_what_is_written_has_shapes_and_no_numbers(zoo, tmp_path):
    """Otherwise the facts of a model would cost as much memory as the model."""
    model = zoo.folded("gpt2")
    written = save_folded(model, model.layers, tmp_path / "folded", "float32")
    assert {written.W_U.device.type, written.layers[2].W_out.device.type} == {"meta"}
    assert written.layers[2].W_out.shape == model.layers[2].W_out.shape


def test_a_file_cut_short_is_named_with_the_fix(zoo, tmp_path):
    """As a full disk leaves it, after the job that wrote it ended well."""
    model = zoo.folded("gpt2")
    save_folded(model, model.layers, tmp_path / "folded", "float32")
    file = tmp_path / "folded/layer-001.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        TableError, match=r"layer-001\.safetensors can't be read .*; delete the folder .*/folded, Snake"
    ):
        load_folded(tmp_path / "folded")
    (tmp_path / "tokens.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"tokens\.parquet can't be read .*; delete it, Snakemake makes it again"):
        read_sampled(tmp_path)


def test_a_model_that_fails_the_check_leaves_nothing(zoo, tmp_path, monkeypatch):
    """The check ends after the last layer has been written; what was there before stays."""
    output = tmp_path / "folded"
    with monkeypatch.context() as broken, pytest.raises(ValueError, match="differ from Hugging Face's"):
        broken.setattr(fold, "_attention_scale", lambda *facts: 1.0)
        fold_to_disk(zoo.folder("llama_gqa"), "m", output, "float32")
    assert list(tmp_path.iterdir()) == []
    fold_to_disk(zoo.folder("gpt2"), "m", output, "float32")
    with monkeypatch.context() as broken, pytest.raises(ValueError, match="differ from Hugging Face's"):
        broken.setattr(fold, "_attention_scale", lambda *facts: 1.0)
        fold_to_disk(zoo.folder("llama_gqa"), "m", output, "float32")
    assert load_folded(output).family == "gpt2"
    fold_to_disk(zoo.folder("opt"), "m", output, "float32")
    assert load_folded(output).family == "opt"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.slow
def test_loading_takes_the_memory_of_the_weights(tmp_path):
    shape = Shape("llama", n_layers=6, n_heads=8, d_model=512, d_mlp=1376, d_vocab=16000, max_positions=64)
    fold_row, load_row = measure_loading(shape, ["float32"], tmp_path)
    assert (fold_row["what"], load_row["what"]) == ("fold float32", "load float32")
    assert load_row["weights_mb"] > 130
    assert load_row["peak_mb"] - load_row["base_mb"] < 1.1 * load_row["weights_mb"]
