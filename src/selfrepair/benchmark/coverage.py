"""How often 95 % intervals hold the truth: texts drawn from a population of documents that is known completely.

Each text draws its documents with replacement: they are independent of each other, as the bootstrap takes them to be,
and the truth is the statistic of the population itself: over the top tokens of all of it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.reselection import rank_tokens, top_count
from selfrepair.ablation.schema import EFFECTS
from selfrepair.ablation.shard import quantities
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.analysis.bootstrap import effective
from selfrepair.analysis.by_document import Head, Selection, medians, totals
from selfrepair.analysis.head_estimates import (
    CLIPPED,
    Described,
    clipped_shares,
    estimates_of_heads,
    estimates_of_layers,
    sum_top_tokens,
)
from selfrepair.benchmark.schema import COVERAGE
from selfrepair.core.tables import frame
from selfrepair.models.folded_files import load_folded
from selfrepair.tokens.corpora import read_corpus
from selfrepair.tokens.rows import sample_tokens, token_matrix
from selfrepair.tokens.tokenizer import encode

FRACTION = 0.02
DOCUMENTS = 2000  # of a synthetic population
TRUE_OF = ("direct_effect", "delta_logit", "self_repair", "repair_norm")
PARTS = ("self_repair", "repair_norm")
STATISTICS = [
    *(f"mean of {name}" for name in TRUE_OF[:3]),
    *(f"share of {name}" for name in PARTS),
    *("clipped_share of repair_norm", "median of self_repair", "tokens overcorrected"),
]


@dataclass(frozen=True)
class Population:
    """All tokens of all documents there are.

    Attributes:
        effects: the columns of `EFFECTS`, in their order.
        documents: of each token, from 0.
    """

    name: str
    heads: list[Head]
    effects: Float[np.ndarray, "effect head token"]
    documents: Int[np.ndarray, " token"]

    def tokens_of(self, documents: Int[np.ndarray, " drawn"]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of drawn documents, and which draw each is of."""
        ends = np.searchsorted(self.documents, [documents, documents + 1])
        lengths = ends[1] - ends[0]
        within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
        return np.repeat(ends[0], lengths) + within, np.repeat(np.arange(len(documents)), lengths)


def synthetic(name: str, spread: float, degrees: float, documents: int = DOCUMENTS, seed: int = 0) -> Population:
    """Documents of unequal length whose effects differ between documents, as between tokens.

    Args:
        spread: of the logarithms of lengths, and half that of the logarithms of what effects of a document scale with.
        degrees: of freedom of the noise (Student's t) on self-repair: few for heavy tails.
        documents: how many there are.
    """
    random = np.random.default_rng(seed)
    lengths = np.ceil(100 * np.exp(spread * random.normal(size=documents))).astype(int)
    of_document = np.repeat(np.arange(documents), lengths)
    heads = [(layer, head) for layer in range(3) for head in range(2)]
    effects = np.zeros((len(EFFECTS), len(heads), lengths.sum()), np.float32)
    for index in range(len(heads)):
        scale = np.exp(spread / 2 * random.normal(size=documents))[of_document]
        direct = scale * (random.exponential(size=len(of_document)) - 1)
        repaired = 0.1 * (index + 1) + 0.2 * random.normal(size=documents)[of_document]
        repair = repaired * direct + 0.3 * scale * random.standard_t(degrees, size=len(of_document))
        ablated = 0.1 * direct + 0.2 * random.normal(size=len(of_document))
        norm, attention = 0.4 * repair + 0.1 * scale * random.normal(size=len(of_document)), 0.2 * repair
        parts = (direct, ablated, ablated - direct + repair, repair, norm, attention, repair - norm - attention)
        effects[:, index] = parts
    return Population(name, heads, effects, of_document)


def measured(folder: Path, corpus: Path, tokenizer: Path, rows: int, row_length: int, seed: int) -> Population:
    """Rows of a corpus, measured with a model by resample ablation.

    Args:
        folder: of the folded model.
        tokenizer: directory of its tokenizer.
    """
    model = load_folded(folder, torch.device("cpu"))
    texts = read_corpus(corpus, "text", None, [])
    sampled = sample_tokens(*encode(tokenizer, texts["text"].to_list()), texts, rows, row_length, seed)
    matrix, source = torch.from_numpy(token_matrix(sampled.tokens)), sampled.rows["source"].cast(pl.Int64).to_torch()
    heads, length = model.heads, row_length - 1
    effects = np.zeros((len(EFFECTS), len(heads), rows * length), np.float32)
    for batch in torch.arange(rows).split(8):
        m = sweep(model, matrix, source, "resample", AblationJobs.all_pairs(heads, batch, length), no_means(model))
        at = m.jobs.per_token(m.jobs.heads_among(heads)), m.jobs.per_token(m.jobs.row) * length + m.jobs.pos
        values = quantities(m)
        for index, name in enumerate(EFFECTS):
            effects[index][at] = values[name].numpy()
        print(f"{model.name}: row {int(batch[-1]) + 1} of {rows}", flush=True)
    _, documents = np.unique(token_matrix(sampled.tokens, "document")[:, 1:], return_inverse=True)
    order = np.argsort(documents.ravel(), kind="stable")
    return Population(model.name, heads, effects[:, :, order], documents.ravel()[order])


