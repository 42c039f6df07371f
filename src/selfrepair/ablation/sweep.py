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

from dataclasses import dataclass, fields
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.clean import mean_z
from selfrepair.ablation.effects import Measurement, TokenEffects, check_decomposition
from selfrepair.ablation.jobs import AblationJobs, carried_rows, sent
from selfrepair.ablation.memory import chunk_tokens
from selfrepair.ablation.neuron_recorder import NeuronRecorder
from selfrepair.ablation.replacements import Ablation, replacement
from selfrepair.core.progress import Progress
from selfrepair.models.folded import FoldedModel, Layer
from selfrepair.models.fused import add_change


def all_heads(model: FoldedModel) -> list[tuple[int, int]]:
    """Every (layer, head) of the model, in order."""
    return [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]


def measure(
    model: FoldedModel,
    tokens: Int[Tensor, "row pos"],
    source: Int[Tensor, " row"],
    ablation: Ablation = "resample",
    batch_rows: int = 4,
) -> Measurement:
    """Ablate every head of the model in every row; the in-memory form for small inputs.

    Args:
        tokens: rows that begin with the beginning-of-text token.
        source: for each row, the row that its corrupted activations come from.
        ablation: `resample`, `zero` or `mean` (over all tokens given).
        batch_rows: rows of a batch; memory grows with it, results do not depend on it.

    Raises:
        DecompositionError: the split does not sum to the total, or a value is not finite.
    """
    length = tokens.shape[1] - 1
    means = mean_z(model, tokens) if ablation == "mean" else no_means(model)
    joined: dict[str, list[Tensor]] = {field.name: [] for field in fields(Measurement)}
    for rows in torch.arange(len(tokens)).split(batch_rows):
        m = sweep(model, tokens, source, ablation, AblationJobs.all_pairs(all_heads(model), rows, length), means)
        for name, parts in joined.items():
            value = getattr(m, name)
            if name not in ("logit", "scale"):
                shape = (model.n_layers, model.n_heads, len(rows), length, *value.shape[1:])
                value = value.view(shape).movedim(4, 2) if value.ndim == 2 else value.view(shape)
            parts.append(value)
    return Measurement(**{name: torch.cat(parts, dim=-2) for name, parts in joined.items()})


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
) -> TokenEffects:
    """Ablate heads in rows of `tokens`, one head in one row per job.

    The rows that replacements come from are carried along as clean rows, so that results do not depend on how jobs
    are divided into sweeps.

    Args:
        means: of `mean_z`; not read by other ablations than `mean`.
        recorder: looks at single neurons on the way.
        progress: is told of each passed block of each token (`AblationJobs.block_passes`).

    Raises:
        ValueError: the model lacks a head, or single neurons are to be watched in a model folded as published.
        DecompositionError: the split does not sum to the total, or a value is not finite.
    """
    jobs = jobs.ordered()
    if absent := {(layer, head) for layer, head in _pairs(jobs) if layer >= model.n_layers or head >= model.n_heads}:
        raise ValueError(f"{model.name} has {model.n_layers} layers of {model.n_heads} heads, so not {sorted(absent)}")
    if recorder is not None and model.W_U_authors is not None:
        raise ValueError(f"{model.name} was folded as published: direct effects of its neurons are not defined")
    rows = jobs.row.unique()
    sources = source[rows] if ablation == "resample" else rows
    present, source_at = carried_rows(rows, sources)
    tokens = tokens[present].to(model.device)
    v, b = model.unembedding(tokens[: len(rows), 1:])
    clean = model.embed(tokens[:, :-1])
    state = _State(model, jobs, rows, source_at, model.logit_direction(tokens[: len(rows), 1:]))
    for index, layer in enumerate(model.layers):
        z = model.attention_heads(layer, clean)
        attention = model.attention_out(layer, z)
        resid_post, mlp = model.resid_post(layer, clean, attention)
        block = _Block(index, layer, z.flatten(0, 1), *(part.flatten(0, 1) for part in (clean, attention, mlp)))
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
    measurement = _close(model, state, clean[: len(rows)], v.flatten(0, 1), b)
    check_decomposition(measurement)
    return measurement


def no_means(model: FoldedModel) -> Float[Tensor, "layer n_heads d_head"]:
    """Zeros in the shape of `mean_z`, for ablations that need no means."""
    return torch.zeros(model.n_layers, model.n_heads, model.d_head, device=model.device)


def _pairs(jobs: AblationJobs) -> list[list[int]]:
    return torch.stack([jobs.layer, jobs.head], 1).unique(dim=0).tolist()


@dataclass(frozen=True)
class _Block:
    """A block's clean pass; `place` counts the positions of all present rows."""

    index: int
    layer: Layer
    z: Float[Tensor, "place n_heads d_head"]
    resid: Float[Tensor, "place d_model"]
    attention: Float[Tensor, "place d_model"]
    mlp: Float[Tensor, "place d_model"]

    def clean_hidden(self, model: FoldedModel, place: Int[Tensor, " token"]) -> Float[Tensor, "token d_mlp"]:
        """Activations of the MLP's neurons at some places of the clean pass."""
        resid = self.resid[place]
        return model.mlp_hidden(self.layer, resid if model.parallel else resid + self.attention[place])


