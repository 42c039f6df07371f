"""Statistics of heads on a run and its bootstrap replicates, against the same of tokens drawn one by one."""

import numpy as np
import polars as pl
import pytest
from test_statistics import N_LAYERS, REPLICATES, SEED, drawn, tables

from selfrepair.analysis.bootstrap import PERCENTILES, bootstrap_draws
from selfrepair.analysis.schema import HEAD_STATISTICS
from selfrepair.claims.bootstrap import head_statistics
from selfrepair.claims.statistics import OF_HEADS

HEADS = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (2, 3)]


def mean(tokens: pl.DataFrame, name: str, *heads: tuple[int, int]) -> np.ndarray:
    """Mean of a column over the tokens of each head."""
    each = [tokens.filter(layer=layer, head=head)[name].to_numpy().astype(float) for layer, head in heads]
    return np.array([values.mean() for values in each])


def layer(tokens: pl.DataFrame, at: int) -> float:
    """Mean self-repair of a layer."""
    return mean(tokens, "self_repair", *(head for head in HEADS if head[0] == at)).mean()


def late_share(tokens: pl.DataFrame) -> float:
    return mean(tokens, "repair_norm", *HEADS[4:]).sum() / mean(tokens, "direct_effect", *HEADS[4:]).sum()


def penultimate_share(tokens: pl.DataFrame) -> float:
    return np.mean(mean(tokens, "repair_norm", *HEADS[2:4]) / mean(tokens, "direct_effect", *HEADS[2:4]))


def spread(tokens: pl.DataFrame) -> float:
    of_heads = [tokens.filter(layer=at, head=head)["self_repair"].to_numpy().astype(float) for at, head in HEADS[4:]]
    return np.mean([values.std() > abs(values.mean()) for values in of_heads])


# By statistic: whether it is of the top tokens, and what it is of them.
BY_HAND = {
    "heads_repaired": (True, lambda tokens: (mean(tokens, "self_repair", *HEADS) > 0).mean()),
    "peak_depth": (True, lambda tokens: np.argmax([layer(tokens, at) for at in range(N_LAYERS)]) / N_LAYERS),
    "penultimate_minus_last": (True, lambda tokens: layer(tokens, 1) - layer(tokens, 2)),
    "late_norm_share": (True, late_share),
    "penultimate_norm_share": (True, penultimate_share),
    "spread_exceeds_mean": (True, spread),
    "unfiltered_repair": (False, lambda tokens: mean(tokens, "self_repair", *HEADS).mean()),
}


@pytest.fixture(scope="module")
def found() -> tuple[pl.DataFrame, dict[str, dict]]:
    whole, kept, sums = tables(HEADS)
    table = head_statistics("m", kept.sample(fraction=1, shuffle=True, seed=0), sums, REPLICATES, SEED)
    assert table.schema == {name: column.dtype for name, column in HEAD_STATISTICS.items()}
    assert table["statistic"].to_list() == list(OF_HEADS)
    assert table.select("model", "n_layers", "heads").unique().rows() == [("m", N_LAYERS, len(HEADS))]
    return whole, {row["statistic"]: row for row in table.to_dicts()}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_statistic_and_its_interval_are_those_of_the_drawn_documents(found, name):
    whole, rows = found
    top, by_hand = BY_HAND[name]
    tokens = whole.filter("selected") if top else whole
    documents = sorted(whole["document"].unique())
    draws = bootstrap_draws(len(documents), REPLICATES, SEED)
    again = [by_hand(drawn(tokens, documents, counts)) for counts in draws]
    assert rows[name]["value"] == pytest.approx(by_hand(tokens), rel=1e-5, abs=1e-6)
    ends = rows[name]["low"], rows[name]["high"]
    assert ends == pytest.approx(np.percentile(again, PERCENTILES), rel=1e-4, abs=1e-5)
    assert ends[0] < ends[1], "the draws differ"


def test_layers_that_were_not_measured_leave_their_statistics_out():
    _, kept, sums = tables([(0, 1)])
    rows = {row["statistic"]: row for row in head_statistics("m", kept, sums, REPLICATES, SEED).to_dicts()}
    for name in ("late_norm_share", "late_heads_repaired", "last_norm_share", "last_layer_responders"):
        assert np.isnan(rows[name]["value"]) and rows[name]["low"] is None, name
    assert np.isfinite(rows["early_repair"]["value"])
