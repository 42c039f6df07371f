"""Does self-repair mislead the gradient estimate of an ablation's effect? (config/studies.yaml, `attribution`)

The estimate holds the head's own direct effect exactly, and as much of self-repair as is linear in the change of z. So
its error is linear minus true self-repair: zero for linear responders, minus self-repair where it foresees none of it.
Documents are drawn anew for intervals; heads and their top tokens are held fixed.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.ablation.reselection import top_count
from selfrepair.analysis.bootstrap import Draws, ratio
from selfrepair.analysis.by_document import long_table, totals
from selfrepair.analysis.findings import findings
from selfrepair.analysis.schema_beyond import ATTRIBUTION

TOP = 0.02  # share of tokens
LARGEST = 0.1  # share of heads
QUANTITIES = ["delta_logit", "self_repair", "estimate", "error", "absolute_error"]


@dataclass(frozen=True)
class Attribution:
    """Tables of `ATTRIBUTION` and `FINDINGS`."""

    heads: pl.DataFrame
    findings: pl.DataFrame


def summarise(model: str, estimates: pl.DataFrame, facts: Path, replicates: int, seed: int) -> Attribution:
    """Gradient estimate and exact change of the logit of every head, and how the error goes with self-repair.

    Args:
        estimates: rows of `ESTIMATES`.
        facts: model.json, for the numbers of layers and heads; what is missed is only known where all were measured.
        replicates: of the bootstrap.
    """
    described = json.loads(facts.read_text())
    n_layers, n_heads = described["n_layers"], described["n_heads"]
    draws, ranked = Draws.of(estimates["document"], replicates, seed), estimates.filter(rule="signed")
    heads = sorted(ranked.select("layer", "head").unique().rows())
    of_tokens = {
        tokens: totals(rows.with_columns(error=pl.col("estimate") - pl.col("delta_logit")), QUANTITIES, heads, draws)
        for tokens, rows in (("top", ranked.filter(pl.col("threshold") <= TOP)), ("all", ranked))
    }
    index = {"layer": [layer for layer, _ in heads], "head": [head for _, head in heads]}
    labels, means = {"model": model, "n_layers": n_layers}, of_tokens["top"].ratio(QUANTITIES)
    tables = [
        long_table(ATTRIBUTION, labels | {"tokens": tokens}, index, QUANTITIES, summed.ratio(QUANTITIES), summed.counts)
        for tokens, summed in of_tokens.items()
    ]
    late = np.array([2 * layer >= n_layers for layer, _ in heads])
    exact, repair, estimate, error, _ = (means[:, place] for place in range(len(QUANTITIES)))
    count = top_count(len(heads), LARGEST)
    missed = draws.estimate(misses(exact.samples, estimate.samples, count))
    sizes = (np.abs(of[late].samples).sum(1) for of in (error, exact))
    found = {
        "error_follows_repair": draws.estimate(rank_correlation(repair[late].samples, error[late].samples)),
        "relative_error": draws.estimate(ratio(*sizes)),
    }
    statistics = {name: ("top", of.value, *of.interval) for name, of in found.items()}
    if len(heads) == n_layers * n_heads:
        statistics["misses"] = ("top", missed.value, *missed.interval_of_heads(count))
    return Attribution(pl.concat(tables), findings(model, "attribution", statistics, len(draws.documents)))


def rank_correlation(x: Float[np.ndarray, "sample head"], y: Float[np.ndarray, "sample head"]) -> np.ndarray:
    """Spearman's correlation over heads in every sample, for values without ties; NaN where one is not defined.

    Returns:
        correlations [sample].
    """
    a, b = (of.argsort(1).argsort(1) - (of.shape[1] - 1) / 2 for of in (x, y))
    defined = np.isfinite(x).all(1) & np.isfinite(y).all(1)
    return np.where(defined, ratio((a * b).sum(1), np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))), np.nan)


def misses(
    exact: Float[np.ndarray, "sample head"], estimate: Float[np.ndarray, "sample head"], count: int
) -> Float[np.ndarray, " sample"]:
    """Share of the `count` heads of largest exact value, in size, that are not among those of largest estimate."""
    largest = [np.abs(of).argsort(1)[:, ::-1].argsort(1) < count for of in (exact, estimate)]
    return 1 - (largest[0] & largest[1]).sum(1) / count
