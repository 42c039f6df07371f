"""Token rows of a finished run beside the same computed anew: what was found, and how far apart the two may be.

Limits come from the errors that docs/benchmark/precision.csv reports, and there are two of them: a single value may be
wrong by itself, and all may be wrong by what would pass for one.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from torch import Tensor

from selfrepair.ablation.effects import TOLERANCE
from selfrepair.ablation.inputs import Inputs
from selfrepair.ablation.replacements import Ablation
from selfrepair.ablation.schema import EFFECTS, by_layer
from selfrepair.artifact.reference_model import Recomputation
from selfrepair.artifact.verify import Check, place
from selfrepair.core.progress import Progress

RATIOS = ("scale", "ablated_scale", "own_scale")
SAMPLED_EFFECTS = (*EFFECTS, *by_layer(0))
CANCELLED = 4  # an effect counts as at least this part of the largest ones: what cancels keeps the errors of its parts
Values = dict[str, Float[np.ndarray, "token value"]]  # columns of token rows; those by layer have a value for each


@dataclass(frozen=True)
class Tolerance:
    """How far stored values may be from those computed anew.

    Attributes:
        largest: of a single value, logits; more where 1e-4 of the row's largest clean logit is, which the measurement
            allows itself, or `share` of the largest effect on the token.
        typical: root mean square over the sample, logits; more where `share` is.
        share: of the root mean square of what is recomputed.
        scale: of a single scale, relative.
    """

    largest: float
    typical: float
    share: float
    scale: float


# Three to six times the largest error, root mean square error and share of errors in effects of the benchmark, where a
# scale is not measured.
TOLERANCES = {
    "float64": Tolerance(largest=2.5e-4, typical=1.5e-5, share=1e-4, scale=1e-4),
    "float32": Tolerance(largest=2.5e-4, typical=1.5e-5, share=1e-4, scale=1e-4),
    "tf32": Tolerance(largest=0.25, typical=0.01, share=0.03, scale=3e-3),
    "bfloat16": Tolerance(largest=2.0, typical=0.05, share=0.2, scale=2e-2),
}


@dataclass(frozen=True)
class Sample:
    """How rows of a model and a kind of ablation are recomputed, and what they may deviate by."""

    model: Recomputation
    inputs: Inputs
    kind: Ablation
    means: Float[Tensor, "layer head d_head"] | None
    tolerance: Tolerance

    def effects(self, layer: int, head: int, row: int) -> dict[str, Float[Tensor, " pos *layer"]]:
        source = self.inputs.tokens[self.inputs.source[row]]
        return self.model.effects(self.inputs.tokens[row], source, layer, head, self.kind, self.means)

    def check(self, what: str, kept: pl.DataFrame, progress: Progress) -> Check:
        """Recompute rows of `ablated_tokens`; the check names the row and the column that deviate most."""
        if kept.is_empty():
            return Check(what, "there are no token rows, so none was recomputed")
        recomputed, logits = [], []
        for row in kept.iter_rows(named=True):
            effects = self.effects(row["layer"], row["head"], row["row"])
            recomputed.append({name: values[row["pos"]].reshape(-1).numpy() for name, values in effects.items()})
            logits.append(effects["logit"].abs().max().item())
            progress.advance(1)
        anew = {name: np.stack([token[name] for token in recomputed]) for name in recomputed[0]}
        stored = {name: kept[name].to_numpy().astype(np.float64).reshape(kept.height, -1) for name in anew}
        heads, rows = (kept.select(columns).n_unique() for columns in (["layer", "head"], ["row"]))
        what = f"{what}: {kept.height} token rows of {heads} heads in {rows} rows recomputed"
        single, single_fails = self._single(kept, stored, anew, np.array(logits))
        typical, typical_fails = self._typical(stored, anew)
        if single_fails or typical_fails:
            return Check(what, single if single_fails else typical)
        return Check(f"{what}; {single}; {typical}")

    def _single(
        self, kept: pl.DataFrame, stored: Values, anew: Values, logits: Float[np.ndarray, " token"]
    ) -> tuple[str, bool]:
        """The value that is farthest from what it may be, and whether it is too far."""
        limit = np.maximum(self.tolerance.largest, TOLERANCE * logits)
        limit = np.maximum(limit, self.tolerance.share * largest(anew))[:, None]
        worst, said = -1.0, ""
        for name, values in anew.items():
            allowed = np.broadcast_to(self.tolerance.scale * values if name in RATIOS else limit, values.shape)
            error = np.abs(stored[name] - values)
            excess = np.nan_to_num(error / allowed, nan=np.inf)  # nothing is worse than NaN
            if excess.max() > worst:
                worst, (token, value) = excess.max(), np.unravel_index(excess.argmax(), excess.shape)
                where = f"{place(kept.row(int(token), named=True))}: {name}"
                numbers = f"is {text(stored[name][token])}, recomputed {text(values[token])}"
                size = f"largest deviation {error[token, value]:.1e} (allowed: {allowed[token, value]:.1e})"
                said = f"{where} {numbers}; {size}" if worst > 1 else size
        return said, worst > 1

    def _typical(self, stored: Values, anew: Values) -> tuple[str, bool]:
        """The effect whose errors have the largest root mean square for what it may be, and whether it is too large."""
        least = _rms(largest(anew)) / CANCELLED
        worst, said = -1.0, ""
        for name in SAMPLED_EFFECTS:
            size = max(least, _rms(np.linalg.norm(anew[name], axis=1)))
            allowed = max(self.tolerance.typical, self.tolerance.share * size)
            error = _rms(np.linalg.norm(stored[name] - anew[name], axis=1))
            if (excess := np.nan_to_num(error / allowed, nan=np.inf)) > worst:
                worst, said = excess, f"root mean square {error:.1e} of {name} (allowed: {allowed:.1e})"
        return said, worst > 1


def largest(values: Values) -> Float[np.ndarray, " token"]:
    """The largest effect on each token."""
    return np.max([np.abs(values[name]).max(1) for name in SAMPLED_EFFECTS], axis=0)


def _rms(values: Float[np.ndarray, " token"]) -> float:
    return float(np.sqrt(np.square(values).mean()))


def text(values: Float[np.ndarray, " value"]) -> str:
    return ", ".join(f"{number:.6g}" for number in values)
