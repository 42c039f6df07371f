"""Small tables for the figures of studies."""

import numpy as np
import polars as pl

from selfrepair.ablation.schema import RULES, THRESHOLDS
from selfrepair.ablation.schema_family import REPLACEMENTS
from selfrepair.analysis.adaptation import OF_DISPLACED, OF_THIRD
from selfrepair.analysis.schema_beyond import (
    ATTRIBUTION,
    BY_THRESHOLD,
    FINDINGS,
    HAND_OFF,
    LOSS,
    SPARSITY,
    UNITS,
)
from selfrepair.analysis.schema_family import ARM_COURSE, ARM_DIFFERENCES, ARM_ONSET, ARMS, EVIDENCE
from selfrepair.figures.adaptation import architecture_adaptation
from selfrepair.figures.architecture import PARTS, architecture, architecture_course, architecture_loss
from selfrepair.figures.attribution import attribution
from selfrepair.figures.hand_off import hand_off_matrix, hand_off_share
from selfrepair.figures.layer_units import layer_units
from selfrepair.figures.loss_saved import loss_saved
from selfrepair.figures.repairers import repairers
from selfrepair.figures.threshold import threshold
from selfrepair.report.arms import THIRDS

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


def loss_table() -> pl.DataFrame:
    generator, rows = np.random.default_rng(3), []
    groups = [("layer", layer, None) for layer in range(4)]
    groups += [("one", layer, head) for layer in range(4) for head in range(2)] + [("all", None, None)]
    for model in STUDIED:
        for group in groups:
            for tokens in ("top", "control"):
                for quantity in ("loss_saved", "cost", "cost_without_repair"):
                    value = generator.random() - 0.3
                    key = (model, 4, *group, tokens, quantity, "mean")
                    rows.append((*key, value, value - 0.1, value + 0.2, 100, 10, 6.5))
                rows.append((model, 4, *group, tokens, "loss_saved", "share", 0.2, 0.1, 0.3, 100, 10, 6.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in LOSS.items()}, orient="row")


def units_table() -> pl.DataFrame:
    generator, rows = np.random.default_rng(4), []
    for model in STUDIED:
        for unit in ("heads", "attention", "mlp"):
            for layer in (*range(4), None):
                for quantity in ("self_repair", "repair_norm"):
                    for statistic in ("mean", "share"):
                        value = generator.random() - 0.2
                        key = (model, 4, unit, layer, quantity, statistic)
                        rows.append((*key, value, value - 0.1, value + 0.2, 100, 10, 6.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in UNITS.items()}, orient="row")


def repairers_table() -> pl.DataFrame:
    """Of the twin's share on code nothing is reported, nor of the second model's answers."""
    rows = []
    for model in STUDIED:
        for tokens in ("prose", "code", "ioi (answers)"):
            for statistic, value in (("strongest_own", 0.4), ("strongest_on_first", 0.3)):
                if statistic == "strongest_own" or tokens != "prose":
                    unknown = (model, tokens) in (("one-shuffled", "code"), ("two", "ioi (answers)"))
                    ends = (None,) * 3 if unknown else (value, value - 0.1, value + 0.1)
                    rows.append((model, "distributions", statistic, tokens, *ends, 20))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in FINDINGS.items()}, orient="row")


def sparsity_table() -> pl.DataFrame:
    """The twin's share of the strongest head has an interval that says nothing."""
    rows = [
        (model, rank, 1 - 0.7**rank, 1 - 0.7**rank - low, 1 - 0.7**rank + 0.05)
        for model in STUDIED
        for rank in range(1, 31)
        for low in [5.0 if rank == 1 and model == "one-shuffled" else 0.1]
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in SPARSITY.items()}, orient="row")


def hand_off_table() -> pl.DataFrame:
    generator = np.random.default_rng(5)
    rows = [
        ("one", layer, head, later, responds, value, value - 0.1, value + 0.1)
        for layer in range(3)
        for head in range(2)
        for later in range(layer + 1, 4)
        for responds in range(2)
        for value in [generator.normal()]
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in HAND_OFF.items()}, orient="row")


def arms_table() -> pl.DataFrame:
    generator = np.random.default_rng(6)
    rows = [
        (arm, seed, 1000, 3.0, part, value, value - 0.1, value + 0.1, 0.0)
        for arm in ("base", "rotary", "no-final-norm")
        for seed in (1, 2, 3)
        for part in PARTS
        for value in [0.3 + 0.05 * generator.normal()]
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in ARMS.items()}, orient="row")


def differences_table() -> pl.DataFrame:
    rows = [
        (arm, matched, part, 0.02, -0.03, 0.07, 3, 0.0, 0.05, 100, "undecided", -0.01, 0.05, "undecided")
        for arm in ("rotary", "no-final-norm")
        for matched in ("steps", "loss")
        for part in PARTS
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in ARM_DIFFERENCES.items()}, orient="row")


def course_table() -> pl.DataFrame:
    rows = [
        (arm, seed, step, 7.0 - 0.5 * np.log(step), 0.5, part, 0.3, 0.2, 0.4)
        for arm in ("base", "rotary", "no-final-norm")
        for seed in (1, 2, 3)
        for step in (1, 10, 100)
        for part in PARTS
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in ARM_COURSE.items()}, orient="row")


def onset_table() -> pl.DataFrame:
    things = [*((part, of) for of in ("share", "mean") for part in PARTS), ("held_out_loss", "mean")]
    rows = [("base", *thing, 0.5, -0.1, 1.1, 3, "not told apart") for thing in things]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in ARM_ONSET.items()}, orient="row")


def family_tables() -> dict[str, pl.DataFrame]:
    tables = {"arms": arms_table(), "differences": differences_table()}
    return tables | {"onset": onset_table(), "evidence": evidence_table()}


def evidence_table() -> pl.DataFrame:
    things: list[tuple] = [
        (statistic, of, tokens, None)
        for statistic in ("loss_saved", "cost_without_repair", "gain_on_guessing")
        for of in ("text", "induction", "copying", "arithmetic", "ioi")
        for tokens in ("top", "all")
    ]
    things += [(name, "other", "top", None) for name in ("distance", "norm", "own_norm", *THIRDS)]
    things += [("far_minus_near", of, "top", None) for of in ("repair", "distance")]
    things += [("repair", of, "top", None) for of in (*REPLACEMENTS, *OF_THIRD, *OF_DISPLACED)]
    things += [("distance", of, "top", layer) for of in REPLACEMENTS for layer in range(3)]
    rows = [(*of, seed, 0.3 + 0.01 * (seed or 2), 0.2, 0.4) for of in things for seed in (1, 2, 3, None)]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in EVIDENCE.items()}, orient="row")


STUDY_FIGURES = {
    "architecture": lambda: architecture(arms_table(), differences_table()),
    "architecture_course": lambda: architecture_course(course_table()),
    "architecture_adaptation": lambda: architecture_adaptation(evidence_table()),
    "architecture_loss": lambda: architecture_loss(course_table()),
    "layer_units": lambda: layer_units(units_table()),
    "hand_off_share": lambda: hand_off_share(sparsity_table()),
    "hand_off_matrix": lambda: hand_off_matrix(hand_off_table()),
    "repairers": lambda: repairers(repairers_table()),
    "loss_saved": lambda: loss_saved(loss_table()),
    "threshold": lambda: threshold(threshold_table()),
    "attribution": lambda: attribution(attribution_table(), findings_table()),
}
