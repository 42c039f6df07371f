"""Load a model from a directory or a pinned hub revision, fold it, and check it against Hugging Face."""

import re
from pathlib import Path

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from selfrepair.models.directory import ModelInfo, count_parameters, read_model_info, weight_files
from selfrepair.models.folded import ACTIVATIONS, FoldedModel, Layer
from selfrepair.provenance import sha256

TOLERANCE = 1e-4  # of the largest logit, for log-probabilities against Hugging Face
FETCHED = ["*.json", "*.safetensors", "*.model", "*.txt"]  # never a pickle


def load_model(
    source: str | Path,
    revision: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str | None = None,
) -> FoldedModel:
    """Load, fold and check a decoder-only language model.

    Args:
        source: a local directory, or a hub id such as `org/name`.
        revision: full commit hash (40 hexadecimal digits); needed for a hub id, refused for a directory.
        dtype: in which the folded model is kept; folding and the check are done in float32.
        name: how results call it; the last part of `source` by default.

    Raises:
        ModelDirectoryError: the directory is missing, incomplete, pickled or of an unsupported architecture.
        ValueError: the revision is missing, not a full hash, or given for a directory; or the folded model's
            log-probabilities differ from Hugging Face's by more than `TOLERANCE` of the largest logit.
    """
    folder = Path(source)
    if not folder.is_dir() and not folder.is_absolute() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        folder = fetch_model(str(source), revision)
    elif revision is not None:
        raise ValueError(f"revision {revision} was given for the directory {source}; it applies to hub ids only")
    model, _ = load_checked(folder, name or folder.name)
    return model.to(device, dtype)


def load_checked(folder: Path, name: str) -> tuple[FoldedModel, float]:
    """Load and fold a model directory; return the model and its largest error against Hugging Face.

    Returns:
        the model in float32, and the error of its log-probabilities relative to the largest logit.

    Raises:
        ModelDirectoryError, ValueError: as `load_model`.
    """
    info = read_model_info(folder)
    model, error = _fold_with_error(folder, info, name)
    if not error <= TOLERANCE:
        raise ValueError(
            f"{folder}: log-probabilities of the folded model differ from Hugging Face's by {error:.1e} "
            f"of the largest logit (allowed: {TOLERANCE:.0e})"
        )
    return model, error


def model_facts(model: FoldedModel, folder: Path, error: float) -> dict[str, object]:
    """Size of a model, the checksums of its weights, and the error of the check against Hugging Face."""
    files = weight_files(folder)
    return {
        "name": model.name,
        "family": model.family,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "d_model": model.d_model,
        "d_mlp": model.layers[0].W_out.shape[0],
        "d_vocab": model.W_E.shape[0],
        "parallel": model.parallel,
        "parameters": sum(count_parameters(file) for file in files),
        "weights_sha256": {file.name: sha256(file) for file in files},
        "load_error": error,
    }


def fetch_model(hub_id: str, revision: str | None, folder: Path | None = None) -> Path:
    """Download a model's configuration, tokenizer and safetensors at a full commit hash; return their directory."""
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"{hub_id}: `revision` must be a full commit hash (40 hexadecimal digits), not {revision!r}; "
            f"or, if a directory was meant, {hub_id} does not exist here"
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=FETCHED, local_dir=folder))


@torch.no_grad()
def _fold_with_error(folder: Path, info: ModelInfo, name: str) -> tuple[FoldedModel, float]:
    """Fold the model and return it with its largest error against Hugging Face, relative to the largest logit."""
    # Imported late: transformer_lens takes seconds to import, and only loading needs it.
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    hf_model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()
    tokens = _probe_tokens(hf_model.config.vocab_size, min(32, info.max_positions))
    expected = hf_model(tokens, use_cache=False).logits
    facts = _facts(hf_model, info)
    # The bridge wants a tokenizer, the measurement has token ids already: a directory without one loads too.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")), eos_token="?")
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=hf_model, tokenizer=tokenizer, device="cpu", dtype=torch.float32
    )
    bridge.enable_compatibility_mode(disable_warnings=True)
    model = _from_bridge(bridge, hf_model, info, name, facts)
    difference = model.logits(tokens).log_softmax(-1) - expected.log_softmax(-1)
    return model, (difference.abs().max() / expected.abs().max()).item()


def _probe_tokens(vocabulary_size: int, length: int) -> Int[Tensor, "row pos"]:
    return torch.randint(vocabulary_size, (4, length), generator=torch.Generator().manual_seed(0))


