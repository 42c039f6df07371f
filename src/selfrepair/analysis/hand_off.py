"""Who repairs whom: later heads that make the repair of an ablated head (config/studies.yaml, `hand-off`)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.ablation.unit_names import late_heads
from selfrepair.analysis.bootstrap import Draws, Estimate, ratio, ratio_of_sums
from selfrepair.analysis.findings import findings
from selfrepair.analysis.schema_beyond import HAND_OFF, PAIRS, SPARSITY
from selfrepair.core.tables import frame
from selfrepair.tokens.contexts import CONTEXTS, Decode, context
from selfrepair.tokens.rows import token_matrix
from selfrepair.tokens.tokenizer import decoder

LARGEST = 2**24  # numbers that are held at once


@dataclass(frozen=True)
class HandOff:
    """Tables of `HAND_OFF`, `SPARSITY`, `PAIRS` and `FINDINGS`."""

    hand_off: pl.DataFrame
    sparsity: pl.DataFrame
    pairs: pl.DataFrame
    findings: pl.DataFrame


def hand_off_of_files(
    model: str,
    hand_off: pl.DataFrame,
    held: pl.DataFrame,
    clean: pl.DataFrame,
    sampled: pl.DataFrame,
    tokenizer: Path,
    facts: Path,
    replicates: int,
    seed: int,
) -> HandOff:
    """`summarise`, with contexts in the words of the tokenizer in a directory."""
    return summarise(model, hand_off, held, clean, sampled, decoder(tokenizer), facts, replicates, seed)


def summarise(
    model: str,
    hand_off: pl.DataFrame,
    held: pl.DataFrame,
    clean: pl.DataFrame,
    sampled: pl.DataFrame,
    decode: Decode,
    facts: Path,
    replicates: int,
    seed: int,
) -> HandOff:
    """Mean change of every later head, how few heads make the repair, and what holding the strongest changes.

    Args:
        hand_off: sums of all shards under resample ablation (`ablation.schema.hand_off`).
        held: `HELD`.
        clean: clean tokens of the run (`CLEAN_TOKENS`).
        sampled: `TOKENS` of the run, in which contexts are read.
        decode: tokens to text.
        facts: model.json, for layers and heads.
        replicates: of the bootstrap.
    """
    described = json.loads(facts.read_text())
    n_layers, n_heads = described["n_layers"], described["n_heads"]
    draws = Draws.of(clean["document"], replicates, seed)
    heads = sorted(hand_off.select("layer", "head").unique().rows())
    sums, counts = _by_document(hand_off, heads, draws)
    late = [heads.index(head) for head in late_heads(heads, n_layers)]
    curve, of_half = _sparsity(sums[:, late], counts[:, late], draws)
    pairs, held_clean = _pairs(model, held, token_matrix(sampled), decode, draws)
    found = {
        "strongest_share": ("top", curve[0].value, *curve[0].interval),
        "heads_of_half": ("top", of_half.value, *of_half.percentiles),
        "held_clean": ("top", held_clean.value, *held_clean.interval),
    }
    low, high = curve.interval
    return HandOff(
        _matrix(model, sums, counts, heads, n_heads, draws),
        frame(
            {
                "model": [model] * len(low),
                "rank": np.arange(1, len(low) + 1),
                "value": curve.value,
                "low": low,
                "high": high,
            },
            SPARSITY,
        ),
        pairs,
        findings(model, "hand-off", found, len(draws.documents)),
    )


def _by_document(
    table: pl.DataFrame, heads: list[tuple[int, int]], draws: Draws
) -> tuple[Float[np.ndarray, "document head later"], Float[np.ndarray, "document head"]]:
    """Sums of changes and numbers of tokens; a document may lie in several shards."""
    sums = np.zeros((len(draws.documents), len(heads), table.schema["change"].size))
    counts = np.zeros(sums.shape[:2])
    at = {head: index for index, head in enumerate(heads)}
    place = draws.at(table["document"]), np.array([at[h] for h in table.select("layer", "head").rows()], dtype=int)
    np.add.at(sums, place, table["change"].to_numpy())
    np.add.at(counts, place, table["n"].to_numpy())
    return sums, counts


def _sparsity(
    sums: Float[np.ndarray, "document head later"], counts: Float[np.ndarray, "document head"], draws: Draws
) -> tuple[Estimate, Estimate]:
    """Share of positive repair that the strongest 1, 2, ... later heads make, and how many make half of it.

    The share is measured on one half of the documents where heads are ranked on the other, both ways: documents of even
    and of odd number.
    """
    even = draws.documents % 2 == 0
    weights = [np.where(of, draws.weights, 0).astype(np.float64) for of in (even, ~even)]
    samples = len(draws.weights)
    shares, numbers = np.zeros((samples, sums.shape[2])), np.zeros(samples)
    step = max(1, LARGEST // max(1, sums[0].size))
    for first in range(0, samples, step):
        part = slice(first, first + step)
        totals = [np.tensordot(of[part], sums, 1) for of in weights]
        tokens = [np.maximum(of[part] @ counts, 1)[..., None] for of in weights]
        halves = [total / n for total, n in zip(totals, tokens, strict=True)]
        made = [_cumulative(*order) for order in (halves, halves[::-1])]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares[part] = (made[0][0] + made[1][0]) / (made[0][1] + made[1][1])[:, None]
            whole = (totals[0] + totals[1]) / (weights[0][part] @ counts + weights[1][part] @ counts)[..., None]
        numbers[part] = _heads_of_half(whole)
    return draws.estimate(shares), draws.estimate(numbers)


def _cumulative(
    ranked_by: Float[np.ndarray, "sample head later"], measured: Float[np.ndarray, "sample head later"]
) -> tuple[Float[np.ndarray, "sample later"], Float[np.ndarray, " sample"]]:
    """What the later heads of rank 1, 2, ... make together, and what all with a positive change make."""
    order = np.argsort(-ranked_by, axis=-1, kind="stable")
    values = np.where(np.take_along_axis(ranked_by, order, -1) > 0, np.take_along_axis(measured, order, -1), 0)
    by_rank = values.sum(1)
    return by_rank.cumsum(-1), by_rank.sum(-1)


def _heads_of_half(means: Float[np.ndarray, "sample head later"]) -> Float[np.ndarray, " sample"]:
    """Mean number of later heads whose positive changes make half of all; over heads that are repaired at all."""
    positive = -np.sort(-np.clip(means, 0, None), axis=-1)
    so_far = positive.cumsum(-1)
    total = so_far[..., -1:]
    repaired = total[..., 0] > 0
    number = np.where(repaired, 1.0 + (so_far < total / 2).sum(-1), 0)
    return ratio(number.sum(1), repaired.sum(1))


def _matrix(
    model: str,
    sums: Float[np.ndarray, "document head later"],
    counts: Float[np.ndarray, "document head"],
    heads: list[tuple[int, int]],
    n_heads: int,
    draws: Draws,
) -> pl.DataFrame:
    """Every ablated head with every head of later layers."""
    rows = []
    for index, (layer, head) in enumerate(heads):
        first = (layer + 1) * n_heads
        means = ratio_of_sums(sums[:, index, first:], counts[:, index, None], draws)
        later = [divmod(place, n_heads) for place in range(first, sums.shape[2])]
        numbers = zip(later, means.value, *means.interval, strict=True)
        rows += [(model, layer, head, *responds, *values) for responds, *values in numbers]
    return pl.DataFrame(rows, {name: column.dtype for name, column in HAND_OFF.items()}, orient="row")


def _pairs(
    model: str, held: pl.DataFrame, matrix: Int[np.ndarray, "row pos"], decode: Decode, draws: Draws
) -> tuple[pl.DataFrame, Estimate]:
    """Of each pair what is handed on and what holding it changes; and the second by the first, over all pairs."""
    key = ["layer", "head", "later_layer", "later_head"]
    pairs = held.select(key).unique(maintain_order=True).rows()
    names = ["n", "direct_effect", "self_repair", "handed", "fall", "pair_direct_effect", "pair_self_repair"]
    rows = held.with_columns(n=1, pair_direct_effect=pl.col("direct_effect") + pl.col("later_direct_effect"))
    summed = rows.group_by(*key, "document").agg(pl.col(names).cast(pl.Float64).sum())
    sums = np.zeros((len(draws.documents), len(pairs), len(names)))
    at: Int[np.ndarray, " row"] = np.array([pairs.index(pair) for pair in summed.select(key).rows()], dtype=int)
    sums[draws.at(summed["document"]), at] = summed.select(names).to_numpy()
    n, effect, repair, handed, fall, pair_effect, pair_repair = np.moveaxis(sums, -1, 0)
    whole = sums.sum(0)
    order = np.argsort(-whole[:, 3] / whole[:, 0], kind="stable")
    estimates = {
        "handed": ratio_of_sums(handed, n, draws),
        "held": ratio_of_sums(fall, handed, draws),
        "share_alone": ratio_of_sums(repair, effect, draws),
        "share_of_pair": ratio_of_sums(pair_repair, pair_effect, draws),
    }
    columns: dict[str, object] = {"model": [model] * len(pairs)}
    columns |= {name: [pairs[index][at] for index in order] for at, name in enumerate(key)}
    columns["n_tokens"] = whole[order, 0].astype(int)
    for name, estimate in estimates.items():
        low, high = estimate.interval
        columns |= {name: estimate.value[order], f"{name}_low": low[order], f"{name}_high": high[order]}
    shown = [_contexts(held.filter(**dict(zip(key, pairs[index], strict=True))), matrix, decode) for index in order]
    columns |= {f"context_{i + 1}": [texts[i] for texts in shown] for i in range(CONTEXTS)}
    return frame(columns, PAIRS), ratio_of_sums(fall.sum(1), handed.sum(1), draws)


def _contexts(of_pair: pl.DataFrame, matrix: Int[np.ndarray, "row pos"], decode: Decode) -> list[str | None]:
    """The tokens on which most is handed on, first the one with most."""
    places = of_pair.sort("handed", descending=True, maintain_order=True).select("row", "pos").head(CONTEXTS).rows()
    texts: list[str | None] = [context(matrix[row], pos, decode) for row, pos in places]
    return texts + [None] * (CONTEXTS - len(texts))
