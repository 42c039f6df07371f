"""The norm's part by three accountings, against the stream itself and against tables worked out row by row."""

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation.measure import measure
from selfrepair.ablation.schema import ablated_tokens
from selfrepair.analysis import final_norm
from selfrepair.analysis.by_document import group_heads
from selfrepair.analysis.final_norm import ABLATED, CLEAN, MIDPOINT, NUMBERS, PARTS, split_norm, summarise_norm
from selfrepair.analysis.schema import RATIO_BIN
from selfrepair.models.load import load_model
from tests.helpers.samples import with_ranks

LAYERS, HEADS, TOP = 3, 4, 0.3
EPSILON = 1e8  # of a norm, against mean squares of the stream of about one


@pytest.fixture(params=["gpt2_untied", "neox_parallel", "mistral"])
def measured(request, zoo, rows, source):
    model = zoo.folded(request.param)
    return model, measure(model, rows, source)


def token_rows(model, m, rows) -> pl.DataFrame:
    """Token rows of all heads and tokens, as the workflow keeps them, with the bias of the unembedding."""
    shape = m.direct_effect.shape
    layer, head, row, pos = (
        index.flatten().numpy() for index in torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    )
    columns = {
        "logit": m.logit.expand(shape),
        "scale": m.scale.expand(shape),
        "ablated_scale": m.ablated_scale,
        "own_scale": m.own_scale,
        "direct_effect": m.direct_effect,
        "ablated_direct_effect": m.direct_effect + m.delta_direct_effect,
        "repair_norm": m.repair_norm,
        "repair_attention": m.repair_attention.sum(2),
        "repair_mlp": m.repair_mlp.sum(2),
        "delta_logit": m.delta_logit,
        "bias": model.b_U[rows[:, 1:]].expand(shape),
    }
    values = {name: value.flatten().numpy() for name, value in columns.items()}
    return pl.DataFrame({"layer": layer, "head": head, "row": row, "pos": pos} | values)


def test_every_accounting_sums_to_the_change_of_the_logit(measured, rows):
    model, m = measured
    split = split_norm(token_rows(model, m, rows))
    for accounting in (CLEAN, ABLATED, MIDPOINT):
        total = split.select(pl.sum_horizontal(f"{part}_{accounting}" for part in PARTS)).to_series()
        np.testing.assert_allclose(total, split["delta_logit"], atol=2e-5)


def test_parts_are_those_of_the_stream(measured, rows, source):
    """Recomputed from the streams of a head of the first layer: dot products over one scale or the other."""
    model, m = measured
    layer, head = 0, 1
    inputs = rows[:, :-1]
    v, _ = model.unembedding(rows[:, 1:])
    clean = stream(model, inputs, None)
    z = model.attention_heads(model.layers[0], model.embed(inputs))
    replaced = z.clone()
    replaced[:, :, head] = z[source][:, :, head]
    ablated = stream(model, inputs, replaced)
    delta_own = (replaced[:, :, head] - z[:, :, head]) @ model.layers[0].W_O[head]
    s, s_ablated, s_own = model.scale(clean), model.scale(ablated), model.scale(clean + delta_own)
    of_head = split_norm(token_rows(model, m, rows)).filter(layer=layer, head=head).sort("row", "pos")
    wanted = {
        "ratio": s / s_ablated,
        f"own_{ABLATED}": (delta_own * v).sum(-1) / s_ablated,
        f"norm_{ABLATED}": (clean * v).sum(-1) * (1 / s_ablated - 1 / s),
        f"norm_{CLEAN}": (ablated * v).sum(-1) * (1 / s_ablated - 1 / s),
        "norm_own": ((clean + delta_own) * v).sum(-1) * (1 / s_own - 1 / s),
    }
    wanted["norm_responders"] = wanted[f"norm_{CLEAN}"] - wanted["norm_own"]
    assert wanted["norm_own"].abs().max() > 1e-3
    for name, value in wanted.items():
        np.testing.assert_allclose(of_head[name], value.flatten(), rtol=1e-3, atol=3e-5, err_msg=name)


