"""How far lower precision moves the results: errors per quantity against the size of the effect."""

from pathlib import Path

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.effects import Measurement
from selfrepair.ablation.measure import measure
from selfrepair.benchmark.random_model import SHAPES, random_folded, random_rows, row_before
from selfrepair.benchmark.schema import PRECISION
from selfrepair.core.tables import frame
from selfrepair.models.folded import FoldedModel
from selfrepair.models.folded_files import load_folded
from selfrepair.models.precision import Precision
from selfrepair.tokens.rows import token_matrix

REFERENCE: Precision = "float64"
COMPARED: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
QUANTITIES = ("direct_effect", "self_repair", "repair_norm", "repair_attention", "repair_mlp")
TOP_FRACTION = 0.02


def precisions(models: list[Path], tokens: list[Path], rows: int, random: str, drawn_rows: int) -> pl.DataFrame:
    """Compare number formats on trained models, and on one of random weights (`PRECISION`).

    Args:
        models: folded models.
        tokens: tokens.parquet for each of them.
        rows: rows of tokens for the trained models.
        random: size of the model with random weights (`SHAPES`).
        drawn_rows: rows of tokens for it.
    """
    tables = []
    for folder, file in zip(models, tokens, strict=True):
        matrix = torch.from_numpy(token_matrix(pl.read_parquet(file)))[:rows]
        tables.append(compare_precisions(load_folded(folder), matrix, row_before(len(matrix)), "trained"))
    drawn = random_rows(SHAPES[random].d_vocab, drawn_rows, matrix.shape[1])
    model = random_folded(random, SHAPES[random])
    return pl.concat([*tables, compare_precisions(model, drawn, row_before(len(drawn)), "random")])


def compare_precisions(
    model: FoldedModel, tokens: Int[Tensor, "row pos"], source: Int[Tensor, " row"], weights: str
) -> pl.DataFrame:
    """Measure all heads in each precision and in float64, on the same tokens.

    Args:
        model: in float32.
        weights: `trained` or `random`, for the table.

    Returns:
        a row of `PRECISION` for each precision and quantity.
    """
    expected = _quantities(measure(model.in_precision(REFERENCE), tokens, source))
    rows = []
    for precision in COMPARED:
        print(f"{model.name}: {precision}", flush=True)
        rounded = _quantities(measure(model.in_precision(precision), tokens, source))
        for name in QUANTITIES:
            error = rounded[name].double() - expected[name]
            effect, rms = _rms(expected[name]), _rms(error)
            rows.append(
                {
                    "model": model.name,
                    "weights": weights,
                    "precision": precision,
                    "quantity": name,
                    "tokens": tokens[:, 1:].numel(),
                    "rms_effect": effect,
                    "rms_error": rms,
                    "error_share": rms / effect,
                    "largest_error": error.abs().max().item(),
                    # Of the mean over the tokens of each head: what a table of heads shows.
                    "mean_error_share": _rms(error.mean((-2, -1))) / _rms(expected[name].mean((-2, -1))),
                    "same_top_tokens": _same_top(rounded["direct_effect"], expected["direct_effect"]),
                }
            )
    return frame(pl.DataFrame(rows).to_dict(), PRECISION)


def _quantities(m: Measurement) -> dict[str, Float[Tensor, "layer head row pos"]]:
    """Position 0, where all rows are alike and nothing is replaced, says nothing of errors and is left out."""
    values = {name: getattr(m, name)[..., 1:] for name in QUANTITIES}
    return {name: value.sum(2) if value.ndim == 5 else value for name, value in values.items()}


def _rms(values: Tensor) -> float:
    return values.double().square().mean().sqrt().item()


def _same_top(rounded: Tensor, expected: Tensor) -> float:
    """Share of each head's top tokens that are top tokens in the other precision too."""
    count = max(1, int(TOP_FRACTION * rounded[0, 0].numel()))
    one, other = (values.flatten(2).topk(count).indices for values in (rounded, expected))
    return (one[..., :, None] == other[..., None, :]).any(-1).float().mean().item()
