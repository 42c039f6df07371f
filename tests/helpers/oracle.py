"""The definitions of self-repair carried out by patching hooks, one forward pass per head, with nothing shared.

Two independent oracles: transformer_lens's hooks on the folded model, field by field, and Hugging Face's own logits
in float64. Both follow experiments.md a.6 to a.9 literally.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

OUTPUT_PROJECTIONS = ("c_proj", "dense", "o_proj", "out_proj")  # of attention, by family


def booted(folder: Path, hf_model: torch.nn.Module) -> torch.nn.Module:
    """The model in transformer_lens, with norms folded, writing weights and unembedding centred."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerFast

    stand_in = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")), eos_token="?")
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=hf_model, tokenizer=stand_in, device="cpu", dtype=torch.float32
    )
    bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge


@torch.no_grad()
def hooks_oracle(bridge: torch.nn.Module, tokens: Tensor, source: Tensor, ablation: str) -> dict[str, Tensor]:
    """Every field of `Measurement`, by running the model once for every head with its `hook_z` replaced."""
    n_layers, n_heads, eps = len(bridge.blocks), bridge.blocks[0].attn.W_O.shape[0], bridge.cfg.eps
    correct = tokens[:, 1:]
    v = (bridge.W_U - bridge.W_U.mean(1, keepdim=True)).T[correct]

    def run(layer: int | None = None, head: int | None = None) -> dict[str, Tensor]:
        hooks = [] if layer is None else [(z_name(layer), partial(replace_head, head=head, layer=layer))]
        with bridge.hooks(fwd_hooks=hooks):
            logits, cache = bridge.run_with_cache(tokens)
        logits = logits - logits.mean(-1, keepdim=True)
        found = {"logit": logits[:, :-1].gather(-1, correct[..., None])[..., 0]}
        found["scale"] = cache["ln_final.hook_scale"][:, :-1, 0]
        found["attention"] = torch.stack([cache[f"blocks.{i}.hook_attn_out"] for i in range(n_layers)])[:, :, :-1]
        found["mlp"] = torch.stack([cache[f"blocks.{i}.hook_mlp_out"] for i in range(n_layers)])[:, :, :-1]
        found["resid"] = cache[f"blocks.{n_layers - 1}.hook_resid_post"][:, :-1]
        found["z"] = torch.stack([cache[z_name(i)] for i in range(n_layers)])[:, :, :-1]
        return found

    def replace_head(z: Tensor, hook: object, head: int, layer: int) -> Tensor:
        z = z.clone()
        if ablation == "resample":
            z[:, :, head] = clean_z[layer][source][:, :, head]
        elif ablation == "zero":
            z[:, :, head] = value_bias(bridge, layer, n_heads)[head]  # only what the head read is taken away
        else:
            z[:, :, head] = clean_z[layer][:, :-1, head].mean((0, 1))
        return z

    _, full = bridge.run_with_cache(tokens)
    clean_z = [full[z_name(i)].clone() for i in range(n_layers)]
    clean = run()
    scale = clean["scale"]

    def direct(written: Tensor) -> Tensor:
        return (written * v).sum(-1) / scale

    def head_effect(z: Tensor, layer: int, head: int) -> Tensor:
        bias_free = z[layer][:, :, head] - value_bias(bridge, layer, n_heads)[head]
        return direct(bias_free @ bridge.blocks[layer].attn.W_O[head])

    effects = ("direct_effect", "delta_logit", "delta_direct_effect", "repair_attention", "repair_mlp")
    fields: dict[str, list[Tensor]] = {name: [] for name in (*effects, "ablated_scale", "own_scale")}
    for layer in range(n_layers):
        for head in range(n_heads):
            ablated = run(layer, head)
            own = head_effect(clean["z"], layer, head)
            delta_own = head_effect(ablated["z"], layer, head) - own
            attention = direct(ablated["attention"] - clean["attention"])
            attention[layer] -= delta_own  # the other heads of its layer
            fields["direct_effect"].append(own)
            fields["delta_direct_effect"].append(delta_own)
            fields["delta_logit"].append(ablated["logit"] - clean["logit"])
            fields["repair_attention"].append(attention)
            fields["repair_mlp"].append(direct(ablated["mlp"] - clean["mlp"]))
            fields["ablated_scale"].append(ablated["scale"])
            change = (ablated["z"][layer] - clean["z"][layer])[:, :, head] @ bridge.blocks[layer].attn.W_O[head]
            # Writing weights are centred where the norm centres, so the scale is the root mean square for all.
            fields["own_scale"].append(((clean["resid"] + change).square().mean(-1) + eps).sqrt())
    result = {name: torch.stack(parts).unflatten(0, (n_layers, n_heads)) for name, parts in fields.items()}
    result["self_repair"] = result["delta_logit"] - result["delta_direct_effect"]
    # The paper takes the norm's share as what the components leave over (a.9).
    result["repair_norm"] = result["self_repair"] - result["repair_attention"].sum(2) - result["repair_mlp"].sum(2)
    return result | {"logit": clean["logit"], "scale": scale}


def z_name(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_z"


def value_bias(bridge: torch.nn.Module, layer: int, n_heads: int) -> Tensor:
    """The value bias that transformer_lens left inside `hook_z`, for each head (zero where it was folded)."""
    attention = bridge.blocks[layer].attn
    d_head = attention.W_O.shape[1]
    if attention.b_V is None:
        return torch.zeros(n_heads, d_head)
    b_V = attention.b_V.view(-1, d_head)
    return b_V.repeat_interleave(n_heads // len(b_V), 0)


@torch.no_grad()
def hugging_face_oracle(hf_model: torch.nn.Module, tokens: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Clean logit and its change under resample ablation, from the logits that Hugging Face computes."""
    projections = attention_projections(hf_model)
    n_heads = hf_model.config.num_attention_heads

    def logits(change: Callable[[Tensor], Tensor] | None = None, at: torch.nn.Module | None = None) -> Tensor:
        handle = at and at.register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
        out = hf_model(tokens, use_cache=False).logits
        if handle:
            handle.remove()
        centred = out - out.mean(-1, keepdim=True)
        return centred[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]

    def resampled(z: Tensor, head: int) -> Tensor:
        z = z.unflatten(-1, (n_heads, -1)).clone()
        z[:, :, head] = kept[-1].unflatten(-1, (n_heads, -1))[source][:, :, head]
        return z.flatten(-2)

    deltas, kept = [], []
    clean = logits()
    for projection in projections:
        logits(lambda z: kept.append(z) or z, projection)
        deltas += [logits(partial(resampled, head=head), projection) - clean for head in range(n_heads)]
    return clean, torch.stack(deltas).unflatten(0, (len(projections), n_heads))


def attention_projections(hf_model: torch.nn.Module) -> list[torch.nn.Module]:
    """The output projection of each layer's attention."""
    return [
        module
        for name, module in hf_model.named_modules()
        if name.rsplit(".", 1)[-1] in OUTPUT_PROJECTIONS and ("attn" in name or "attention" in name)
    ]
