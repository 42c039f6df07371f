"""Small tables for the figures of studies."""

import numpy as np
import polars as pl

from selfrepair.ablation.schema import RULES, THRESHOLDS
from selfrepair.analysis.schema import ATTRIBUTION, BY_THRESHOLD, FINDINGS
from selfrepair.figures.attribution import attribution
from selfrepair.figures.threshold import threshold

STUDIED = ["one", "two", "one-shuffled"]


def threshold_table() -> pl.DataFrame:
    generator, rows = np.random.default_rng(1), []
    for model in STUDIED:
        for rule in RULES:
            for share in THRESHOLDS:
                effect = 0.3 if rule != "random" or share > 0.1 else 0.05  # whose interval holds zero
                key = (model, 4, rule, share, "direct_effect", "mean")
                rows.append((*key, effect, effect - 0.1, effect + 0.1, round(1e4 * share), 10, 6.5))
                for quantity in ("self_repair", "repair_norm", "repair_attention", "repair_mlp"):
                    for statistic in ("mean", "share"):
                        value = 0.8 * generator.random() - 0.2
                        key = (model, 4, rule, share, quantity, statistic)
                        rows.append((*key, value, value - 0.1, value + 0.15, round(1e4 * share), 10, 6.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in BY_THRESHOLD.items()}, orient="row")


def attribution_table() -> pl.DataFrame:
    generator, rows = np.random.default_rng(2), []
    for model in STUDIED:
        for layer in range(4):
            for head in range(2):
                for tokens in ("top", "all"):
                    for quantity in ("delta_logit", "self_repair", "estimate", "error", "absolute_error"):
                        value = generator.random() - 0.4
                        key = (model, 4, layer, head, tokens, quantity)
                        rows.append((*key, value, value - 0.05, value + 0.1, 100, 10, 6.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in ATTRIBUTION.items()}, orient="row")


def findings_table() -> pl.DataFrame:
    rows = [
        (model, "attribution", statistic, "top", -0.7 - 0.1 * place, -0.99, -0.5, 10)
        for place, model in enumerate(STUDIED)
        for statistic in ("error_follows_repair", "misses")
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in FINDINGS.items()}, orient="row")


STUDY_FIGURES = {
    "threshold": lambda: threshold(threshold_table()),
    "attribution": lambda: attribution(attribution_table(), findings_table()),
}
