"""Statistics of heads on a run and its bootstrap replicates, against the same of tokens drawn one by one."""

import numpy as np
import polars as pl
import pytest
from test_statistics import N_LAYERS, REPLICATES, SEED, TOP, clean_tokens, tables

from selfrepair.ablation.schema_neurons import LISTED_NEURONS
from selfrepair.analysis.bootstrap import Draws
from selfrepair.claims.bootstrap import head_statistics, neuron_statistics
from selfrepair.claims.schema import HEAD_STATISTICS, NEURON_STATISTICS
from selfrepair.claims.statistics import OF_HEADS, OF_NEURONS, SHARES_OF_HEADS, SHARES_OF_TOKENS
from tests.helpers.samples import drawn, top_tokens

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


def noisy(tokens: pl.DataFrame) -> float:
    of_heads = [tokens.filter(layer=at, head=head)["self_repair"].to_numpy().astype(float) for at, head in HEADS[4:]]
    return np.mean([values.std() > values.mean() > 0 for values in of_heads])


def falls(tokens: pl.DataFrame) -> float:
    """Share of tokens whose scale falls, mean over the later heads."""
    smaller = tokens.with_columns(smaller=pl.col("ablated_scale") < pl.col("scale"))
    return mean(smaller, "smaller", *HEADS[4:]).mean()


def beyond(tokens: pl.DataFrame, sign: int) -> float:
    """Share of tokens with self-repair, of this sign, above the loss of direct effect; mean over late heads."""
    repair, loss = pl.col("self_repair"), pl.col("self_repair") - pl.col("delta_logit")
    return mean(tokens.with_columns(beyond=sign * repair > loss), "beyond", *HEADS[4:]).mean()


# By statistic: whether it is of the top tokens, and what it is of them.
BY_HAND = {
    "heads_repaired": (True, lambda tokens: (mean(tokens, "self_repair", *HEADS) > 0).mean()),
    "penultimate_minus_last": (True, lambda tokens: layer(tokens, 1) - layer(tokens, 2)),
    "late_norm_share": (True, late_share),
    "penultimate_norm_share": (True, penultimate_share),
    "noisily_repaired": (True, noisy),
    "scale_falls": (True, falls),
    "overcorrected": (True, lambda tokens: beyond(tokens, 1)),
    "mirror_of_overcorrection": (True, lambda tokens: beyond(tokens, -1)),
    "overcorrection_beyond_mirror": (True, lambda tokens: beyond(tokens, 1) - beyond(tokens, -1)),
    "unfiltered_repair": (False, lambda tokens: mean(tokens, "self_repair", *HEADS).mean()),
}


@pytest.fixture(scope="module")
def found() -> tuple[pl.DataFrame, dict[str, dict]]:
    whole, kept, sums = tables(HEADS)
    shuffled = kept.sample(fraction=1, shuffle=True, seed=0)
    table = head_statistics("m", shuffled, sums, clean_tokens(whole), TOP, REPLICATES, SEED)
    assert table.schema == {name: column.dtype for name, column in HEAD_STATISTICS.items()}
    assert table["statistic"].to_list() == list(OF_HEADS)
    assert table.select("model", "n_layers", "heads").unique().rows() == [("m", N_LAYERS, len(HEADS))]
    return whole, {row["statistic"]: row for row in table.to_dicts()}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_statistic_and_its_interval_are_those_of_the_drawn_documents(found, name):
    whole, rows = found
    top, by_hand = BY_HAND[name]
    draws = Draws.of(whole["document"], REPLICATES, SEED)
    tables_of = [drawn(whole, draws, sample) for sample in range(len(draws.weights))]
    again = draws.estimate(np.array([by_hand(top_tokens(t, TOP) if top else t) for t in tables_of]))
    assert rows[name]["value"] == pytest.approx(float(again.value), rel=1e-5, abs=1e-6)
    if name in SHARES_OF_HEADS:
        ends = again.interval_of_heads(2 if SHARES_OF_HEADS[name] == "late" else len(HEADS))
    elif name in SHARES_OF_TOKENS:
        lengths = top_tokens(whole, TOP).filter(pl.col("layer") == 2)["document"].value_counts()["count"].to_numpy()
        ends = again.interval_of_share(np.asarray(lengths.sum() ** 2 / (lengths**2).sum()))
    else:
        ends = again.interval
    assert (rows[name]["low"], rows[name]["high"]) == pytest.approx(tuple(map(float, ends)), rel=1e-4, abs=1e-5)
    assert ends[0] < ends[1], "the draws differ"


