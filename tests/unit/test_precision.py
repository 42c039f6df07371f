"""Lower precision moves results by no more than its rounding, and only where it was asked for."""

import pytest
import torch

from selfrepair.ablation.measure import measure
from selfrepair.models.precision import linear, round_to_tf32, stored


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(1.0, 1.0), (1 + 2**-10, 1 + 2**-10), (1 + 2**-11, 1 + 2**-10), (1 + 2**-12, 1.0), (-1 - 2**-11, -1 - 2**-10)],
)
def test_tf32_keeps_ten_bits(value, rounded):
    assert round_to_tf32(torch.tensor([value])).item() == rounded


def test_products_are_of_rounded_factors_summed_in_float32():
    """2**-9 is lost beside 1 in bfloat16's 8 bits, 2**-12 in TF32's 11; a sum of products keeps both."""
    x, weight, bias = torch.tensor([[1 + 2**-9, 2**-12]]), torch.ones(2, 1), torch.tensor([2**-20])
    exact = 1 + 2**-9 + 2**-12 + 2**-20
    for precision, expected in (("float32", exact), ("tf32", exact), ("bfloat16", 1 + 2**-12 + 2**-20)):
        assert linear(x, stored(weight, precision), bias, precision).item() == pytest.approx(expected, abs=1e-7)
    x = torch.tensor([[1 + 2**-12, 0]])
    assert linear(x, weight, None, "tf32").item() == 1
    assert linear(x, weight, None, "float32").item() == 1 + 2**-12


def test_weights_are_stored_as_narrow_as_asked_and_biases_are_not():
    weight, bias = torch.randn(3, 4), torch.randn(4)
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32), ("float64", torch.float64)):
        assert stored(weight, precision).dtype == dtype
        assert stored(bias, precision).dtype == (torch.float64 if precision == "float64" else torch.float32)


@pytest.mark.parametrize(
    ("precision", "low", "high"), [("float64", 0, 3e-7), ("tf32", 1e-5, 5e-4), ("bfloat16", 8e-5, 4e-3)]
)
def test_results_differ_by_the_rounding(zoo, rows, source, architecture, precision, low, high):
    """In every precision the same quantities, and the parts still sum to the whole (the sweep checks that).

    Medians, as the zoo's random weights blow a few errors up.
    """
    model = zoo.folded(architecture)
    expected, found = measure(model, rows, source), measure(model.in_precision(precision), rows, source)
    for name in ("direct_effect", "self_repair", *(["repair_norm"] if model.final_norm else [])):
        difference = (getattr(found, name) - getattr(expected, name)).abs().median() / expected.logit.abs().max()
        assert low < difference < high, name
