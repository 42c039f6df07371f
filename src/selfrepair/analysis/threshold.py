"""Does what is found depend on which tokens count as a head's top tokens? (config/studies.yaml, `threshold`)

All from one measurement: sums over the tokens of each head between one threshold and the next add up to those of every
threshold. Documents are drawn anew for intervals; which tokens count is held fixed.
"""

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from selfrepair.ablation.schema import RULES, THRESHOLDS
from selfrepair.analysis.bootstrap import Draws, ratio_of_sums
from selfrepair.analysis.by_document import counted
from selfrepair.analysis.findings import findings
from selfrepair.analysis.schema_beyond import BY_THRESHOLD
from selfrepair.core.tables import frame

PARTS = ["self_repair", "repair_norm", "repair_attention", "repair_mlp"]
MEANS = ["direct_effect", *PARTS]
FOUND = {  # statistic: rule, threshold, and what these tokens are called
    "share_at_2": ("signed", 0.02, "top"),
    "share_at_20": ("signed", 0.2, "top 20 %"),
    "share_by_size": ("size", 0.02, "top by size"),
    "share_random": ("random", 0.02, "random"),
    "share_by_probability": ("logit", 0.02, "top by logit"),
}


@dataclass(frozen=True)
class Thresholds:
    """Tables of `BY_THRESHOLD` and `FINDINGS`."""

    thresholds: pl.DataFrame
    findings: pl.DataFrame


def by_threshold(model: str, estimates: pl.DataFrame, facts: Path, replicates: int, seed: int) -> Thresholds:
    """Self-repair and its parts of the heads of the later half, for every rule and threshold.

    Args:
        estimates: rows of `ESTIMATES`.
        facts: model.json, for the number of layers.
        replicates: of the bootstrap.
    """
    n_layers = json.loads(facts.read_text())["n_layers"]
    draws, rules = Draws.of(estimates["document"], replicates, seed), list(RULES)
    later = estimates.filter(2 * pl.col("layer") >= n_layers)
    summed = later.group_by("document", "rule", "threshold").agg(pl.col("n", *MEANS).sum())
    at = [rules.index(rule) for rule in summed["rule"]], np.searchsorted(THRESHOLDS, summed["threshold"].to_numpy())
    sums = np.zeros((len(draws.documents), len(rules), len(THRESHOLDS), 1 + len(MEANS)))
    sums[draws.at(summed["document"]), *at] = summed.select("n", *MEANS).to_numpy()
    sums = sums.cumsum(2)  # a threshold holds all smaller ones
    n, effect, parts = np.split(sums, [1, 2], axis=-1)
    shares = ratio_of_sums(parts, effect, draws)
    counts = counted(n[..., 0])
    rows = []
    for statistic, quantities, estimate in (
        ("mean", MEANS, ratio_of_sums(sums[..., 1:], n, draws)),
        ("share", PARTS, shares),
    ):
        low, high = estimate.interval
        for r, t, q in product(range(len(rules)), range(len(THRESHOLDS)), range(len(quantities))):
            numbers = (ends[r, t, q] for ends in (estimate.value, low, high))
            of = (count[r, t] for count in counts.values())
            rows.append((model, n_layers, rules[r], THRESHOLDS[t], quantities[q], statistic, *numbers, *of))
    found = {
        statistic: (tokens, shares[rules.index(rule), THRESHOLDS.index(threshold), 0])
        for statistic, (rule, threshold, tokens) in FOUND.items()
    }
    difference = "top", found["share_at_2"][1] - found["share_at_20"][1]
    described = {
        statistic: (tokens, estimate.value, *estimate.interval)
        for statistic, (tokens, estimate) in ({"share_at_2_minus_20": difference} | found).items()
    }
    columns = dict(zip(BY_THRESHOLD, map(list, zip(*rows, strict=True)), strict=True))
    return Thresholds(frame(columns, BY_THRESHOLD), findings(model, "threshold", described, len(draws.documents)))
