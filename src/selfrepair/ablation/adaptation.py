"""Is repair of use to the model, or an artefact of streams that it never sees? Measured on a training of a family.

Three looks at the heads' top tokens: the loss that repair saves, on held-out text and on prompts unlike it; how far the
ablation puts the stream from what the model usually has there, and whether repair grows with that distance; and whether
it grows if the replacing output comes from an unlike row (config/studies/architecture.yaml).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfrepair.ablation.clean import mean_z
from selfrepair.ablation.distributions import top_tokens
from selfrepair.ablation.effects import TokenEffects
from selfrepair.ablation.inputs import Inputs, read_inputs
from selfrepair.ablation.jobs import AblationJobs, within
from selfrepair.ablation.loss import losses_of_heads
from selfrepair.ablation.memory import batches_in_memory
from selfrepair.ablation.replacements import Ablation
from selfrepair.ablation.reselection import top_count
from selfrepair.ablation.schema_family import (
    DISPLACED,
    FAR,
    LOSS_SUMS,
    MEAN,
    NEAR,
    OTHER,
    THIRDS,
    ZERO,
)
from selfrepair.ablation.shard import quantities
from selfrepair.ablation.sweep import sweep
from selfrepair.core.files import write_text
from selfrepair.core.progress import Progress
from selfrepair.core.tables import frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.models.load import load_model
from selfrepair.tokens.rows import SampledTokens
from selfrepair.tokens.sample import sample_distributions

SEED = 1  # of the rows, the same for all seeds of training
FIRST = 1  # position of a row's first token that is not the same in all
FLAT = 1e-6  # of the largest variance: directions in which streams do not vary
Streams = Float[Tensor, "layer row pos d_model"]


@dataclass(frozen=True)
class Usual:
    """What streams after a layer's attention usually are.

    Attributes:
        mean: of them.
        whiten: by layer, to coordinates of unit variance, divided by the root of their number.
    """

    mean: Float[Tensor, "layer d_model"]
    whiten: list[Float[Tensor, "d_model component"]]

    @staticmethod
    def of(streams: Streams) -> "Usual":
        """Estimate it from all positions but the first, whose token is the same in every row."""
        flat = streams[:, :, FIRST:].flatten(1, 2).double()
        mean = flat.mean(1)
        whiten = []
        for layer, middle in zip(flat, mean, strict=True):
            variance, directions = torch.linalg.eigh((layer - middle).T.cov())
            kept = variance > FLAT * variance[-1]
            whiten.append((directions[:, kept] / (variance[kept] * kept.sum()).sqrt()).to(streams.dtype))
        return Usual(mean.to(streams.dtype), whiten)

    def coordinates(self, layer: int, stream: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch component"]:
        """Of streams after a layer's attention; their square is one on average for a usual stream."""
        return (stream - self.mean[layer]) @ self.whiten[layer]

    def distance(self, layer: int, stream: Float[Tensor, "*batch d_model"]) -> Float[Tensor, " *batch"]:
        """Squared Mahalanobis distance by the number of coordinates."""
        return self.coordinates(layer, stream).square().sum(-1)


@torch.no_grad()
def after_attention(model: FoldedModel, tokens: Int[Tensor, "row length"]) -> Streams:
    """The clean stream after each layer's attention: what an ablation in that layer changes first."""
    resid, found = model.embed(tokens[:, :-1]), []
    for layer in model.layers:
        attention = model.attention_out(layer, model.attention_heads(layer, resid))
        found.append(resid + attention)
        resid, _ = model.resid_post(layer, resid, attention)
    return torch.stack(found)


def near_and_far(usual: Usual, streams: Streams, documents: Int[Tensor, "row pos"]) -> dict[str, Int[Tensor, " row"]]:
    """For each row the one that is nearest, and farthest, at equal positions in all layers; of other documents."""
    whitened = torch.cat([usual.coordinates(i, of[:, FIRST:]).flatten(1) for i, of in enumerate(streams)], 1)
    distance = torch.cdist(whitened, whitened)
    names, among = documents.unique(return_inverse=True)
    holds = torch.zeros(len(documents), len(names)).scatter_(1, among, 1.0)
    shared = holds @ holds.T > 0
    return {
        NEAR: distance.masked_fill(shared, torch.inf).argmin(1),
        FAR: distance.masked_fill(shared, -torch.inf).argmax(1),
    }


