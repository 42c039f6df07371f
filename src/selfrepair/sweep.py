"""Measure the self-repair of every head in one sweep over the layers (method.md section 3).

The state is the residual stream of every live run: the clean rows, and one run for each (ablated head, row). For
each layer, once:

1. every live run passes the block, and two dot products per token say by how much its attention and its MLP
   changed the logit of the correct next token;
2. the layer's heads join as new runs, which start from the clean stream at that point with the head's output
   replaced. No layer before the head is computed again, and sequential blocks give a new run its own MLP.

At the end two scalars per token, r.v and the scale of the final norm, close the account exactly:

    delta_logit = delta_direct_effect + sum_later repair_attention + sum_later repair_mlp + repair_norm

with repair_norm = (logit' - b)(1 - scale'/scale). The last position of a row predicts nothing and is dropped; of the
unembedding only the columns of the correct next tokens are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.clean import mean_z
from selfrepair.models.folded import FoldedModel
from selfrepair.replacements import Ablation, replacement

TOLERANCE = 1e-4  # of the largest logit of the row
RUNS_AT_ONCE = 32  # ablated rows that pass a block together: few enough that their activations stay in cache


class DecompositionError(ArithmeticError):
    """The parts do not sum to the total, or a value is not finite; names the layer, the head and the size."""


@dataclass(frozen=True)
class Measurement:
    """Effects of ablating heads, per token; all in logits but the scales, which are ratios to 1.

    `*head` is (layer, head) from `measure`, and the list of heads asked for from `sweep`. `pos` is the position that
    predicts, `pos + 1` holds the correct next token. Definitions: experiments.md a.6, a.8; method.md section 2.

    Attributes:
        logit: clean logit of the correct next token, centred over the vocabulary.
        scale: clean scale of the final norm.
        direct_effect: of the head, clean run, clean scale.
        delta_logit: ablated minus clean logit.
        delta_direct_effect: of the ablated head itself, ablated minus clean, clean scale.
        repair_attention: change of the direct effect of each layer's attention; zero up to the head's own layer.
        repair_mlp: change of the direct effect of each layer's MLP.
        repair_norm: effect of the change of the final scale on the ablated stream.
        ablated_scale: scale of the final norm in the ablated run.
    """

    logit: Float[Tensor, "row pos"]
    scale: Float[Tensor, "row pos"]
    direct_effect: Float[Tensor, "*head row pos"]
    delta_logit: Float[Tensor, "*head row pos"]
    delta_direct_effect: Float[Tensor, "*head row pos"]
    repair_attention: Float[Tensor, "*head later_layer row pos"]
    repair_mlp: Float[Tensor, "*head later_layer row pos"]
    repair_norm: Float[Tensor, "*head row pos"]
    ablated_scale: Float[Tensor, "*head row pos"]

    @property
    def self_repair(self) -> Float[Tensor, "*head row pos"]:
        """Change of the logit beyond the change of the head's own direct effect (paper Eq. 1)."""
        return self.delta_logit - self.delta_direct_effect


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
    heads = all_heads(model)
    means = mean_z(model, tokens) if ablation == "mean" else no_means(model)
    batches = list(sweep_rows(model, tokens, source, torch.arange(len(tokens)), ablation, heads, means, batch_rows))
    joined = {}
    for field in fields(Measurement):
        part = torch.cat([getattr(batch, field.name) for _, batch in batches], dim=-2)
        per_head = field.name not in ("logit", "scale")
        joined[field.name] = part.unflatten(0, (model.n_layers, model.n_heads)) if per_head else part
    return Measurement(**joined)


