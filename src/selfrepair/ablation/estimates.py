"""Every head ablated in some rows, beside what gradients estimate of it; summed by how a token ranks for the head.

Attribution patching (Nanda 2023; Syed, Rager and Conmy 2023) puts its first order in place of an ablation: the gradient
of a metric with respect to z, times the change of z, summed over positions. The metric here is the logit of each token,

    estimate_p = sum over q <= p of (d logit_p / d z_q) . delta_z_q,

as the ablation changes z at all positions of the row. It is the derivative of the logits along the change of z, which
forward mode gives for all p at once. Users of the method take one metric of the row and one backward pass: summed over
p, the two are the same number. The head's own direct effect is linear in z, so whatever the estimate misses is
self-repair that is not linear in the change.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.jobs import AblationJobs, carried_rows
from selfrepair.ablation.memory import batches_in_memory, chunk_tokens
from selfrepair.ablation.partners import spread_rows
from selfrepair.ablation.program import Machine, heads_or_all, read_sampled
from selfrepair.ablation.reselection import top_count
from selfrepair.ablation.schema import ESTIMATES, RULES, SUMMED, THRESHOLDS
from selfrepair.ablation.shard import quantities
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.core.progress import Progress
from selfrepair.core.tables import frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.models.fused import plain_torch

BYTES_PER_TOKEN = 2 * 4 * (len(SUMMED) + 5)  # of what is measured, and of the table made of it


def estimate_heads(
    model: FoldedModel,
    tokens: pl.DataFrame,
    rows: pl.DataFrame,
    heads: list[tuple[int, int]],
    n_rows: int,
    seed: int,
    memory_mb: int | None = None,
    limit_mb: int | None = None,
) -> pl.DataFrame:
    """Ablate heads in some rows (resample), estimate the same from gradients, and sum both (`ESTIMATES`).

    Args:
        tokens, rows: tables of `TOKENS` and `ROWS`.
        n_rows: rows to measure, spread over all; tokens are ranked among theirs.
        seed: of the tokens drawn at random.
        memory_mb, limit_mb: as in `shard.ablate_shard`.

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
        ValueError: the memory does not hold a single job.
    """
    inputs, heads = read_inputs(tokens, rows), sorted(heads)
    length = inputs.documents.shape[1]
    measured = spread_rows(len(inputs.tokens), n_rows)
    jobs = AblationJobs.all_pairs(heads, measured, length)
    batches = batches_in_memory(model, jobs, length, memory_mb, limit_mb, BYTES_PER_TOKEN * jobs.n_tokens)
    work = jobs.n_tokens, "ablated tokens", jobs.block_passes(model.n_layers)
    progress = Progress(f"{model.name}: ablation", *work)
    values = {name: torch.empty(len(heads), len(measured), length) for name in (*SUMMED, "logit")}
    for batch in batches:
        m = sweep(model, inputs.tokens, inputs.source, "resample", batch, no_means(model), progress=progress)
        row = torch.searchsorted(measured, m.jobs.per_token(m.jobs.row))
        at = m.jobs.per_token(m.jobs.heads_among(heads)), row, m.jobs.pos
        for name, value in (quantities(m) | {"logit": m.logit.flatten().cpu()[m.place]}).items():
            if name in values:
                values[name][at] = value.to(values[name].dtype)
    progress = Progress(f"{model.name}: gradient estimates", *work)
    estimate = gradient_estimates(model, inputs.tokens, inputs.source, heads, measured, progress)
    values["estimate"] = estimate.to(values["estimate"].dtype)
    values["absolute_error"] = (values["estimate"] - values["delta_logit"]).abs()
    flat = {name: value.flatten(1) for name, value in values.items()}
    return sum_by_threshold(heads, inputs.documents[measured].flatten(), flat, seed)


@torch.no_grad()
def gradient_estimates(
    model: FoldedModel,
    tokens: Int[Tensor, "row_all length"],
    source: Int[Tensor, " row_all"],
    heads: list[tuple[int, int]],
    rows: Int[Tensor, " row"],
    progress: Progress | None = None,
) -> Float[Tensor, "head row pos"]:
    """Estimate delta_logit (logits) of resample ablation of heads in some rows from gradients at the clean pass.

    Products are in float32 at least, whatever the model's precision. A layer's heads go through the rest of the model
    together: the clean pass is the same for all, and only the derivatives are many.

    Args:
        source: for each row, the row that its corrupted activations come from.
        progress: is told of each passed block of each token.
    """
    model = model.in_precision("float64" if model.precision == "float64" else "float32")
    length, size = tokens.shape[1] - 1, chunk_tokens(model)
    estimates = torch.empty(len(heads), len(rows), length, dtype=model.dtype)
    for where in torch.arange(len(rows)).split(max(1, size // (model.n_heads * length))):
        present, source_at = carried_rows(rows[where], source[rows[where]])
        carried, n = tokens[present].to(model.device), len(where)
        v, _ = model.unembedding(carried[:n, 1:])
        resid = model.embed(carried[:, :-1])
        for index, layer in enumerate(model.layers):
            z = model.attention_heads(layer, resid)
            attention = model.attention_out(layer, z)
            delta_z = z[source_at] - z[:n]
            logits = partial(_logits, model, index, resid[:n], attention[:n], v)
            of_layer = [place for place, (at, _) in enumerate(heads) if at == index]
            at_once = max(1, size // (n * length))
            for places in (of_layer[first : first + at_once] for first in range(0, len(of_layer), at_once)):
                of_heads = [(head, delta_z[:, :, head].flatten(0, 1)) for head in (heads[place][1] for place in places)]
                written = torch.stack([model.head_out(layer, *of_head) for of_head in of_heads])
                derivatives = _derivatives(logits, written.unflatten(1, (n, length)))
                estimates[torch.tensor(places)[:, None], where] = derivatives.cpu()
                if progress is not None:
                    progress.in_layer(len(places) * n * length * (model.n_layers - index), index, model.n_layers)
            resid, _ = model.resid_post(layer, resid, attention)
    return estimates


def _logits(
    model: FoldedModel,
    index: int,
    resid: Float[Tensor, "row pos d_model"],
    attention: Float[Tensor, "row pos d_model"],
    v: Float[Tensor, "row pos d_model"],
    change: Float[Tensor, "row pos d_model"],
) -> Float[Tensor, "row pos"]:
    """Logits of the correct next tokens, without bias, where a layer's attention writes something more."""
    resid, _ = model.resid_post(model.layers[index], resid, attention + change)
    for layer in model.layers[index + 1 :]:
        attention = model.attention_out(layer, model.attention_heads(layer, resid))
        resid, _ = model.resid_post(layer, resid, attention)
    return (resid * v).sum(-1) / model.scale(resid)