class OwnChange:
    """Keeps what the ablated heads' change of writing was, of wanted tokens of a sweep (`sweep_state.FinalStreams`)."""

    def __init__(self, token: Int[Tensor, " wanted"], d_model: int) -> None:
        self.token, self.values = token, torch.empty(len(token), d_model)

    def wanted(self, at: slice) -> Int[Tensor, " wanted"]:
        return self.token[within(self.token, at)] - at.start

    def record(
        self,
        at: slice,
        clean: Float[Tensor, "wanted d_model"],
        own: Float[Tensor, "wanted d_model"],
        ablated: Float[Tensor, "wanted d_model"],
    ) -> None:
        self.values[within(self.token, at)] = own


def displace(model: FoldedModel, sampled: SampledTokens, top_fraction: float) -> pl.DataFrame:
    """Ablate every head by each of `REPLACEMENTS` on its top tokens in half of the rows (`DISPLACED`).

    What is usual is estimated from the other half.

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
    """
    inputs = read_inputs(sampled.tokens, sampled.rows)
    measured = torch.arange(0, len(inputs.tokens), 2)
    top, _ = top_tokens(
        model, inputs.tokens[measured], model.heads, top_count(inputs.documents[measured].numel(), top_fraction)
    )
    streams = after_attention(model, inputs.tokens)
    usual = Usual.of(streams[:, 1::2])
    sources = {OTHER: inputs.source} | near_and_far(usual, streams, inputs.documents)
    kinds: dict[str, tuple[Ablation, Int[Tensor, " row"]]] = {
        **{name: ("resample", source) for name, source in sources.items()},
        ZERO: ("zero", inputs.source),
        MEAN: ("mean", inputs.source),
    }
    means = mean_z(model, inputs.tokens)
    jobs = AblationJobs.covering(top, model.heads, measured)
    progress = Progress(f"{model.name}: replacements", len(kinds) * jobs.n_tokens, "ablated tokens")
    tables = []
    for name, (ablation, source) in kinds.items():
        for batch in batches_in_memory(model, jobs, inputs.documents.shape[1], None, None):
            place = batch.per_token(batch.heads_among(model.heads))
            keep = top[place, batch.per_token(batch.row) // 2, batch.pos].nonzero()[:, 0]
            own = OwnChange(keep, model.d_model)
            m = sweep(model, inputs.tokens, source, ablation, batch, means, streams=own)
            of_tokens = _of_tokens(model, inputs, m, keep) | _distances(usual, streams, m.jobs, keep, own.values)
            tables.append(
                pl.DataFrame({n: value.numpy() for n, value in of_tokens.items()}).with_columns(
                    replacement=pl.lit(name)
                )
            )
            progress.advance(batch.n_tokens)
    of_head = "replacement", "layer", "head"
    thirds = {
        name: (by.rank("ordinal").over(of_head) - 1) * THIRDS // pl.len().over(of_head)
        for name, by in (
            ("third", pl.col("ablated_distance")),
            ("third_displaced", pl.col("ablated_distance") - pl.col("clean_distance")),
        )
    }
    by = ["replacement", "layer", *thirds, "document"]
    summed = [name for name in DISPLACED if name not in (*by, "n")]
    whole = pl.concat(tables).with_columns(**thirds)
    sums = whole.group_by(by, maintain_order=True).agg(
        pl.len().alias("n"), *(pl.col(name).cast(pl.Float64).sum() for name in summed)
    )
    return frame({name: sums[name] for name in DISPLACED}, DISPLACED)


def _of_tokens(model: FoldedModel, inputs: Inputs, m: TokenEffects, keep: Int[Tensor, " wanted"]) -> dict[str, Tensor]:
    """Place and effects of a sweep's wanted tokens."""
    row, pos, at = m.jobs.per_token(m.jobs.row)[keep], m.jobs.pos[keep], m.place[keep]
    found = {"layer": m.jobs.per_token(m.jobs.layer)[keep], "head": m.jobs.per_token(m.jobs.head)[keep]}
    found |= {"document": inputs.documents[row, pos]}
    effects = quantities(m)
    found |= {name: effects[name][keep] for name in ("self_repair", "repair_norm", "repair_attention", "repair_mlp")}
    unbiased = m.logit.flatten()[at] - model.b_U[inputs.tokens[row, pos + 1]]
    own, scale = m.delta_direct_effect[keep], m.scale.flatten()[at]
    return found | {"removed": -own, "repair_norm_own": (unbiased + own) * (scale / m.own_scale[keep] - 1)}


def _distances(
    usual: Usual,
    streams: Streams,
    jobs: AblationJobs,
    keep: Int[Tensor, " wanted"],
    own: Float[Tensor, "wanted d_model"],
) -> dict[str, Float[Tensor, " wanted"]]:
    """How far the clean and the ablated stream lie from usual ones, and the size of the change."""
    layer, row, pos = jobs.per_token(jobs.layer)[keep], jobs.per_token(jobs.row)[keep], jobs.pos[keep]
    clean = streams[layer, row, pos]
    found = {"clean_distance": torch.empty(len(keep)), "ablated_distance": torch.empty(len(keep))}
    for index in layer.unique().tolist():
        at = layer == index
        found["clean_distance"][at] = usual.distance(index, clean[at])
        found["ablated_distance"][at] = usual.distance(index, clean[at] + own[at])
    return found | {"relative_change": own.norm(dim=-1) / clean.norm(dim=-1)}


def save_loss(model: FoldedModel, name: str, sampled: SampledTokens, top_fraction: float, sample: int) -> pl.DataFrame:
    """Ablate the heads of the later half; sum losses over their top tokens and a uniform sample (`LOSS_SUMS`).

    Args:
        sample: tokens of the uniform sample.
    """
    inputs = read_inputs(sampled.tokens, sampled.rows)
    late = [head for head in model.heads if 2 * head[0] >= model.n_layers]
    top, _ = top_tokens(model, inputs.tokens, late, top_count(inputs.documents.numel(), top_fraction))
    selected = _listed(top, late)
    rows = len(inputs.tokens)
    table = losses_of_heads(model, sampled.tokens, sampled.rows, selected, late, rows, sample, SEED)
    names = [name for name in LOSS_SUMS if name not in ("distribution", "tokens", "document", "n")]
    sums = [
        table.filter(flag)
        .group_by("document", maintain_order=True)
        .agg(pl.len().alias("n"), *(pl.col(of).cast(pl.Float64).sum() for of in names))
        .with_columns(distribution=pl.lit(name), tokens=pl.lit(tokens))
        for tokens, flag in (("top", "selected"), ("all", "control"))
    ]
    joined = pl.concat(sums)
    return frame({column: joined[column] for column in LOSS_SUMS}, LOSS_SUMS)


def _listed(chosen: Bool[Tensor, "head row pos"], heads: list[tuple[int, int]]) -> pl.DataFrame:
    index, row, pos = chosen.nonzero(as_tuple=True)
    layer, head = torch.tensor(heads)[index].T
    columns = {"layer": layer, "head": head, "row": row, "pos": pos}
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})