def coverage(population: Population, documents: int, texts: int, replicates: int) -> pl.DataFrame:
    """Draw texts from a population and count how often intervals hold what is true of it (`COVERAGE`).

    Args:
        documents: of a text.
        texts: how many are drawn.
        replicates: of the bootstrap of each.
    """
    true, generator = truth(population), np.random.default_rng(documents)
    found, worth = [], []
    for text in range(texts):
        drawn = generator.integers(population.documents[-1] + 1, size=documents)
        ends, effective_documents = intervals(population, drawn, replicates, text)
        found.append(ends)
        worth.append(effective_documents)
    rows = []
    for key in found[0]:
        low, high = (np.stack([of_text[key][end] for of_text in found]) for end in range(2))
        value = true[key[:-1]]
        holds = ((low <= value) & (value <= high)).mean(0)
        rows.append((*key, holds.mean(), holds.min(), (value < low).mean(), (value > high).mean()))
    names = ["of", "statistic", "interval", "coverage", "worst", "below", "above"]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    same = {"population": population.name, "documents": documents, "effective": float(np.mean(worth)), "texts": texts}
    return frame(columns | {name: [value] * len(rows) for name, value in same.items()}, COVERAGE)


def truth(population: Population) -> dict[tuple[str, str], Float[np.ndarray, " item"]]:
    """Each of `STATISTICS` of the population, of heads and of layers."""
    count = top_count(len(population.documents), FRACTION)
    chosen = np.argpartition(-population.effects[0], count - 1, axis=1)[:, :count]
    top = np.take_along_axis(population.effects, chosen[None], axis=2).astype(np.float64)
    direct, change, repair, norm = (top[list(EFFECTS).index(name)] for name in TRUE_OF)
    clipped = np.clip(norm / np.where(direct == 0, np.inf, direct), 0, 1).mean(1)
    means = {name: values.mean(1) for name, values in zip(TRUE_OF, (direct, change, repair, norm), strict=True)}
    of_heads = {f"mean of {name}": mean for name, mean in means.items()}
    of_heads |= {f"share of {name}": means[name] / means["direct_effect"] for name in PARTS}
    of_heads["clipped_share of repair_norm"] = clipped
    of_heads["median of self_repair"] = np.sort(repair, 1)[:, (count - 1) // 2]
    of_heads["tokens overcorrected"] = (change > 0).mean(1)
    layers = np.array([layer for layer, _ in population.heads])
    members = [layers == layer for layer in np.unique(layers)]
    of_layers = {f"mean of {name}": np.array([mean[m].mean() for m in members]) for name, mean in means.items()}
    for name in PARTS:
        shares = [means[name][m].sum() / means["direct_effect"][m].sum() for m in members]
        of_layers[f"share of {name}"] = np.array(shares)
    return {("heads", name): of_heads[name] for name in STATISTICS} | {
        ("layers", name): of_layers[name] for name in STATISTICS if name in of_layers
    }


def intervals(
    population: Population, drawn: Int[np.ndarray, " document"], replicates: int, seed: int
) -> tuple[dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]], float]:
    """Ends of the intervals that a text gives, by what they are of, statistic and kind; and its effective documents."""
    place, documents = population.tokens_of(drawn)
    ranked = rank_tokens(population.effects[0][:, place], documents, FRACTION, seed)
    heads = np.repeat(np.arange(len(ranked)), [len(tokens) for tokens in ranked])
    token = np.concatenate(ranked)
    columns = {name: values[heads, place[token]] for name, values in zip(EFFECTS, population.effects, strict=True)}
    columns |= {name: np.array(population.heads)[heads, i] for i, name in enumerate(("layer", "head"))}
    columns |= {"document": documents[token], "rank": np.concatenate([np.arange(len(tokens)) for tokens in ranked])}
    table = pl.DataFrame(columns)
    selection = Selection.of(pl.Series(documents), FRACTION, replicates, seed)
    overcorrected = {"overcorrected": pl.col("delta_logit") > 0}
    top = sum_top_tokens(table, population.heads, selection, **overcorrected)
    fixed_table = table.filter(pl.col("rank") < selection.counts[0]).with_columns(**clipped_shares(), **overcorrected)
    fixed = totals(fixed_table, [*EFFECTS, *CLIPPED, *overcorrected], population.heads, selection.draws)
    found = {}
    for name, summed, chosen in (("reselected", top, selection), ("fixed", fixed, None)):
        rows = table if chosen else fixed_table
        repair = medians(rows, ["self_repair"], population.heads, selection.draws, chosen)
        of_heads = estimates_of_heads(summed, Described(["self_repair"], repair, summed.tokens))
        of_layers = estimates_of_layers(summed, population.heads, of_heads)
        for of, described in (("heads", of_heads), ("layers", of_layers)):
            for statistic in STATISTICS:
                kind, _, quantity = statistic.partition(" of ")
                if quantity and (of == "heads" or kind in ("mean", "share")):
                    names, estimate, _ = described[kind]
                    one = estimate[:, names.index(quantity)]
                    found[of, statistic, f"{name}, percentiles"] = one.percentiles
                    if chosen:
                        found[of, statistic, "as reported"] = one.interval
        share = summed.ratio(["overcorrected"])[:, 0]
        found["heads", "tokens overcorrected", f"{name}, percentiles"] = share.percentiles
        if chosen:
            found["heads", "tokens overcorrected", "as reported"] = share.interval_of_share(effective(top.tokens))
    return found, float(effective(top.tokens).mean())


def coverages(
    model: Path, corpus: Path, tokenizer: Path, rows: int, documents: list[str], texts: int, replicates: int
) -> pl.DataFrame:
    """Coverage on synthetic documents and on those of a corpus, of texts of several sizes (`COVERAGE`).

    Args:
        model: folder of the folded model that measures the corpus.
        tokenizer: directory of its tokenizer.
        rows: of the corpus, of 128 tokens.
        documents: numbers of documents of a text.
    """
    populations = [
        synthetic("synthetic", 0.7, 8),
        synthetic("synthetic, heavy tails", 1.2, 3),
        measured(model, corpus, tokenizer, rows, 128, seed=1),
    ]
    return pl.concat([coverage(population, int(n), texts, replicates) for population in populations for n in documents])
