"""Does repair look like adaptation, or like an artefact of unusual streams? (config/studies/architecture.yaml)"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.ablation.schema_family import FAR, NEAR, OTHER, THIRDS
from selfrepair.analysis.arms import FEWEST, multi_bootstrap
from selfrepair.analysis.bootstrap import Draws, ratio
from selfrepair.analysis.schema_family import EVIDENCE
from selfrepair.core.tables import frame

OF_THIRD = ("nearest third", "middle third", "farthest third")
OF_DISPLACED = ("least displaced", "less displaced", "most displaced")
OF_REMOVED = {"repair": "self_repair", "norm": "repair_norm", "own_norm": "repair_norm_own"}
Samples = Float[np.ndarray, " sample"]


class What(NamedTuple):
    """What a number is of; columns of `EVIDENCE`."""

    statistic: str
    of: str
    tokens: str = "top"
    layer: int | None = None


def weigh_adaptation(folders: list[Path], replicates: int, seed: int) -> pl.DataFrame:
    """Statistics of every seed, and their means over seeds where there are `FEWEST` or more (`EVIDENCE`).

    Args:
        folders: of `ablation.adaptation.measure_adaptation`.
        replicates: of the bootstrap.
    """
    names = [int(folder.name.rsplit("-", 1)[1]) for folder in folders]
    displaced, losses = (
        [pl.read_parquet(folder / f"{name}.parquet") for folder in folders] for name in ("displaced", "losses")
    )
    draws = Draws.of(pl.concat(displaced)["document"], replicates, seed)
    found: list[dict[What, Samples]] = [dict(_of_streams(table, draws)) for table in displaced]
    guesses = [math.log(json.loads((folder / "adaptation.json").read_text())["d_vocab"]) for folder in folders]
    for (distribution,), of in pl.concat(losses).group_by("distribution", maintain_order=True):
        draws_of = Draws.of(of["document"], replicates, seed)
        for seeds, table, guess in zip(found, losses, guesses, strict=True):
            seeds |= _of_losses(str(distribution), table.filter(distribution=distribution), draws_of, guess)
    rows: list[tuple] = []
    for what in found[0]:
        samples = np.stack([of_seed[what] for of_seed in found], 1)
        estimate = draws.estimate(samples)
        rows += [(*what, *row) for row in zip(names, estimate.value, *estimate.interval, strict=True)]
        if len(folders) >= FEWEST:
            (value,), (half,) = multi_bootstrap(samples[..., None], replicates, seed)
            rows.append((*what, None, value, value - half, value + half))
    return frame(dict(zip(EVIDENCE, zip(*rows, strict=True), strict=True)), EVIDENCE)


def _of_streams(table: pl.DataFrame, draws: Draws) -> Iterator[tuple[What, Samples]]:
    n_layers = table["layer"].max() + 1
    late = table.filter(2 * pl.col("layer") >= n_layers)
    for (replacement,), rows in table.group_by("replacement", maintain_order=True):
        for layer in (None, *range(n_layers)):
            of = late.filter(replacement=replacement) if layer is None else rows.filter(layer=layer)
            place = {"of": str(replacement), "layer": layer}
            yield What("distance", **place), _ratio(of, "ablated_distance", "clean_distance", draws)
            yield What("relative_change", **place), _ratio(of, "relative_change", "n", draws)
            for statistic, part in OF_REMOVED.items():
                yield What(statistic, **place), _ratio(of, part, "removed", draws)
    near, far = (late.filter(replacement=name) for name in (NEAR, FAR))
    for of_what, over, under in (
        ("repair", "self_repair", "removed"),
        ("distance", "ablated_distance", "clean_distance"),
    ):
        yield What("far_minus_near", of_what), _ratio(far, over, under, draws) - _ratio(near, over, under, draws)
    for by, names, statistic in (
        ("third", OF_THIRD, "last_minus_first_third"),
        ("third_displaced", OF_DISPLACED, "most_minus_least_displaced_third"),
    ):
        rows = [late.filter(pl.col(by) == third, replacement=OTHER) for third in range(THIRDS)]
        thirds = [_ratio(of, "self_repair", "removed", draws) for of in rows]
        for name, samples in zip(names, thirds, strict=True):
            yield What("repair", name), samples
        yield What(statistic, OTHER), thirds[-1] - thirds[0]


def _of_losses(distribution: str, table: pl.DataFrame, draws: Draws, guess: float) -> dict[What, Samples]:
    wide = table.with_columns(
        saved=pl.col("loss_without_repair") - pl.col("ablated_loss"),
        cost=pl.col("loss_without_repair") - pl.col("loss"),
        gain=guess * pl.col("n") - pl.col("loss"),
    )
    return {
        What(statistic, distribution, tokens): _ratio(wide.filter(tokens=tokens), of, "n", draws)
        for tokens in ("top", "all")
        for statistic, of in (("loss_saved", "saved"), ("cost_without_repair", "cost"), ("gain_on_guessing", "gain"))
    }


def _ratio(table: pl.DataFrame, numerator: str, denominator: str, draws: Draws) -> Samples:
    """Ratio of sums over documents, on every sample of them."""
    sums = table.group_by("document", maintain_order=True).agg(pl.col(numerator).sum(), pl.col(denominator).sum())
    over, under = (sums[name].cast(pl.Float64).to_numpy() for name in (numerator, denominator))
    weights = draws.weights[:, draws.at(sums["document"])]
    return ratio(weights @ over, weights @ under)
