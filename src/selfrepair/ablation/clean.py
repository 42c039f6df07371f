"""The clean pass: direct effects of every component, exact thresholds, mean activations."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.effects import TOLERANCE
from selfrepair.ablation.memory import chunk_tokens
from selfrepair.core.progress import Progress
from selfrepair.models.folded import FoldedModel


@dataclass(frozen=True)
class CleanPass:
    """Direct effects per token in the clean pass, in logits (experiments.md a.6); `pos` is the predicting position.

    Attributes:
        logit: of the correct next token, centred over the vocabulary.
        bias: of the unembedding, at the correct next token; a part of the logit that no norm scales.
        scale: of the final norm.
        direct_effect: of each head, without biases.
        mlp_direct_effect: of each MLP layer, its bias included.
        other_direct_effect: of the embeddings and the attention biases together.
        z_sum: z of each head summed over tokens.
    """

    logit: Float[Tensor, "row pos"]
    bias: Float[Tensor, "row pos"]
    scale: Float[Tensor, "row pos"]
    direct_effect: Float[Tensor, "layer head row pos"]
    mlp_direct_effect: Float[Tensor, "layer row pos"]
    other_direct_effect: Float[Tensor, "row pos"]
    z_sum: Float[Tensor, "layer head d_head"]


@torch.no_grad()
def clean_pass(model: FoldedModel, tokens: Int[Tensor, "row pos"], progress: Progress | None = None) -> CleanPass:
    """Run the model once; check that all direct effects and the unembedding bias sum to the logit on every token.

    Args:
        progress: is told of each passed block of each token.

    Raises:
        ArithmeticError: they do not, to `TOLERANCE` of the row's largest logit, or a value is not finite.
    """
    tokens = tokens.to(model.device)
    v, b = model.unembedding(tokens[:, 1:])
    direct = model.logit_direction(tokens[:, 1:])
    resid = model.embed(tokens[:, :-1])
    other = (resid * direct).sum(-1)
    heads, mlps, z_sums = [], [], []
    for index, layer in enumerate(model.layers):
        z = model.attention_heads(layer, resid)
        # (z W_O).v = z.(W_O v): what each head writes is never formed.
        read = model.head_read(layer, direct.flatten(0, 1)).view(z.shape)
        heads.append((z * read).sum(-1).movedim(-1, 0))
        other += direct @ layer.b_O
        resid, mlp = model.resid_post(layer, resid, model.attention_out(layer, z))
        mlps.append((mlp * direct).sum(-1))
        z_sums.append(z.sum((0, 1), dtype=torch.float64))
        if progress is not None:
            progress.in_layer(tokens[:, 1:].numel(), index, model.n_layers)
    scale = model.scale(resid)
    by = model.direct_scale(scale)
    result = CleanPass(
        logit=(resid * v).sum(-1) / scale + b,
        bias=b,
        scale=scale,
        direct_effect=torch.stack(heads) / by,
        mlp_direct_effect=torch.stack(mlps) / by,
        other_direct_effect=other / by,
        z_sum=torch.stack(z_sums),
    )
    parts = result.direct_effect.sum((0, 1)) + result.mlp_direct_effect.sum(0) + result.other_direct_effect + b
    whole = (resid * direct).sum(-1) / by + b  # the logit, unless direct effects are in other units
    error = ((parts - whole).abs().amax(-1) / whole.abs().amax(-1)).max().item()
    if not error <= TOLERANCE:
        raise ArithmeticError(
            f"{model.name}: direct effects and biases miss the logit by {error:.1e} of the row's largest "
            f"(allowed: {TOLERANCE:.0e})"
        )
    return result


def clean_passes(
    model: FoldedModel, tokens: Int[Tensor, "row pos"], progress: Progress | None = None
) -> Iterator[tuple[Int[Tensor, " row"], CleanPass]]:
    """Run the model batch by batch; yield each batch's rows and its pass."""
    for rows in torch.arange(len(tokens)).split(max(1, chunk_tokens(model) // tokens.shape[1])):
        yield rows, clean_pass(model, tokens[rows], progress)


def mean_z(model: FoldedModel, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "layer n_heads d_head"]:
    """Mean z of every head over all scored positions (the last of a row predicts nothing)."""
    total = sum(batch.z_sum for _, batch in clean_passes(model, tokens))
    return (total / tokens[:, 1:].numel()).to(model.dtype)