def sweep_rows(
    model: FoldedModel,
    tokens: Int[Tensor, "row pos"],
    source: Int[Tensor, " row"],
    rows: Int[Tensor, " chosen"],
    ablation: Ablation,
    heads: list[tuple[int, int]],
    means: Float[Tensor, "layer n_heads d_head"],
    batch_rows: int,
) -> Iterator[tuple[Int[Tensor, " batch"], Measurement]]:
    """Sweep the chosen rows in batches; yield each batch's rows and its measurement.

    A batch carries the rows that its replacements come from along as clean runs, so results do not depend on how
    rows are divided into batches or jobs.
    """
    for batch in rows.split(batch_rows) if len(rows) else ():
        sources = source[batch] if ablation == "resample" else batch
        carried = torch.tensor([row for row in sorted(set(sources.tolist())) if row not in set(batch.tolist())]).long()
        present = torch.cat([batch, carried])
        position = {row: index for index, row in enumerate(present.tolist())}
        local = torch.tensor([position[row] for row in sources.tolist()])
        yield batch, sweep(model, tokens[present], local, ablation, heads, means, batch)


@torch.no_grad()
def sweep(
    model: FoldedModel,
    tokens: Int[Tensor, "row_all pos"],
    source: Int[Tensor, " row"],
    ablation: Ablation,
    heads: list[tuple[int, int]],
    means: Float[Tensor, "layer n_heads d_head"],
    numbers: Int[Tensor, " row"] | None = None,
) -> Measurement:
    """Ablate the given heads, one at a time, in the first `len(source)` rows; the other rows are only sources.

    Args:
        numbers: of the ablated rows, for messages; counted from 0 by default.

    Raises:
        ValueError: the model lacks a head.
        DecompositionError: the split does not sum to the total, or a value is not finite.
    """
    heads = sorted(heads)
    if absent := set(heads) - set(all_heads(model)):
        raise ValueError(f"{model.name} has {model.n_layers} layers of {model.n_heads} heads, so not {sorted(absent)}")
    rows, source = len(source), source.to(model.device)
    tokens = tokens.to(model.device)
    length = tokens.shape[1] - 1
    v = model.W_U.T[tokens[:rows, 1:]]
    clean = model.embed(tokens[:, :-1])
    live = clean.new_empty(len(heads), rows, length, model.d_model)
    account = _Account(model, len(heads), rows, length)
    joined = 0
    for index, layer in enumerate(model.layers):
        z = model.attention_heads(layer, clean)
        attention = model.attention_out(layer, z)
        resid_post, mlp = model.resid_post(layer, clean, attention)
        _advance(model, index, live[:joined], attention[:rows], mlp[:rows], v, account)
        joining = [head for at, head in heads if at == index]
        if joining:
            runs = slice(joined, joined + len(joining))
            z_new = replacement(ablation, z, source, means[index])
            _join(model, index, joining, clean, attention, mlp, z, z_new, live[runs], v, runs, account)
            joined = runs.stop
        clean = resid_post
    measurement = _close(model, clean[:rows], live, v, model.b_U[tokens[:rows, 1:]], account)
    check_decomposition(measurement, heads, numbers)
    return measurement


def no_means(model: FoldedModel) -> Float[Tensor, "layer n_heads d_head"]:
    """Zeros in the shape of `mean_z`, for ablations that need no means."""
    return torch.zeros(model.n_layers, model.n_heads, model.d_head, device=model.device)


class _Account:
    """Dot products with v collected during a sweep, not yet divided by the scale."""

    def __init__(self, model: FoldedModel, heads: int, rows: int, length: int) -> None:
        def zeros(*leading: int) -> Float[Tensor, "..."]:
            return torch.zeros(*leading, rows, length, dtype=model.W_E.dtype, device=model.device)

        self.direct = zeros(heads)
        self.own = zeros(heads)
        self.attention = zeros(heads, model.n_layers)
        self.mlp = zeros(heads, model.n_layers)


