"""Plain interventions of the iterative-inference experiments (experiments.md a.15): a layer skipped, a vector added.

Every pass is an ordinary forward pass over a batch; only what changes is computed. Direct effects are z.(W_O v) / scale
with v the column of the correct next token in the unembedding, as everywhere (experiments.md a.6).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.jobs import carried_rows
from selfrepair.core.progress import Progress
from selfrepair.models.folded import FoldedModel, Layer

DIRECTIONS = ("own", "other", "random")


@dataclass(frozen=True)
class Moves:
    """Direct effects of heads per token (logits, clean scale), the layer before them whole, skipped or damaged.

    Since the scale is held fixed, a head depends on the stream that its layer reads and on nothing else. Skipping the
    layer before it is therefore the same measurement as the simulated attention layer of experiments.md a.15.2.

    Attributes:
        direct_effect: clean.
        moved: of the heads of layers 1, 2, ... when their layer reads what the layer before it read.
        ablated: of the same heads when one head of the layer before is resample-ablated at every position.
    """

    direct_effect: Float[Tensor, "layer head row pos"]
    moved: Float[Tensor, "later_layer head row pos"]
    ablated: Float[Tensor, "later_layer head row pos"]


@dataclass(frozen=True)
class Additions:
    """Direct effect of a head at its tokens (logits) before and after a vector was added to what its layer reads.

    Attributes:
        directions: what was added, names of `DIRECTIONS`.
        direct_effect: clean.
        clean_scale: after the addition, with the clean scale of the final norm.
        perturbed_scale: after the addition, with the scale of the perturbed pass.
    """

    directions: tuple[str, ...]
    direct_effect: Float[Tensor, " token"]
    clean_scale: Float[Tensor, "direction strength token"]
    perturbed_scale: Float[Tensor, "direction strength token"]


@torch.no_grad()
def move_layers(
    model: FoldedModel,
    tokens: Int[Tensor, "row_all length"],
    source: Int[Tensor, " row_all"],
    rows: Int[Tensor, " row"],
    ablated_heads: list[int],
    progress: Progress | None = None,
) -> Moves:
    """Skip each layer but the last, and ablate one head of it, each time alone; see what the heads after it do.

    Args:
        tokens: rows that begin with the beginning-of-text token.
        source: for each row, the row that its corrupted activations come from.
        rows: the rows to measure.
        ablated_heads: of each layer but the last, the head to ablate.
        progress: is told of each passed block of each token.

    Raises:
        ValueError: the model has one layer only.
    """
    if model.n_layers == 1:
        raise ValueError(f"{model.name} has a single layer, and no later heads to see it skipped")
    present, at = carried_rows(rows, source[rows])
    tokens, at = tokens[present].to(model.device), at.to(model.device)
    n = len(rows)
    v, _ = model.unembedding(tokens[:n, 1:])
    resid = model.embed(tokens[:, :-1])
    before = damaged = resid[:n]
    clean, moved, ablated = [], [], []
    for index, layer in enumerate(model.layers):
        z = model.attention_heads(layer, resid)
        read = model.head_read(layer, v.flatten(0, 1)).unflatten(0, v.shape[:2])
        clean.append(_effects(z[:n], read))
        if index > 0:
            moved.append(_effects(model.attention_heads(layer, before), read))
            ablated.append(_effects(model.attention_heads(layer, damaged), read))
        attention = model.attention_out(layer, z)
        before = resid[:n]
        if index < model.n_layers - 1:
            head = ablated_heads[index]
            delta_z = z[at, :, head] - z[:n, :, head]
            delta = model.head_out(layer, head, delta_z.flatten(0, 1)).view(before.shape)
            damaged, _ = model.resid_post(layer, before, attention[:n] + delta)
        resid, _ = model.resid_post(layer, resid, attention)
        if progress is not None:
            progress.in_layer(v[..., 0].numel(), index, model.n_layers)
    scale = model.scale(resid[:n])
    return Moves(*(torch.stack(part) / scale for part in (clean, moved, ablated)))


@torch.no_grad()
def add_to_stream(
    model: FoldedModel,
    tokens: Int[Tensor, "token length"],
    pos: Int[Tensor, " token"],
    layer: int,
    head: int,
    other: Int[Tensor, " token"] | None,
    noise: Float[Tensor, "token d_model"],
    strengths: list[float],
    progress: Progress | None = None,
) -> Additions:
    """Add a multiple of a vector to what a head's layer reads, at one position; measure the head at that position.

    Each token is a run of its own with one perturbed position. Earlier positions do not see it and later ones are not
    asked for, so of the perturbed pass only that position is computed, against the clean keys and values before it. The
    vectors are the head's own output at the position (without biases), that of another head of its layer as it is, and
    a random direction of the own output's norm.

    Args:
        tokens: the row of each token.
        pos: where in its row each token is: the position that predicts.
        other: another head of the layer for each token; None where the layer has a single head.
        noise: a random vector for each token. Its mean over `d_model` is removed: along it a LayerNorm model can
            neither write nor read.
        strengths: factors of the vectors.
        progress: is told of each block passed by each token's row.
    """
    tokens, pos = tokens.to(model.device), pos.to(model.device)
    each = torch.arange(len(pos), device=model.device)
    v = model.unembedding(tokens[each, pos + 1][:, None])[0][:, 0]
    factors = torch.tensor(strengths, dtype=model.dtype, device=model.device)
    clean = model.embed(tokens[:, : int(pos.max()) + 1])
    names = tuple(name for name in DIRECTIONS if name != "other" or other is not None)
    effect, changed, streams = None, [], torch.empty(0)
    for index, block in enumerate(model.layers):
        qkv = model.qkv(block, clean.flatten(0, 1)).unflatten(0, clean.shape[:2])
        z = model.attend(block, qkv)
        if index == layer:
            own = model.head_out(block, head, z[each, pos, head])
            effect = (own * v).sum(-1)
            vectors = {"own": own, "random": _of_norm(noise.to(own), own)}
            if other is not None:
                vectors["other"] = _outputs(model, block, z[each, pos], other.to(model.device))
            added = factors[:, None, None] * torch.stack([vectors[name] for name in names])[:, None]
            streams = (clean[each, pos] + added).flatten(0, 1)
        if index >= layer:
            moved = []
            for stream in streams:
                qkv[each, pos] = model.qkv(block, stream)  # the clean values are not needed any more
                moved.append(model.attend(block, qkv)[each, pos])
            new_z = torch.stack(moved)
            if index == layer:
                changed = torch.stack([(model.head_out(block, head, one[:, head]) * v).sum(-1) for one in new_z])
            streams, _ = model.resid_post(block, streams, model.attention_out(block, new_z))
        clean, _ = model.resid_post(block, clean, model.attention_out(block, z))
        if progress is not None:
            progress.in_layer(len(pos), index, model.n_layers)
    scale = model.scale(clean[each, pos])
    shape = (len(names), len(strengths), len(pos))
    return Additions(names, effect / scale, (changed / scale).view(shape), (changed / model.scale(streams)).view(shape))


def _effects(
    z: Float[Tensor, "row pos n_heads d_head"], read: Float[Tensor, "row pos n_heads d_head"]
) -> Float[Tensor, "n_heads row pos"]:
    return (z * read).sum(-1).movedim(-1, 0)


def _of_norm(
    noise: Float[Tensor, "token d_model"], like: Float[Tensor, "token d_model"]
) -> Float[Tensor, "token d_model"]:
    """Centre vectors and give them the norms of others."""
    centred = noise - noise.mean(-1, keepdim=True)
    return centred * (like.norm(dim=-1, keepdim=True) / centred.norm(dim=-1, keepdim=True))


def _outputs(
    model: FoldedModel, layer: Layer, z: Float[Tensor, "token n_heads d_head"], head: Int[Tensor, " token"]
) -> Float[Tensor, "token d_model"]:
    """What one head writes at each token, a head for each."""
    written = z.new_empty(len(z), model.d_model)
    for of in head.unique().tolist():
        here = (head == of).nonzero()[:, 0]
        written[here] = model.head_out(layer, of, z[here, of])
    return written