class _State:
    """The jobs of a sweep, and dot products with v collected so far, not yet divided by the scale.

    Here v is what direct effects are read with: a column of the unembedding, unless the model was folded as published.
    """

    def __init__(
        self,
        model: FoldedModel,
        jobs: AblationJobs,
        rows: Int[Tensor, " row"],
        source_at: Int[Tensor, " row"],
        v: Float[Tensor, "row pos d_model"],
    ) -> None:
        def zeros(*shape: int) -> Float[Tensor, "..."]:
            return torch.zeros(*shape, dtype=model.dtype, device=model.device)

        self.jobs, self.rows, self.v = jobs, rows, v.flatten(0, 1)
        self.chunk = chunk_tokens(model)
        # AblationJobs and tokens of all layers before each.
        self.first = torch.searchsorted(jobs.layer.contiguous(), torch.arange(model.n_layers + 1)).tolist()
        self.start = [0, *jobs.length.cumsum(0).tolist()]
        local = torch.searchsorted(rows, jobs.row)
        length = v.shape[1]
        n = jobs.n_tokens
        first = jobs.length.cumsum(0) - jobs.length  # token of each job
        before = (local * length - first, source_at[local] * length - first, jobs.head)
        self.place, self.source, self.head = (jobs.per_token(sent(of_run, model.device)) for of_run in before)
        for place in (self.place, self.source):
            place += torch.arange(n, device=model.device)
        self.resid = torch.empty(n, model.d_model, dtype=model.dtype, device=model.device)
        self.delta_z = torch.empty(n, model.d_head, dtype=model.dtype, device=model.device)
        self.direct, self.own = zeros(n), zeros(n)
        self.attention, self.mlp = zeros(n, model.n_layers), zeros(n, model.n_layers)

    def before(self, layer: int) -> list[tuple[AblationJobs, slice]]:
        """The jobs that joined before a layer, in chunks, with the place of their tokens."""
        return list(self.jobs[: self.first[layer]].chunks(self.chunk))

    def of(self, layer: int) -> list[tuple[AblationJobs, slice]]:
        """The jobs that join at a layer."""
        first, last = self.first[layer], self.first[layer + 1]
        start = self.start[first]
        chunks = self.jobs[first:last].chunks(self.chunk)
        return [(chunk, slice(at.start + start, at.stop + start)) for chunk, at in chunks]


def _advance(
    model: FoldedModel, state: _State, block: _Block, chunk: AblationJobs, at: slice, recorder: NeuronRecorder | None
) -> None:
    """Pass some jobs through the block, in place."""
    layer, resid, place = block.layer, state.resid[at], state.place[at]
    qkv = model.qkv(layer, resid)
    z, first, turn = [], 0, model.rotary(int(chunk.length.max()))
    for length, count in zip(*(n.tolist() for n in chunk.length.unique_consecutive(return_counts=True)), strict=True):
        together = qkv[first : first + count * length].view(count, length, -1)
        z.append(model.attend(layer, together, turn).flatten(0, 1))
        first += count * length
    attention = model.attention_out(layer, z[0] if len(z) == 1 else torch.cat(z))
    hidden = model.mlp_hidden(layer, resid) if model.parallel else None
    state.attention[at, block.index] = add_change(resid, attention, block.attention, place, state.v)
    if hidden is None:
        hidden = model.mlp_hidden(layer, resid)
    mlp = model.mlp_write(layer, hidden)
    state.mlp[at, block.index] = add_change(resid, mlp, block.mlp, place, state.v)
    if recorder is not None:
        recorder.record(
            model, block.index, layer, at, place, hidden, partial(block.clean_hidden, model), state.v[place]
        )


def _join(
    model: FoldedModel,
    state: _State,
    block: _Block,
    chunk: AblationJobs,
    at: slice,
    ablation: Ablation,
    means: Float[Tensor, "n_heads d_head"],
    recorder: NeuronRecorder | None,
) -> None:
    """Start jobs of a layer's own heads from the clean stream with one head's output replaced."""
    place, head = state.place[at], state.head[at]
    v = state.v[place]
    z = block.z[place, head]
    delta_z = replacement(ablation, block.z, state.source[at], head, means) - z
    delta = head_result(model, block.layer, chunk, delta_z)
    state.delta_z[at] = delta_z
    state.own[at] = (delta * v).sum(-1)
    state.direct[at] = (head_result(model, block.layer, chunk, z) * v).sum(-1)
    resid = delta.add_(block.resid[place]).add_(block.attention[place])
    if model.parallel:
        resid += block.mlp[place]  # its own block's MLP does not see the head
    else:
        hidden = model.mlp_hidden(block.layer, resid)
        mlp = model.mlp_write(block.layer, hidden)
        state.mlp[at, block.index] = add_change(resid, mlp, block.mlp, place, state.v)
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
    state: _State,
    clean: Float[Tensor, "row pos d_model"],
    v: Float[Tensor, "place d_model"],
    b: Float[Tensor, "row pos"],
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
            own_scale[at] = model.scale(resid[place] + head_result(model, layer, chunk, state.delta_z[at]))
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