def _advance(
    model: FoldedModel,
    index: int,
    live: Float[Tensor, "run row pos d_model"],
    attention: Float[Tensor, "row pos d_model"],
    mlp: Float[Tensor, "row pos d_model"],
    v: Float[Tensor, "row pos d_model"],
    account: _Account,
) -> None:
    """Pass every live run through the block, in place."""
    layer, rows = model.layers[index], live.shape[1]
    for start in range(0, len(live), max(1, RUNS_AT_ONCE // rows)):
        part = slice(start, min(len(live), start + max(1, RUNS_AT_ONCE // rows)))
        resid = live[part].flatten(0, 1)
        ablated_attention = model.attention_out(layer, model.attention_heads(layer, resid))
        resid_post, ablated_mlp = model.resid_post(layer, resid, ablated_attention)
        account.attention[part, index] = _change(ablated_attention.view(live[part].shape), attention, v)
        account.mlp[part, index] = _change(ablated_mlp.view(live[part].shape), mlp, v)
        live[part] = resid_post.view(live[part].shape)


def _join(
    model: FoldedModel,
    index: int,
    joining: list[int],
    clean: Float[Tensor, "row_all pos d_model"],
    attention: Float[Tensor, "row_all pos d_model"],
    mlp: Float[Tensor, "row_all pos d_model"],
    z: Float[Tensor, "row_all pos n_heads d_head"],
    z_new: Float[Tensor, "#row #pos n_heads d_head"],
    live: Float[Tensor, "joining row pos d_model"],
    v: Float[Tensor, "row pos d_model"],
    runs: slice,
    account: _Account,
) -> None:
    """Start the runs of a layer's own heads from the clean stream with one head's output replaced."""
    layer, rows = model.layers[index], v.shape[0]
    z, mid = z[:rows], (clean + attention)[:rows]
    for run, head in enumerate(joining):
        at = runs.start + run
        delta = (z_new[:, :, head] - z[:, :, head]) @ layer.W_O[head]
        account.own[at] = (delta * v).sum(-1)
        account.direct[at] = (z[:, :, head] @ layer.W_O[head] * v).sum(-1)
        if model.parallel:
            live[run] = mid + delta + mlp[:rows]  # its own block's MLP does not see the head
        else:
            ablated_mid = mid + delta
            ablated_mlp = model.mlp_out(layer, ablated_mid)
            account.mlp[at, index] = _change(ablated_mlp, mlp[:rows], v)
            live[run] = ablated_mid + ablated_mlp


def _change(
    ablated: Float[Tensor, "*run row pos d_model"],
    clean: Float[Tensor, "row pos d_model"],
    v: Float[Tensor, "row pos d_model"],
) -> Float[Tensor, "*run row pos"]:
    return ((ablated - clean) * v).sum(-1)


def _close(
    model: FoldedModel,
    clean: Float[Tensor, "row pos d_model"],
    live: Float[Tensor, "head row pos d_model"],
    v: Float[Tensor, "row pos d_model"],
    b: Float[Tensor, "row pos"],
    account: _Account,
) -> Measurement:
    """Divide by the clean scale and add the part of the final norm."""
    scale, ablated_scale = model.scale(clean), model.scale(live)
    unbiased = (clean * v).sum(-1) / scale
    ablated_unbiased = (live * v).sum(-1) / ablated_scale
    return Measurement(
        logit=unbiased + b,
        scale=scale,
        direct_effect=account.direct / scale,
        delta_logit=ablated_unbiased - unbiased,
        delta_direct_effect=account.own / scale,
        repair_attention=account.attention / scale,
        repair_mlp=account.mlp / scale,
        repair_norm=ablated_unbiased * (1 - ablated_scale / scale),
        ablated_scale=ablated_scale,
    )


def check_decomposition(
    m: Measurement, heads: list[tuple[int, int]], numbers: Int[Tensor, " row"] | None = None
) -> None:
    """Check on every token that the parts of self-repair sum to it.

    Raises:
        DecompositionError: by more than `TOLERANCE` of the row's largest logit they do not, or a value is not finite.
    """
    parts = m.repair_attention.sum(1) + m.repair_mlp.sum(1) + m.repair_norm
    error = (m.self_repair - parts).abs().amax(-1) / m.logit.abs().amax(-1)
    broken = ~(error <= TOLERANCE)  # true for NaN as well
    if broken.any():
        run, row = broken.nonzero()[0].tolist()
        layer, head = heads[run]
        size = error[run, row].item()
        number = row if numbers is None else int(numbers[row])
        what = f"misses self-repair by {size:.1e} of the row's largest logit" if size == size else "is not finite"
        raise DecompositionError(
            f"layer {layer}, head {head}, row {number}: the sum of the parts {what} (allowed: {TOLERANCE:.0e})"
        )
