"""The controlled family's decoder: each feature is what Hugging Face's classes mean by it."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from selfrepair.models.decoder import Decoder, DecoderConfig

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
POSITIONS, VOCABULARY = {"max_position_embeddings": 16}, {"vocab_size": 50}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}


def decoder(**features: object) -> Decoder:
    """Of random weights, gains and biases included."""
    model = Decoder(DecoderConfig(**SIZE, **POSITIONS, **VOCABULARY, **features)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        p.data = 0.3 * torch.randn(p.shape, generator=generator) + float(p.ndim == 1 and "bias" not in name)
    return model


def hugging_face(family: str, **fields: object) -> torch.nn.Module:
    config = AutoConfig.for_model(family, **VOCABULARY, **SPECIAL, **fields)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def renamed(model: Decoder, names: dict[str, str]) -> dict[str, Tensor]:
    """The weights under the names of another class, the first part that fits replaced."""
    found = {}
    for name, value in model.state_dict().items():
        old = next((old for old in names if old in name), None)
        found[name if old is None else name.replace(old, names[old])] = value
    return found


def side_by_side(weights: dict[str, Tensor], layer: str, names: tuple[str, ...], to: str) -> None:
    for kind in ("weight", "bias"):
        weights[f"{layer}.{to}.{kind}"] = torch.cat([weights.pop(f"{layer}.{name}.{kind}") for name in names])


def as_gpt2(model: Decoder) -> torch.nn.Module:
    other = hugging_face("gpt2", n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=16, tie_word_embeddings=False)
    names = {"input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn.o_proj": "attn.c_proj"}
    names |= {"up_proj": "c_fc", "down_proj": "c_proj", "norm.": "ln_f."}
    weights = renamed(model, names)
    for layer in ("layers.0", "layers.1"):
        side_by_side(weights, layer, tuple(f"self_attn.{x}_proj" for x in "qkv"), "attn.c_attn")
    lm_head = weights.pop("lm_head.weight")
    matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    body = {n.replace("layers", "h"): w.T if n.endswith(matrices) else w for n, w in weights.items()}
    other.load_state_dict({f"transformer.{n}": w for n, w in body.items()} | {"lm_head.weight": lm_head})
    return other


def as_opt(model: Decoder) -> torch.nn.Module:
    fields = {"ffn_dim": 48, "activation_function": "gelu_pytorch_tanh", "word_embed_proj_dim": 32}
    fields |= {"tie_word_embeddings": False, "_remove_final_layer_norm": True}
    size = {name: value for name, value in SIZE.items() if name != "intermediate_size"}
    other = hugging_face("opt", **size, **POSITIONS, **fields)
    names = {"input_layernorm": "self_attn_layer_norm", "post_attention_layernorm": "final_layer_norm"}
    names |= {"mlp.up_proj": "fc1", "mlp.down_proj": "fc2", "o_proj": "out_proj"}
    weights = renamed(model, names | {"wte": "embed_tokens", "wpe": "embed_positions"})
    lm_head, learned = weights.pop("lm_head.weight"), weights.pop("embed_positions.weight")
    weights["embed_positions.weight"] = torch.cat([torch.zeros(2, 32), learned])  # the first two rows are unused
    body = {f"model.decoder.{name}": value for name, value in weights.items()}
    other.load_state_dict(body | {"lm_head.weight": lm_head})
    return other


def as_neox(model: Decoder) -> torch.nn.Module:
    parallel = model.config.use_parallel_residual
    fields = {"rotary_pct": 1.0, "hidden_act": "gelu_pytorch_tanh", "use_parallel_residual": parallel}
    other = hugging_face("gpt_neox", **SIZE, **POSITIONS, **fields)
    names = {"_layernorm": "_layernorm", "self_attn.o_proj": "attention.dense", "norm.": "final_layer_norm."}
    names |= {"up_proj": "dense_h_to_4h", "down_proj": "dense_4h_to_h"}
    weights = renamed(model, names | {"wte": "embed_in"})
    for layer in ("layers.0", "layers.1"):
        for kind in ("weight", "bias"):
            of_heads = [weights.pop(f"{layer}.self_attn.{x}_proj.{kind}").unflatten(0, (4, 8)) for x in "qkv"]
            weights[f"{layer}.attention.query_key_value.{kind}"] = torch.stack(of_heads, 1).flatten(0, 2)
    lm_head = weights.pop("lm_head.weight")
    body = {f"gpt_neox.{name}": value for name, value in weights.items()}
    other.load_state_dict(body | {"embed_out.weight" if hasattr(other, "embed_out") else "lm_head.weight": lm_head})
    return other


def as_llama(model: Decoder) -> torch.nn.Module:
    fields = {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-5}
    other = hugging_face("llama", **SIZE, **POSITIONS, **fields)
    weights = renamed(model, {"wte": "embed_tokens"})
    lm_head = weights.pop("lm_head.weight")
    other.load_state_dict({f"model.{name}": value for name, value in weights.items()} | {"lm_head.weight": lm_head})
    return other


@pytest.mark.parametrize(
    ("features", "family"),
    [
        ({}, as_gpt2),
        ({"final_norm": False}, as_opt),
        ({"rotary": True}, as_neox),
        ({"rotary": True, "use_parallel_residual": True}, as_neox),
        ({"norm": "rms", "rotary": True, "gated": True, "hidden_act": "silu", "num_key_value_heads": 2}, as_llama),
    ],
    ids=["base", "no-final-norm", "rotary", "parallel", "llama"],
)
@torch.no_grad()
def test_features_are_those_of_hugging_faces_classes(features, family) -> None:
    """Otherwise an arm would not be the architecture whose name it has."""
    model = decoder(**features)
    tokens = torch.randint(50, (3, 16), generator=torch.Generator().manual_seed(2))
    ours, theirs = model(tokens).logits, family(model)(tokens).logits
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def logits(model: Decoder) -> Float[Tensor, "row pos d_vocab"]:
    return model(torch.arange(16).view(1, 16)).logits


@torch.no_grad()
def test_dropout_is_of_training_alone() -> None:
    model = decoder(dropout=0.5)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.allclose(logits(model), logits(model))


@torch.no_grad()
def test_tied_embeddings_are_one_tensor() -> None:
    model = decoder(tie_word_embeddings=True)
    assert model.lm_head.weight is model.wte.weight
    assert decoder().lm_head.weight is not decoder().wte.weight


@pytest.mark.parametrize(
    "features",
    [
        {"hidden_size": 30},
        {"num_attention_heads": 4, "num_key_value_heads": 3},
        {"norm": "batch"},
        {"norm": "rms", "final_norm": False},
    ],
)
def test_what_has_no_meaning_is_refused(features) -> None:
    with pytest.raises(StrictDataclassError):
        DecoderConfig(**SIZE | features)
