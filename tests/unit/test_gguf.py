"""A GGUF file becomes the model that it is: bit for bit as transformers reads it, with its tokenizer; or is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from safetensors.numpy import load_file
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import selfrepair as sr
from selfrepair.models.directory import ModelDirectoryError, read_model_info
from selfrepair.models.gguf import convert_gguf
from selfrepair.models.gguf_header import FORMATS, read_gguf_info, read_header
from tests.conftest import shared
from tests.helpers.gguf_files import write_gguf

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "workflow/resources/models"
LLAMA = MODELS / "tiny-llama"
SMOLLM2 = ROOT / "results/hub/wheels/smollm2-135m-instruct.gguf"
TEXT = "def f(x):\n    return  12345 + x[ 0 ]  # It's 3.14, naïve — 2024's\n\n\t\tEND <|endoftext|> ok"


def tokens(folder: Path, text: str = TEXT) -> list[int]:
    return AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gpt2"])
def test_a_model_in_float32_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    convert_gguf(write_gguf(MODELS / name, tmp_path / "x.gguf"), tmp_path / "x")
    expected, found = (load_file(folder / "model.safetensors") for folder in (MODELS / name, tmp_path / "x"))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    assert tokens(tmp_path / "x") == tokens(MODELS / name)
    assert read_model_info(tmp_path / "x") == read_model_info(MODELS / name) == read_gguf_info(tmp_path / "x.gguf")


def small(tmp_path: Path, **config: object) -> Path:
    """A random model with the tokenizer of the shipped ones."""
    common = {"vocab_size": 2048, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config, **common), dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(tmp_path / "random")
    for file in LLAMA.glob("tokenizer*"):
        (tmp_path / "random" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "random"


WIDE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
ROTARY = WIDE | {"intermediate_size": 96, "max_position_embeddings": 64}
RANDOM = {
    "llama": {"model_type": "llama"} | ROTARY,
    "llama, untied": {"model_type": "llama", "tie_word_embeddings": False} | ROTARY,
    "qwen2": {"model_type": "qwen2"} | ROTARY,
    # transformers does not read the number of positions: only with its default can it read the file.
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024},
}


@pytest.mark.parametrize("number_format", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
@pytest.mark.parametrize("kind", RANDOM)
def test_quantised_weights_are_those_that_transformers_reads(tmp_path: Path, kind: str, number_format: str) -> None:
    path = write_gguf(small(tmp_path, **RANDOM[kind]), tmp_path / "x.gguf", GGMLQuantizationType[number_format])
    convert_gguf(path, tmp_path / "x")
    same_as_transformers(path, tmp_path / "x")


def same_as_transformers(path: Path, folder: Path) -> None:
    expected = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    weights = expected.state_dict()
    assert weights.keys() == found.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in found.state_dict().items())
    ids = torch.randint(2048, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(expected(ids).logits, found(ids).logits)


@torch.no_grad()
def test_load_model_takes_a_file(tmp_path: Path) -> None:
    path = write_gguf(LLAMA, tmp_path / "x.gguf", GGMLQuantizationType.Q8_0)
    model = sr.load_model(path)
    assert model.name == "x" and model.directory == str(path)
    ids = sr.tokenize(model, TEXT * 3, row_length=16)
    assert torch.equal(ids, sr.tokenize(path, TEXT * 3, 16)) and torch.equal(ids, sr.tokenize(LLAMA, TEXT * 3, 16))
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="x.gguf", dtype=torch.float32)(ids).logits
    error = (model.logits(ids).log_softmax(-1) - expected.log_softmax(-1)).abs().max() / expected.abs().max()
    assert error < 1e-5
    with pytest.raises(ValueError, match="applies to hub ids only"):
        sr.load_model(path, revision="0" * 40)


def test_a_tokenizer_of_single_digits_is_mended(tmp_path: Path) -> None:
    """transformers reads it as GPT-2's, which takes a number, and the space before it, together."""
    convert_gguf(write_gguf(LLAMA, tmp_path / "x.gguf", pre="smollm"), tmp_path / "x")
    expected = AutoTokenizer.from_pretrained(LLAMA)
    expected.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    ids = expected(TEXT, add_special_tokens=False)["input_ids"]
    assert tokens(tmp_path / "x") == ids
    unmended = AutoTokenizer.from_pretrained(tmp_path, gguf_file="x.gguf")
    assert unmended(TEXT, add_special_tokens=False)["input_ids"] != ids, "if transformers reads it right, drop ours"


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_rotary_frequencies_of_llama_3_are_recognised(tmp_path: Path, factor: float) -> None:
    """transformers ignores the tensor that holds them, and computes with others."""
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    model = small(tmp_path, model_type="llama", **ROTARY, head_dim=64, rope_parameters=rope)
    expected = AutoModelForCausalLM.from_pretrained(model).model.rotary_emb.inv_freq
    default = 500000.0 ** (-torch.arange(0, 64, 2) / 64)
    factors = (default / expected).numpy().astype(np.float32)
    path = write_gguf(
        model, tmp_path / "x.gguf", change=lambda _, tensors: tensors.update({"rope_freqs.weight": factors})
    )
    convert_gguf(path, tmp_path / "x")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "x").model.rotary_emb.inv_freq
    assert torch.allclose(found, expected, rtol=1e-6) and not torch.allclose(found, default, rtol=1e-2)

    path = write_gguf(
        model, tmp_path / "y.gguf", change=lambda _, tensors: tensors.update({"rope_freqs.weight": 1.1 * factors})
    )
    with pytest.raises(ModelDirectoryError, match=r"y\.gguf: rope_freqs\.weight is not that of Llama 3\.1 or 3\.2"):
        read_gguf_info(path)


