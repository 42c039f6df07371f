"""Models small enough for paper: d_model 4, eps 0, a head a layer, rows of two tokens: position 0 attends itself."""

from dataclasses import fields

import pytest
import torch

from selfrepair.ablation.effects import Measurement
from selfrepair.ablation.measure import measure
from selfrepair.models.folded import FoldedModel, Layer

FIELDS = [field.name for field in fields(Measurement) if field.name != "repair_heads"]


def layer(W_V: list[float], W_O: list[float], W_in: list[float], W_out: list[float]) -> Layer:
    """A head that reads one number of the normed stream and writes a vector, and an MLP of one neuron."""
    W_QKV = torch.stack([torch.zeros(4), torch.zeros(4), torch.tensor(W_V)], dim=1)
    W_in, W_out = torch.tensor(W_in)[:, None], torch.tensor(W_out)[None]
    zero = torch.zeros(4)
    return Layer(
        W_QKV,
        torch.zeros(3),
        torch.tensor(W_O)[None, None],
        zero,
        W_in,
        torch.zeros(1),
        None,
        None,
        W_out,
        zero,
        1.0,
        None,
    )


def micro(u: list[float], *layers: Layer) -> FoldedModel:
    """Token 0 is (2, 0, 0, 0), token 1 its opposite; u points to token 1, its opposite to token 0."""
    W_E = torch.tensor([[2.0, 0, 0, 0], [-2.0, 0, 0, 0]])
    W_U = torch.stack([-torch.tensor(u), torch.tensor(u)], dim=1)
    b_U = torch.tensor([-0.5, 0.5])
    return FoldedModel("micro", "by hand", 1, 1, 1, False, "relu", 0.0, 1.0, 8, W_E, None, None, W_U, b_U, layers)


IDLE = ([0.0] * 4, [0.0] * 4)
TOKENS, SOURCE = torch.tensor([[0, 1], [1, 0]]), torch.tensor([1, 0])


def numbers(m: Measurement, at: tuple[int, int]) -> dict[str, list[float]]:
    """All fields at the first token of row 0, each as a list."""
    found = {name: getattr(m, name) for name in [*FIELDS, "self_repair"]}
    found = {name: v if name in ("logit", "scale") else v[at] for name, v in found.items()}
    return {name: v[..., 0, 0].flatten().tolist() for name, v in found.items()}


def by_hand(**worked: float | list[float]) -> dict[str, object]:
    return {name: pytest.approx(v if isinstance(v, list) else [v], abs=1e-6) for name, v in worked.items()}


def test_a_later_head_that_erases_by_hand():
    """Head 0 writes z(0, 1, 1, 1), z = 2; head 1 reads dimension 1 and erases it, doubled.

    Clean: (2,0,0,0) -> (2,2,2,2), norm (1,1,1,1) -> r = (2,-2,2,2), S = 2; u = (2,4,0,0): logit = -4/2 + 0.5 = -1.5.
    Direct effects: head 0 (0,2,2,2).u/2 = 4, head 1 (0,-4,0,0).u/2 = -8.
    Zero: head 1 reads 0, so r' = (2,0,0,0), S' = 1, logit' = 4.5; norm's share (4.5 - 0.5)(1 - 1/2) = 2.
    Had only head 0 changed: (2,-4,0,0), scale 5^.5.
    Resample from row 1, where z = -2: head 1 reads -1, r' = (2,2,-2,-2), S' = 2, logit' = 6.5; only head 0:
    (2,-6,-2,-2), scale 12^.5.
    """
    model = micro(
        [2.0, 4, 0, 0], layer([1.0, 0, 0, 0], [0.0, 1, 1, 1], *IDLE), layer([0.0, 1, 0, 0], [0.0, -4, 0, 0], *IDLE)
    )
    clean = {"logit": -1.5, "scale": 2, "direct_effect": 4, "repair_mlp": [0, 0]}
    zero = {"delta_logit": 6, "delta_direct_effect": -4, "repair_attention": [0, 8]}
    zero = by_hand(**clean, **zero, repair_norm=2, ablated_scale=1, self_repair=10, own_scale=5**0.5)
    assert numbers(measure(model, TOKENS, SOURCE, "zero"), (0, 0)) == zero
    resample = {"delta_logit": 8, "delta_direct_effect": -8, "repair_attention": [0, 16]}
    resample = by_hand(**clean, **resample, repair_norm=0, ablated_scale=2, self_repair=16, own_scale=12**0.5)
    assert numbers(measure(model, TOKENS, SOURCE), (0, 0)) == resample
    # The mean of z over the two rows is 0: the same as zero.
    assert numbers(measure(model, TOKENS, SOURCE, "mean"), (0, 0)) == zero
    # Without head 1, r' = (2,2,2,2) and S' = S: its effect is direct, nothing repairs it.
    last = numbers(measure(model, TOKENS, SOURCE, "zero"), (1, 0))
    assert {name: last[name] for name in ("direct_effect", "delta_logit", "self_repair")} == by_hand(
        direct_effect=-8, delta_logit=8, self_repair=0
    )


def test_an_mlp_and_the_norm_repair_fully_by_hand():
    """The block's neuron reads dimension 1 and writes (0,0,-4,0): with the norm it repairs the head to the last bit.

    Clean: r = (2,2,2,2) + (0,0,-4,0), S = 2, u = (2,4,2,0): logit = 8/2 + 0.5; head (0,2,2,2).u/2 = 6, MLP -8/2 = -4.
    Zero: the neuron is silent, r' = (2,0,0,0), S' = 1, logit' = 4/1 + 0.5: 0 = -6 + 4 + 4 (1 - 1/2). Had only the head
    changed: (2,0,-4,0), scale 5^.5.
    """
    head = layer([1.0, 0, 0, 0], [0.0, 1, 1, 1], [0.0, 1, 0, 0], [0.0, 0, -4, 0])
    clean = {"logit": 4.5, "scale": 2, "direct_effect": 6}
    ablated = {"delta_logit": 0, "delta_direct_effect": -6, "ablated_scale": 1, "self_repair": 6, "own_scale": 5**0.5}
    parts = {"repair_attention": [0], "repair_mlp": [4], "repair_norm": 2}
    found = numbers(measure(micro([2.0, 4, 2, 0], head), TOKENS, SOURCE, "zero"), (0, 0))
    assert found == by_hand(**clean, **ablated, **parts)
