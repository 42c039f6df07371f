"""What one architectural feature does to self-repair: arms of a controlled family against its base, seed by seed.

Seed k of an arm saw the same rows of text in the same order as seed k of the base, so differences are paired. Their
interval is a multi-bootstrap (Sellam et al. 2022, arXiv:2106.16163): a replicate draws documents and seeds anew. Of S
seeds it draws S - 1, which makes its variance that of a mean of S (Rao and Wu 1988), and the interval takes Student's t
with S - 1 degrees of freedom, as there are few seeds. A second interval takes the variance between seeds from all
trainings (a randomised block design, with seeds as blocks): it is narrower, and right if all arms vary alike.
"""

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from selfrepair.ablation.schema_family import SHUFFLED, TRAINED
from selfrepair.analysis.bootstrap import Draws, Estimate, ratio, student
from selfrepair.analysis.schema_family import ARM_COURSE, ARM_DIFFERENCES, ARM_ONSET, ARMS
from selfrepair.core.tables import frame

PARTS = ("self_repair", "repair_norm", "repair_attention", "repair_mlp")
BASE, STEPS, LOSS = "base", "steps", "loss"
RAISES, LOWERS, SMALL, UNDECIDED = "raises", "lowers", "no effect larger than", "undecided"
BEFORE, WITH, AFTER, UNKNOWN = "before", "not told apart", "after", "not defined"  # beside direct effects
SHARE, MEAN = "share", "mean"
FEWEST = 3  # seeds of a comparison


@dataclass(frozen=True)
class Arms:
    """Tables of `ARMS`, `ARM_COURSE`, `ARM_ONSET` and `ARM_DIFFERENCES`."""

    arms: pl.DataFrame
    course: pl.DataFrame
    onset: pl.DataFrame
    differences: pl.DataFrame


@dataclass(frozen=True)
class _Training:
    """One arm and seed: what the late heads' top tokens give at each measured step, on every sample of documents.

    Attributes:
        means: self-repair and its parts, in logits per token.
        shares: the same by the direct effect, as ratios of sums.
    """

    arm: str
    seed: int
    steps: list[int]
    losses: dict[int, float]
    means: Float[np.ndarray, "sample step part"]
    shares: Float[np.ndarray, "sample step part"]
    direct_effects: Float[np.ndarray, "sample step"]
    null: Float[np.ndarray, " part"]
    facts: dict[str, float]

    def nearest(self, loss: float) -> int:
        """Index of the measured step whose held-out loss is nearest."""
        return int(np.argmin([abs(self.losses[step] - loss) for step in self.steps]))


def compare_arms(folders: list[Path], bound: float, replicates: int, seed: int) -> Arms:
    """Summarise every training, and compare each arm with the base at the same step and at the same held-out loss.

    At the same loss, the one of a pair that ends with the lower loss is taken at the step where its loss was nearest to
    the other's last.

    Args:
        folders: of `ablation.arms.measure_arm`.
        bound: difference of shares that counts as no effect, on either side.
        replicates: of the bootstrap.

    Raises:
        ValueError: an arm was measured on other documents than the rest.
    """
    sums = {folder: pl.read_parquet(folder / "sums.parquet").filter(half="late") for folder in folders}
    draws = Draws.of(next(iter(sums.values()))["document"], replicates, seed)
    trainings = [_read(folder, table, draws) for folder, table in sums.items()]
    trainings.sort(key=lambda training: training.arm != BASE)
    return Arms(
        pl.concat([_last(t, draws) for t in trainings]),
        pl.concat([_course(t, draws) for t in trainings]),
        _onset(trainings, replicates, seed),
        _differences(trainings, bound, replicates, seed),
    )


def _read(folder: Path, sums: pl.DataFrame, draws: Draws) -> _Training:
    facts, log = json.loads((folder / "arm.json").read_text()), pl.read_csv(folder / "training.csv")
    documents = sums["document"].unique().sort().to_numpy()
    if not np.array_equal(documents, draws.documents):
        raise ValueError(f"{folder} was measured on other documents than the first arm; measure it anew")
    steps = sorted(sums.filter(weights=TRAINED)["step"].unique())
    numbers = [_totals(sums.filter(weights=TRAINED, step=step), draws) for step in steps]
    null = _totals(sums.filter(weights=SHUFFLED), draws)[0]
    n, effect, *parts = np.moveaxis(np.stack(numbers, 1), -1, 0)
    losses = dict(log.drop_nulls("held_out_loss").select("step", "held_out_loss").rows())
    return _Training(
        facts["arm"],
        facts["seed"],
        steps,
        losses,
        ratio(np.stack(parts, -1), n[..., None]),
        ratio(np.stack(parts, -1), effect[..., None]),
        ratio(effect, n),
        ratio(null[2:], null[1]),
        {name: facts[name] for name in ("parameters", "held_out_loss")},
    )


