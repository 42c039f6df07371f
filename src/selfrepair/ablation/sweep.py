"""Measure the self-repair of every head in one sweep over the layers (method.md section 3).

The state is the residual stream of the clean rows, and of one job for each (ablated head, row). For
each layer, once:

1. every job passes the block, and two dot products per token say by how much its attention and its MLP
   changed the logit of the correct next token;
2. the layer's heads join as new jobs, which start from the clean stream at that point with the head's output
   replaced. No layer before the head is computed again, and sequential blocks give a new job its own MLP.

At the end two scalars per token, r.v and the scale of the final norm, close the account exactly:

    delta_logit = delta_direct_effect + sum_later repair_attention + sum_later repair_mlp + repair_norm

with repair_norm = (logit' - b)(1 - scale'/scale). The last position of a row predicts nothing and is dropped; of the
unembedding only the columns of the correct next tokens are read. Jobs lie side by side without padding, and each is
computed only as far as it is wanted.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.effects import TokenEffects, check_decomposition
from selfrepair.ablation.jobs import AblationJobs, carried_rows
from selfrepair.ablation.neuron_recorder import NeuronRecorder
from selfrepair.ablation.replacements import Ablation, replacement
from selfrepair.ablation.sweep_state import Block, FinalStreams, Responders, State
from selfrepair.ablation.unit_names import ATTENTION, MLP, Unit
from selfrepair.ablation.units import Members
from selfrepair.core.progress import Progress
from selfrepair.models.folded import FoldedModel, Layer
from selfrepair.models.fused import add_change


@torch.no_grad()
def sweep(
    model: FoldedModel,
    tokens: Int[Tensor, "row_all pos"],
    source: Int[Tensor, " row_all"],
    ablation: Ablation,
    jobs: AblationJobs,
    means: Float[Tensor, "layer n_heads d_head"],
    recorder: NeuronRecorder | None = None,
    progress: Progress | None = None,
    responders: Responders | None = None,
    units: Sequence[Unit] = (),
    direction: tuple[Float[Tensor, "row_all pos-1 d_model"], Float[Tensor, "row_all pos-1"]] | None = None,
    streams: FinalStreams | None = None,
) -> TokenEffects:
    """Ablate heads in rows of `tokens`, one head in one row per job; or units, one in one row.

    The rows that replacements come from are carried along as clean rows, so that results do not depend on how jobs
    are divided into sweeps.

    Args:
        means: of `mean_z`; not read by other ablations than `mean`.
        recorder: looks at single neurons on the way.
        progress: is told of each passed block of each token (`AblationJobs.block_passes`).
        responders: is told how each later head's direct effect changes.
        units: what is ablated instead of heads (`unit_jobs`); by resampling only.
        direction: of the stream, and bias, in place of the correct next tokens' column of `W_U` and entry of `b_U`, for
            all rows of `tokens`.
        streams: is told what the final norm reads.

    Raises:
        ValueError: the model lacks a head, units are to be ablated by other means than resampling, or single neurons
            are to be watched in a model folded as published.
        DecompositionError: the split does not sum to the total, or a value is not finite.
    """
    jobs = jobs.ordered()
    if units and ablation != "resample":
        raise ValueError(f"units are resampled; {ablation} ablation is of single heads")
    pairs = [] if units else _pairs(jobs)
    if absent := {(layer, head) for layer, head in pairs if layer >= model.n_layers or head >= model.n_heads}:
        raise ValueError(f"{model.name} has {model.n_layers} layers of {model.n_heads} heads, so not {sorted(absent)}")
    if recorder is not None and model.W_U_authors is not None:
        raise ValueError(f"{model.name} was folded as published: direct effects of its neurons are not defined")
    rows = jobs.row.unique()
    sources = source[rows] if ablation == "resample" else rows
    present, source_at = carried_rows(rows, sources)
    tokens = tokens[present].to(model.device)
    v, b = model.unembedding(tokens[: len(rows), 1:])
    read = model.logit_direction(tokens[: len(rows), 1:])
    if direction is not None:
        read, b = (part[rows].to(v) for part in direction)
        v = read
    clean = model.embed(tokens[:, :-1])
    state = State(model, jobs, rows, source_at, read, units, responders)
    for index, layer in enumerate(model.layers):
        z = model.attention_heads(layer, clean)
        attention = model.attention_out(layer, z)
        resid_post, mlp = model.resid_post(layer, clean, attention)
        block = Block(
            index,
            layer,
            z=z.flatten(0, 1),
            resid=clean.flatten(0, 1),
            attention=attention.flatten(0, 1),
            mlp=mlp.flatten(0, 1),
            read=None if responders is None else model.head_read(layer, state.v),
        )
        recording = recorder if recorder is not None and index in recorder.layers else None
        for chunk, at in state.before(index):
            _advance(model, state, block, chunk, at, recording)
            if progress is not None:
                progress.in_layer(chunk.n_tokens, index, model.n_layers)
        for chunk, at in state.of(index):
            _join(model, state, block, chunk, at, ablation, means[index], recording)
            if progress is not None:
                progress.in_layer(chunk.n_tokens, index, model.n_layers)
        clean = resid_post
    measurement = _close(model, state, clean[: len(rows)], v.flatten(0, 1), b, streams)
    check_decomposition(measurement, units)
    return measurement


def no_means(model: FoldedModel) -> Float[Tensor, "layer n_heads d_head"]:
    """Zeros in the shape of `mean_z`, for ablations that need no means."""
    return torch.zeros(model.n_layers, model.n_heads, model.d_head, device=model.device)


def _pairs(jobs: AblationJobs) -> list[list[int]]:
    return torch.stack([jobs.layer, jobs.head], 1).unique(dim=0).tolist()


def _advance(
    model: FoldedModel, state: State, block: Block, chunk: AblationJobs, at: slice, recorder: NeuronRecorder | None
) -> None:
    """Pass some jobs through the block, in place."""
    layer, resid, place = block.layer, state.resid[at], state.place[at]
    qkv = model.qkv(layer, resid)
    z, first, turn = [], 0, model.rotary(int(chunk.length.max()))
    for length, count in zip(*(n.tolist() for n in chunk.length.unique_consecutive(return_counts=True)), strict=True):
        together = qkv[first : first + count * length].view(count, length, -1)
        z.append(model.attend(layer, together, turn).flatten(0, 1))
        first += count * length
    joined = z[0] if len(z) == 1 else torch.cat(z)
    members = Members.of(state.units, block.index, chunk, model.device)
    members.hold(joined, block.z, place, state.source[at])
    if state.responders is not None and block.read is not None:
        here = state.responders.wanted(at)
        change = (joined[here] - block.z[place[here]]).mul_(block.read[place[here]])
        state.responders.record(block.index, at, change.sum(-1))
    attention = model.attention_out(layer, joined)
    members.replace(ATTENTION, attention, block.attention, state.source[at])
    hidden = model.mlp_hidden(layer, resid) if model.parallel else None
    state.attention[at, block.index] = add_change(resid, attention, block.attention, place, state.v)
    if members.replaced:
        state.attention[at, block.index] -= state.count_own(model, block, members.of_attention, at)
    if hidden is None:
        hidden = model.mlp_hidden(layer, resid)
    _add_mlp(model, state, block, members, at, resid, model.mlp_write(layer, hidden))
    if recorder is not None:
        recorder.record(
            model, block.index, layer, at, place, hidden, partial(block.clean_hidden, model), state.v[place]
        )


def _add_mlp(
    model: FoldedModel,
    state: State,
    block: Block,
    members: Members,
    at: slice,
    resid: Float[Tensor, "token d_model"],
    mlp: Float[Tensor, "token d_model"],
) -> None:
    """Add the MLP's output to the stream, in place; where the MLP is a unit's, another row's."""
    members.replace(MLP, mlp, block.mlp, state.source[at])
    state.mlp[at, block.index] = add_change(resid, mlp, block.mlp, state.place[at], state.v)
    if members.replaced:
        state.mlp[at, block.index] -= state.count_own(model, block, members.of_mlp, at)


