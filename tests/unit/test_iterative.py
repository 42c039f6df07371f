"""The summary of the iterative-inference experiments: numbers by hand, intervals by document, verdicts by rule."""

import numpy as np
import polars as pl
import pytest

from selfrepair.ablation.schema import ADDITIONS, MOVES
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.iterative import Iterative, summarise
from selfrepair.analysis.schema import ITERATIVE_SUMMARY, MOVING, REPRESSION, SIMULATED

DOCUMENTS, HEADS, LAYERS, TOKENS = 6, 3, 2, 4
STRENGTHS = [1.0, 5.0]
EFFECTS = {"own": 0.5, "other": 0.9, "random": 0.8}  # what a head keeps at strength 1


def moves(sign: int | None = None) -> tuple[pl.DataFrame, dict]:
    """The sums that a measurement would leave of two responding layers (1, 2), and the token values behind them.

    With a sign, what moving changes is that many times what ablating changes.
    """
    generator = np.random.default_rng(1)
    shape = (LAYERS, HEADS, DOCUMENTS, TOKENS)
    clean = generator.normal(size=shape) + np.arange(HEADS)[:, None, None]
    moved = 0.7 * clean + 0.2 * generator.normal(size=shape)
    ablated = clean - 0.3 * np.arange(HEADS)[:, None, None] + 0.1 * generator.normal(size=shape)
    if sign is not None:
        moved = clean + sign * (ablated - clean)
    rows = []
    for tokens, taken in (("all", slice(None)), ("top", slice(0, 2))):
        for layer in range(LAYERS):
            for head in range(HEADS):
                for document in range(DOCUMENTS):
                    x, y, z = (a[layer, head, document, taken] for a in (clean, moved, ablated))
                    sums = (x.sum(), y.sum(), z.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum())
                    rows.append((layer + 1, head, tokens, document, layer + 1, [0.2, 0.9][layer], len(x), *sums))
    table = pl.DataFrame(rows, schema={name: c.dtype for name, c in MOVES.items()}, orient="row")
    return table, {"clean": clean, "moved": moved, "ablated": ablated}


def additions(keeps: dict[str, float] = EFFECTS) -> pl.DataFrame:
    generator = np.random.default_rng(2)
    rows = []
    for layer, head in ((2, 1), (1, 0)):
        for token in range(12):
            effect = 2 + generator.normal() / 5
            noise = dict(
                zip(STRENGTHS, 1 + 0.02 * generator.normal(size=2), strict=True)
            )  # the same for all directions
            for direction, kept in keeps.items():
                for strength in STRENGTHS:
                    new = effect * kept**strength * noise[strength]
                    facts = (layer, head, token, 3, token % DOCUMENTS, direction, strength)
                    rows.append((*facts, effect, new, new / (1 + 0.1 * strength)))
    return pl.DataFrame(rows, schema={name: c.dtype for name, c in ADDITIONS.items()}, orient="row")


@pytest.fixture(scope="module")
def found() -> Iterative:
    return summarise("m", moves()[0], additions(), replicates=200, seed=1)


def only(table: pl.DataFrame, **wanted) -> dict:
    null = [name for name, value in wanted.items() if value is None]
    rows = table.filter(*(pl.col(name).is_null() for name in null))
    rows = rows.filter(**{name: value for name, value in wanted.items() if value is not None})
    assert len(rows) == 1
    return rows.to_dicts()[0]


def test_tables_have_their_schemas_and_ordered_intervals(found):
    expected = (MOVING, SIMULATED, REPRESSION, ITERATIVE_SUMMARY)
    for table, schema in zip(
        (found.moving, found.simulated, found.repression, found.iterative_summary), expected, strict=True
    ):
        assert table.schema == {name: column.dtype for name, column in schema.items()}
        assert len(table) and (table["low"] <= table["high"]).all()
        assert set(table["model"]) == {"m"}


def test_changes_are_means_over_tokens(found):
    _, values = moves()
    for layer in range(LAYERS):
        for head in range(HEADS):
            mean = {name: value[layer, head].mean() for name, value in values.items()}
            expected = {"direct_effect": mean["clean"]}
            expected |= {f"change_{how}": mean[what] - mean["clean"] for how, what in WAYS.items()}
            for quantity, value in expected.items():
                row = only(found.moving, moved_layer=layer, head=head, tokens="all", quantity=quantity)
                assert row["value"] == pytest.approx(value)
                assert (row["n_tokens"], row["n_documents"]) == (DOCUMENTS * TOKENS, DOCUMENTS)
                assert row["marked"] == (layer == 1) and row["ablated_head"] == layer + 1


WAYS = {"moving": "moved", "ablating": "ablated"}


