"""Are the same heads repaired, and as much, on other text and on generated prompts (study `distributions`)?

Two distributions share no document. A sample of both is a sample of each, drawn independently; the jackknife leaves out
a fold of one of them at a time. Noise in the means of the heads lowers rank correlations, so that the first
distribution is also compared with itself: heads on one half of its documents with the same heads on the other half.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.ablation.unit_names import late_heads
from selfrepair.analysis.bootstrap import Draws, Estimate, ratio_of_sums
from selfrepair.analysis.by_document import LATER, ONE, Group, Head, Totals, group_heads, totals
from selfrepair.analysis.repairers import Repairs, shares_by_rank
from selfrepair.analysis.schema_beyond import ACCURACY, DISTRIBUTION_HEADS, FINDINGS
from selfrepair.core.tables import empty, frame

STUDY = "distributions"
PARTS = ["self_repair", "repair_norm", "repair_attention", "repair_mlp"]
MEANS = ["direct_effect", "delta_logit", *PARTS]
POSITIVE, OVERCORRECTED = "positive", "overcorrected"
LEAST_PREFERRED = 0.8  # of answers, by models of which findings are reported
WIDEST = 1.0  # interval of a share of repair that is reported: where nothing repairs, the ratio may be anything
LABELS = {"top": "{} (top)", "answers": "{} (answers)", "difference": "{} (answers, difference)"}


@dataclass(frozen=True)
class DistributionSummary:
    """Tables of `DISTRIBUTION_HEADS`, `ACCURACY` and `FINDINGS`."""

    heads: pl.DataFrame
    accuracy: pl.DataFrame
    findings: pl.DataFrame


def summarise(
    model: str, sums: pl.DataFrame, answers: pl.DataFrame, hand_off: pl.DataFrame, replicates: int, seed: int
) -> DistributionSummary:
    """Summarise the heads of a model on every distribution, and compare the later ones with the first distribution.

    Args:
        sums: `DISTRIBUTION_SUMS`; top tokens are those of the run in every replicate.
        answers: `ANSWERS`.
        hand_off: what later heads do (`ablation.schema.hand_off_elsewhere`).
        replicates: of the bootstrap.
    """
    n_layers = sums["n_layers"][0]
    grouping = group_heads(sorted(sums.select("layer", "head").unique().rows()), n_layers)
    groups = [group for group in grouping.groups if group.heads in (ONE, LATER)]
    members = grouping.members[:, [grouping.groups.index(group) for group in groups]]
    measured = {
        key: _Measured.of(table, replicates, seed + index)
        for index, (key, table) in enumerate(sums.partition_by("distribution", "tokens", as_dict=True).items())
    }
    tables = []
    for (distribution, tokens), of in measured.items():
        labels = {"model": model, "n_layers": n_layers, "distribution": distribution, "tokens": tokens}
        tables.append(_describe(labels, groups, of.totals(grouping.heads).grouped(members)))
    accuracy = _accuracy(model, answers, replicates, seed)
    late = [head for head in grouping.heads if 2 * head[0] >= n_layers]
    of_late = {
        key: _Measured(of.sums.filter(2 * pl.col("layer") >= n_layers), of.draws) for key, of in measured.items()
    }
    findings = (
        [*_findings(of_late, late, seed), *_repairers(measured, hand_off, late_heads(late, n_layers))] if late else []
    )
    withheld = accuracy.filter(~pl.col("reported"))["distribution"].to_list()
    rows = [
        (model, STUDY, statistic, label, *(None if distribution in withheld else _known(end) for end in ends), n)
        for distribution, statistic, label, ends, n in findings
    ]
    return DistributionSummary(pl.concat(tables), accuracy, pl.DataFrame(rows, _types(FINDINGS), orient="row"))


@dataclass(frozen=True)
class _Measured:
    """A distribution on one set of tokens, and samples of its documents."""

    sums: pl.DataFrame
    draws: Draws

    @staticmethod
    def of(sums: pl.DataFrame, replicates: int, seed: int) -> "_Measured":
        return _Measured(sums, Draws.of(sums["document"], replicates, seed))

    def totals(self, heads: list[Head], draws: Draws | None = None) -> Totals:
        return totals(self.sums, [*MEANS, POSITIVE, OVERCORRECTED], heads, draws or self.draws)


def beside(one: Draws, other: Draws) -> tuple[Draws, Draws]:
    """The same samples of two independent sets of documents."""

    def stacked(of: Draws, before: int, after: int) -> Draws:
        drawn, left_out = np.split(of.weights, [of.replicates + 1])
        whole = np.ones((1, len(of.documents)), of.weights.dtype)
        weights = np.vstack([drawn, whole.repeat(before, 0), left_out, whole.repeat(after, 0)])
        return Draws(of.documents, weights, of.replicates)

    folds = [len(of.weights) - of.replicates - 1 for of in (one, other)]
    return stacked(one, 0, folds[1]), stacked(other, folds[0], 0)


def spearman(
    one: Float[np.ndarray, "sample head"], other: Float[np.ndarray, "sample head"]
) -> Float[np.ndarray, " sample"]:
    """Rank correlation over heads in each sample; NaN where a head has no value or all heads have the same."""

    def ranks(values: Float[np.ndarray, " head"]) -> Float[np.ndarray, " head"]:
        above = values[:, None] > values
        return (above.sum(1) - above.sum(0)) / 2  # about the middle; equal values share the mean of their ranks

    found = np.full(len(one), np.nan)
    for sample in np.isfinite(one + other).all(1).nonzero()[0]:
        x, y = ranks(one[sample]), ranks(other[sample])
        if size := np.sqrt((x @ x) * (y @ y)):
            found[sample] = x @ y / size
    return found


def _findings(measured: dict[tuple, _Measured], late: list[Head], seed: int) -> list[tuple[Any, ...]]:
    """Distribution, statistic, tokens, value with its interval, and documents of each statistic of the study.

    Args:
        measured: sums of the later heads alone.
    """
    (first, _), base = next(iter(measured.items()))
    odd = pl.col("document").rank("dense") % 2 == 1
    halves = [_Measured.of(base.sums.filter(half), base.draws.replicates, seed) for half in (odd, ~odd)]
    pairs = [(first, f"{first} (halves)", *halves)]
    rows = []
    for (distribution, tokens), of in measured.items():
        label = LABELS[tokens].format(distribution) if (distribution, "answers") in measured else distribution
        share = of.totals(late).grouped(np.ones((len(late), 1))).ratio(["self_repair"], "direct_effect")[0]
        ends = [end[0] for end in (share.value, *share.interval)]
        rows.append((distribution, "share", label, ends, len(of.draws.documents)))
        if of is not base:
            pairs.append((distribution, label, base, of))
    for distribution, label, one, other in pairs:
        draws = beside(one.draws, other.draws)
        n_documents = sum(len(of.documents) for of in draws)
        means = (
            of.totals(late, samples).ratio(["self_repair"]) for of, samples in zip((one, other), draws, strict=True)
        )
        x, y = (mean.samples[..., 0] for mean in means)
        changed = np.where(np.isfinite(x + y), (x > 0) != (y > 0), np.nan).mean(1)
        same, signs = (Estimate(of[:, None], base.draws.replicates) for of in (spearman(x, y), changed))
        for statistic, value, interval in (
            ("rank_correlation", same.value, same.interval),
            ("sign_changes", signs.value, signs.interval_of_heads(len(late))),
        ):
            rows.append((distribution, statistic, label, [end[0] for end in (value, *interval)], n_documents))
    return rows


def _repairers(measured: dict[tuple, _Measured], hand_off: pl.DataFrame, late: list[Head]) -> list[tuple[Any, ...]]:
    """What the strongest later heads make of the repair, and what those of the first distribution make on others."""
    repairs = {
        key: Repairs.of(table, late, measured[key].draws)
        for key, table in hand_off.partition_by("distribution", "tokens", as_dict=True).items()
    }
    base, rows = next(iter(repairs.values())), []
    for (distribution, tokens), of in repairs.items():
        label = LABELS[tokens].format(distribution) if tokens == "answers" else distribution
        even, odd = of.halves()
        found = {"strongest_own": (shares_by_rank([(even, odd), (odd, even)]), len(of.draws.documents))}
        if of is not base:
            draws, others = beside(base.draws, of.draws)
            pairs = [(half, of.drawn(others)) for half in base.drawn(draws).halves()]
            found["strongest_on_first"] = shares_by_rank(pairs), len(draws.documents) + len(others.documents)
        for statistic, (shares, n_documents) in found.items():
            share = Estimate(shares[:, :1], base.draws.replicates)
            ends = [end[0] for end in (share.value, *share.interval)]
            known = ends if ends[2] - ends[1] <= WIDEST else [np.nan] * 3
            rows.append((distribution, statistic, label, known, n_documents))
    return rows


def _describe(labels: dict[str, Any], groups: list[Group], summed: Totals) -> pl.DataFrame:
    """Rows of `DISTRIBUTION_HEADS` of a distribution and set of tokens."""
    counts = {name: summed.counts[name] for name in ("n_tokens", "n_documents")}
    of_group = {name: [getattr(group, name) for group in groups] for name in Group._fields}
    tables = []
    for statistic, quantities, under in (
        ("mean", MEANS, "n"),
        ("share", PARTS, "direct_effect"),
        ("rate", [OVERCORRECTED], POSITIVE),
    ):
        estimate = summed.ratio(quantities, under)
        ends = dict(zip(("value", "low", "high"), (estimate.value, *estimate.interval), strict=True))
        for at, quantity in enumerate(quantities):
            same = labels | {"quantity": quantity, "statistic": statistic}
            columns = of_group | counts | {name: list(map(_known, end[:, at])) for name, end in ends.items()}
            tables.append(frame(columns | {name: [v] * len(groups) for name, v in same.items()}, DISTRIBUTION_HEADS))
    return pl.concat(tables)


def _accuracy(model: str, answers: pl.DataFrame, replicates: int, seed: int) -> pl.DataFrame:
    """`ACCURACY` of every kind of prompts."""
    tables = [empty(ACCURACY)]
    for (distribution,), of in answers.partition_by("distribution", as_dict=True).items():
        draws = Draws.of(of["document"], replicates, seed)
        n_documents = len(draws.documents)
        reported = of["preferred"].has_nulls() or of["preferred"].mean() >= LEAST_PREFERRED
        for statistic in ("preferred", "first"):
            if of[statistic].has_nulls():
                continue  # no alternative
            by_document = of.group_by("document").agg(pl.col(statistic).sum(), n=pl.len()).sort("document")
            right, n = (by_document[name].cast(pl.Float64).to_numpy()[:, None] for name in (statistic, "n"))
            share = ratio_of_sums(right, n, draws)
            low, high = share.interval_of_share(np.full(1, float(n_documents)))
            values = (model, distribution, statistic, share.value[0], low[0], high[0], of.height, n_documents, reported)
            tables.append(pl.DataFrame([values], _types(ACCURACY), orient="row"))
    return pl.concat(tables)


def _types(schema: dict) -> dict:
    return {name: column.dtype for name, column in schema.items()}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