def measure_adaptation(
    trained: Path, settings: str, corpus: Path, tokenizer: Path, output: Path, threads: int = 1
) -> None:
    """Measure of one training what speaks for adaptation, and what for an artefact.

    Args:
        trained: directory that the training wrote.
        settings: JSON: arm, seed, `training` (fields of `Training`), `measured` (row_length, top_fraction) and
            `adaptation` (rows, prompts, sample).
        corpus: corpus with the columns split and text; its held-out text is measured.
        tokenizer: directory of the tokenizer.
        output: folder for the sums, and adaptation.json (the settings).
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    entry: dict[str, Any] = json.loads(settings)
    asked, fraction = entry["adaptation"], entry["measured"]["top_fraction"]
    lengths = entry["measured"]["row_length"], entry["training"]["row_length"]
    names = ["text", *asked["prompts"]]
    sampled = sample_distributions(corpus, tokenizer, names, asked["rows"], *lengths, SEED, split="held_out")
    model = load_model(trained)
    losses = [save_loss(model, name, drawn, fraction, asked["sample"]) for name, drawn in sampled.items()]
    write_parquet(pl.concat(losses), output / "losses.parquet")
    write_parquet(displace(model, sampled["text"], fraction), output / "displaced.parquet")
    facts = entry | {"d_vocab": model.W_U.shape[1]}
    write_text(output / "adaptation.json", json.dumps(facts, indent=2) + "\n")