def test_correlations_are_over_heads(found):
    _, values = moves()
    x, y = ((values[what] - values["clean"]).mean((2, 3)) for what in WAYS.values())
    for layer in range(LAYERS):
        row = only(found.moving, moved_layer=layer, head=None, tokens="all", quantity="correlation")
        assert row["value"] == pytest.approx(np.corrcoef(x[layer], y[layer])[0, 1])
    row = only(found.moving, moved_layer=None, tokens="all", quantity="correlation")
    assert row["value"] == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    summary = only(found.iterative_summary, statistic="moving_correlation.all_layers.all")
    assert summary["value"] == pytest.approx(row["value"])
    marked = only(found.moving, moved_layer=1, head=None, tokens="all", quantity="correlation")
    assert only(found.iterative_summary, statistic="moving_correlation.marked_layer.all")["value"] == marked["value"]


def test_intervals_come_from_drawing_whole_documents(found):
    """Recomputed by repeating the documents' tokens as often as each is drawn."""
    _, values = moves()
    draws = Draws.of(pl.Series(range(DOCUMENTS)), 200, 1)
    samples = []
    for draw in draws.weights:
        of = {name: np.repeat(value, draw, axis=2).mean((2, 3)) for name, value in values.items()}
        samples.append(np.corrcoef(*((of[what] - of["clean"]).ravel() for what in WAYS.values()))[0, 1])
    row = only(found.moving, moved_layer=None, tokens="all", quantity="correlation")
    ends = draws.estimate(np.array(samples)).interval
    assert (row["low"], row["high"]) == pytest.approx(tuple(map(float, ends)))


def test_simulated_attention_is_compared_token_by_token_and_head_by_head(found):
    _, values = moves()
    x, y = values["clean"], values["moved"]
    correlations = [[np.corrcoef(x[i, j].ravel(), y[i, j].ravel())[0, 1] for j in range(HEADS)] for i in range(LAYERS)]
    for layer in range(LAYERS):
        key = {"layer": layer + 1, "tokens": "all"}
        for head in range(HEADS):
            row = only(found.simulated, **key, head=head, quantity="token_correlation")
            assert row["value"] == pytest.approx(correlations[layer][head])
            kept = (x[layer, head] * y[layer, head]).sum() / (x[layer, head] ** 2).sum()
            assert only(found.simulated, **key, head=head, quantity="kept")["value"] == pytest.approx(kept)
        row = only(found.simulated, **key, head=None, quantity="token_correlation")
        assert row["value"] == pytest.approx(np.mean(correlations[layer]))
        expected = np.corrcoef(x[layer].mean((1, 2)), y[layer].mean((1, 2)))[0, 1]
        assert only(found.simulated, **key, head=None, quantity="head_correlation")["value"] == pytest.approx(expected)
        expected = (x[layer] * y[layer]).sum() / (x[layer] ** 2).sum()
        assert only(found.simulated, **key, head=None, quantity="kept")["value"] == pytest.approx(expected)
    summary = only(found.iterative_summary, statistic="simulated_kept.all")
    assert summary["value"] == pytest.approx((x * y).sum() / (x**2).sum())
    assert summary["supports"] == "for"


@pytest.mark.parametrize(
    ("scale", "column"), [("clean", "new_direct_effect"), ("perturbed", "new_direct_effect_perturbed")]
)
def test_repression_is_the_ratio_of_new_to_old(found, scale, column):
    table = additions()
    for direction in EFFECTS:
        for strength in STRENGTHS:
            key = {"direction": direction, "strength": strength, "scale": scale}
            ratios = []
            for layer, head in ((2, 1), (1, 0)):
                of_head = table.filter(layer=layer, head=head, direction=direction, strength=strength)
                ratios.append(of_head[column].sum() / of_head["direct_effect"].sum())
                row = only(found.repression, **key, layer=layer, head=head, statistic="ratio")
                assert row["value"] == pytest.approx(ratios[-1], rel=1e-5)
                assert (row["n_tokens"], row["n_documents"]) == (12, DOCUMENTS)
            row = only(found.repression, **key, head=None, statistic="ratio")
            assert row["value"] == pytest.approx(np.mean(ratios), rel=1e-5)
            row = only(found.repression, **key, head=None, statistic="share_repressed")
            assert row["value"] == np.mean(np.array(ratios) < 1)


@pytest.mark.parametrize(
    ("own", "random", "supports"),
    [(0.5, 0.8, "for"), (0.8, 0.5, "against"), (1.2, 1.5, "against"), (0.8, 0.8, "neither")],
)
def test_repression_is_judged_against_one_and_a_random_direction(own, random, supports):
    keeps = {"own": own, "other": 0.7, "random": random}
    summary = summarise("m", moves()[0], additions(keeps), replicates=200, seed=1).iterative_summary
    assert only(summary, statistic="repression_ratio.clean_scale.x1")["supports"] == supports


@pytest.mark.parametrize(("sign", "supports"), [(1, "for"), (-1, "against")])
def test_a_correlation_is_judged_against_zero(sign, supports):
    """Heads that lose by skipping lose by ablating, or gain by it."""
    summary = summarise("m", moves(sign)[0], additions(), replicates=200, seed=1).iterative_summary
    row = only(summary, statistic="moving_correlation.all_layers.all")
    assert row["value"] == pytest.approx(sign) and row["supports"] == supports
