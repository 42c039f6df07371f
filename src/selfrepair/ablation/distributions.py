"""Ablate all heads on several distributions: kinds of text, and generated prompts of which only the answers count.

The logit of an answer minus that of its alternative needs no definition of its own: everything measured is linear in
the unembedding's column. As the answer is the last token of its row, and nothing reads that, the same sweep with the
alternative in its place gives what is subtracted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfrepair.ablation.clean import clean_passes
from selfrepair.ablation.hand_off import HandOffSums
from selfrepair.ablation.inputs import read_inputs
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.memory import batches_in_memory
from selfrepair.ablation.program import Machine, heads_or_all
from selfrepair.ablation.reselection import top_count
from selfrepair.ablation.schema import ANSWERS, DISTRIBUTION_SUMS, DISTRIBUTION_TOKENS
from selfrepair.ablation.selection import TopTokens
from selfrepair.ablation.shard import quantities
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.core.progress import Progress
from selfrepair.core.tables import frame, write_parquet
from selfrepair.models.folded import FoldedModel
from selfrepair.tokens.rows import SampledTokens, token_matrix
from selfrepair.tokens.sample import sample_distributions

COUNTS = ("n", "positive", "overcorrected")
SUMMED = [
    *("direct_effect", "delta_logit", "self_repair", "repair_norm", "repair_attention", "repair_mlp"),
    *COUNTS,
]
LOGIT_ROWS = 4  # whose logits of the whole vocabulary are in memory at once


@dataclass(frozen=True)
class Answers:
    """Which next tokens are answers of a prompt, and a wrong one in their place; -1 where there is none."""

    right: Bool[Tensor, "row pos"]
    alternative: Int[Tensor, "row pos"]

    @staticmethod
    def of(tokens: pl.DataFrame) -> "Answers":
        """Read them off `TOKENS`."""
        answer, alternative = (torch.from_numpy(token_matrix(tokens, name)) for name in ("answer", "alternative"))
        return Answers(answer[:, 1:] == 1, alternative[:, 1:])


def ablate_distribution(
    model: FoldedModel,
    name: str,
    sampled: SampledTokens,
    heads: list[tuple[int, int]],
    top_fraction: float,
    memory_mb: int | None = None,
    limit_mb: int | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ablate heads in the rows of a distribution; sum by head and document over top tokens, and over answers.

    Args:
        memory_mb, limit_mb: as in `shard.ablate_shard`.

    Returns:
        `DISTRIBUTION_SUMS`, with all documents of every head; and what later heads do (`hand_off_elsewhere`).

    Raises:
        DecompositionError: the split of self-repair does not sum to it on some token, or a value is not finite.
        ValueError: the memory does not hold a single job.
    """
    inputs, answers, heads = read_inputs(sampled.tokens, sampled.rows), Answers.of(sampled.tokens), sorted(heads)
    length = inputs.documents.shape[1]
    top, scale = top_tokens(model, inputs.tokens, heads, top_count(inputs.documents.numel(), top_fraction))
    counted = {"top": top, "answers": answers.right.expand_as(top)}
    instead = answers.alternative >= 0
    if instead.any():
        counted["difference"] = instead.expand_as(top)
    others = inputs.tokens.clone()
    others[:, 1:][instead] = answers.alternative[instead]
    main = "answers" if answers.right.any() else "top"
    responders = HandOffSums(heads, (model.n_layers, model.n_heads), inputs.documents, counted[main], scale)
    sums = {tokens: _Sums(inputs.documents, which) for tokens, which in counted.items() if which.any()}
    jobs = AblationJobs.covering(top | answers.right, heads, torch.arange(len(inputs.tokens)))
    work = jobs.block_passes(model.n_layers)
    progress = Progress(f"{model.name}: {name}", jobs.n_tokens, "ablated tokens", work * (1 + int(instead.any())))
    for batch in batches_in_memory(model, jobs, length, memory_mb, limit_mb, responders.nbytes):
        at = batch.per_token(batch.heads_among(heads)), batch.per_token(batch.row), batch.pos
        responders.expect(*at)
        run = model, inputs.tokens, inputs.source, "resample", batch, no_means(model)
        m = sweep(*run, progress=progress, responders=responders)
        values = quantities(m)
        for tokens in sums.keys() - {"difference"}:
            sums[tokens].add(values, *at)
        if "difference" in sums:
            m = sweep(model, others, inputs.source, "resample", batch, no_means(model), progress=progress)
            sums["difference"].add({key: values[key] - other for key, other in quantities(m).items()}, *at)
    labels = {"distribution": name, "n_layers": model.n_layers}
    summed = pl.concat([each.table(labels | {"tokens": tokens}, heads) for tokens, each in sums.items()])
    where = (pl.lit(label).alias(column) for column, label in zip(DISTRIBUTION_TOKENS, (name, main), strict=True))
    return summed, responders.table().select(*where, pl.all())


def top_tokens(
    model: FoldedModel, tokens: Int[Tensor, "row length"], heads: list[tuple[int, int]], count: int
) -> tuple[Bool[Tensor, "head row pos"], Float[Tensor, "row pos"]]:
    """Which `count` tokens of some rows have the largest clean direct effect of each head (experiments.md a.11).

    Also returns the clean scale of the final norm.
    """
    layer, head = torch.tensor(heads).T
    n_rows, length = tokens.shape[0], tokens.shape[1] - 1
    best, scale = TopTokens(len(heads), count, model.device), torch.zeros(n_rows, length)
    for rows, clean in clean_passes(model, tokens):
        best.add(clean.direct_effect[layer, head].flatten(1), int(rows[0]) * length)
        scale[rows] = clean.scale.cpu()
    chosen = torch.zeros(len(heads), n_rows * length, dtype=torch.bool)
    return chosen.scatter_(1, best.best()[1].cpu(), True).view(-1, n_rows, length), scale


