"""Summaries of neurons against plain loops over tokens; contexts name the right tokens."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from test_neuron_run import FRACTION, HEADS, LAYERS, token_table
from tokenizers import Tokenizer

from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.neurons import ablate_with_neurons
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.neurons import THRESHOLDS, _Tokens, summarise_neurons
from selfrepair.analysis.schema_neurons import (
    ERASURE_NEURONS,
    NEURON_CUMULATIVE,
    NEURON_FREQUENCY,
    NEURON_HISTOGRAMS,
    NEURON_SHARES,
    NEURON_SPARSITY,
)
from selfrepair.tokens.contexts import context
from selfrepair.tokens.tokenizer import decoder

KEYS = ["layer", "head", "mlp_layer"]


def decode(tokens: list[int]) -> str:
    return "".join(f"<{token}>" for token in tokens)


@pytest.fixture(scope="module")
def measured(zoo):
    rows = torch.randint(1, 97, (5, 12), generator=torch.Generator().manual_seed(7))
    rows[:, 0] = 0
    model = zoo.folded("gpt2")
    tokens, pairs = token_table(rows)
    selected = run_clean(model, tokens, FRACTION, 5, 1).selected
    found = ablate_with_neurons(model, tokens, pairs, selected, HEADS, LAYERS, FRACTION)
    return found, tokens, summarise_neurons("m", found.tokens, found.neurons, found.ranks, tokens, decode, 200, 1)


def groups(measured):
    found, _, _ = measured
    for name in ("direct_effect", "top_mlp_repair"):
        for key, rows in found.tokens.filter(f"by_{name}").group_by(KEYS, maintain_order=True):
            yield dict(zip(KEYS, key, strict=True)) | {"token_set": name}, rows.to_dicts()


def test_tables_have_their_schemas_and_intervals_hold_the_values(measured):
    summary = measured[2]
    for name, schema in {
        "sparsity": NEURON_SPARSITY,
        "histograms": NEURON_HISTOGRAMS,
        "shares": NEURON_SHARES,
        "cumulative": NEURON_CUMULATIVE,
        "frequency": NEURON_FREQUENCY,
        "erasure": ERASURE_NEURONS,
    }.items():
        table = getattr(summary, name)
        assert table.schema == {n: c.dtype() if isinstance(c.dtype, type) else c.dtype for n, c in schema.items()}
        assert len(table) > 0
        known = table.drop_nulls(["low", "high"]).filter(pl.col("low").is_finite())
        assert (known["low"] <= known["high"]).all()
        assert ((known["value"] >= known["low"] - 1e-9) & (known["value"] <= known["high"] + 1e-9)).mean() > 0.9


def test_sparsity_is_the_share_of_tokens_above_each_threshold(measured):
    seen = 0
    for key, rows in groups(measured):
        table = measured[2].sparsity.filter(**key)
        for threshold in THRESHOLDS:
            values = table.filter(threshold=threshold).sort("rank")["value"].to_list()
            for rank in (0, 1, 7, 49):
                above = [row["neuron_change"][rank] > threshold * row["direct_effect"] for row in rows]
                assert values[rank] == pytest.approx(np.mean(above))
                seen += 1
        assert set(table["n_tokens"]) == {len(rows)}
        assert set(table["n_documents"]) == {len({row["document"] for row in rows})}
    assert seen > 100


def test_histograms_and_means_of_shares_are_counts_over_tokens(measured):
    ratios = {
        "mlp_share": ("repair_mlp", "self_repair", 1.0, 20),
        "top_percent_share": ("top_percent_change", "positive_change", 1.0, 20),
        "top_5_share": ("top_5_change", "repair_mlp", 3.0, 30),
        "top_5_share_of_layer": ("top_5_change", "mlp_change", 3.0, 30),
    }
    clipped = 0
    for key, rows in groups(measured):
        for name, (over, under, top, bins) in ratios.items():
            values = [min(max(row[over] / row[under], 0), top) for row in rows if row[under] > 0]
            clipped += sum(value == top for value in values)
            table = measured[2].histograms.filter(quantity=name, **key).sort("bin_low")
            counts, _ = np.histogram(values, bins, (0, top))
            assert table["value"].to_list() == pytest.approx((counts / max(1, len(values))).tolist(), nan_ok=not values)
            if values:
                mean = measured[2].shares.filter(quantity=name, **key)
                assert mean["value"].item() == pytest.approx(np.mean(values))
                assert mean["n_tokens"].item() == len(values)
    assert clipped > 0, "the last bin was never tried"


def test_first_ranked_neurons_are_counted(measured):
    for key, rows in groups(measured):
        shares = {row["quantity"]: row["value"] for row in measured[2].shares.filter(**key).to_dicts()}
        erasing = [row["neuron_direct_effect"][0] < 0 for row in rows]
        anti = [row["neuron_direct_effect"][0] < 0 < row["neuron_change"][0] for row in rows]
        assert shares["first_erasing"] == pytest.approx(np.mean(erasing))
        assert shares["first_anti_erasing"] == pytest.approx(np.mean(anti))
        ratios = sorted(row["positive_change"] / row["mlp_change"] for row in rows)
        assert shares["median_positive_over_net"] == pytest.approx(ratios[(len(ratios) - 1) // 2], rel=1e-5)


def test_cumulative_shares_agree_with_the_listed_neurons(measured):
    """Two ways to the same number: sums while measuring, and the token rows that the interval is made from."""
    for key, rows in groups(measured):
        table = measured[2].cumulative.filter(**key).sort("rank")
        listed = np.array([row["neuron_change"] for row in rows])
        shares = np.abs(listed).cumsum(1) / np.array([[row["absolute_change"]] for row in rows])
        assert table["value"].to_numpy()[:50] == pytest.approx(shares.mean(0), rel=1e-4)
        assert table["low"].null_count() == len(table) - 50
        assert table["value"][-1] == pytest.approx(1, abs=1e-5)


def test_frequencies_are_shares_of_tokens(measured):
    for key, rows in groups(measured):
        table = measured[2].frequency.filter(**key).sort("place")
        counts = np.bincount([neuron for row in rows for neuron in row["neuron"][:10]], minlength=128) / len(rows)
        assert table["value"].to_list() == pytest.approx(np.sort(counts)[::-1][:20].tolist())
        assert [counts[neuron] for neuron in table["neuron"]] == pytest.approx(table["value"].to_list())


def test_erasure_neurons_erase_and_come_with_their_strongest_tokens(measured):
    found, tokens, summary = measured
    matrix = tokens["token"].to_numpy().reshape(5, 12)
    for (layer, head, name), table in summary.erasure.group_by("layer", "head", "token_set", maintain_order=True):
        pool = found.neurons.filter(layer=layer, head=head, token_set=name)
        best = pool.filter((pl.col("direct_effect") < 0) & (pl.col("change") > 0)).sort("change", descending=True)
        assert table.select("mlp_layer", "neuron").rows() == best.head(5).select("mlp_layer", "neuron").rows()
        first = table.row(0, named=True)
        neuron = best.row(0, named=True)
        assert first["ablated_direct_effect"] == pytest.approx(neuron["direct_effect"] + neuron["change"])
        assert first["value"] == pytest.approx(neuron["top_10"])
        rows = found.tokens.filter(f"by_{name}", layer=layer, head=head, mlp_layer=neuron["mlp_layer"]).to_dicts()
        at = [
            (row["neuron_change"][row["neuron"].index(neuron["neuron"])], row)
            for row in rows
            if neuron["neuron"] in row["neuron"]
        ]
        strongest = max(at, key=lambda pair: pair[0])[1]
        assert first["context_1"] == context(matrix[strongest["row"]], strongest["pos"], decode)


def test_a_context_ends_with_the_predicted_token_and_stays_on_its_line():
    row = np.arange(20)
    assert context(row, 10, decode) == "<3><4><5><6><7><8><9><10> >> <11>"
    assert context(row, 1, decode) == "<0><1> >> <2>"
    assert context(row, 1, lambda tokens: "a\n\\\tb") == r"a\n\\\tb >> a\n\\\tb"


def test_documents_are_drawn_whole():
    """Otherwise intervals are too narrow: the tokens of a document are alike."""
    rows = pl.DataFrame({"any": [0, 0, 0, 0]})
    draws = Draws(np.arange(2), np.array([[1, 1], [2, 0], [0, 2], [1, 1]]), 3)
    found = _Tokens({}, rows, np.array([0, 0, 0, 1]), draws).mean(np.array([[0.0], [0.0], [0.0], [1.0]]))
    assert found.samples[:, 0].tolist() == [0.25, 0.0, 1.0, 0.25]


def test_tokens_become_text_by_the_models_own_tokenizer():
    folder = Path(__file__).parents[2] / "workflow/resources/models/tiny-gpt2"
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("def f(x):\n    return 'é' + x , y").ids
    assert decoder(folder)(tokens) == "def f(x):\n    return 'é' + x , y"
