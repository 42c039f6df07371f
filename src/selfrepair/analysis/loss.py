"""How much loss does self-repair save? (config/studies.yaml, `loss`)"""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from selfrepair.ablation.schema import LOSSES
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.by_document import LATER, Group, group_heads, long_table, totals
from selfrepair.analysis.findings import findings
from selfrepair.analysis.schema_beyond import LOSS

CHANGES = {
    "loss_saved": pl.col("loss_without_repair") - pl.col("ablated_loss"),
    "cost": pl.col("ablated_loss") - pl.col("loss"),
    "cost_without_repair": pl.col("loss_without_repair") - pl.col("loss"),
}
STATISTICS = {"top": "share_of_loss_saved", "control": "saved_on_control"}  # of the study, by tokens


@dataclass(frozen=True)
class Losses:
    """Tables of `LOSS` and `FINDINGS`."""

    losses: pl.DataFrame
    findings: pl.DataFrame


def summarise_loss(model: str, losses: pl.DataFrame, facts: Path, replicates: int, seed: int) -> Losses:
    """Mean losses, and what repair saves of them, of every head and of groups of heads.

    Args:
        losses: `LOSS_TOKENS`.
        facts: model.json, for the number of layers.
        replicates: of the bootstrap.
    """
    n_layers = json.loads(facts.read_text())["n_layers"]
    draws = Draws.of(losses["document"], replicates, seed)
    heads = sorted(losses.select("layer", "head").unique().rows())
    grouping = group_heads(heads, n_layers)
    rows = losses.with_columns(pl.col(list(LOSSES)).cast(pl.Float64)).with_columns(**CHANGES)
    quantities, later = [*LOSSES, *CHANGES], Group(LATER, None, None)
    index = {name: [getattr(group, name) for group in grouping.groups] for name in Group._fields}
    tables, found = [], {}
    for tokens, flag in (("top", "selected"), ("control", "control")):
        of_groups = totals(rows.filter(flag), quantities, heads, draws).grouped(grouping.members)
        labels = {"model": model, "n_layers": n_layers, "tokens": tokens}
        share = of_groups.ratio(["loss_saved"], "cost_without_repair")
        described = [("mean", quantities, of_groups.ratio(quantities)), ("share", ["loss_saved"], share)]
        for statistic, names, estimate in described:
            of = labels | {"statistic": statistic}
            tables.append(long_table(LOSS, of, index, names, estimate, of_groups.counts))
        if later in grouping.groups:
            of_later = share[grouping.groups.index(later), 0]
            found[STATISTICS[tokens]] = (tokens, of_later.value, *of_later.interval)
    return Losses(pl.concat(tables), findings(model, "loss", found, len(draws.documents)))