def _join(
    model: FoldedModel,
    state: State,
    block: Block,
    chunk: AblationJobs,
    at: slice,
    ablation: Ablation,
    means: Float[Tensor, "n_heads d_head"],
    recorder: NeuronRecorder | None,
) -> None:
    """Start jobs of a layer's own heads from the clean stream with one head's output replaced."""
    place, head = state.place[at], state.head[at]
    v = state.v[place]
    members = Members.of(state.units, block.index, chunk, model.device)
    if state.units:
        state.count_own(model, block, members.of_attention, at)
        delta = state.delta[at].clone()
    else:
        z = block.z[place, head]
        state.delta[at] = replacement(ablation, block.z, state.source[at], head, means) - z
        delta = head_result(model, block.layer, chunk, state.delta[at])
        state.own[at] = (delta * v).sum(-1)
        state.direct[at] = (head_result(model, block.layer, chunk, z) * v).sum(-1)
    resid = delta.add_(block.resid[place]).add_(block.attention[place])
    if model.parallel and not state.units:
        resid += block.mlp[place]  # its own block's MLP does not see the head
    elif model.parallel:
        _add_mlp(model, state, block, members, at, resid, block.mlp[place])
    else:
        hidden = model.mlp_hidden(block.layer, resid)
        _add_mlp(model, state, block, members, at, resid, model.mlp_write(block.layer, hidden))
        if recorder is not None:
            recorder.record(model, block.index, block.layer, at, place, hidden, partial(block.clean_hidden, model), v)
    state.resid[at] = resid


