"""Model directories as people have them: read as Hugging Face reads them, or refused by what they are."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from selfrepair import measure
from selfrepair.ablation.clean import clean_pass
from selfrepair.artifact.reference_model import Recomputation
from selfrepair.models import directory, folded
from selfrepair.models.directory import DEFAULT_POSITIONS, POSITIONS, SUPPORTED, ModelDirectoryError
from selfrepair.models.load import fold_to_disk, load_model
from tests.conftest import ARCHITECTURES, VOCABULARY

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


def built(architecture: str, **fields: object) -> Callable[[Path], Path]:
    """A random model of another configuration in the place of the zoo's."""

    def build(folder: Path) -> Path:
        torch.manual_seed(0)
        config = AutoConfig.for_model(**ARCHITECTURES[architecture], vocab_size=VOCABULARY)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config.to_dict() | fields))
        for name, parameter in model.named_parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape) + float(parameter.ndim == 1 and "bias" not in name)
        shutil.rmtree(folder)
        model.save_pretrained(folder)
        return folder

    return build


def renamed(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


def adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def reheaded(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the last tensor's entry in the header of the weights."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(max((e for n, e in header.items() if n != "__metadata__"), key=lambda entry: entry["data_offsets"]))
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def several(folder: Path) -> None:
    whole = folder / "model.safetensors"
    shutil.copy(whole, folder / "b.safetensors")
    whole.rename(folder / "a.safetensors")


EMBEDDING, BIAS, MLP = "transformer.wte.weight", "transformer.h.1.mlp.c_fc.bias", "transformer.h.1.mlp.c_fc.weight"
LAST = torch.tensor([VOCABULARY - 1])
WITHOUT_FINAL_NORM = built("opt", _remove_final_layer_norm=True)
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
    **{
        f"{name} with {key}: {value}": (name, lambda f, key=key, value=value: edited(f, **{key: value}))
        for key, value, names in (
            ("head_dim", 16, ("gpt2", "gpt_neo", "opt", "neox_parallel", "selfrepair_rms")),
            ("head_dim", None, ("llama_gqa",)),
            ("scale_attn_by_inverse_layer_idx", True, ("gpt_neo", "llama_gqa", "selfrepair_bare")),
            ("scale_attn_weights", False, ("gpt_neo", "opt", "mistral")),
            ("use_parallel_residual", True, ("gpt2", "gpt_neo", "opt", "qwen2")),
            ("return_dict", False, ("gpt2", "llama_gqa", "selfrepair_rms")),
        )
        for name in names
    },
    "Llama with another family's epsilon": ("llama_gqa", lambda f: edited(f, layer_norm_eps=0.1)),
    "GPT-Neo with another family's heads": ("gpt_neo", lambda f: edited(f, n_head=2, n_layer=1)),
    "Llama that does not say how long rows may be": ("llama_gqa", lambda folder: without(folder, *POSITIONS)),
    "quantization_config: null": ("gpt2", lambda folder: edited(folder, quantization_config=None)),
    "an attention that needs a package": (
        "llama_gqa",
        lambda folder: edited(folder, _attn_implementation="flash_attention_2"),
    ),
}
READ |= {
    "NeoX as wide as its MLP": ("neox_parallel", built("neox_parallel", intermediate_size=32)),
    "OPT as wide as its MLP": ("opt", built("opt", ffn_dim=32)),
    "GPT-2 as wide as its MLP": ("gpt2", built("gpt2", n_inner=32)),
    "Llama as wide as its vocabulary": (
        "llama_gqa",
        built("llama_gqa", hidden_size=VOCABULARY - 1, vocab_size=VOCABULARY - 1),
    ),
    "NeoX without biases of attention": ("neox_parallel", built("neox_parallel", attention_bias=False)),
    "OPT without a final norm": ("opt", WITHOUT_FINAL_NORM),
    "OPT with norms that have no weights": ("opt", built("opt", layer_norm_elementwise_affine=False)),
    "a vocabulary of seven": ("llama_gqa", built("llama_gqa", vocab_size=7)),
}
REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "weights of another shape": (
        "llama_gqa",
        lambda folder: edited(folder, vocab_size=96),
        "model.embed_tokens.weight has the shape [97, 32], but by",
    ),
    "projections of another shape": (
        "llama_gqa",
        lambda folder: edited(folder, num_key_value_heads=4),
        "self_attn.k_proj.weight of layer 0 has the shape [16, 32], but by config.json it is [32, 32]",
    ),
    "an MLP of another shape": (
        "gpt2",
        lambda folder: edited(folder, n_inner=64),
        "mlp.c_fc.weight of layer 0 has the shape [32, 128], but by config.json it is [32, 64]",
    ),
    "a layer of another shape": (
        "gpt2",
        lambda folder: renamed(folder, lambda t: t | {(n := "transformer.h.1.ln_1.bias"): t[n][:5]}),
        "layer 1 has ln_1.bias of shape [5], layer 0 of [32]",
    ),
    "layers that all lack a matrix": (
        "gpt2",
        lambda f: renamed(f, lambda t: {k: v for k, v in t.items() if not k.endswith("c_fc.weight")}),
        "lacks the tensor transformer.h.0.mlp.c_fc.weight",
    ),
    "a tensor under both of its names": (
        "gpt2",
        lambda f: renamed(f, lambda t: t | {MLP.removeprefix("transformer."): -t[MLP]}),
        "holds h.1.mlp.c_fc.weight twice, as",
    ),
    "an index of numbers": (
        "gpt2",
        lambda folder: index(folder, '{"weight_map": {"a": 1}}'),
        "model.safetensors.index.json is corrupt",
    ),
    "no embedding": (
        "gpt2",
        lambda f: renamed(f, lambda t: {k: v for k, v in t.items() if not k.endswith("wte.weight")}),
        "lacks the embedding of tokens",
    ),
    "a layer that lacks a tensor": (
        "gpt2",
        lambda folder: renamed(folder, lambda t: {n: w for n, w in t.items() if n != "transformer.h.2.mlp.c_fc.bias"}),
        "lacks the tensor transformer.h.2.mlp.c_fc.bias",
    ),
    "fewer layers than the configuration says": (
        "gpt2",
        lambda folder: edited(folder, n_layer=4),
        "lacks layer 3, of 4",
    ),
    "a link to nothing": (
        "gpt2",
        lambda folder: [(f := folder / "model.safetensors").unlink(), f.symlink_to("nothing")],
        "model.safetensors is a link to nothing",
    ),
    "a configuration that is no UTF-8": (
        "gpt2",
        lambda folder: (folder / "config.json").write_bytes(b'{"a": "\xe9"}'),
        "config.json can't be read as JSON",
    ),
    "a family that is a list": ("gpt2", lambda folder: edited(folder, model_type=["gpt2"]), "is not supported"),
    "a number that is text": ("llama_gqa", lambda f: edited(f, rms_norm_eps="1e-5"), "config.json can't be used"),
    "an activation that is not known": ("gpt2", lambda f: edited(f, activation_function="mish"), "activation `mish`"),
    "more layers than the configuration says": (
        "gpt2",
        lambda folder: edited(folder, n_layer=2),
        "says that there are 2 layers",
    ),
    "a tensor that the family has not": (
        "llama_gqa",
        lambda folder: renamed(folder, lambda t: t | {"model.layers.1.self_attn.q_proj.SCB": torch.ones(32)}),
        "holds the tensor model.layers.1.self_attn.q_proj.SCB, which `llama` has not",
    ),
    "weights of eight bits": (
        "llama_gqa",
        lambda folder: renamed(folder, lambda t: t | {(n := "lm_head.weight"): t[n].to(torch.int8)}),
        "lm_head.weight is I8: quantized weights are not supported",
    ),
    "a head that is missing and not tied": (
        "llama_gqa",
        lambda folder: renamed(folder, lambda t: {n: w for n, w in t.items() if n != "lm_head.weight"}),
        "lacks the tensor lm_head.weight",
    ),
    "two whole models": ("gpt2", several, "in a.safetensors and as"),
    "a tensor under two names": (
        "neox_parallel",
        lambda f: renamed(f, lambda t: t | {f"module.{n}": -w for n, w in t.items() if "mlp" in n}),
        "these are several models; keep one",
    ),
    "an adapter beside its model": (
        "gpt2",
        lambda f: (f / "adapter_config.json").write_text("{}"),
        "holds an adapter beside the model",
    ),
    "NaN in a layer": (
        "gpt2",
        lambda f: renamed(f, lambda t: t | {MLP: t[MLP] * float("nan")}),
        f"{MLP} holds NaN or infinite numbers",
    ),
    "infinity in an embedding": (
        "gpt2",
        lambda f: renamed(f, lambda t: t | {EMBEDDING: t[EMBEDDING].index_fill(0, LAST, torch.inf)}),
        f"{EMBEDDING} holds NaN or infinite numbers",
    ),
    "a bias of whole numbers": ("gpt2", lambda f: renamed(f, lambda t: t | {BIAS: t[BIAS].long()}), f"{BIAS} is I64"),
    "weights that are a folder": (
        "gpt2",
        lambda f: [(f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()],
        "model.safetensors is a folder",
    ),
    "a header without a shape": ("gpt2", lambda f: reheaded(f, lambda entry: entry.pop("shape")), "corrupt header"),
    "tensors that overlap": (
        "gpt2",
        lambda f: reheaded(f, lambda entry: entry.update(data_offsets=[0, entry["data_offsets"][1]])),
        "corrupt header",
    ),
    "Mistral that is taken for Ministral": ("mistral", lambda f: edited(f, layer_types=None), "layer_types"),
    "a window of nothing": ("mistral", lambda f: edited(f, sliding_window=0), "sliding_window: 0"),
    "attention to what comes": ("llama_gqa", lambda f: edited(f, is_causal=False), "is_causal: false"),
    **{
        f"rotary positions with {key} {value}": (
            name,
            lambda f, key=key, value=value, inside=inside: edited(
                without(f, "rope_parameters"),
                **{inside: {key: value, "rope_type": "linear"}} if inside else {key: value},
            ),
            f"config.json: {key} is {value!r}, where a number above 0 is needed",
        )
        for name, inside, key, value in (
            ("llama_gqa", None, "rope_theta", "10000"),
            ("llama_gqa", None, "rope_theta", 0),
            ("llama_gqa", "rope_scaling", "factor", 0.0),
            ("neox_parallel", None, "rotary_emb_base", -1),
            ("qwen2", "rope_parameters", "rope_theta", float("nan")),
            ("selfrepair_bare", "rope_parameters", "factor", -2.0),
        )
    },
    "a kind of layer that there is not": (
        "qwen2",
        lambda f: edited(f, layer_types=["full_attention", "full_attention", "linear_attention"]),
        "config.json: layer_types: ['full_attention', 'full_attention', 'linear_attention'] (supported: full_",
    ),
    "windows that are off": (
        "qwen2",
        lambda f: edited(f, use_sliding_window=False),
        "without a sliding_window and use",
    ),
    "windows without a length": ("qwen2", lambda f: edited(f, sliding_window=None), "without a sliding_window and use"),
    "a local window of nothing": ("gpt_neo", lambda f: edited(f, window_size=0), "window_size: 0 is not supported"),
    "a decoder that Hugging Face can't run": (
        "selfrepair_bare",
        lambda f: edited(f, head_dim=16),
        "config.json can't be used: transformers says RuntimeError",
    ),
    "numbers that float32 has not": (
        "gpt2",
        lambda f: renamed(f, lambda t: t | {MLP: t[MLP].double() * 1e300}),
        f"{MLP} holds NaN or infinite numbers (in float32)",
    ),
    "a padding token that there is not": ("llama_gqa", lambda f: edited(f, pad_token_id=5000), "can't be used"),
    "a number format that there is not": ("llama_gqa", lambda f: edited(f, dtype="float99"), "can't be used"),
    "a tokenizer with text for numbers": (
        "gpt2",
        lambda folder: tokenizer(folder, '{"model": {"vocab": {"a": "0", "b": "1"}}}'),
        "a token of its vocabulary has no number",
    ),
    "a layer whose number begins with 0": (
        "gpt2",
        lambda f: renamed(f, lambda t: t | {MLP.replace(".h.1.", ".h.01."): -t[MLP]}),
        "holds the tensor transformer.h.01.mlp.c_fc.weight, which `gpt2` has not",
    ),
    "settings in another file": (
        "gpt2",
        lambda f: edited(f, configuration_files=["config.4.0.0.json"]),
        "configuration_files (settings in another file) is not supported",
    ),
    "weights in another file": (
        "gpt2",
        lambda f: edited(f, transformers_weights="other.safetensors"),
        "transformers_weights (weights in another file) is not supported",
    ),
    "brackets without end": ("gpt2", lambda f: (f / "config.json").write_text("[" * 100_000), "can't be read as JSON"),
    "an adapter without its model": ("llama_gqa", adapter, "is an adapter (LoRA) without its model"),
    "weights of MLX": (
        "llama_gqa",
        lambda folder: edited(folder, quantization={"group_size": 64, "bits": 4}),
        "quantization (weights of MLX) is not supported",
    ),
    "a rotary setting that is text": ("llama_gqa", lambda f: edited(f, rope_scaling="yarn"), "rope_scaling is 'yarn'"),
    "two rotary settings": (
        "llama_gqa",
        lambda f: edited(f, rope_parameters={"rope_type": "default"}, rope_scaling={"rope_type": "other"}),
        "rope_type other",
    ),
    "a count that is true": ("llama_gqa", lambda f: edited(f, num_hidden_layers=True), "is True"),
    "positions below zero": ("llama_gqa", lambda f: edited(f, max_position_embeddings=-5), "is -5, where a number"),
    "key-value heads that do not divide": ("llama_gqa", lambda f: edited(f, num_key_value_heads=3), "does not divide"),
    "heads that do not divide the width": (
        "gpt2",
        lambda f: edited(f, n_head=5),
        "5 heads do not divide a width of 32",
    ),
    "a configuration without layers": (
        "gpt2",
        lambda folder: without(folder, "n_layer"),
        "num_hidden_layers or n_layer is None",
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
    config._attn_implementation, config.return_dict = "eager", True
    theirs = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    tokens = TOKENS % config.vocab_size
    with torch.no_grad():
        logits = theirs(tokens).logits[:, :-1]
    expected = (logits - logits.mean(-1, keepdim=True)).gather(2, tokens[:, 1:, None])[..., 0]
    found = clean_pass(load_model(folder), tokens).logit
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * logits.abs().max().item())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_as_data_parallel_or_compiled_training_saves_them_are_read(copy, zoo, prefix: str) -> None:
    folder = renamed(copy("neox_parallel"), lambda t: {prefix + name: weight for name, weight in t.items()})
    assert torch.equal(load_model(folder).logits(TOKENS), zoo.folded("neox_parallel").logits(TOKENS))
    recomputed = Recomputation(folder).run(TOKENS[0]).logit.float()
    torch.testing.assert_close(recomputed, clean_pass(load_model(folder), TOKENS[:1]).logit[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["resample", "zero"])
def test_without_a_final_norm_its_part_is_zero_and_the_rest_is_exact(copy, rows, source, kind: str) -> None:
    """The natural control: there is nothing that could amplify what is left."""
    folder = WITHOUT_FINAL_NORM(copy("opt"))
    measured = measure(load_model(folder), rows, source, ablation=kind)
    assert not measured.repair_norm.any() and measured.self_repair.abs().max() > 0.01
    model = Recomputation(folder)
    for layer, head, row in ((0, 1, 2), (1, 3, 4), (2, 0, 0)):
        expected = model.effects(rows[row], rows[source[row]], layer, head, kind)
        for name in ("delta_logit", "direct_effect", "self_repair", "repair_norm"):
            found = getattr(measured, name)
            found = found[layer, head, row] if found.ndim == 4 else found[row]
            torch.testing.assert_close(
                found.double(), expected[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_what_is_checked_before_a_run_is_what_folded_models_can_compute() -> None:
    assert set(directory.ACTIVATIONS) == set(folded.ACTIVATIONS)


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
