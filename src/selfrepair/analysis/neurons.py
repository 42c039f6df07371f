"""Which neurons repair: how few, how large a part, and whether by erasing less (experiments.md a.12).

Denominators are named: `repair_mlp` sums all MLPs, as the original's does though it scores the last MLP's neurons alone
(pitfall:last-mlp-only); `mlp_change` is of the one MLP whose neurons are looked at. Counts are of the tokens themselves
(pitfall:top-count), and the clean direct effect of an MLP is called clean (pitfall:colour-label).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from selfrepair.ablation.neuron_tables import SETS
from selfrepair.ablation.schema_neurons import FREQUENT_RANKS, LISTED_NEURONS
from selfrepair.analysis.bootstrap import Draws, Estimate, effective, median, ratio_of_sums
from selfrepair.analysis.schema_neurons import (
    ERASURE_NEURONS,
    NEURON_CUMULATIVE,
    NEURON_FREQUENCY,
    NEURON_HISTOGRAMS,
    NEURON_SHARES,
    NEURON_SPARSITY,
)
from selfrepair.core.tables import Column, empty, frame
from selfrepair.tokens.contexts import CONTEXTS, Decode, context
from selfrepair.tokens.rows import token_matrix
from selfrepair.tokens.tokenizer import decoder

THRESHOLDS = (0.5, 0.1, 0.05, 0.025, 0.01)  # of the head's direct effect
FREQUENT = 20  # neurons of each head and MLP whose frequency is summarised
ERASURE = 5  # erasure neurons listed of each head
BINS = {  # upper end and number of bins of each histogram; values are clipped to the range
    "mlp_share": (1.0, 20),
    "top_percent_share": (1.0, 20),
    "top_5_share": (3.0, 30),
    "top_5_share_of_layer": (3.0, 30),
}
SHARES = {  # numerator, and the denominator, which has to be positive
    "mlp_share": ("repair_mlp", "self_repair"),
    "top_percent_share": ("top_percent_change", "positive_change"),
    "top_5_share": ("top_5_change", "repair_mlp"),
    "top_5_share_of_layer": ("top_5_change", "mlp_change"),
}


@dataclass(frozen=True)
class NeuronSummary:
    """Tables of `NEURON_SPARSITY`, `NEURON_HISTOGRAMS`, `NEURON_SHARES`, `NEURON_CUMULATIVE`,
    `NEURON_FREQUENCY` and `ERASURE_NEURONS`."""

    sparsity: pl.DataFrame
    histograms: pl.DataFrame
    shares: pl.DataFrame
    cumulative: pl.DataFrame
    frequency: pl.DataFrame
    erasure: pl.DataFrame


@dataclass(frozen=True)
class _Tokens:
    """Tokens of one head, MLP and set.

    Attributes:
        rows: of `NEURON_TOKENS`.
        document: of each row, as columns of the draws' weights.
        draws: shared by all; the choice of the tokens is held fixed.
    """

    labels: dict[str, Any]
    rows: pl.DataFrame
    document: Int[np.ndarray, " token"]
    draws: Draws

    def __getitem__(self, name: str) -> Float[np.ndarray, " token *listed"]:
        return self.rows[name].to_numpy()

    def where(self, kept: Bool[np.ndarray, " token"]) -> "_Tokens":
        return _Tokens(self.labels, self.rows.filter(kept), self.document[kept], self.draws)

    def mean(self, values: Float[np.ndarray, "token item"]) -> Estimate:
        """Mean over tokens; documents are drawn whole."""
        sums = np.zeros((len(self.draws.documents), values.shape[1]))
        np.add.at(sums, self.document, values)
        return ratio_of_sums(sums, self.counts[:, None], self.draws)

    @property
    def counts(self) -> Float[np.ndarray, " document"]:
        """Tokens of each document."""
        return np.bincount(self.document, minlength=len(self.draws.documents)).astype(np.float64)

    def table(
        self, schema: dict[str, Column], estimate: Estimate, columns: Mapping[str, Any], share: bool = True
    ) -> pl.DataFrame:
        """A table of an estimate, one row per item; `share` if items are shares of tokens."""
        independent = np.full(estimate.value.shape, effective(self.counts))
        low, high = estimate.interval_of_share(independent) if share else estimate.interval
        size = len(estimate.value)
        same = self.labels | {"n_tokens": len(self.rows), "n_documents": len(np.unique(self.document))}
        same = {name: [value] * size for name, value in same.items() if name in schema and name not in columns}
        return frame(same | dict(columns) | {"value": estimate.value, "low": low, "high": high}, schema)


def neurons_of_files(
    model: str,
    tokens: pl.DataFrame,
    neurons: pl.DataFrame,
    ranks: pl.DataFrame,
    sampled: pl.DataFrame,
    tokenizer: Path,
    replicates: int,
    seed: int,
) -> NeuronSummary:
    """`summarise_neurons`, with contexts in the words of the tokenizer in a directory."""
    return summarise_neurons(model, tokens, neurons, ranks, sampled, decoder(tokenizer), replicates, seed)


def summarise_neurons(
    model: str,
    tokens: pl.DataFrame,
    neurons: pl.DataFrame,
    ranks: pl.DataFrame,
    sampled: pl.DataFrame,
    decode: Decode,
    replicates: int,
    seed: int,
) -> NeuronSummary:
    """Summarise the neurons of every head, MLP and set of tokens, with 95 % intervals clustered by document.

    Args:
        tokens, neurons, ranks: of `neuron_run.NeuronRun`.
        sampled: `TOKENS` of the run; documents are drawn from all of it, and contexts read.
        decode: tokens to text.
    """
    draws = Draws.of(sampled.filter(pl.col("pos") > 0)["document"], replicates, seed)
    matrix = token_matrix(sampled)
    tables: dict[str, list[pl.DataFrame]] = {
        "sparsity": [empty(NEURON_SPARSITY)],
        "histograms": [empty(NEURON_HISTOGRAMS)],
        "shares": [empty(NEURON_SHARES)],
        "cumulative": [empty(NEURON_CUMULATIVE)],
        "frequency": [empty(NEURON_FREQUENCY)],
        "erasure": [empty(ERASURE_NEURONS)],
    }
    for (layer, head), of_head in tokens.group_by("layer", "head", maintain_order=True):
        for name in SETS:
            frequencies = []
            key = {"layer": layer, "head": head, "token_set": name}
            in_set = of_head.filter(f"by_{name}")
            for (mlp_layer,), rows in in_set.group_by("mlp_layer", maintain_order=True):
                labels = {"model": model, "mlp_layer": mlp_layer} | key
                group = _Tokens(labels, rows, draws.at(rows["document"]), draws)
                of_mlp = key | {"mlp_layer": mlp_layer}
                tables["sparsity"].append(_sparsity(group))
                per_share = [_histogram(group, share) for share in SHARES]
                tables["histograms"] += [histogram for histogram, _ in per_share]
                tables["shares"] += [mean for _, mean in per_share] + _first_ranked(group)
                tables["cumulative"].append(_cumulative(group, ranks.filter(**of_mlp)))
                frequencies.append((group, neurons.filter(**of_mlp)))
                tables["frequency"].append(_frequency(*frequencies[-1]))
            tables["erasure"].append(_erasure(frequencies, matrix, decode))
    return NeuronSummary(**{name: pl.concat(parts) for name, parts in tables.items()})


def _sparsity(group: _Tokens) -> pl.DataFrame:
    """Share of tokens on which the neuron at a rank repairs more than a threshold of the head's direct effect."""
    change, effect = group["neuron_change"], group["direct_effect"]
    above = [change > threshold * effect[:, None] for threshold in THRESHOLDS]
    return group.table(
        NEURON_SPARSITY,
        group.mean(np.concatenate(above, 1).astype(float)),
        {
            "threshold": np.repeat(THRESHOLDS, LISTED_NEURONS),
            "rank": np.tile(np.arange(LISTED_NEURONS), len(THRESHOLDS)),
        },
    )


