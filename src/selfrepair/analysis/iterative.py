"""The iterative-inference hypothesis (experiments.md a.15, c.15, pitfall:perturbed-scale): exploratory, as there.

Three questions: does skipping a layer change the next layer's heads as ablating the layer's strongest head does; does
attention do its work already a layer earlier; does a head write less when its own output is already in the stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from selfrepair.analysis.bootstrap import Draws, Estimate, ratio_of_sums
from selfrepair.analysis.by_document import sum_by_document
from selfrepair.analysis.schema import ITERATIVE_SUMMARY, MOVING, REPRESSION, SIMULATED
from selfrepair.core.tables import Column, frame

SETS = ("all", "top")
CHANGES = ("direct_effect", "change_moving", "change_ablating")
SCALES = {"clean": "new_direct_effect", "perturbed": "new_direct_effect_perturbed"}
SQUARES = ("direct_effect_squared", "moved_squared", "direct_effect_moved")
HALF = 0.5  # a share above it is most

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Iterative:
    """Tables of `MOVING`, `SIMULATED`, `REPRESSION` and `ITERATIVE_SUMMARY`."""

    moving: pl.DataFrame
    simulated: pl.DataFrame
    repression: pl.DataFrame
    iterative_summary: pl.DataFrame


def summarise(model: str, moves: pl.DataFrame, additions: pl.DataFrame, replicates: int, seed: int) -> Iterative:
    """Summarise the experiments on one model, with 95 % intervals clustered by document.

    The interval of a correlation over heads is of the text: the heads are held fixed.

    Args:
        moves: rows of `MOVES`.
        additions: rows of `ADDITIONS`.
        replicates: of the bootstrap, whose draws are those of the other experiments.
    """
    draws = Draws.of(moves["document"], replicates, seed)
    rows_of: dict[str, list[Row]] = {"moving": [], "simulated": [], "iterative_summary": []}
    for tokens in SETS:
        of_set = _Moves(moves.filter(tokens=tokens), draws)
        moving, correlations = _moving(tokens, of_set)
        simulated, kept = _simulated(tokens, of_set)
        rows_of["moving"] += moving
        rows_of["simulated"] += simulated
        rows_of["iterative_summary"] += [
            _verdict(f"moving_correlation.{name}.{tokens}", e, 0.0) for name, e in correlations.items()
        ]
        rows_of["iterative_summary"].append(_verdict(f"simulated_kept.{tokens}", kept, HALF))
    repression, judged = _repression(additions, draws)
    rows_of["repression"] = repression
    rows_of["iterative_summary"] += judged
    n_layers = int(moves["layer"].max()) + 1
    labels = {"model": model, "n_layers": n_layers}
    expected = {
        "moving": MOVING,
        "simulated": SIMULATED,
        "repression": REPRESSION,
        "iterative_summary": ITERATIVE_SUMMARY,
    }
    return Iterative(**{name: _frame(rows, labels, expected[name]) for name, rows in rows_of.items()})


class _Moves:
    """Rows of `MOVES` of one set of tokens as arrays, a column per head of the layers 1, 2, ..."""

    def __init__(self, table: pl.DataFrame, draws: Draws) -> None:
        self.draws = draws
        facts = table.select("layer", "head", "ablated_head", "moved_layer_effect").unique().sort("layer", "head")
        self.layer, self.head, self.ablated_head, effect = (facts[name].to_numpy() for name in facts.columns)
        self.marked = self.layer == self.layer[effect.argmax()]
        place = {key: index for index, key in enumerate(facts.select("layer", "head").rows())}
        at = draws.at(table["document"])
        column = [place[key] for key in table.select("layer", "head").rows()]
        self._values = {}
        for name in ("n", "direct_effect", "moved", "ablated", *SQUARES):
            self._values[name] = np.zeros((len(draws.documents), len(place)))
            self._values[name][at, column] = table[name].to_numpy()

    def __getitem__(self, name: str) -> Float[np.ndarray, "document head"]:
        return self._values[name]

    def mean(self, name: str) -> Estimate:
        return ratio_of_sums(self[name], self["n"], self.draws)

    @property
    def counts(self) -> tuple[Int[np.ndarray, " head"], Int[np.ndarray, " head"]]:
        """Tokens and documents behind each head."""
        return self["n"].sum(0).astype(int), (self["n"] > 0).sum(0)

    @property
    def layers(self) -> list[tuple[int, Int[np.ndarray, " member"]]]:
        """Each layer and where its heads are."""
        return [(layer, (self.layer == layer).nonzero()[0]) for layer in np.unique(self.layer).tolist()]


def _moving(tokens: str, moves: _Moves) -> tuple[list[Row], dict[str, Estimate]]:
    """Changes per head, their correlations over the heads of a layer and over all; of these, the two to judge."""
    clean, moved, ablated = (moves.mean(name) for name in ("direct_effect", "moved", "ablated"))
    estimates = dict(zip(CHANGES, (clean, moved - clean, ablated - clean), strict=True))
    n_tokens, n_documents = moves.counts
    rows: list[Row] = []
    for quantity, estimate in estimates.items():
        for index, numbers in enumerate(_numbers(estimate)):
            moved_head = (int(moves.layer[index]) - 1, bool(moves.marked[index]), int(moves.ablated_head[index]))
            counts = int(n_tokens[index]), int(n_documents[index])
            rows.append((*moved_head, int(moves.head[index]), tokens, quantity, *numbers, *counts))
    judged = {}
    for layer, members in [*moves.layers, (None, np.arange(len(moves.layer)))]:
        pair = (estimates[name][members] for name in CHANGES[1:])
        correlation = _correlation(*pair)
        marked = layer is not None and bool(moves.marked[members[0]])
        head = None if layer is None else int(moves.ablated_head[members[0]])
        counts = int(n_tokens[members[0]]), int(n_documents[members[0]])
        if layer is None:  # each layer has its own top tokens
            counts = int(n_tokens[members].mean()), int((moves["n"] > 0).any(1).sum())
        facts = (None if layer is None else layer - 1, marked, head, None, tokens, "correlation")
        rows += [(*facts, *numbers, *counts) for numbers in _numbers(correlation)]
        if layer is None or marked:
            judged["all_layers" if layer is None else "marked_layer"] = correlation
    return rows, judged


def _simulated(tokens: str, moves: _Moves) -> tuple[list[Row], Estimate]:
    """How well attention run a layer earlier gives direct effects: per head, per layer, and over all layers."""
    every = np.arange(len(moves.layer))
    correlation = _token_correlation(moves)
    clean, moved = moves.mean("direct_effect"), moves.mean("moved")
    rows: list[Row] = []
    n_tokens, n_documents = moves.counts

    def add(quantity: str, layer: int, head: int | None, estimate: Estimate, index: Any) -> None:
        counts = int(n_tokens[index]), int(n_documents[index])
        rows.extend((layer, head, tokens, quantity, *numbers, *counts) for numbers in _numbers(estimate))

    for index in every:
        layer, head = int(moves.layer[index]), int(moves.head[index])
        add("token_correlation", layer, head, correlation[index], index)
        add("kept", layer, head, _kept(moves, every[index : index + 1]), index)
    for layer, members in moves.layers:
        add("token_correlation", layer, None, correlation[members].mean(0), members[0])
        add("head_correlation", layer, None, _correlation(clean[members], moved[members]), members[0])
        add("kept", layer, None, _kept(moves, members), members[0])
    return rows, _kept(moves, every)


def _kept(moves: _Moves, members: Int[np.ndarray, " member"]) -> Estimate:
    """Slope through the origin of simulated against true direct effects, tokens of all members together."""
    product, square = (moves[name][:, members].sum(1) for name in ("direct_effect_moved", "direct_effect_squared"))
    return ratio_of_sums(product, square, moves.draws)


def _token_correlation(moves: _Moves) -> Estimate:
    """Correlation over tokens of true and simulated direct effect, per head."""
    x, y, xx, yy, xy = (moves.mean(name) for name in ("direct_effect", "moved", *SQUARES))

    mx, my, mxx, myy, mxy = (e.samples for e in (x, y, xx, yy, xy))
    with np.errstate(divide="ignore", invalid="ignore"):
        return moves.draws.estimate((mxy - mx * my) / np.sqrt((mxx - mx**2) * (myy - my**2)))


def _repression(additions: pl.DataFrame, draws: Draws) -> tuple[list[Row], list[Row]]:
    """Ratio of new to old mean direct effect: per head, over heads, share of heads repressed; and verdicts."""
    heads = additions.select("layer", "head").unique(maintain_order=True).rows()
    variants = additions.partition_by("direction", "strength", as_dict=True, maintain_order=True)
    columns = ["direct_effect", *SCALES.values()]
    sums = {variant: sum_by_document(table, columns, heads, draws) for variant, table in variants.items()}
    rows: list[Row] = []
    verdicts: list[Row] = []
    for scale, column in SCALES.items():
        mean: dict[tuple[str, float], Estimate] = {}
        for (direction, strength), of_heads in sums.items():
            n = of_heads["n"]
            ratio = ratio_of_sums(of_heads[column], of_heads["direct_effect"], draws)
            mean[direction, strength] = ratio.mean(0)
            facts = (direction, strength, scale)
            for index, numbers in enumerate(_numbers(ratio)):
                counts = int(n[:, index].sum()), int((n[:, index] > 0).sum())
                rows.append((*heads[index], *facts, "ratio", *numbers, *counts))
            counts = int(n.sum()), int((n.sum(1) > 0).sum())
            rows += [(None, None, *facts, "ratio", *numbers, *counts) for numbers in _numbers(ratio.mean(0))]
            below = ratio.map(lambda samples: np.where(np.isnan(samples), np.nan, samples < 1).mean(1))
            ends = (float(end) for end in (below.value, *below.interval_of_heads(len(heads))))
            rows.append((None, None, *facts, "share_repressed", *ends, *counts))
        for strength in dict.fromkeys(strength for _, strength in sums):
            own, beyond = mean["own", strength], mean["own", strength] - mean["random", strength]
            n = sums["own", strength]["n"]
            counts = int(n.sum()), int((n.sum(1) > 0).sum())
            beyond_random = (None, None, "own", strength, scale, "ratio_beyond_random")
            rows += [(*beyond_random, *numbers, *counts) for numbers in _numbers(beyond)]
            verdicts.append(_repressed(f"repression_ratio.{scale}_scale.x{strength:g}", own, beyond))
    return rows, verdicts


def _repressed(name: str, own: Estimate, beyond_random: Estimate) -> Row:
    """Judge: for, where the own output lowers the effect, and by more than a random direction; against, if the reverse.

    Both must hold with their whole interval: the ratio against 1, its difference to the control's against 0.
    """
    (value, low, high), (_, below, above) = _numbers(own)[0], _numbers(beyond_random)[0]
    supports = "for" if high < 1 and above < 0 else "against" if low > 1 or below > 0 else "neither"
    return name, value, low, high, supports


def _verdict(name: str, estimate: Estimate, bound: float) -> Row:
    """Judge: for, where the whole interval lies above a bound; against, where it lies below."""
    value, low, high = _numbers(estimate)[0]
    return name, value, low, high, "for" if low > bound else "against" if high < bound else "neither"


def _correlation(x: Estimate, y: Estimate) -> Estimate:
    """Pearson correlation over the items, in every sample."""
    a, b = (e.samples - e.samples.mean(-1, keepdims=True) for e in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Estimate((a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1)), x.replicates)


def _numbers(estimate: Estimate) -> list[tuple[float, float, float]]:
    """Value and ends of the interval of each item."""
    value, low, high = map(np.atleast_1d, (estimate.value, *estimate.interval))
    return [(float(v), float(lo), float(hi)) for v, lo, hi in zip(value, low, high, strict=True)]


def _frame(rows: Sequence[Row], labels: dict[str, Any], schema: dict[str, Column]) -> pl.DataFrame:
    """Rows of a table's columns that are not the same in all of them, in the order of the schema."""
    names = [name for name in schema if name not in labels]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    same = {name: [value] * len(rows) for name, value in labels.items() if name in schema}
    return frame(columns | same, schema)