def stream(model, inputs, replaced):
    """The final stream, with z of the first layer replaced if it is given."""
    resid = model.embed(inputs)
    for index, layer in enumerate(model.layers):
        z = model.attention_heads(layer, resid)
        if index == 0 and replaced is not None:
            z = replaced
        resid, _ = model.resid_post(layer, resid, model.attention_out(layer, z))
    return resid


@pytest.fixture
def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Token rows of four heads on six documents, and the clean tokens of the run."""
    generator = np.random.default_rng(3)
    n = 240
    place = np.arange(n)
    clean = pl.DataFrame(
        {
            "row": (place // 20).astype(np.int32),
            "pos": (place % 20).astype(np.int16),
            "document": (place // 40).astype(np.int32),
            "bias": generator.normal(size=n).astype(np.float32),
        }
    )
    parts = []
    for layer, head in ((0, 0), (0, 1), (2, 0), (2, 3)):
        numbers = {name: generator.normal(size=n).astype(np.float32) for name in NUMBERS}
        numbers |= {
            name: generator.uniform(0.8, 1.2, n).astype(np.float32) for name in ("scale", "ablated_scale", "own_scale")
        }
        key = {"layer": np.full(n, layer, np.int16), "head": np.full(n, head, np.int16)}
        flags = {"control": generator.random(n) < 0.5}
        parts.append(clean.drop("bias").with_columns(**{k: pl.Series(v) for k, v in (key | flags | numbers).items()}))
    return with_ranks(pl.concat(parts), TOP, 1), clean


def found(table: pl.DataFrame, **wanted: object) -> dict:
    (row,) = table.filter(pl.col(name).eq_missing(value) for name, value in wanted.items()).to_dicts()
    return row


@pytest.mark.parametrize(
    ("group", "members"),
    [
        ({"heads": "one", "layer": 2, "head": 3}, [(2, 3)]),
        ({"heads": "layer", "layer": 0, "head": None}, [(0, 0), (0, 1)]),
        ({"heads": "later half", "layer": None, "head": None}, [(2, 0), (2, 3)]),
        ({"heads": "all", "layer": None, "head": None}, [(0, 0), (0, 1), (2, 0), (2, 3)]),
    ],
)
def test_statistics_are_those_of_the_tokens(tables, group, members):
    tokens, clean = tables
    table = summarise_norm("m", "zero", LAYERS, tokens, clean, TOP, 200, 1).norm
    assert set(table["ablation"]) == {"zero"} and set(table["n_layers"]) == {LAYERS}
    for name, flag in (("top", "selected"), ("control", "control")):
        rows = tokens.filter(flag).join(clean.select("row", "pos", "bias"), on=["row", "pos"])
        rows = pl.concat([rows.filter(layer=layer, head=head) for layer, head in members])
        logit, bias, s, s2, s3 = (
            rows[n].to_numpy().astype(float) for n in ("logit", "bias", "scale", "ablated_scale", "own_scale")
        )
        effect = rows["direct_effect"].to_numpy().astype(float)
        own = rows["ablated_direct_effect"].to_numpy().astype(float) - effect
        norm = rows["repair_norm"].to_numpy().astype(float)
        by_ablated = (logit - bias) * (s / s2 - 1)
        mlp = rows["repair_mlp"].to_numpy().astype(float)
        through_head = (logit - bias + own) * (s / s3 - 1)
        wanted = {
            (None, "scale_ratio", "mean"): (s / s2).mean(),
            (None, "scale_ratio", "above_1"): (s > s2).mean(),
            (CLEAN, "norm", "mean"): norm.mean(),
            (ABLATED, "norm", "share"): by_ablated.sum() / effect.sum(),
            (MIDPOINT, "norm", "mean"): (norm + by_ablated).mean() / 2,
            (ABLATED, "mlp", "mean"): (mlp * s / s2).mean(),
            (CLEAN, "norm_own", "mean"): through_head.mean(),
            (CLEAN, "norm_responders", "share"): (norm - through_head).sum() / effect.sum(),
        }
        for (accounting, quantity, statistic), value in wanted.items():
            row = found(table, **group, tokens=name, accounting=accounting, quantity=quantity, statistic=statistic)
            assert row["value"] == pytest.approx(value, rel=1e-6), (accounting, quantity)
            assert row["n_tokens"] == len(rows) and row["n_documents"] == rows["document"].n_unique()
            if statistic != "share":
                assert row["low"] < row["value"] < row["high"]


def test_intervals_draw_whole_documents(tables):
    """All tokens of a document alike: the interval is that of the mean of six numbers, not of hundreds."""
    tokens, clean = tables
    same = tokens.with_columns(
        scale=1 + pl.col("document").cast(pl.Float32) / 10, ablated_scale=pl.lit(1, pl.Float32), control=True
    )
    row = found(
        summarise_norm("m", "zero", LAYERS, same, clean, TOP, 2000, 1).norm,
        heads="all", layer=None, head=None, tokens="control", accounting=None, quantity="scale_ratio", statistic="mean",
    )  # fmt: skip
    spread, t = np.arange(6).std() / 10 / 6**0.5, 2.571 * (6 / 5) ** 0.5  # of as many degrees of freedom
    assert (row["high"] - row["low"]) / (2 * t) == pytest.approx(spread, rel=0.1)


def test_histogram_counts_each_token_once_in_its_bin(tables):
    tokens, clean = tables
    histogram = summarise_norm("m", "zero", LAYERS, tokens, clean, TOP, 100, 1).norm_histogram
    assert histogram["bin"].n_unique() > 50
    for row in histogram.to_dicts():
        flag = {"top": "selected", "control": "control"}[row["tokens"]]
        of_head = tokens.filter(flag, layer=row["layer"], head=row["head"])
        ratio = of_head["scale"].to_numpy().astype(float) / of_head["ablated_scale"].to_numpy()
        low = row["bin"] * RATIO_BIN
        assert row["count"] == ((ratio >= low) & (ratio < low + RATIO_BIN)).sum() > 0
    counts = tokens.select(pl.col("selected", "control").sum()).row(0)
    assert (histogram.filter(tokens="top")["count"].sum(), histogram.filter(tokens="control")["count"].sum()) == counts


def test_heads_are_grouped_by_layer_and_half():
    grouping = group_heads([(0, 1), (3, 0), (3, 2)], 6)
    members = {
        tuple(group): list(np.flatnonzero(column))
        for group, column in zip(grouping.groups, grouping.members.T, strict=True)
    }
    assert members[("one", 3, 0)] == [1] and members[("layer", 3, None)] == [1, 2]
    assert members[("later half", None, None)] == [1, 2] and members[("all", None, None)] == [0, 1, 2]
    assert ("later half", None, None) not in map(tuple, group_heads([(0, 1)], 6).groups)


def test_no_column_is_read_that_is_not_kept():
    assert set(final_norm.READ) <= set(ablated_tokens(LAYERS))


@pytest.mark.parametrize(("name", "epsilon"), [("llama_mha", "rms_norm_eps"), ("gpt2", "layer_norm_epsilon")])
def test_a_norm_whose_scale_is_constant_repairs_nothing(zoo, rows, source, tmp_path, name, epsilon):
    """The control of the norm question: with so large an epsilon every norm is a linear map, and so has no part."""
    model = zoo.hugging_face(name)
    setattr(model.config, epsilon, EPSILON)
    for key, weight in model.named_parameters():
        if weight.ndim == 1 and key.endswith("weight"):
            weight.data *= EPSILON**0.5
        elif weight.ndim == 2:
            weight.data *= 0.4  # or the stream, which is not normalised any more, would grow from layer to layer
    model.save_pretrained(tmp_path / name)
    m, usual = (measure(loaded, rows, source) for loaded in (load_model(tmp_path / name), zoo.folded(name)))
    size = m.self_repair.abs().max()
    assert (m.scale / EPSILON**0.5 - 1).abs().max() < 1e-6
    assert size > 1e-3, "later parts do respond"
    assert m.repair_norm.abs().max() < 1e-4 * size
    assert usual.repair_norm.abs().max() > 0.1 * usual.self_repair.abs().max()