def _facts(hf_model: torch.nn.Module, info: ModelInfo) -> dict:
    """What of the Hugging Face model is not a weight: activation, norm epsilon, rotary frequencies."""
    config = hf_model.config
    activation = next(
        value for key in ("hidden_act", "activation_function") if (value := getattr(config, key, None)) is not None
    )
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation `{activation}` is not supported; supported are {', '.join(sorted(ACTIVATIONS))}")
    eps_names = ("layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps")
    eps = next((getattr(config, key) for key in eps_names if hasattr(config, key)), 1e-5)  # OPT: torch's default
    rotary = next((m for m in hf_model.modules() if hasattr(m, "inv_freq")), None)
    return {
        "activation": activation,
        "eps": eps,
        "parallel": bool(getattr(config, "use_parallel_residual", False)),
        "max_positions": info.max_positions,
        "inverse_frequencies": None if rotary is None else rotary.inv_freq.detach().float().cpu().clone(),
        "rotary_factor": 1.0 if rotary is None else float(rotary.attention_scaling),
    }


def _from_bridge(
    bridge: torch.nn.Module, hf_model: torch.nn.Module, info: ModelInfo, name: str, facts: dict
) -> FoldedModel:
    """Copy the folded tensors out of transformer_lens's bridge."""
    config = hf_model.config
    layers = [
        _layer(block, _attention_scale(config, index, block), _window(config, index))
        for index, block in enumerate(bridge.blocks)
    ]
    W_U = bridge.W_U.float()
    b_U = torch.zeros(W_U.shape[1]) if bridge.b_U is None else bridge.b_U.float()
    W_pos = bridge.W_pos.float().clone() if facts["inverse_frequencies"] is None else None
    n_kv_heads = bridge.blocks[0].attn.W_K.shape[0]
    return FoldedModel(
        name=name,
        family=info.family,
        n_heads=info.n_heads,
        n_kv_heads=n_kv_heads,
        d_head=bridge.blocks[0].attn.W_Q.shape[-1],
        W_E=bridge.W_E.float().clone(),
        W_pos=W_pos,
        W_U=(W_U - W_U.mean(1, keepdim=True)).contiguous(),
        b_U=b_U - b_U.mean(),
        layers=tuple(layers),
        **facts,
    )


def _layer(block: torch.nn.Module, attention_scale: float, window: int | None) -> Layer:
    attn, mlp = block.attn, block.mlp
    n_heads, d_head, d_model = attn.W_O.shape
    n_kv_heads, d_mlp = attn.W_K.shape[0], mlp.W_out.shape[0]

    def bias(value: Tensor | None, *shape: int) -> Float[Tensor, "..."]:
        return torch.zeros(shape) if value is None else value.float().clone()

    def columns(weight: Tensor) -> Float[Tensor, "d_model qkv"]:
        return weight.float().permute(1, 0, 2).reshape(d_model, -1)

    W_O = attn.W_O.float().clone()
    b_V = bias(attn.b_V, n_kv_heads, d_head)
    # The bridge leaves value biases of grouped-query models in place: a bias passes attention unchanged.
    b_O = bias(attn.b_O, d_model) + torch.einsum("hd,hdm->m", b_V.repeat_interleave(n_heads // n_kv_heads, dim=0), W_O)
    b_Q, b_K = bias(attn.b_Q, n_heads, d_head), bias(attn.b_K, n_kv_heads, d_head)
    gate = getattr(mlp, "W_gate", None)
    return Layer(
        W_QKV=torch.cat([columns(attn.W_Q), columns(attn.W_K), columns(attn.W_V)], dim=1).contiguous(),
        b_QKV=torch.cat([b_Q.flatten(), b_K.flatten(), torch.zeros(n_kv_heads * d_head)]),
        W_O=W_O,
        b_O=b_O,
        W_in=mlp.W_in.float().contiguous().clone(),
        b_in=bias(mlp.b_in, d_mlp),
        W_gate=None if gate is None else gate.float().contiguous().clone(),
        b_gate=None if gate is None else bias(getattr(mlp, "b_gate", None), d_mlp),
        W_out=mlp.W_out.float().contiguous().clone(),
        b_out=bias(mlp.b_out, d_model),
        attention_scale=attention_scale,
        window=window,
    )


def _attention_scale(config: object, index: int, block: torch.nn.Module) -> float:
    if config.model_type == "gpt_neo":
        return 1.0  # GPT-Neo does not scale its attention scores
    scale = block.attn.W_Q.shape[-1] ** -0.5 if getattr(config, "scale_attn_weights", True) else 1.0
    return scale / (index + 1) if getattr(config, "scale_attn_by_inverse_layer_idx", False) else scale


def _window(config: object, index: int) -> int | None:
    if config.model_type == "gpt_neo":
        return config.window_size if config.attention_layers[index] == "local" else None
    if config.model_type == "mistral":
        return config.sliding_window
    kinds = getattr(config, "layer_types", None)
    return config.sliding_window if kinds and kinds[index] == "sliding_attention" else None