def _totals(sums: pl.DataFrame, draws: Draws) -> Float[np.ndarray, "sample column"]:
    """Of the late heads: tokens, direct effect and its repair, on every sample of documents."""
    ordered = sums.sort("document").select("n", "direct_effect", *PARTS)
    return draws.weights @ ordered.to_numpy().astype(np.float64)


def _last(training: _Training, draws: Draws) -> pl.DataFrame:
    """A row of `ARMS` for each part."""
    estimate = draws.estimate(training.shares[:, -1])
    return _rows(training, estimate, ARMS, null=training.null, **training.facts)


def _course(training: _Training, draws: Draws) -> pl.DataFrame:
    tables = []
    for index, step in enumerate(training.steps):
        estimate = draws.estimate(training.shares[:, index])
        effect = training.direct_effects[0, index]
        row = {"step": step, "held_out_loss": training.losses[step], "direct_effect": effect}
        tables.append(_rows(training, estimate, ARM_COURSE, **row))
    return pl.concat(tables)


def _rows(training: _Training, estimate: Estimate, schema: dict, **same: object) -> pl.DataFrame:
    low, high = estimate.interval
    columns = {n: value if isinstance(value, np.ndarray) else [value] * len(PARTS) for n, value in same.items()}
    columns |= {"arm": [training.arm] * len(PARTS), "seed": [training.seed] * len(PARTS)}
    return frame(columns | {"part": list(PARTS), "value": estimate.value, "low": low, "high": high}, schema)


def _onset(trainings: list[_Training], replicates: int, seed: int) -> pl.DataFrame:
    """When repair and the loss come, beside direct effects: a row of `ARM_ONSET` for each arm and quantity."""
    rows = []
    for arm in dict.fromkeys(training.arm for training in trainings):
        seeds = [training for training in trainings if training.arm == arm]
        if len(seeds) < FEWEST:
            continue
        later = []
        for training in seeds:
            doublings = np.log2(training.steps)
            losses = np.array([training.losses[step] for step in training.steps])
            fallen = np.broadcast_to((losses[0] - losses)[:, None], training.shares[:, :, :1].shape)
            courses = np.concatenate([training.shares, training.means, fallen], -1)
            later.append(half_time(courses, doublings) - half_time(training.direct_effects, doublings)[:, None])
        values, half = multi_bootstrap(np.stack(later, 1), replicates, seed)
        named = [*product((SHARE, MEAN), PARTS), (MEAN, "held_out_loss")]
        for (of, quantity), value, width in zip(named, values, half, strict=True):
            low, high = value - width, value + width
            said = BEFORE if high < 0 else AFTER if low > 0 else WITH if low <= 0 <= high else UNKNOWN
            rows.append((arm, quantity, of, value, low, high, len(seeds), said))
    return pl.DataFrame(rows, {name: column.dtype for name, column in ARM_ONSET.items()}, orient="row")


def half_time(
    course: Float[np.ndarray, " sample step *item"], doublings: Float[np.ndarray, " step"]
) -> Float[np.ndarray, " sample *item"]:
    """When a quantity reaches half of its last value for good, between the measured steps; NaN if that value is zero.

    Args:
        doublings: base-two logarithm of the steps, ascending.
    """
    share = ratio(course, course[:, -1:])
    below = (share < 0.5) * np.arange(1, len(doublings) + 1).reshape(1, -1, *[1] * (course.ndim - 2))
    last = np.clip(below.max(1), 1, len(doublings) - 1)  # the step after the last one below; never the first
    before, after = (np.take_along_axis(share, np.expand_dims(at, 1), 1).squeeze(1) for at in (last - 1, last))
    part = np.where(before >= 0.5, 0, np.clip(ratio(0.5 - before, after - before), 0, 1))
    return doublings[last - 1] + part * (doublings[last] - doublings[last - 1])