def test_the_number_formats_are_those_of_the_library() -> None:
    for number, (name, numbers, size) in FORMATS.items():
        kind = GGMLQuantizationType(number)
        assert (kind.name, *GGML_QUANT_SIZES[kind]) == (name, numbers, size)
        data = {"F32": np.zeros((1, 1), np.float32), "F16": np.zeros((1, 1), np.float16)}
        assert dequantize(data.get(name, np.zeros((1, size), np.uint8)), kind).shape == (1, numbers)


def replaced(writer, key: str, value: object) -> None:
    writer.kv_data[0].pop(key, None)
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
    add[type(value)](key, value)


REFUSED = {
    "architecture": (
        lambda w, t: w.add_string("general.architecture", "mamba"),
        "architecture `mamba` is not supported",
    ),
    "number format": (lambda w, t: t.update({"output.weight": np.zeros((8, 8), np.int32)}), "can't be dequantised"),
    "experts": (lambda w, t: w.add_uint32("llama.expert_count", 8), "a mixture of experts is not supported"),
    "rope scaling": (lambda w, t: w.add_string("llama.rope.scaling.type", "yarn"), "rope scaling yarn is not supp"),
    "adapter": (lambda w, t: w.add_string("general.type", "adapter"), "a file of type adapter is not supported"),
    "one of two files": (lambda w, t: w.add_uint16("split.count", 2), "gguf-split --merge"),
    "a factor of rotary positions": (lambda w, t: w.add_rope_scaling_factor(4.0), "rope.scaling.factor = 4.0"),
    "an old factor of them": (lambda w, t: w.add_float32("llama.rope.scale_linear", 4.0), "rope.scale_linear = 4.0"),
    "a factor of logits": (lambda w, t: w.add_float32("llama.logit_scale", 0.5), "logit_scale = 0.5 is not supported"),
    "a factor of attention": (lambda w, t: w.add_rope_scaling_attn_factors(1.5), "rope.scaling.attn_factor = 1.5"),
    "rotary factors in two axes": (
        lambda w, t: t.update({"rope_freqs.weight": np.ones((2, 4), np.float32)}),
        "rope_freqs.weight is F32 of shape [2, 4], where F32 of [8] is needed",
    ),
    "an embedding in one axis": (
        lambda w, t: t.update({"token_embd.weight": np.ones(8, np.float32)}),
        "token_embd.weight has the shape [8]",
    ),
    "a first token that there is not": (lambda w, t: replaced(w, "tokenizer.ggml.bos_token_id", 5000), "5000"),
    "no tokens": (lambda w, t: w.kv_data[0].pop("tokenizer.ggml.tokens"), "without the tokens"),
    "no merges": (lambda w, t: w.kv_data[0].pop("tokenizer.ggml.merges"), "without merges or scores"),
    "no heads": (lambda w, t: replaced(w, "llama.attention.head_count", 0), "attention.head_count is 0"),
    "alignment": (lambda w, t: w.add_uint32("general.alignment", 7), "general.alignment is 7"),
    "window": (lambda w, t: w.add_uint32("llama.attention.sliding_window", 16), "attention within a window"),
    "partial rotary": (lambda w, t: w.add_uint32("llama.rope.dimension_count", 8), "rotary positions on 8 of 16"),
}


