"""Losses on kept tokens: against logits of a patched model, and their identities; statistics against plain loops."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from selfrepair.ablation import loss as loss_module
from selfrepair.ablation import memory
from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.loss import losses_of_heads
from selfrepair.ablation.schema import LOSS_TOKENS, LOSSES, SELECTED
from selfrepair.ablation.sweep import no_means, sweep
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.loss import summarise_loss
from selfrepair.core.tables import frame
from selfrepair.figures.loss_saved import COST, HEAD, SAVED, TWIN, loss_saved
from tests.helpers.drawings import close, views
from tests.helpers.oracle import z_name
from tests.helpers.samples import drawn
from tests.helpers.study_drawings import loss_table

SELECTED_AT = [(0, 1, 2, 3), (0, 1, 4, 0), (2, 3, 0, 10), (1, 0, 1, 5)]  # layer, head, row, pos


def table_of(model, rows, source, n_rows=5, control=1000, heads=None) -> pl.DataFrame:
    """`losses_of_heads` of plain rows, each a document of its own, with the tokens of `SELECTED_AT` as top tokens."""
    row, pos = (a.ravel() for a in np.meshgrid(np.arange(len(rows)), np.arange(rows.shape[1]), indexing="ij"))
    tokens = pl.DataFrame({"row": row, "pos": pos, "token": rows.flatten().numpy(), "document": row})
    pairs = pl.DataFrame({"row": np.arange(len(rows)), "source": source.numpy()})
    columns = dict(zip(("layer", "head", "row", "pos"), zip(*SELECTED_AT, strict=True), strict=True))
    selected = pl.DataFrame(columns, schema={name: SELECTED[name].dtype for name in columns})
    return losses_of_heads(model, tokens, pairs, selected, heads or model.heads, n_rows, control, 1)


@torch.no_grad()
def patched_losses(bridge, tokens: Tensor, source: Tensor, layer: int, head: int) -> dict[str, Tensor]:
    """The columns of `LOSSES`, from the logits of a model with one head's `hook_z` replaced."""
    _, clean = bridge.run_with_cache(tokens)
    clean = {name: clean[name].clone() for name in clean}
    name = z_name(layer)

    def resampled(z: Tensor, hook: object) -> Tensor:
        z = z.clone()
        z[:, :, head] = clean[name][source][:, :, head]
        return z

    with bridge.hooks(fwd_hooks=[(name, resampled)]):
        ablated = bridge(tokens)
    change = (clean[name][source] - clean[name])[:, :, head] @ bridge.blocks[layer].attn.W_O[head]
    resid = clean[f"blocks.{len(bridge.blocks) - 1}.hook_resid_post"]
    without = (resid + change) / clean["ln_final.hook_scale"] @ bridge.W_U + bridge.b_U
    found, p = {}, bridge(tokens)[:, :-1].double().softmax(-1)
    for logits, called in ((bridge(tokens), "{}"), (ablated, "ablated_{}"), (without, "{}_without_repair")):
        q = logits[:, :-1].double().softmax(-1)
        found[called.format("loss")] = -q.gather(-1, tokens[:, 1:, None])[..., 0].log()
        found[called.format("entropy")] = -(q * q.log()).sum(-1)
        found[called.format("kl").removeprefix("ablated_")] = (p * (p / q).log()).sum(-1)
    return {name: found[name] for name in LOSSES if name in found}


def test_losses_are_those_of_patched_logits(zoo, bridge, rows, source, lens_architecture):
    """Otherwise loss is measured of other distributions than the model's."""
    table = table_of(zoo.folded(lens_architecture), rows, source)
    whole = bridge(lens_architecture)
    for layer, head in [(0, 1), (1, 0), (2, 3)]:
        expected = patched_losses(whole, rows, source, layer, head)
        of_head = table.filter(layer=layer, head=head).sort("row", "pos")
        assert len(of_head) == rows[:, 1:].numel() and list(expected) == list(LOSSES)
        for name, values in expected.items():
            np.testing.assert_allclose(of_head[name], values.flatten(), atol=2e-4, rtol=1e-4, err_msg=name)
        if layer < 2:
            assert (of_head["loss_without_repair"] - of_head["ablated_loss"]).abs().max() > 1e-2