def _differences(trainings: list[_Training], bound: float, replicates: int, seed: int) -> pl.DataFrame:
    base = {training.seed: training for training in trainings if training.arm == BASE}
    variance, pooled = between_seeds(trainings)
    columns: dict[str, list] = {name: [] for name in ARM_DIFFERENCES}
    for arm in dict.fromkeys(training.arm for training in trainings if training.arm != BASE):
        pairs = [(t, base[t.seed]) for t in trainings if t.arm == arm and t.seed in base]
        if len(pairs) < FEWEST:
            continue
        for matched in (STEPS, LOSS):
            at = [_matched(matched, *pair) for pair in pairs]
            paired = [a.shares[:, i] - b.shares[:, j] for (a, b), (i, j) in zip(pairs, at, strict=True)]
            gaps = [abs(a.losses[a.steps[i]] - b.losses[b.steps[j]]) for (a, b), (i, j) in zip(pairs, at, strict=True)]
            values, half = multi_bootstrap(np.stack(paired, 1), replicates, seed)
            documents = np.stack(paired, 1)[1 : replicates + 1].mean(1).var(0, ddof=1)
            second = student(np.array(pooled)) * np.sqrt(2 * variance / len(pairs) + documents)
            for part, value, width, other in zip(PARTS, values, half, second, strict=True):
                ends = value - width, value + width
                row = (arm, matched, part, value, *ends, len(pairs), np.mean(gaps), bound, replicates)
                low, high = (value - other, value + other) if matched == STEPS else (np.nan, np.nan)
                said = answer(*ends, bound), low, high, answer(low, high, bound)
                for name, entry in zip(columns, (*row, *said), strict=True):
                    columns[name].append(entry)
    return frame(columns, ARM_DIFFERENCES)


def between_seeds(trainings: list[_Training]) -> tuple[Float[np.ndarray, " part"], float]:
    """Variance of a training's last shares about those of its arm and seed, and its degrees of freedom.

    Seeds count that all arms have; NaN if there are fewer than two, or only the base.
    """
    of = {(training.arm, training.seed): training.shares[0, -1] for training in trainings}
    arms, seeds = (list(dict.fromkeys(names)) for names in zip(*of, strict=True))
    whole = [seed for seed in seeds if all((arm, seed) in of for arm in arms)]
    free = (len(arms) - 1) * (len(whole) - 1)
    if free < 1:
        return np.full(len(PARTS), np.nan), np.nan
    values = np.array([[of[arm, seed] for seed in whole] for arm in arms])
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean((0, 1))
    return (rest**2).sum((0, 1)) / free, float(free)


def _matched(by: str, arm: _Training, base: _Training) -> tuple[int, int]:
    """Which measured steps of both are compared."""
    last = len(arm.steps) - 1, len(base.steps) - 1
    if by == STEPS:
        return last
    ends = [training.losses[training.steps[-1]] for training in (arm, base)]
    return (arm.nearest(ends[1]), last[1]) if ends[0] < ends[1] else (last[0], base.nearest(ends[0]))


def multi_bootstrap(
    differences: Float[np.ndarray, "sample seed part"], replicates: int, seed: int
) -> tuple[Float[np.ndarray, " part"], Float[np.ndarray, " part"]]:
    """Mean over seeds, and half the width of its 95 % interval.

    Args:
        differences: of each pair of seeds, on the run's documents first, then on each replicate's (`Draws.weights`).
    """
    seeds = differences.shape[1]
    drawn = np.random.default_rng(seed).integers(seeds, size=(replicates, seeds - 1))
    means = differences[1 : replicates + 1][np.arange(replicates)[:, None], drawn].mean(1)
    return differences[0].mean(0), student(np.array(seeds - 1.0)) * means.std(0, ddof=1)


def answer(low: float, high: float, bound: float) -> str:
    """What an interval of differences says of a feature, in words."""
    if not np.isfinite([low, high]).all():
        return UNDECIDED
    small = -bound < low and high < bound
    if low <= 0 <= high:
        return f"{SMALL} {bound:g}" if small else UNDECIDED
    direction = RAISES if low > 0 else LOWERS
    return f"{direction}, by less than {bound:g}" if small else direction
