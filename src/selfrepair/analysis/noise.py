"""How noisy self-repair is on single tokens, and whose noise it is (experiments.md a.14).

The variance of self-repair has three sources: documents, tokens of a document, and partners, the rows whose activations
replace a head's. They are told apart by halves of mean squared differences y - y' of pairs (U-statistics):

    of a token, with different partners         variance_partner
    of a document, with different partners      variance_partner + variance_token
    of different documents                      variance_partner + variance_token + variance_document

which is unbiased whatever the numbers of tokens, and where some documents vary more than others: the means of a
document count in the first two lines as often as its tokens do in the third. Documents with a single token say nothing
of what varies within, and are left out. Tokens of a row that share a partner are never paired, as the analysis of
variance would: what a partner does to a whole row alike would count as the document's.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.analysis.bootstrap import Draws, Estimate
from selfrepair.analysis.by_document import (
    Grouping,
    Selection,
    Totals,
    counted,
    group_heads,
    top_totals,
    totals,
)
from selfrepair.analysis.schema import NOISE
from selfrepair.core.tables import frame

ZONES = ["overcorrected", "repaired", "broken"]
COMPONENTS = ["document", "token", "partner"]
READ = ["layer", "head", "document", "selected", "control", "rank", "direct_effect", "delta_logit"]


def noise_of_files(
    model: str,
    tokens: list[Path],
    clean: list[Path],
    partners: pl.DataFrame,
    top_fraction: float,
    replicates: int,
    seed: int,
) -> pl.DataFrame:
    """`summarise_noise` of the Parquet files of token rows and clean tokens; only the columns needed are read."""
    n_layers = pl.read_parquet_schema(tokens[0])["repair_mlp_by_layer"].size
    documents = pl.read_parquet(clean, columns=["document"])["document"]
    selection = Selection.of(documents, top_fraction, replicates, seed)
    return summarise_noise(model, n_layers, pl.read_parquet(tokens, columns=READ), partners, selection)


def summarise_noise(
    model: str, n_layers: int, tokens: pl.DataFrame, partners: pl.DataFrame, selection: Selection
) -> pl.DataFrame:
    """Rates of overcorrection of every head and of groups of heads, and variance components of some (`NOISE`).

    Args:
        tokens: token rows of resample ablation, with the columns `READ` (`ablated_tokens`).
        partners: `PARTNERS`; of these tokens the top ones are those of the run in every replicate.
        selection: of the top tokens, in samples of all documents of the run.
    """
    heads = sorted(tokens.select("layer", "head").unique().rows())
    grouping = group_heads(heads, n_layers)
    labels = {"model": model, "n_layers": n_layers}
    rows = _in_zones(tokens)
    columns = ["positive", *ZONES]
    positive = rows.filter("positive")
    of_top, control = (
        totals(positive.filter(flag), columns, heads, selection.draws) for flag in ("selected", "control")
    )
    top = replace(top_totals(rows, columns, heads, selection), tokens=of_top.tokens)
    tables = [_zones(labels | {"tokens": name}, of, grouping) for name, of in (("top", top), ("control", control))]
    for name, of_set in (("partners", partners), ("partners top", partners.filter("selected"))):
        for (layer, head), of_head in of_set.sort("layer", "head").group_by("layer", "head", maintain_order=True):
            described = labels | {"tokens": name, "heads": "one", "layer": layer, "head": head}
            tables.append(_components(described, of_head, selection.draws))
    return pl.concat(tables)


def _in_zones(tokens: pl.DataFrame) -> pl.DataFrame:
    """Where tokens with a positive direct effect lie: above zero, between zero and y = -x, on or below that line."""
    effect, change = pl.col("direct_effect"), pl.col("delta_logit")
    zones = {"overcorrected": change > 0, "repaired": (change <= 0) & (change > -effect), "broken": change <= -effect}
    return tokens.with_columns(positive=effect > 0, **{name: (effect > 0) & zone for name, zone in zones.items()})


def _zones(labels: dict[str, Any], of_heads: Totals, grouping: Grouping) -> pl.DataFrame:
    of_groups = of_heads.grouped(grouping.members)
    shares, counts = of_groups.ratio(ZONES, "positive"), of_groups.counts
    low, high = shares.interval_of_share(np.repeat(counts["n_effective"][:, None], len(ZONES), axis=1))
    rows = []
    for column, zone in enumerate(ZONES):
        numbers = zip(*(ends[:, column] for ends in (shares.value, low, high)), *counts.values(), strict=True)
        rows += [(*group, zone, *values) for group, values in zip(grouping.groups, numbers, strict=True)]
    return _table(labels, ["heads", "layer", "head"], rows)


def _components(labels: dict[str, Any], of_head: pl.DataFrame, draws: Draws) -> pl.DataFrame:
    values = of_head.pivot("partner", index=["row", "pos", "document"], values="self_repair", sort_columns=True)
    documents = draws.at(values["document"])
    counts = counted(np.bincount(documents, minlength=len(draws.documents))[:, None].astype(np.float64))
    matrix = values.drop("row", "pos", "document").to_numpy().astype(np.float64)
    estimate = variance_components(matrix, documents, draws)
    low, high = estimate.interval
    names = [f"variance_{name}" for name in COMPONENTS] + ["variance"] + [f"share_{name}" for name in COMPONENTS]
    same = [count[0] for count in counts.values()]
    rows = [(name, *numbers, *same) for name, *numbers in zip(names, estimate.value, low, high, strict=True)]
    return _table(labels, [], rows)


def _table(labels: dict[str, Any], index: list[str], rows: list[tuple]) -> pl.DataFrame:
    names = [*index, "quantity", "value", "low", "high", "n_tokens", "n_documents", "n_effective"]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    counts = {name: [int(count) for count in columns[name]] for name in ("n_tokens", "n_documents")}
    same = {name: [value] * len(rows) for name, value in labels.items()}
    return frame(columns | counts | same, NOISE)


def variance_components(
    values: Float[np.ndarray, "token partner"], documents: Int[np.ndarray, " token"], draws: Draws
) -> Estimate:
    """Split the variance of values between documents, tokens and partners, without bias.

    Args:
        documents: of each token, as columns of the draws' weights.

    Returns:
        seven items: the variances by document, token and partner (unit of the values squared), their sum, and the
        share of each. An estimate below zero says that the component is small. A replicate draws whole documents;
        copies of one document are not paired with each other. NaN where there are no pairs: with fewer than two
        documents of two tokens or more.
    """
    between, within, repeated = _pairs(values - values.mean(), documents, draws.weights.astype(np.float64))
    parts = np.stack([between - within, within - repeated, repeated], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        items = np.hstack([parts, between[:, None], parts / between[:, None]])
    return draws.estimate(items)


def _pairs(
    values: Float[np.ndarray, "token partner"],
    documents: Int[np.ndarray, " token"],
    weights: Float[np.ndarray, "replicate document"],
) -> tuple[Float[np.ndarray, " replicate"], ...]:
    """Mean halved squared differences of pairs, in each replicate.

    Returns:
        of different documents; of a document, with other token and partner; of a token, with other partner.
    """
    n_documents, partners = weights.shape[1], values.shape[1]

    def by_document(of_token: Float[np.ndarray, " token"]) -> Float[np.ndarray, " document"]:
        return np.bincount(documents, of_token, minlength=n_documents)

    n = by_document(np.ones(len(values)))
    squares = by_document(np.square(values).sum(1))
    total = by_document(values.sum(1))
    of_tokens = by_document(np.square(values.sum(1)))  # sums over partners, squared
    of_partners = sum(np.square(by_document(column)) for column in values.T)  # sums over tokens, squared
    products = np.square(total) - of_partners - of_tokens + squares

    drawn = np.where(n > 1, weights, 0)
    tokens = drawn * n
    others = tokens.sum(1, keepdims=True) - tokens  # tokens of the other documents
    pairs = tokens * others
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (
            partners * (drawn * others * squares).sum(1)
            - (np.square(drawn @ total) - np.square(drawn) @ np.square(total))
        ) / (partners**2 * pairs.sum(1))
        within = ((n - 1) * (partners - 1) * squares - products) / (n * (n - 1) * partners * (partners - 1))
        repeated = (partners * squares - of_tokens) / (n * partners * (partners - 1))
        means = [pairs @ np.where(n > 1, each, 0) / pairs.sum(1) for each in (within, repeated)]
    return between, *means