def test_without_repair_the_logit_changes_by_the_direct_effect(zoo, rows, source, architecture):
    """Otherwise "nothing responds" would mean something else in loss than in logits."""
    model = zoo.folded(architecture)
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(5), rows.shape[1] - 1).ordered()

    class Kept:
        def __init__(self) -> None:
            self.clean, self.own, self.ablated = (torch.zeros(jobs.n_tokens, model.d_model) for _ in range(3))

        def wanted(self, at: slice) -> slice:
            return slice(None)

        def record(self, at: slice, clean: Tensor, own: Tensor, ablated: Tensor) -> None:
            self.clean[at], self.own[at], self.ablated[at] = clean, own, ablated

    kept = Kept()
    m = sweep(model, rows, source, "resample", jobs, no_means(model), streams=kept)
    row, pos = jobs.per_token(jobs.row), jobs.pos
    scale, correct = model.scale(kept.clean)[:, None], rows[row, pos + 1][:, None]
    logits = kept.clean / scale @ model.W_U + model.b_U
    torch.testing.assert_close(logits, model.logits(rows)[row, pos], atol=1e-4, rtol=1e-4)
    without = (kept.clean + kept.own) / scale @ model.W_U + model.b_U
    change = (without - logits).gather(-1, correct)[:, 0]
    torch.testing.assert_close(change, m.delta_direct_effect, atol=1e-4, rtol=1e-4)
    ablated = kept.ablated / model.scale(kept.ablated)[:, None] @ model.W_U + model.b_U
    torch.testing.assert_close((ablated - logits).gather(-1, correct)[:, 0], m.delta_logit, atol=1e-4, rtol=1e-4)


def test_where_nothing_responds_nothing_is_saved(zoo, rows, source):
    """A head of the last layer, in parallel blocks and without a final norm, has nothing that could repair it."""
    model = replace(zoo.folded("neox_parallel"), final_norm=False)
    table = table_of(model, rows, source, heads=[(2, 1), (1, 1)]).with_columns(
        saved=pl.col("loss_without_repair") - pl.col("ablated_loss")
    )
    last, before = (table.filter(layer=layer) for layer in (2, 1))
    assert last["saved"].abs().max() < 1e-4 < 1e-2 < before["saved"].abs().max()
    assert (last["kl"] - last["kl_without_repair"]).abs().max() < 1e-4
    assert last["kl"].max() > 1e-2


def test_divergence_and_entropy_lie_where_they_must(zoo, rows, source, architecture):
    table = table_of(zoo.folded(architecture), rows, source)
    assert table.schema == {name: column.dtype for name, column in LOSS_TOKENS.items()}
    for name in ("kl", "kl_without_repair"):
        assert table[name].min() > -1e-5 and table[name].max() > 1e-2
    first = table.filter(pos=0)  # rows share their first token: nothing is ablated there
    assert first.select(pl.col("kl", "kl_without_repair").abs().max()).max_horizontal().item() < 1e-5
    for name in ("entropy", "ablated_entropy", "entropy_without_repair"):
        assert table[name].min() >= 0 and table[name].max() <= np.log(97) + 1e-5


def test_how_work_is_divided_makes_no_difference(zoo, rows, source, monkeypatch):
    """Otherwise results depend on the machine's memory."""
    model = zoo.folded("llama_gqa")
    whole = table_of(model, rows, source, control=30).sort("layer", "head", "row", "pos")
    for at_once in (1, 3):
        monkeypatch.setattr(loss_module, "CHUNK_BYTES", {"cpu": at_once * loss_module.VOCABULARIES * 4 * 97})
        monkeypatch.setattr(memory, "tokens_at_once", lambda *_: 25)
        monkeypatch.setattr(memory, "SMALLEST_CHUNK", 7)
        monkeypatch.setattr(memory, "CHUNK_BYTES", {"cpu": 1})
        parts = table_of(model, rows, source, control=30).sort("layer", "head", "row", "pos")
        assert parts.drop(*LOSSES).equals(whole.drop(*LOSSES))
        for name in LOSSES:
            np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)


def test_top_and_control_tokens_of_spread_rows_are_measured(zoo, rows, source):
    """Otherwise the two samples are not what they are called."""
    table = table_of(zoo.folded("gpt2"), rows, source, n_rows=3, control=7)
    assert set(table["row"]) <= {0, 2, 4} and (table["document"] == table["row"]).all()
    marked = table.filter("selected").select("layer", "head", "row", "pos").rows()
    assert sorted(marked) == sorted(at for at in SELECTED_AT if at[2] in (0, 2, 4))
    of_heads = table.filter("control").partition_by("layer", "head")
    places = {tuple(of_head.select("row", "pos").sort("row", "pos").rows()) for of_head in of_heads}
    assert len(of_heads) == 12 and len(places) == 1 and len(places.pop()) == 7
    assert (table["selected"] | table["control"]).all()


