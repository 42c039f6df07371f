"""Adaptation or artefact: distances, near and far rows, sums against plain passes, and what is made of them."""

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation.adaptation import Usual, after_attention, displace, near_and_far, save_loss
from selfrepair.ablation.distributions import top_tokens
from selfrepair.ablation.schema_family import DISPLACED, FAR, LOSS_SUMS, MEAN, NEAR, OTHER, REPLACEMENTS, ZERO
from selfrepair.analysis.adaptation import OF_THIRD, weigh_adaptation
from selfrepair.analysis.schema_family import EVIDENCE
from selfrepair.tokens.rows import SampledTokens

ROWS, LENGTH, FRACTION = 40, 12, 0.1


def sampled() -> SampledTokens:
    """Random rows, two of each document."""
    generator = torch.Generator().manual_seed(5)
    body = torch.randint(1, 97, (ROWS, LENGTH - 1), generator=generator)
    tokens = torch.cat([torch.zeros(ROWS, 1, dtype=torch.long), body], 1)
    row, pos = (a.ravel() for a in np.meshgrid(np.arange(ROWS), np.arange(LENGTH), indexing="ij"))
    table = pl.DataFrame({"row": row, "pos": pos, "token": tokens.flatten().numpy(), "document": row // 2})
    pairs = pl.DataFrame({"row": np.arange(ROWS), "source": np.roll(np.arange(ROWS), 3)})
    return SampledTokens(table, pairs, pl.DataFrame())


@torch.no_grad()
def replaced(model, tokens, layer, head, new):
    """The stream after the layer's attention with a head's z replaced, by a pass of its own; and the logits' change."""
    changed, clean = [], []
    for streams, swap in ((clean, False), (changed, True)):
        resid = model.embed(tokens[:, :-1])
        for index, block in enumerate(model.layers):
            z = model.attention_heads(block, resid).clone()
            if swap and index == layer:
                z[:, :, head] = new
            attention = model.attention_out(block, z)
            streams.append(resid + attention)
            resid, _ = model.resid_post(block, resid, attention)
        streams.append((model.final(resid) @ model.W_U + model.b_U).gather(-1, tokens[:, 1:, None])[..., 0])
    return clean[layer], changed[layer], changed[-1] - clean[-1]


@pytest.mark.parametrize("architecture", ["gpt2", "neox_parallel", "llama_gqa"])
def test_sums_are_those_of_passes_of_their_own(zoo, architecture):
    model, drawn = zoo.folded(architecture), sampled()
    table = displace(model, drawn, FRACTION)
    assert table.schema == {name: column.dtype for name, column in DISPLACED.items()}
    assert set(table["replacement"]) == set(REPLACEMENTS) and set(table["third"]) == {0, 1, 2}
    tokens = torch.from_numpy(drawn.tokens["token"].to_numpy().reshape(ROWS, LENGTH).copy())
    measured, source = torch.arange(0, ROWS, 2), torch.from_numpy(drawn.rows["source"].to_numpy().copy())
    top, _ = top_tokens(model, tokens[measured], model.heads, int(FRACTION * len(measured) * (LENGTH - 1)))
    usual = Usual.of(after_attention(model, tokens)[:, 1::2])
    layer = 1
    block = model.layers[layer]
    resid = model.embed(tokens[:, :-1])
    first = model.attention_out(model.layers[0], model.attention_heads(model.layers[0], resid))
    resid, _ = model.resid_post(model.layers[0], resid, first)
    z = model.attention_heads(block, resid)
    wanted = {
        name: dict.fromkeys(("clean_distance", "ablated_distance", "relative_change", "change"), 0.0)
        for name in (OTHER, ZERO)
    }
    for head in range(model.n_heads):
        chosen = top[model.heads.index((layer, head))]
        for name, new in ((OTHER, z[source][measured][:, :, head]), (ZERO, torch.zeros_like(z[measured][:, :, head]))):
            clean, changed, logit = replaced(model, tokens[measured], layer, head, new)
            of = wanted[name]
            of["clean_distance"] += usual.distance(layer, clean)[chosen].sum().item()
            of["ablated_distance"] += usual.distance(layer, changed)[chosen].sum().item()
            of["relative_change"] += ((changed - clean).norm(dim=-1) / clean.norm(dim=-1))[chosen].sum().item()
            of["change"] += logit[chosen].sum().item()
    for name, of in wanted.items():
        found = table.filter(replacement=name, layer=layer)
        assert found["n"].sum() == top[[model.heads.index((layer, h)) for h in range(model.n_heads)]].sum()
        sums = {column: found[column].sum() for column in of if column != "change"}
        assert sums | {"change": (found["self_repair"] - found["removed"]).sum()} == pytest.approx(
            of, rel=1e-4, abs=1e-3
        )
    parts = pl.col("repair_norm") + pl.col("repair_attention") + pl.col("repair_mlp")
    assert table.select((parts - pl.col("self_repair")).abs().max()).item() < 1e-3


def test_the_norms_own_part_is_all_of_it_where_nothing_else_responds(zoo):
    """In the last layer of a parallel model only the norm repairs, and the closed form is exact."""
    table = displace(zoo.folded("neox_parallel"), sampled(), FRACTION).filter(layer=2)
    difference = (table["repair_norm_own"] - table["self_repair"]).abs()
    assert difference.max() < 1e-3 < table["self_repair"].abs().max()
    bare = displace(zoo.folded("selfrepair_bare"), sampled(), FRACTION)
    assert bare["repair_norm_own"].abs().max() == 0


@pytest.mark.parametrize(
    ("third", "distance"),
    [
        ("third", pl.col("ablated_distance")),
        ("third_displaced", pl.col("ablated_distance") - pl.col("clean_distance")),
    ],
)
def test_thirds_are_of_each_heads_tokens_by_distance(zoo, third, distance):
    table = displace(zoo.folded("gpt2"), sampled(), FRACTION)
    by = table.group_by("replacement", "layer", third).agg(pl.col("n").sum(), distance=distance.sum()).sort(third)
    for _, of in by.group_by("replacement", "layer"):
        assert (of["distance"] / of["n"]).is_sorted() and of["n"].max() - of["n"].min() <= 2 * 4


def test_a_usual_stream_lies_at_one():
    """Whatever the scales and correlations of the coordinates, and though one direction never varies."""
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(6, 6, generator=generator)
    mix[:, 0] = 0
    streams = torch.randn(1, 2000, 2, 6, generator=generator) @ mix + 5
    usual = Usual.of(streams)
    assert usual.whiten[0].shape == (6, 5)
    assert usual.distance(0, streams[0, :, 1]).mean().item() == pytest.approx(1, abs=0.02)
    assert usual.distance(0, usual.mean[0]).item() == pytest.approx(0, abs=1e-6)


def test_near_and_far_rows_are_of_other_documents():
    streams = torch.tensor([0.0, 0.1, 1.0, 5.0, 8.9]).view(1, 5, 1, 1).expand(1, 5, 3, 1)
    usual = Usual(torch.zeros(1, 1), [torch.ones(1, 1)])
    documents = torch.tensor([[0, 0, 1], [1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 0]])
    found = near_and_far(usual, streams, documents)
    assert found[NEAR].tolist() == [2, 2, 1, 4, 3]
    assert found[FAR].tolist() == [3, 4, 4, 0, 1]


def test_losses_are_of_the_later_half_only(zoo):
    model = zoo.folded("gpt2")
    table = save_loss(model, "text", sampled(), FRACTION, 100)
    assert table.schema == {name: column.dtype for name, column in LOSS_SUMS.items()}
    late = [layer for layer, _ in model.heads if 2 * layer >= model.n_layers]
    count = dict(table.group_by("tokens").agg(pl.col("n").sum()).rows())
    assert count == {"top": len(late) * int(FRACTION * ROWS * (LENGTH - 1)), "all": len(late) * 100}


def made_up(folder, seed: int, far: float):
    """A training of a base whose repair is 0.2, and `far` with far rows and for far tokens."""
    rows = [
        (
            name,
            layer,
            third,
            2 - third,
            document,
            1,
            2.0,
            2.0 + third,
            *rest,
            *(repair * p for p in (1.0, 0.5, 0.3, 0.2)),
        )
        for name in REPLACEMENTS
        for layer in range(4)
        for third in range(3)
        for document in range(12)
        for repair in [10 * (far if name == FAR or third == 2 else 0.2)]
        for rest in [(0.5, 10.0, 1.0)]
    ]
    losses = [("text", tokens, d, 2, 4.0, 5.0, 6.0 + (d % 2)) for tokens in ("top", "all") for d in range(10)]
    for name, schema, values in (("displaced", DISPLACED, rows), ("losses", LOSS_SUMS, losses)):
        dtypes = {column: of.dtype for column, of in schema.items()}
        (folder / f"base-{seed}").mkdir(exist_ok=True)
        pl.DataFrame(values, dtypes, orient="row").write_parquet(folder / f"base-{seed}" / f"{name}.parquet")
    (folder / f"base-{seed}" / "adaptation.json").write_text('{"d_vocab": 97}')
    return folder / f"base-{seed}"


def test_evidence_is_ratios_of_sums_of_each_seed_and_their_mean(tmp_path):
    shares = {1: 0.4, 2: 0.5, 3: 0.6}
    table = weigh_adaptation([made_up(tmp_path, seed, far) for seed, far in shares.items()], 200, 1)
    assert table.schema == {name: column.dtype for name, column in EVIDENCE.items()}

    def value(seed=None, **which):
        rows = table.filter(
            pl.col("seed").is_null() if seed is None else pl.col("seed") == seed, pl.col("layer").is_null(), **which
        )
        return rows["value"].item()

    assert value(1, statistic="repair", of=NEAR) == pytest.approx((0.2 + 0.2 + 0.4) / 3)
    assert value(statistic="far_minus_near", of="distance") == 0
    assert value(statistic="most_minus_least_displaced_third") == pytest.approx(-0.3)
    assert value(statistic="norm", of=OTHER) == pytest.approx((0.2 + 0.2 + 0.5) / 3 / 2)
    assert value(statistic="gain_on_guessing", of="text", tokens="all") == pytest.approx(np.log(97) - 2)
    assert value(statistic="far_minus_near", of="repair") == pytest.approx(0.5 - (0.2 + 0.2 + 0.5) / 3)
    assert value(statistic="last_minus_first_third") == pytest.approx(0.3)
    assert [value(2, statistic="repair", of=of) for of in OF_THIRD] == pytest.approx([0.2, 0.2, 0.5])
    assert value(statistic="distance", of=MEAN) == pytest.approx(1.5)
    assert value(statistic="own_norm", of=ZERO) == pytest.approx(0.1)
    assert value(statistic="loss_saved", of="text", tokens="top") == pytest.approx(0.75)
    assert value(statistic="cost_without_repair", of="text", tokens="all") == pytest.approx(1.25)
    low, high = (
        table.filter(pl.col("seed").is_null(), statistic="far_minus_near", of="repair").select("low", "high").row(0)
    )
    assert 0 < low < high, "a difference that all seeds show is told from zero"


def test_two_seeds_have_no_mean(tmp_path):
    table = weigh_adaptation([made_up(tmp_path, seed, 0.3) for seed in (1, 2)], 200, 1)
    assert set(table["seed"]) == {1, 2}
