"""Are a layer's attention and its MLP repaired, beside its heads? (config/studies.yaml, `layers`; studies.md, N2)"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from selfrepair.ablation.unit_names import ATTENTION, MLP
from selfrepair.analysis.by_document import Head, Selection, Totals, long_table
from selfrepair.analysis.findings import findings
from selfrepair.analysis.head_estimates import PARTS, sum_top_tokens
from selfrepair.analysis.schema_beyond import UNITS

KINDS = {"heads": lambda part: part >= 0, "attention": lambda part: part == ATTENTION, "mlp": lambda part: part == MLP}
MEANS = ["direct_effect", "delta_logit", *PARTS]


@dataclass(frozen=True)
class Units:
    """Tables of `UNITS` and `FINDINGS`."""

    units: pl.DataFrame
    findings: pl.DataFrame


def summarise_units(
    model: str,
    units: pl.DataFrame,
    tokens: pl.DataFrame,
    clean: pl.DataFrame,
    sets: list[str],
    top_fraction: float,
    replicates: int,
    seed: int,
) -> Units:
    """Self-repair of the attention and the MLP of every layer, beside that of its heads, on the top tokens of each.

    Args:
        units: token rows of all shards, of units (`ablated_tokens`).
        tokens: those of single heads, under resample ablation.
        clean: clean tokens of the run (`CLEAN_TOKENS`).
        sets: further units of the configuration.
        top_fraction: share of tokens that are a unit's top tokens.
        replicates: of the bootstrap.
    """
    selection = Selection.of(clean["document"], top_fraction, replicates, seed)
    n_layers = tokens.schema["repair_mlp_by_layer"].size
    items, summed = [], []
    for table in (units, tokens):
        items += (of_table := sorted(table.select("layer", "head").unique().rows()))
        summed.append(sum_top_tokens(table, of_table, selection))
    groups: dict[tuple[str, int | None], list[Head]] = {}
    for kind, belongs in KINDS.items():
        of_kind = [item for item in items if belongs(item[1])]
        groups |= {(kind, layer): [item for item in of_kind if item[0] == layer] for layer in range(n_layers)}
        groups[kind, None] = [item for item in of_kind if 2 * item[0] >= n_layers]
    groups |= {(name, None): [item for item in items if item[1] == MLP - 1 - at] for at, name in enumerate(sets)}
    groups = {group: members for group, members in groups.items() if members}
    members = np.array([[item in of for of in groups.values()] for item in items], dtype=float)
    totals = Totals.joined(summed).grouped(members)
    shares = totals.ratio(PARTS, "direct_effect")
    labels = {"model": model, "n_layers": n_layers}
    index: dict[str, Sequence[object]] = {"unit": [kind for kind, _ in groups], "layer": [layer for _, layer in groups]}
    described = [("mean", MEANS, totals.ratio(MEANS)), ("share", PARTS, shares)]
    table = pl.concat(
        long_table(UNITS, labels | {"statistic": statistic}, index, quantities, estimate, totals.counts)
        for statistic, quantities, estimate in described
    )
    later = {kind: shares[list(groups).index((kind, None)), 0] for kind in KINDS if (kind, None) in groups}
    found = {
        "attention_minus_mlp": later["attention"] - later["mlp"],
        "attention": later["attention"],
        "mlp": later["mlp"],
    }
    if "heads" in later:
        found |= {"heads": later["heads"], "attention_minus_heads": later["attention"] - later["heads"]}
    named = {name: ("top", estimate.value, *estimate.interval) for name, estimate in found.items()}
    return Units(table, findings(model, "layers", named, len(selection.draws.documents)))