def loss_rows() -> pl.DataFrame:
    """Of heads of layers 0 and 2, of four layers; ten documents."""
    generator = np.random.default_rng(4)
    n = 400
    columns = {
        "layer": np.repeat([0, 2], n // 2),
        "head": generator.integers(0, 2, n),
        "row": np.arange(n),
        "pos": np.zeros(n, int),
        "document": generator.integers(0, 10, n),
        "selected": generator.random(n) < 0.6,
        "control": generator.random(n) < 0.6,
        **{name: generator.normal(size=n) + (name == "loss_without_repair") for name in LOSSES},
    }
    return frame(columns, LOSS_TOKENS)


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    facts = tmp_path_factory.mktemp("facts") / "model.json"
    facts.write_text(json.dumps({"n_layers": 4}))
    return summarise_loss("m", loss_rows(), facts, 200, 1)


def share_saved(rows: pl.DataFrame) -> float:
    saved = sum(row["loss_without_repair"] - row["ablated_loss"] for row in rows.to_dicts())
    return saved / sum(row["loss_without_repair"] - row["loss"] for row in rows.to_dicts())


@pytest.mark.parametrize(
    ("statistic", "tokens", "flag"),
    [("share_of_loss_saved", "top", "selected"), ("saved_on_control", "control", "control")],
)
def test_findings_are_of_the_later_half(summary, statistic, tokens, flag):
    """Otherwise the finding is not the one that was written down."""
    later = loss_rows().filter(pl.col("layer") == 2, flag)
    (row,) = summary.findings.filter(statistic=statistic).to_dicts()
    assert (row["study"], row["tokens"], row["n_documents"]) == ("loss", tokens, 10)
    assert row["value"] == pytest.approx(share_saved(later))
    draws = Draws.of(loss_rows()["document"], 200, 1)
    samples = [share_saved(drawn(later, draws, sample)) for sample in range(len(draws.weights))]
    low, high = draws.estimate(np.array(samples)).interval
    assert (row["low"], row["high"]) == pytest.approx((float(low), float(high)))
    assert low < row["value"] < high


def test_every_group_has_its_means(summary):
    groups = {(None, None): "all", (2, None): "layer", (2, 1): "one"}
    for (layer, head), heads in groups.items():
        where = {name: value for name, value in (("layer", layer), ("head", head)) if value is not None}
        rows = loss_rows().filter("selected", **where)
        of_group = summary.losses.filter(heads=heads, tokens="top", statistic="mean").filter(
            *(pl.col(name) == value for name, value in where.items())
        )
        values = dict(of_group.select("quantity", "value").rows())
        for name in LOSSES:
            assert values[name] == pytest.approx(rows[name].cast(pl.Float64).mean(), rel=1e-5), name
        assert values["loss_saved"] == pytest.approx(values["loss_without_repair"] - values["ablated_loss"])
        assert values["cost"] == pytest.approx(values["ablated_loss"] - values["loss"])
        assert values["cost_without_repair"] == pytest.approx(values["cost"] + values["loss_saved"])
        assert set(of_group["n_tokens"]) == {len(rows)}


@pytest.mark.parametrize("model", ["one", "two"])
def test_figure_shows_top_tokens_and_the_twin_beside_its_model(model):
    """Otherwise a line would be another quantity than its legend says."""
    found: dict[str, list[tuple]] = {}
    for view in views(loss_saved(loss_table()).to_dict()):
        y = view["encoding"]["y"].get("field")
        if model in view["titles"] and y == "value":
            series = view["transform"][0]["calculate"].strip("'")
            found[series] = sorted((row["layer"], row["value"], row["low"], row["high"]) for row in view["rows"])
    wanted = {
        HEAD: (model, "one", "loss_saved"),
        SAVED: (model, "layer", "loss_saved"),
        COST: (model, "layer", "cost_without_repair"),
        TWIN: (f"{model}-shuffled", "layer", "loss_saved"),
    }
    for series, (name, heads, quantity) in wanted.items():
        table = loss_table().filter(model=name, heads=heads, quantity=quantity, tokens="top", statistic="mean")
        expected = sorted(table.select("layer", "value", "low", "high").rows())
        if name == "two-shuffled":
            assert not found[series] and not expected  # a model whose twin was not measured
        else:
            close(found[series], expected)