def _histogram(group: _Tokens, share: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Distribution of a share over the tokens whose denominator is positive, and its mean, both clipped."""
    over, under = SHARES[share]
    top, bins = BINS[share]
    group = group.where(group[under] > 0)
    values = np.clip(group[over].astype(float) / group[under], 0, top)
    edges = np.linspace(0, top, bins + 1)
    place = np.minimum((values / top * bins).astype(int), bins - 1)
    shares = group.mean(np.eye(bins)[place])
    quantity = {"quantity": [share] * bins, "bin_low": edges[:-1], "bin_high": edges[1:]}
    histogram = group.table(NEURON_HISTOGRAMS, shares, quantity)
    return histogram, group.table(NEURON_SHARES, group.mean(values[:, None]), {"quantity": [share]}, share=False)


def _first_ranked(group: _Tokens) -> list[pl.DataFrame]:
    """What the neuron that changes most is like, and how much of what neurons add others take away."""
    direct, change = group["neuron_direct_effect"][:, 0], group["neuron_change"][:, 0]
    shares = {"first_erasing": direct < 0, "first_anti_erasing": (direct < 0) & (change > 0)}
    tables = [
        group.table(NEURON_SHARES, group.mean(ranked_first[:, None].astype(float)), {"quantity": [name]})
        for name, ranked_first in shares.items()
    ]
    net = group.where(group["mlp_change"] != 0)
    ratio = net["positive_change"].astype(float) / net["mlp_change"]
    if len(ratio):
        middle = median(ratio, net.draws.weights.T[net.document])
        estimate = net.draws.estimate(middle[:, None])
        tables.append(net.table(NEURON_SHARES, estimate, {"quantity": ["median_positive_over_net"]}, share=False))
    return tables


def _cumulative(group: _Tokens, ranks: pl.DataFrame) -> pl.DataFrame:
    """Cumulative share by rank; of the listed neurons with an interval."""
    changed = group.where(group["absolute_change"] > 0)
    sizes = np.abs(changed["neuron_change"].astype(float)).cumsum(1) / changed["absolute_change"][:, None]
    low, high = changed.mean(sizes).interval
    listed = min(LISTED_NEURONS, len(ranks))
    missing = [None] * (len(ranks) - listed)
    columns = {name: ranks[name] for name in ("rank", "n_tokens", "median_direct_effect")}
    columns |= {"value": ranks["cumulative_share"]}
    columns |= {"low": [*low[:listed].tolist(), *missing], "high": [*high[:listed].tolist(), *missing]}
    same = {name: [value] * len(ranks) for name, value in group.labels.items()}
    return frame(same | columns, NEURON_CUMULATIVE)


def _frequency(group: _Tokens, neurons: pl.DataFrame) -> pl.DataFrame:
    """The neurons that are most often among those that change most; of equals the earlier."""
    often = neurons.sort("top_10", descending=True, maintain_order=True).head(FREQUENT)
    return group.table(
        NEURON_FREQUENCY,
        group.mean(_among_first(group, often["neuron"].to_numpy())),
        {name: often[name] for name in ("neuron", "first", "direct_effect", "change", "anti_erasing")}
        | {"place": np.arange(len(often))},
    )


def _among_first(group: _Tokens, neurons: Int[np.ndarray, " neuron"]) -> Float[np.ndarray, "token neuron"]:
    listed = group["neuron"][:, :FREQUENT_RANKS]
    return (listed[:, :, None] == neurons).any(1).astype(float)


def _erasure(
    mlps: list[tuple[_Tokens, pl.DataFrame]], matrix: Int[np.ndarray, "row pos"], decode: Decode
) -> pl.DataFrame:
    """Neurons of any of the MLPs that erase on average, by falling mean change, with the tokens they change most on."""
    if not mlps:
        return empty(ERASURE_NEURONS)
    groups = {group.labels["mlp_layer"]: group for group, _ in mlps}
    erasing = pl.concat([neurons for _, neurons in mlps]).filter((pl.col("direct_effect") < 0) & (pl.col("change") > 0))
    tables = [empty(ERASURE_NEURONS)]
    for place, neuron in enumerate(
        erasing.sort("change", descending=True, maintain_order=True).head(ERASURE).to_dicts()
    ):
        group = groups[neuron["mlp_layer"]]
        frequency = group.mean(_among_first(group, np.array([neuron["neuron"]])))
        shown = _contexts(group, neuron["neuron"], matrix, decode)
        columns = {name: [neuron[name]] for name in ("neuron", "direct_effect", "anti_erasing")}
        columns |= {"place": [place], "ablated_direct_effect": [neuron["direct_effect"] + neuron["change"]]}
        columns |= {f"context_{i + 1}": [shown[i] if i < len(shown) else None] for i in range(CONTEXTS)}
        tables.append(group.table(ERASURE_NEURONS, frequency, columns))
    return pl.concat(tables)


def _contexts(group: _Tokens, neuron: int, matrix: Int[np.ndarray, "row pos"], decode: Decode) -> list[str]:
    """The tokens on which a neuron changes most, among those whose row lists it; largest change first."""
    token, rank = np.nonzero(group["neuron"] == neuron)
    largest = np.argsort(-group["neuron_change"][token, rank], kind="stable")[:CONTEXTS]
    places = group.rows.select("row", "pos").rows()
    return [context(matrix[row], pos, decode) for row, pos in (places[token[index]] for index in largest)]