@torch.no_grad()
def answer_prompts(model: FoldedModel, name: str, sampled: SampledTokens) -> pl.DataFrame:
    """Which answers the clean model gives (`ANSWERS`)."""
    inputs, answers = read_inputs(sampled.tokens, sampled.rows), Answers.of(sampled.tokens)
    row, pos = answers.right.nonzero(as_tuple=True)
    first, margin = [], []
    for rows in torch.arange(len(inputs.tokens)).split(LOGIT_ROWS):
        logits = model.logits(inputs.tokens[rows, :-1].to(model.device))[answers.right[rows].to(model.device)].cpu()
        correct, other = (of[rows][answers.right[rows]] for of in (inputs.tokens[:, 1:], answers.alternative))
        first.append(logits.argmax(1) == correct)
        margin.append(_at(logits, correct) - _at(logits, other.clamp(min=0)))
    preferred = pl.Series(torch.cat(margin).numpy() > 0)
    known = pl.Series((answers.alternative[row, pos] >= 0).numpy())
    columns = {
        "distribution": [name] * len(row),
        "document": inputs.documents[row, pos].numpy(),
        "pos": pos.numpy(),
        "first": torch.cat(first).numpy(),
        "preferred": pl.select(pl.when(known).then(preferred)).to_series(),
    }
    return frame(columns, ANSWERS)


def _at(logits: Float[Tensor, "answer d_vocab"], tokens: Int[Tensor, " answer"]) -> Float[Tensor, " answer"]:
    return logits.gather(1, tokens[:, None])[:, 0]


class _Sums:
    """Sums in float64 by head and document, over the tokens that count."""

    def __init__(self, documents: Int[Tensor, "row pos"], counted: Bool[Tensor, "head row pos"]) -> None:
        self.documents, self.index = documents.unique(return_inverse=True)
        self.counted = counted
        groups = len(counted) * len(self.documents)
        self.sums = {name: torch.zeros(groups, dtype=torch.float64) for name in SUMMED}

    def add(
        self,
        values: dict[str, Float[Tensor, " token *layer"]],
        head: Int[Tensor, " token"],
        row: Int[Tensor, " token"],
        pos: Int[Tensor, " token"],
    ) -> None:
        keep = self.counted[head, row, pos]
        group = (head * len(self.documents) + self.index[row, pos])[keep]
        positive = values["direct_effect"] > 0
        counts = {
            "n": torch.ones_like(positive),
            "positive": positive,
            "overcorrected": positive & (values["delta_logit"] > 0),
        }
        for name, total in self.sums.items():
            total.index_add_(0, group, (counts | values)[name][keep].double())

    def table(self, labels: dict[str, object], heads: list[tuple[int, int]]) -> pl.DataFrame:
        count = len(self.documents)
        columns = {
            "layer": np.repeat([layer for layer, _ in heads], count),
            "head": np.repeat([head for _, head in heads], count),
            "document": np.tile(self.documents.numpy(), len(heads)),
        }
        same = {name: [value] * (len(heads) * count) for name, value in labels.items()}
        sums = {name: (s.long() if name in COUNTS else s).numpy() for name, s in self.sums.items()}
        return frame(same | columns | sums, DISTRIBUTION_SUMS)


def measure_distributions(
    model: Path,
    corpus: Path,
    tokenizer: Path,
    names: list[str],
    rows: int,
    row_length: int,
    top_fraction: float,
    seed: int,
    output: Path,
    sha256: str = "",
    text: str = "text",
    split: str = "",
    heads: list[str] = [],  # noqa: B006
    machine: Machine = Machine(),
) -> None:
    """Ablate the heads of a model, one at a time, on several kinds of text and of generated prompts.

    Args:
        model: folder of the folded model.
        corpus: Parquet, JSON-lines or text file.
        tokenizer: directory of the tokenizer.
        names: the distributions.
        rows: rows of each, or prompts.
        row_length: tokens of a row of text.
        top_fraction: share of tokens selected for each head.
        seed: seed of the draws.
        output: folder for sums, answers and what later heads do.
        sha256: checksum that the corpus must have.
        text: column that holds the text.
        split: only documents of this split.
        heads: only these heads, written as L9H11; all if none.

    Raises:
        CorpusError: the corpus can't be read, has another checksum or too little text; prompts are longer than the
            model's positions; rows can't be paired.
    """
    folded, record = machine.load(model)
    named = heads_or_all(folded, heads)
    where = corpus, tokenizer, names, rows, row_length, folded.max_positions, seed, sha256, text, split
    sampled = sample_distributions(*where)
    limits = machine.memory_mb, machine.limit
    ablated = [
        ablate_distribution(folded, name, drawn, named, top_fraction, *limits) for name, drawn in sampled.items()
    ]
    sums, hand_off = (pl.concat(tables) for tables in zip(*ablated, strict=True))
    answers = [answer_prompts(folded, name, drawn) for name, drawn in sampled.items()]
    write_parquet(pl.concat(answers), output / "answers.parquet")
    write_parquet(hand_off, output / "hand_off.parquet")
    write_parquet(sums, output / "sums.parquet", record)
