"""What is kept of single neurons: a row per token, sums over each set of tokens, and profiles by rank.

On every token neurons are ranked anew by their change, largest first (experiments.md a.12), so that the neuron of a
rank differs from token to token.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfrepair.ablation.effects import TokenEffects
from selfrepair.ablation.neuron_recorder import NeuronEffects
from selfrepair.ablation.schema_neurons import FREQUENT_RANKS, LISTED_NEURONS, NEURON_RANKS, NEURON_TOKENS, NEURONS
from selfrepair.core.tables import Column, empty, frame

SETS = ("direct_effect", "top_mlp_repair")
MEDIAN_TOKENS = 2000  # of a set at most, spread evenly over it: medians need all values at once
SUMS = ("direct_effect", "change", "top_10", "first", "erasing", "anti_erasing")


class NeuronTables:
    """Collects the neurons' effects of some heads and MLPs, batch by batch."""

    def __init__(
        self,
        heads: list[tuple[int, int]],
        layers: list[int],
        sets: dict[str, Bool[Tensor, "head row pos"]],
        documents: Int[Tensor, "row pos"],
        d_mlp: int,
    ) -> None:
        self.heads, self.layers, self.sets, self.documents, self.d_mlp = heads, layers, sets, documents, d_mlp
        self._sampled = {name: torch.stack([_spread_evenly(chosen) for chosen in sets[name]]) for name in SETS}
        self._tables = [empty(NEURON_TOKENS)]
        self._sets: dict[tuple[int, int, str], _SetSums] = {}

    @property
    def nbytes(self) -> int:
        """Of everything kept in the end."""
        pairs = len(self.heads) * len(self.layers)
        tokens = sum(int(chosen.sum()) for chosen in self.sets.values()) * len(self.layers)
        sampled = sum(int(chosen.sum()) for chosen in self._sampled.values()) * len(self.layers)
        sums = pairs * len(SETS) * (len(SUMS) + 1) * self.d_mlp * 8
        return tokens * 4 * (3 * LISTED_NEURONS + 18) + 2 * sampled * self.d_mlp * 4 + sums

    def add(
        self,
        m: TokenEffects,
        layer: int,
        effects: NeuronEffects,
        at: tuple[Int[Tensor, " wanted"], Int[Tensor, " wanted"], Int[Tensor, " wanted"]],
    ) -> None:
        """Take in the neurons of one MLP.

        Args:
            at: head (as in `heads`), row and position of each token.
        """
        order = effects.change.argsort(dim=1, descending=True, stable=True)
        change, direct = effects.change.gather(1, order), effects.direct_effect.gather(1, order)
        self._tables.append(self._token_rows(m, layer, effects, at, order, change, direct))
        sizes = change.abs().cumsum(1)
        for head in at[0].unique().tolist():
            for name in SETS:
                within = self.sets[name][at] & (at[0] == head)
                if within.any():
                    key = (head, layer, name)
                    if key not in self._sets:
                        self._sets[key] = _SetSums(self.d_mlp, change.device)
                    here = within.to(change.device)
                    sampled = (within & self._sampled[name][at]).to(change.device)
                    self._sets[key].add(effects, order, sizes, direct, here, sampled)

    def tokens(self) -> pl.DataFrame:
        """Rows of `NEURON_TOKENS`, sorted."""
        return pl.concat(self._tables).sort("layer", "head", "mlp_layer", "row", "pos")

    def neurons(self) -> pl.DataFrame:
        """Rows of `NEURONS`."""
        return self._by_set(NEURONS, "neuron", lambda sums: sums.means())

    def ranks(self) -> pl.DataFrame:
        """Rows of `NEURON_RANKS`."""
        return self._by_set(NEURON_RANKS, "rank", lambda sums: sums.profile())

    def _by_set(self, schema: dict[str, Column], index: str, describe: Callable[["_SetSums"], dict]) -> pl.DataFrame:
        tables = [empty(schema)]
        for (head, layer, name), sums in sorted(self._sets.items()):
            keys = dict(zip(("layer", "head"), self.heads[head], strict=True)) | {"mlp_layer": layer, "token_set": name}
            columns = {key: [value] * self.d_mlp for key, value in keys.items()}
            tables.append(frame(columns | {index: np.arange(self.d_mlp)} | describe(sums), schema))
        return pl.concat(tables)

    def _token_rows(
        self,
        m: TokenEffects,
        layer: int,
        effects: NeuronEffects,
        at: tuple[Tensor, Tensor, Tensor],
        order: Int[Tensor, "wanted d_mlp"],
        change: Float[Tensor, "wanted d_mlp"],
        direct: Float[Tensor, "wanted d_mlp"],
    ) -> pl.DataFrame:
        token = effects.token.to(m.logit.device)
        head, row, pos = at
        place = torch.tensor(self.heads)[head]
        columns = {
            "layer": place[:, 0],
            "head": place[:, 1],
            "mlp_layer": torch.full((len(head),), layer),
            "row": row,
            "pos": pos,
            "document": self.documents[row, pos],
            "by_direct_effect": self.sets["direct_effect"][at],
            "by_top_mlp_repair": self.sets["top_mlp_repair"][at],
            "direct_effect": m.direct_effect[token],
            "self_repair": m.self_repair[token],
            "repair_mlp": m.repair_mlp[token].sum(1),
            "mlp_direct_effect": effects.direct_effect.sum(1) + effects.bias,
            "mlp_change": effects.change.sum(1),
            "positive_change": change.clamp(min=0).sum(1),
            "absolute_change": change.abs().sum(1),
            "top_percent_change": change[:, : max(1, self.d_mlp // 100)].sum(1),
            "top_5_change": change[:, :5].sum(1),
            "harmful_direct_effect": direct[:, -1],
            "harmful_change": change[:, -1],
            "neuron": _listed(order, -1),
            "neuron_direct_effect": _listed(direct, torch.nan),
            "neuron_change": _listed(change, torch.nan),
        }
        return frame({name: c.cpu().numpy() for name, c in columns.items()}, NEURON_TOKENS)


class _SetSums:
    """Sums over the tokens of one head, MLP and set."""

    def __init__(self, d_mlp: int, device: torch.device) -> None:
        self.n, self.n_changed = 0, 0
        self.sums = {name: torch.zeros(d_mlp, dtype=torch.float64, device=device) for name in SUMS}
        self.cumulative = torch.zeros(d_mlp, dtype=torch.float64, device=device)
        self.sampled: list[Float[Tensor, "token d_mlp"]] = []

    def add(
        self,
        effects: NeuronEffects,
        order: Int[Tensor, "wanted d_mlp"],
        sizes: Float[Tensor, "wanted d_mlp"],
        ranked: Float[Tensor, "wanted d_mlp"],
        here: Bool[Tensor, " wanted"],
        sampled: Bool[Tensor, " wanted"],
    ) -> None:
        """Take in the tokens that are `here`.

        Args:
            order: neurons of each token by falling change.
            sizes: sum of |change| up to each rank.
            ranked: clean direct effects in that order.
            sampled: tokens that medians are taken of.
        """
        direct, change, d_mlp = effects.direct_effect[here], effects.change[here], order.shape[1]
        often = order[here, :FREQUENT_RANKS]
        erasing = direct < 0
        sums = {
            "direct_effect": direct.double().sum(0),
            "change": change.double().sum(0),
            "top_10": torch.bincount(often.flatten(), minlength=d_mlp),
            "first": torch.bincount(often[:, 0], minlength=d_mlp),
            "erasing": erasing.sum(0),
            "anti_erasing": (erasing & (change > 0)).sum(0),
        }
        for name, total in sums.items():
            self.sums[name] += total
        changed = here & (sizes[:, -1] > 0)
        self.cumulative += (sizes[changed] / sizes[changed, -1:]).double().sum(0)
        self.n += int(here.sum())
        self.n_changed += int(changed.sum())
        self.sampled.append(ranked[sampled & (sizes[:, -1] > 0)].float().cpu())

    def means(self) -> dict[str, Float[np.ndarray, " d_mlp"] | list[int]]:
        sums = {name: (total / self.n).cpu().numpy() for name, total in self.sums.items()}
        return sums | {"n_tokens": [self.n] * len(self.cumulative)}

    def profile(self) -> dict[str, Float[np.ndarray, " d_mlp"] | list[int]]:
        sampled = torch.cat(self.sampled)
        median = sampled.median(0).values if len(sampled) else torch.full((len(self.cumulative),), torch.nan)
        return {
            "n_tokens": [self.n_changed] * len(self.cumulative),
            "cumulative_share": (self.cumulative / self.n_changed).cpu().numpy(),
            "median_direct_effect": median.numpy(),
        }


def _spread_evenly(chosen: Bool[Tensor, "row pos"]) -> Bool[Tensor, "row pos"]:
    """At most `MEDIAN_TOKENS` of the chosen tokens, evenly from first to last."""
    places = chosen.flatten().nonzero()[:, 0]
    kept = torch.zeros(chosen.numel(), dtype=torch.bool)
    step = max(1, -(-len(places) // MEDIAN_TOKENS))
    kept[places[::step]] = True
    return kept.view(chosen.shape)


def _listed(ranked: Float[Tensor, "wanted d_mlp"] | Int[Tensor, "wanted d_mlp"], missing: float) -> Tensor:
    """The first `LISTED_NEURONS` columns, filled up where there are fewer."""
    listed = ranked.new_full((len(ranked), LISTED_NEURONS), missing)
    count = min(LISTED_NEURONS, ranked.shape[1])
    listed[:, :count] = ranked[:, :count]
    return listed
