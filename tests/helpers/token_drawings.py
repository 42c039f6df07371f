"""Small tables for the figures of single tokens, of the final norm and of noise."""

import numpy as np
import polars as pl

from selfrepair.analysis.final_norm import ACCOUNTINGS, CLEAN, NORM_PARTS
from selfrepair.analysis.schema import NOISE, NORM, NORM_HISTOGRAM
from selfrepair.figures.ablation_types import ablation_types
from selfrepair.figures.noise import noise, noise_components
from selfrepair.figures.norm_scale import norm_scale
from selfrepair.figures.norm_share import norm_share

HEADS_SHOWN = {(2, 1): "most noise", (0, 0): "configured"}
ABLATIONS = ["resample", "zero"]


def token_table(seed: int, n: int = 30) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "row": np.arange(n, dtype=np.int32),
            "pos": np.arange(n, dtype=np.int16) % 7,
            "selected": np.arange(n) % 3 == 0,
            "control": np.arange(n) % 2 == 0,
            "direct_effect": generator.normal(size=n).astype(np.float32),
            "delta_logit": generator.normal(size=n).astype(np.float32),
        }
    )


def norm_table() -> pl.DataFrame:
    rows = []
    for a, ablation in enumerate(ABLATIONS):
        for layer, head in HEADS_SHOWN:
            for t, tokens in enumerate(("top", "control")):
                value = 0.5 + 0.1 * a + 0.05 * t + 0.01 * layer
                key = ("one", ablation, 3, "one", layer, head, tokens, None, "scale_ratio", "above_1")
                rows.append((*key, value, value - 0.1, value + 0.1, 100, 10, 6.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in NORM.items()}, orient="row")


def norm_shares(models: list[str]) -> pl.DataFrame:
    """The norm's share of the direct effect in each of three layers, by accounting and source."""
    rows = []
    sources = [*((accounting, "norm") for accounting in ACCOUNTINGS), *((CLEAN, name) for name in NORM_PARTS)]
    for m, model in enumerate(models):
        for layer in range(3):
            for s, (accounting, quantity) in enumerate(sources):
                value = 0.3 + 0.1 * m + 0.05 * layer + 0.01 * s
                key = (model, "resample", 3, "layer", layer, None, "top", accounting, quantity, "share")
                rows.append((*key, value, value - 0.1, value + 0.1, 100, 10, 6.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in NORM.items()}, orient="row")


def histogram_table() -> pl.DataFrame:
    rows = [
        ("one", ablation, layer, head, tokens, 2000 + a + step * 7 - 100 * layer, 1 + step % 5 + (tokens == "control"))
        for a, ablation in enumerate(ABLATIONS)
        for layer, head in HEADS_SHOWN
        for tokens in ("top", "control")
        for step in range(-20, 60)
    ]
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in NORM_HISTOGRAM.items()}, orient="row")


def noise_table(models: tuple[str, ...] = ("one", "two")) -> pl.DataFrame:
    rows = []
    for m, model in enumerate(models):
        for layer, head in HEADS_SHOWN:
            key = (model, 3, "one", layer, head)
            for t, tokens in enumerate(("top", "control")):
                value = 0.3 + 0.1 * m + 0.05 * t + 0.01 * layer
                rows.append((*key, tokens, "overcorrected", value, value - 0.05, value + 0.05, 50, 5, 3.5))
            for tokens in ("partners", "partners top"):
                shares = {
                    "document": 0.1 * layer - 0.05,
                    "token": 0.55 - 0.1 * m,
                    "partner": 0.5 + 0.1 * m - 0.1 * layer,
                }
                for part, value in shares.items():
                    rows.append((*key, tokens, f"share_{part}", value, value - 0.04, value + 0.06, 50, 5, 3.5))
                    rows.append((*key, tokens, f"variance_{part}", 3 * value, value, 4 * value, 50, 5, 3.5))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in NOISE.items()}, orient="row")


TOKENS = {"resample": token_table(1), "zero": token_table(2), "mean": token_table(3)}
OF_HEADS = {head: token_table(4 + index) for index, head in enumerate(HEADS_SHOWN)}
TOKEN_FIGURES = {
    "norm_scale": lambda: norm_scale(norm_table(), histogram_table(), HEADS_SHOWN),
    "norm_share": lambda: norm_share(norm_shares(["one", "one-shuffled"])),
    "ablation_types": lambda: ablation_types("one", (2, 1), TOKENS),
    "noise": lambda: noise("one", HEADS_SHOWN, OF_HEADS, noise_table(("one",))),
    "noise_components": lambda: noise_components(noise_table()),
}