ODD = {
    "split.count": "two",
    "tokenizer.ggml.bos_token_id": "0",
    "tokenizer.ggml.tokens": 5,
    "tokenizer.ggml.merges": [1, 2],
    "tokenizer.ggml.model": 1,
    "llama.block_count": 4.0,
    "llama.embedding_length": "128",
    "llama.feed_forward_length": [344, 344, 344, 344],
    "llama.expert_count": "8",
}
REFUSED |= {
    f"{key} of another kind": (lambda w, t, key=key, value=value: replaced(w, key, value), f"{key} is {value!r}, where")
    for key, value in ODD.items()
}
REFUSED |= {
    f"{key} = {value}": (lambda w, t, key=key, value=value: replaced(w, key, value), f"{key} is {value!r}, where a num")
    for key in ("llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon")
    for value in ("10000", float("nan"), -1.0, 0.0)
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, case: str) -> None:
    change, said = REFUSED[case]

    def replacing(writer, tensors):
        writer.kv_data[0].pop("llama.rope.dimension_count")
        if case == "architecture":
            writer.kv_data[0].pop("general.architecture")
        change(writer, tensors)

    if case == "number format":
        path = write_gguf(LLAMA, tmp_path / "x.gguf")
        data = bytearray(path.read_bytes())
        at = data.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 2 * 8
        data[at : at + 4] = (26).to_bytes(4, "little")  # I32
        path.write_bytes(data)
    else:
        path = write_gguf(LLAMA, tmp_path / "x.gguf", change=replacing)
    with pytest.raises(ModelDirectoryError, match=re.escape(said)) as caught:
        read_gguf_info(path)
    assert str(path) in str(caught.value)


def test_what_is_wrong_with_the_weights_is_said_of_the_file(tmp_path: Path, monkeypatch) -> None:
    """The directory that the file is converted to is gone when the user reads of it."""
    bad = {"blk.0.ffn_norm.weight": np.full(128, np.nan, np.float32)}
    path = write_gguf(LLAMA, tmp_path / "x.gguf", change=lambda _, tensors: tensors.update(bad))
    with pytest.raises(ModelDirectoryError, match=rf"^{path}, as model\.safetensors: .* holds NaN"):
        sr.load_model(path)
    monkeypatch.setattr("selfrepair.models.fold._attention_scale", lambda *facts: 1.0)
    with pytest.raises(ValueError, match=rf"^{path}: log-probabilities"):
        sr.load_model(write_gguf(LLAMA, path))


