"""Self-repair by its definition: the whole model runs anew for every head (experiments.md a.6 to a.9).

For checks on small models: nothing is cut, and logits are formed over the whole vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.models.folded import FoldedModel
from selfrepair.models.precision import linear


@torch.no_grad()
def patch_every_head(
    model: FoldedModel, tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"]
) -> dict[str, Float[Tensor, "..."]]:
    """Fields of `Measurement`, by their names, of replacing each head's output by that of its source row."""
    correct = tokens[:, 1:]
    v = model.W_U.T[correct].to(model.dtype)
    clean = _run(model, tokens)
    scale = model.scale(clean["resid"])[:, :-1]
    values_by_quantity: dict[str, list[Tensor]] = {}
    for index, layer in enumerate(model.layers):
        for head in range(model.n_heads):
            z = clean["z"][index].clone()
            z[:, :, head] = z[source][:, :, head]
            ablated = _run(model, tokens, index, z)
            before, after = (
                linear(part[:, :, head].flatten(0, 1), layer.W_O[head], None, model.precision).view_as(clean["resid"])
                for part in (clean["z"][index], z)
            )
            own = _dot(after - before, v) / scale
            attention = _dot(ablated["attention"] - clean["attention"], v) / scale
            attention[index] -= own  # what is left is of the layer's other heads: nothing but rounding
            logit, ablated_logit = (_correct(run["logits"], correct) for run in (clean, ablated))
            mlp = _dot(ablated["mlp"] - clean["mlp"], v) / scale
            parts = {
                "direct_effect": _dot(before, v) / scale,
                "delta_direct_effect": own,
                "delta_logit": ablated_logit - logit,
                "repair_attention": attention,
                "repair_mlp": mlp,
                "repair_norm": ablated_logit - logit - own - attention.sum(0) - mlp.sum(0),
                "ablated_scale": model.scale(ablated["resid"])[:, :-1],
                "own_scale": model.scale(clean["resid"] + after - before)[:, :-1],
            }
            for name, value in parts.items():
                values_by_quantity.setdefault(name, []).append(value)
    shape = (model.n_layers, model.n_heads)
    fields = {name: torch.stack(values).unflatten(0, shape) for name, values in values_by_quantity.items()}
    return fields | {"logit": _correct(clean["logits"], correct), "scale": scale}


def _run(
    model: FoldedModel,
    tokens: Int[Tensor, "row pos"],
    at: int | None = None,
    replaced: Float[Tensor, "row pos n_heads d_head"] | None = None,
) -> dict[str, Float[Tensor, "..."]]:
    """Run the model, with z of layer `at` replaced; return logits, the last residual stream and every layer's parts."""
    resid = model.embed(tokens)
    parts: dict[str, list[Tensor]] = {"z": [], "attention": [], "mlp": []}
    for index, layer in enumerate(model.layers):
        z = replaced if index == at else model.attention_heads(layer, resid)
        attention = model.attention_out(layer, z)
        resid, mlp = model.resid_post(layer, resid, attention)
        for name, value in (("z", z), ("attention", attention), ("mlp", mlp)):
            parts[name].append(value)
    logits = linear(model.final(resid).flatten(0, 1), model.W_U, model.b_U, model.precision).unflatten(0, tokens.shape)
    return {name: torch.stack(values) for name, values in parts.items()} | {"resid": resid, "logits": logits}


def _dot(written: Float[Tensor, "*part row pos d_model"], v: Float[Tensor, "row scored d_model"]) -> Tensor:
    return (written[..., :-1, :] * v).sum(-1)


def _correct(logits: Float[Tensor, "row pos d_vocab"], correct: Int[Tensor, "row scored"]) -> Tensor:
    """Logits of the correct next tokens."""
    return logits[:, :-1].gather(-1, correct[..., None])[..., 0]