def head_result(
    model: FoldedModel, layer: Layer, chunk: AblationJobs, z: Float[Tensor, "token d_head"]
) -> Float[Tensor, "token d_model"]:
    """What the ablated heads of a layer write, each token's by the head of its job."""
    written = z.new_empty(len(z), model.d_model)
    for head, where in chunk.by_head(z.device):
        written[where] = model.head_out(layer, head, z[where])
    return written


def _close(
    model: FoldedModel,
    state: State,
    clean: Float[Tensor, "row pos d_model"],
    v: Float[Tensor, "place d_model"],
    b: Float[Tensor, "row pos"],
    streams: FinalStreams | None,
) -> TokenEffects:
    """Divide by the clean scale and add the part of the final norm, or what the authors' units have in its place."""
    resid = clean.flatten(0, 1)
    clean_scale = model.scale(resid)
    clean_unbiased = (resid * v).sum(-1) / clean_scale
    ablated_scale, own_scale, unbiased = (torch.empty_like(state.own) for _ in range(3))
    written = torch.empty_like(state.own)  # change of the whole stream's direct effect, where it is not the logit's
    for index, layer in enumerate(model.layers):
        for chunk, at in state.of(index):
            place, ablated_resid = state.place[at], state.resid[at]
            ablated_scale[at] = model.scale(ablated_resid)
            unbiased[at] = (ablated_resid * v[place]).sum(-1) / ablated_scale[at]
            if model.W_U_authors is not None:
                written[at] = ((ablated_resid - resid[place]) * state.v[place]).sum(-1)
            own = state.delta[at] if state.units else head_result(model, layer, chunk, state.delta[at])
            own_scale[at] = model.scale(resid[place] + own)
            if streams is not None:
                here = streams.wanted(at)
                streams.record(at, resid[place[here]], own[here], ablated_resid[here])
    scale = model.direct_scale(clean_scale)[state.place]
    delta_logit = unbiased - clean_unbiased[state.place]
    norm = unbiased * (1 - ablated_scale / scale) if model.W_U_authors is None else delta_logit - written
    return TokenEffects(
        jobs=state.jobs,
        rows=state.rows,
        logit=clean_unbiased.view(b.shape) + b,
        scale=clean_scale.view(b.shape),
        direct_effect=state.direct / scale,
        delta_logit=delta_logit,
        delta_direct_effect=state.own / scale,
        repair_attention=state.attention.div_(scale[:, None]),
        repair_mlp=state.mlp.div_(scale[:, None]),
        repair_norm=norm,
        ablated_scale=ablated_scale,
        own_scale=own_scale,
    )