def test_a_tokenizer_that_splits_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    """It would give other tokens in silence."""
    for pre, said in (("chatglm-bpe", "chatglm-bpe"), (None, "none")):
        path = write_gguf(LLAMA, tmp_path / "x.gguf", pre=pre)
        with pytest.raises(ModelDirectoryError, match=rf"a tokenizer that splits text as {said} \(supported: gpt-2, "):
            read_gguf_info(path)
    path = write_gguf(MODELS / "tiny-gpt2", tmp_path / "y.gguf", pre=None)
    assert read_gguf_info(path).family == "gpt2", "GPT-2 can split in one way only"


def test_a_sentencepiece_tokenizer_comes_back_as_it_was(tmp_path: Path) -> None:
    model = shared("models/stories260K")
    convert_gguf(write_gguf(model, tmp_path / "x.gguf"), tmp_path / "x")
    text = "Once upon a time, there was a little girl named Zoé. She said: \"It's 3 o'clock!\""
    assert tokens(tmp_path / "x", text) == tokens(model, text)
    no_space = lambda writer, _: writer.add_bool("tokenizer.ggml.add_space_prefix", False)  # noqa: E731
    with pytest.raises(ModelDirectoryError, match="puts no space before a text"):
        read_gguf_info(write_gguf(model, tmp_path / "y.gguf", change=no_space))


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = write_gguf(LLAMA, tmp_path / "x.gguf")
    whole = path.read_bytes()
    for length in (len(whole) - 100, 5000, 30, 10):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelDirectoryError, match=r"x\.gguf .*(promises|truncated).*fetch it again"):
            read_header(path)
    path.write_bytes(b"no GGUF")
    with pytest.raises(ModelDirectoryError, match=r"x\.gguf is no GGUF file"):
        read_header(path)
    with pytest.raises(ModelDirectoryError, match=r"gone\.gguf does not exist; set the model's `path`"):
        sr.load_model(tmp_path / "gone.gguf")


def test_tensors_must_be_those_of_the_architecture(tmp_path: Path) -> None:
    path = write_gguf(LLAMA, tmp_path / "x.gguf", change=lambda _, tensors: tensors.pop("blk.3.ffn_gate.weight"))
    with pytest.raises(
        ModelDirectoryError, match=r"lacks the tensor blk\.3\.ffn_gate\.weight, Hugging Face's model\.l"
    ):
        convert_gguf(path, tmp_path / "x")
    more = {"blk.0.attn_q_norm.weight": np.ones(16, np.float32)}
    path = write_gguf(LLAMA, tmp_path / "y.gguf", change=lambda _, tensors: tensors.update(more))
    with pytest.raises(ModelDirectoryError, match=r"blk\.0\.attn_q_norm\.weight has no place"):
        convert_gguf(path, tmp_path / "x")
    other = {"blk.0.ffn_up.weight": np.ones((300, 128), np.float32)}
    path = write_gguf(LLAMA, tmp_path / "z.gguf", change=lambda _, tensors: tensors.update(other))
    with pytest.raises(ModelDirectoryError, match=r"blk\.0\.ffn_up\.weight has shape \(300, 128\) .* say \(344, 128\)"):
        convert_gguf(path, tmp_path / "x")
    assert not list(tmp_path.glob("*x")), "nothing half is left"


def test_a_missing_library_is_said_with_the_command_that_installs_it(tmp_path: Path, monkeypatch) -> None:
    path = write_gguf(LLAMA, tmp_path / "x.gguf")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'selfrepair\[gguf\]'"):
        sr.load_model(path)


def test_the_real_model_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    if not SMOLLM2.is_file():
        pytest.skip(f"{SMOLLM2} is not here: `make replicate-smollm2` fetches it")
    convert_gguf(SMOLLM2, tmp_path / "x")
    same_as_transformers(SMOLLM2, tmp_path / "x")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "x")
    assert tokenizer.tokenize("  2024 a") == ["ĠĠ", "2", "0", "2", "4", "Ġa"]
    assert tokenizer.decode(tokens(tmp_path / "x")) == TEXT
