"""Who repairs whom: later heads that make the repair of an ablated head (config/studies.yaml, `hand-off`)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.ablation.unit_names import late_heads
from selfrepair.analysis.bootstrap import Draws, Estimate, ratio, ratio_of_sums
from selfrepair.analysis.findings import findings
from selfrepair.analysis.repairers import Means, Repairs, for_others, shares_by_rank
from selfrepair.analysis.schema_beyond import HAND_OFF, PAIRS, SPARSITY
from selfrepair.core.tables import frame
from selfrepair.tokens.contexts import CONTEXTS, Decode, context
from selfrepair.tokens.rows import token_matrix
from selfrepair.tokens.tokenizer import decoder


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
    late = late_heads(heads, n_layers)
    curve, of_others, of_half = _sparsity(Repairs.of(hand_off, late, draws), for_others(late, n_heads))
    pairs, held_clean = _pairs(model, held, token_matrix(sampled), decode, draws)
    found = {
        "strongest_share": ("top", curve[0].value, *curve[0].interval),
        "strongest_of_others": ("top", of_others.value, *of_others.interval),
        "heads_of_half": ("top", of_half.value, *of_half.percentiles),
        "held_clean": ("top", held_clean.value, *held_clean.interval),
    }
    low, high = curve.interval
    return HandOff(
        _matrix(model, Repairs.of(hand_off, heads, draws), heads, n_heads),
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


def _sparsity(repairs: Repairs, by: Callable[[Means], Means]) -> tuple[Estimate, Estimate, Estimate]:
    """Share of positive repair that the strongest 1, 2, ... later heads make, the share of those that `by` ranks first,
    and how many make half of it.

    Shares are measured on one half of the documents where heads are ranked on the other, both ways.
    """
    even, odd = repairs.halves()
    halves = [(even, odd), (odd, even)]
    numbers = np.concatenate([_heads_of_half(repairs.means(part)) for part in repairs.parts()])
    found = shares_by_rank(halves), shares_by_rank(halves, by)[:, 0], numbers
    curve, of_others, of_half = map(repairs.draws.estimate, found)
    return curve, of_others, of_half


def _heads_of_half(means: Float[np.ndarray, "sample head later"]) -> Float[np.ndarray, " sample"]:
    """Mean number of later heads whose positive changes make half of all; over heads that are repaired at all."""
    positive = -np.sort(-np.clip(means, 0, None), axis=-1)
    so_far = positive.cumsum(-1)
    total = so_far[..., -1:]
    repaired = total[..., 0] > 0
    number = np.where(repaired, 1.0 + (so_far < total / 2).sum(-1), 0)
    return ratio(number.sum(1), repaired.sum(1))


def _matrix(model: str, repairs: Repairs, heads: list[tuple[int, int]], n_heads: int) -> pl.DataFrame:
    """Every ablated head with every head of later layers."""
    rows = []
    for index, (layer, head) in enumerate(heads):
        first = (layer + 1) * n_heads
        means = ratio_of_sums(repairs.sums[:, index, first:], repairs.counts[:, index, None], repairs.draws)
        later = [divmod(place, n_heads) for place in range(first, repairs.sums.shape[2])]
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