def _derivatives(
    logits: Callable[[Float[Tensor, "row pos d_model"]], Float[Tensor, "row pos"]],
    changes: Float[Tensor, "head row pos d_model"],
) -> Float[Tensor, "head row pos"]:
    """Derivatives of a function at zero along each of some changes."""
    with plain_torch(), sdpa_kernel(SDPBackend.MATH):  # kernels that forward mode passes through
        return vmap(lambda change: jvp(logits, (torch.zeros_like(change),), (change,))[1])(changes)


def sum_by_threshold(
    heads: list[tuple[int, int]],
    documents: Int[Tensor, " token"],
    values: dict[str, Float[Tensor, "head token"]],
    seed: int,
) -> pl.DataFrame:
    """Sum over the tokens of each head, document and bin of each rule by which tokens are ranked (`ESTIMATES`).

    Args:
        values: `SUMMED`, and `logit`, the clean logit of the correct next token.
        seed: of the rule that ranks at random.
    """
    effect, n = values["direct_effect"], len(documents)
    drawn = np.random.default_rng([seed, 5]).random(effect.shape)
    ranked_by = [effect, effect.abs(), torch.from_numpy(drawn), values["logit"]]
    layer, head = np.repeat(np.array(heads, np.int16).reshape(-1, 2), n, axis=0).T
    columns = {"layer": layer, "head": head, "document": np.tile(documents.numpy(), len(heads))}
    tokens = pl.DataFrame(columns | {name: values[name].flatten().numpy() for name in SUMMED})
    keys = ["layer", "head", "document", "threshold"]
    sums = [pl.len().alias("n"), pl.col(SUMMED).cast(pl.Float64).sum()]
    tables = []
    for rule, by in zip(RULES, ranked_by, strict=True):
        binned = tokens.with_columns(threshold=np.array(THRESHOLDS)[threshold_bins(by).flatten().numpy()])
        table = binned.group_by(keys).agg(sums).sort(keys).with_columns(rule=pl.lit(rule))
        tables.append(frame(table.to_dict(), ESTIMATES))
    return pl.concat(tables)


def threshold_bins(by: Float[Tensor, "head token"]) -> Int[Tensor, "head token"]:
    """Which of `THRESHOLDS` is the smallest whose tokens, those largest by a value, hold each token of a head.

    Of equal values the earlier token comes first.
    """
    rank = by.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    counts = torch.tensor([top_count(by.shape[1], threshold) for threshold in THRESHOLDS])
    return torch.searchsorted(counts, rank, right=True)


def measure_estimates(
    model: Path,
    sampled: Path,
    heads: list[str],
    rows: int,
    seed: int,
    output: Path,
    machine: Machine = Machine(),
) -> None:
    """Ablate every head of a model in some rows, and estimate the same from gradients.

    Args:
        model: folder of the folded model.
        sampled: folder with tokens.parquet and rows.parquet.
        heads: only these heads, written as L9H11; all if none.
        rows: rows to measure, spread over the run's.
        seed: seed of the run.
        output: Parquet file to write.
    """
    folded, record = machine.load(model)
    named = heads_or_all(folded, heads)
    table = estimate_heads(folded, *read_sampled(sampled), named, rows, seed, machine.memory_mb, machine.limit)
    write_parquet(table, output, record)
