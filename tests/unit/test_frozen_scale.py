"""Freezing the final scale does what the sweep calls the norm's part, and a wrong part is noticed."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation import frozen_norm as frozen_scale
from selfrepair.ablation.chosen_heads import most_repaired
from selfrepair.ablation.clean import mean_z
from selfrepair.ablation.frozen_norm import NormCheckError, compare_freezing, freeze_scale
from selfrepair.ablation.measure import measure
from selfrepair.ablation.schema import NORM_CHECK

ABLATIONS = ["resample", "zero", "mean"]


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_freezing_takes_away_the_norms_part(zoo, architecture, rows, source, ablation):
    model = zoo.folded(architecture)
    m, means = measure(model, rows, source, ablation), mean_z(model, rows)
    largest = m.logit.abs().max()
    for layer, head in ((0, 1), (1, 3), (2, 0)):
        run = freeze_scale(model, rows, rows[source], ablation, (layer, head), means[layer, head])
        effect = m.repair_norm[layer, head]
        assert (effect.abs().max() > 1e-3) == model.final_norm
        torch.testing.assert_close(run.ablated - run.frozen, effect, rtol=0, atol=float(1e-4 * largest))
        torch.testing.assert_close(
            run.ablated - run.clean, m.delta_logit[layer, head], rtol=0, atol=float(1e-4 * largest)
        )
        torch.testing.assert_close(run.clean, m.logit, rtol=0, atol=float(1e-4 * largest))


@pytest.fixture
def tables(zoo, rows, source) -> tuple:
    """A model, tokens and rows as tables, and token rows of which some are kept."""
    model = zoo.folded("gpt2")
    m = measure(model, rows, source)
    row, pos = (index.flatten() for index in torch.meshgrid(torch.arange(5), torch.arange(12), indexing="ij"))
    tokens = pl.DataFrame({"row": row.numpy(), "pos": pos.numpy(), "token": rows.flatten().numpy()})
    pairs = pl.DataFrame({"row": np.arange(5), "source": source.numpy()})
    kept = pl.concat(
        pl.DataFrame(
            {
                "layer": np.full(55, layer),
                "head": np.full(55, head),
                "row": np.repeat(np.arange(5), 11),
                "pos": np.tile(np.arange(11), 5),
                "selected": np.arange(55) % 11 < np.repeat([1, 3, 0, 2, 3], 11),
                "repair_norm": m.repair_norm[layer, head].flatten().numpy(),
            }
        )
        for layer, head in ((1, 2), (2, 1))
    )
    return model, tokens, pairs, kept.filter(pl.col("pos") % 3 != 1), m


def test_check_reads_what_was_measured(tables):
    model, tokens, pairs, kept, m = tables
    table = compare_freezing(model, tokens, pairs, kept, "resample", [(1, 2), (2, 1)], 2, torch.zeros(3, 4, 8))
    assert list(table.columns) == list(NORM_CHECK) and table["ablation"].to_list() == ["resample"] * 2
    # Most selected tokens at positions that were kept: rows 1 and 4 have two each.
    for row in table.to_dicts():
        of_rows = kept.filter(pl.col("row").is_in([1, 4]), layer=row["layer"], head=row["head"])
        assert row["n_tokens"] == len(of_rows) == 14
        assert row["repair_norm"] == pytest.approx(of_rows["repair_norm"].mean(), abs=1e-6)
        assert row["freezing"] == pytest.approx(row["repair_norm"], abs=1e-4) and abs(row["freezing"]) > 1e-4
        assert row["largest_logit"] == pytest.approx(m.logit[[1, 4]].abs().max().item(), rel=1e-5)
        assert row["largest_deviation"] <= frozen_scale.TOLERANCE * row["largest_logit"]


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_wrong_part_of_the_norm_is_refused(tables, wrong):
    model, tokens, pairs, kept, _ = tables
    first = (pl.col("row") == 1) & (pl.col("pos") == 3)
    bad = kept.with_columns(
        pl.when(first).then(pl.col("repair_norm") + wrong).otherwise("repair_norm").alias("repair_norm")
    )
    with pytest.raises(NormCheckError, match="gpt2, layer 1, head 2, resample ablation: freezing"):
        compare_freezing(model, tokens, pairs, bad, "resample", [(1, 2)], 2, torch.zeros(3, 4, 8))
    low = replace(model, precision="tf32")  # nothing is promised there: the deviation is only reported
    table = compare_freezing(low, tokens, pairs, bad, "resample", [(1, 2)], 2, torch.zeros(3, 4, 8))
    assert not table["largest_deviation"][0] <= 1e-4 * table["largest_logit"][0]


def test_heads_with_most_self_repair_are_checked():
    repair = [0.1, 0.5, -1.0, 0.3]
    rows = [(0, head, True, 1.0, value) for head, value in enumerate(repair)]
    rows += [(0, 1, True, 1.0, 0.1), (0, 0, False, 1.0, 9.0)]  # what is no top token does not count
    table = pl.DataFrame(rows, schema=["layer", "head", "selected", "direct_effect", "self_repair"], orient="row")
    assert most_repaired(table, 2) == [(0, 1), (0, 3)]