def test_layers_that_were_not_measured_leave_their_statistics_out():
    whole, kept, sums = tables([(0, 1)])
    found = head_statistics("m", kept, sums, clean_tokens(whole), TOP, REPLICATES, SEED)
    rows = {row["statistic"]: row for row in found.to_dicts()}
    for name in ("late_norm_share", "late_heads_repaired", "last_norm_share", "last_layer_responders"):
        assert np.isnan(rows[name]["value"]) and rows[name]["low"] is None, name
    assert np.isfinite(rows["early_repair"]["value"])


def neuron_tokens() -> pl.DataFrame:
    """Tokens of two heads, three documents: the first neuron, the most harmful one, and what all of them add."""
    rows = [
        # layer, head, document, direct effect and change of the first and of the most harmful, top percent, positive
        (2, 0, 0, -1.0, 2.0, 1.0, -3.0, 1.0, 2.0),
        (2, 0, 1, -1.0, 2.0, -1.0, -3.0, 1.0, 4.0),
        (2, 0, 2, 1.0, 2.0, 1.0, -3.0, 0.0, 0.0),
        (2, 0, 2, -1.0, 2.0, 1.0, -3.0, 3.0, 3.0),
        (2, 3, 1, -1.0, 2.0, 1.0, -3.0, 1.0, 1.0),
    ]
    names = ["layer", "head", "document", "first", "change", "harmful_direct_effect", "harmful_change"]
    table = pl.DataFrame(rows, schema=[*names, "top_percent_change", "positive_change"], orient="row")
    arrays = {"neuron_direct_effect": table["first"], "neuron_change": table["change"]}
    listed = {name: np.repeat(values.to_numpy()[:, None], LISTED_NEURONS, 1) for name, values in arrays.items()}
    neurons = np.full((5, LISTED_NEURONS), -1)
    neurons[:, 0] = [7, 7, 8, 7, 9]
    types = {"neuron": pl.Int32} | dict.fromkeys(listed, pl.Float32)
    columns = [
        pl.Series(name, values, dtype=pl.Array(types[name], LISTED_NEURONS))
        for name, values in (listed | {"neuron": neurons}).items()
    ]
    return table.with_columns(*columns, mlp_layer=pl.lit(2), by_direct_effect=pl.lit(True))


def test_statistics_of_neurons_are_means_over_heads_that_were_not_chosen_by_their_repair() -> None:
    reasons = ["most_self_repair", "largest_direct_effect", "configured", "most_noise"]
    chosen = pl.DataFrame({"layer": [0, 2, 2, 1], "head": [0, 0, 3, 1], "reason": reasons})
    other = neuron_tokens().with_columns(by_direct_effect=pl.lit(False), neuron_change=pl.col("neuron_change") * -1)
    tokens = pl.concat([neuron_tokens(), other, neuron_tokens().with_columns(mlp_layer=pl.lit(1))])
    clean = pl.DataFrame({"document": [0, 1, 2, 3]})
    n_layers = pl.DataFrame({"n_layers": [3]})
    table = neuron_statistics("m", tokens, chosen, clean, n_layers, REPLICATES, SEED)
    assert table.schema == {name: column.dtype for name, column in NEURON_STATISTICS.items()}
    values = {(row["layer"], row["head"], row["statistic"]): row["value"] for row in table.to_dicts()}
    assert set(values) == {(*head, name) for head in ((2, 0), (2, 3), (None, None)) for name in OF_NEURONS}
    expected = {
        "first_neuron_anti_erases": (3 / 4, 1.0),
        "mirror_of_first_neuron": (3 / 4, 1.0),
        "erasure_beyond_mirror": (0.0, 0.0),
        "few_neurons_share": ((0.5 + 0.25 + 1) / 3, 1.0),
        "most_frequent_neuron": (3 / 4, 1.0),
    }
    for name, (one, two) in expected.items():
        found = (values[2, 0, name], values[2, 3, name], values[None, None, name])
        assert found == pytest.approx((one, two, (one + two) / 2)), name
    assert (table["low"] <= table["high"]).all()
    nothing = neuron_statistics("m", tokens, chosen.head(1), clean, n_layers, REPLICATES, SEED)
    assert nothing.is_empty() and nothing.schema == table.schema
