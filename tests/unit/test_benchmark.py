"""The benchmark measures what it says: methods that agree, arithmetic that is counted right, pages made from tables."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from selfrepair.ablation.measure import measure
from selfrepair.benchmark.authors import AuthorsProcedure
from selfrepair.benchmark.compare import check_agreement, compare_methods, largest_differences, spread_heads
from selfrepair.benchmark.costs import count_weights, extrapolate_costs
from selfrepair.benchmark.coverage import coverage, synthetic
from selfrepair.benchmark.effects import boot_bridge, effects_of
from selfrepair.benchmark.flops import attention_flops, mlp_flops, sweep_flops
from selfrepair.benchmark.growth import Point, measure_growth, points
from selfrepair.benchmark.hooks import LeanHooks
from selfrepair.benchmark.loading import measure_loading
from selfrepair.benchmark.page import page, recommendation
from selfrepair.benchmark.precision import compare_precisions
from selfrepair.benchmark.random_model import SHAPES, Shape, random_folded, random_rows, row_before, save_random_model
from selfrepair.benchmark.responders import cost as responders_cost
from selfrepair.benchmark.schema import LATER_HEADS, LOADING, MACHINE, QUANTITIES, SELECTED, read_tables, write_table
from selfrepair.benchmark.selected import selected_gain
from selfrepair.benchmark.training import training
from selfrepair.core.tables import frame
from selfrepair.models.load import load_model
from selfrepair.tokens.rows import sample_tokens

ROOT = Path(__file__).parents[2]
TINY = Shape("gpt2", n_layers=2, n_heads=2, d_model=16, d_mlp=24, d_vocab=50, max_positions=32)
GATED = replace(TINY, family="llama")


@pytest.mark.parametrize("method", [AuthorsProcedure, LeanHooks])
@pytest.mark.parametrize("architecture", ["gpt2", "neox_parallel", "llama_mha"])
def test_patching_one_head_at_a_time_finds_what_the_sweep_finds(zoo, rows, source, architecture, method):
    """Otherwise the methods that are timed side by side do not do the same work."""
    m = measure(zoo.folded(architecture), rows, source)
    patching = method(boot_bridge(zoo.folder(architecture)), rows, source)
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    found, expected = [patching.ablate(*head) for head in heads], [effects_of(m, *head) for head in heads]
    differences = largest_differences(found, expected)
    assert set(differences) == set(QUANTITIES)
    assert max(differences.values()) < 1e-4
    assert all(getattr(effects, q).abs().max() > 1e-2 for effects in expected[:4] for q in QUANTITIES)


def test_the_authors_procedure_runs_the_model_four_times_for_a_head(zoo, rows, source):
    """Otherwise it is not theirs (experiments.md e)."""
    bridge = boot_bridge(zoo.folder("gpt2"))
    patching, runs = AuthorsProcedure(bridge, rows, source), []
    bridge.ln_final.hook_scale.add_hook(lambda scale, hook: runs.append(len(scale)), is_permanent=True)
    patching.ablate(1, 2)
    assert runs == [len(rows)] * 4


def test_a_difference_from_the_sweep_stops_the_benchmark():
    """Otherwise a method could be fast by being wrong; NaN is a difference too."""
    check_agreement({"hooks": {"self_repair": 1e-4}})
    for size in (2e-3, float("nan")):
        with pytest.raises(ArithmeticError, match="hooks: self_repair"):
            check_agreement({"hooks": {"self_repair": size}})


def test_heads_that_are_compared_span_the_layers():
    assert spread_heads(SHAPES["gpt2-small"], 3) == [(0, 0), (6, 1), (11, 2)]
    assert spread_heads(TINY, 1) == [(0, 0)]


# Arithmetic.


def test_arithmetic_of_a_case_worked_by_hand():
    """Two layers of two heads, width 16, 24 neurons, rows of 5 scored positions, which attend to 3 on average."""
    attention = 2 * 16 * (48 + 16) + 4 * 16 * 3
    mlp = 2 * 16 * 24 * 2
    own = 2 * 8 * 16
    shared = 2 * (attention + mlp) / 4
    sequential, parallel = (random_folded("tiny", replace(TINY, family=f), "meta") for f in ("gpt2", "gpt_neox"))
    assert attention_flops(sequential, sequential.layers[0], 5) == attention
    assert mlp_flops(sequential.layers[0]) == mlp
    # Of the first layer's heads a run passes the second; its own MLP only where that comes after attention.
    assert sweep_flops(parallel, 5) == pytest.approx(own + (attention + mlp) / 2 + shared)
    assert sweep_flops(sequential, 5) == pytest.approx(own + mlp + (attention + mlp) / 2 + shared)


def test_arithmetic_of_grouped_queries_gates_and_windows(zoo):
    """Otherwise Llama and Mistral models would be credited with work that they do not do."""
    model = zoo.folded("mistral")
    layer = model.layers[0]
    assert mlp_flops(layer) == 2 * 3 * 32 * 48
    attended = (1 + 2 + 3 + 4 + 5 * 7) / 11
    assert attention_flops(model, layer, 11) == pytest.approx(2 * 32 * (32 + 2 * 16 + 32) + 4 * 32 * attended)


@pytest.mark.parametrize(("name", "mflop"), [("gpt2-small", 90.8), ("pythia-160m", 81.3), ("llama-7b", 6590)])
def test_arithmetic_is_that_of_the_specification(name, mflop):
    """method.md section 3, which counts attention over whole rows: 1 % more."""
    assert sweep_flops(random_folded(name, SHAPES[name], "meta"), 127) / 1e6 == pytest.approx(mflop, rel=0.02)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_a_sweep_does_the_arithmetic_that_is_counted(family):
    """Otherwise its fraction of peak would be of another program's work."""
    shape = Shape(family, n_layers=4, n_heads=4, d_model=64, d_mlp=256, d_vocab=50, max_positions=32)
    model, tokens = random_folded("tiny", shape), random_rows(50, 3, 17)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        measure(model, tokens, row_before(3))
    heads = 4 * 4
    # The counter takes attention over whole rows, where causality leaves half.
    layers = sum(4 - 1 - layer for layer in range(4)) / 4 + 4 / heads
    whole_rows = 4 * 64 * (16 - 17 / 2) * layers
    assert counter.get_total_flops() / (3 * 16 * heads) == pytest.approx(sweep_flops(model, 16) + whole_rows, rel=0.05)


# Random models.


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_a_folded_random_model_has_the_size_of_a_loaded_one(tmp_path, family):
    """Otherwise growth and costs are of models of another size."""
    shape = replace(TINY, family=family)
    save_random_model(shape, tmp_path)
    loaded, made = load_model(tmp_path), random_folded("tiny", shape, "meta")
    assert count_weights(loaded) == count_weights(made)
    assert sweep_flops(loaded, 8) == sweep_flops(made, 8)
    for name in ("family", "parallel", "activation", "max_positions", "n_heads", "d_head"):
        assert getattr(loaded, name) == getattr(made, name), name


def test_random_rows_are_replaced_by_other_rows():
    tokens = random_rows(50, 3, 5)
    assert tokens.shape == (3, 5) and (tokens[:, 0] == 0).all() and tokens.unique(dim=0).shape == tokens.shape
    assert row_before(3).tolist() == [2, 0, 1]


# Tables and pages.


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """A whole benchmark, tiny, written and read back."""
    folder = tmp_path_factory.mktemp("benchmark")
    machine = {name: 1 if c.dtype == pl.Int64 else "x" for name, c in MACHINE.items()}
    methods = compare_methods("gpt2-small", TINY, rows=2, length=16, n_compared=2, rounds=2)
    growth = measure_growth(points(Point("base", TINY, 4, 16), layers=[3], heads=[4], rows=[8], lengths=[8]), rounds=1)
    tokens = random_rows(TINY.d_vocab, 4, 16)
    texts = [row.tolist() for row in tokens]
    names = pl.DataFrame({"name": ["a"] * 4, "kind": ["text"] * 4})
    sampled = sample_tokens(encoded=texts, bos=0, separator=0, documents=names, n_rows=4, row_length=16, seed=1)
    model = random_folded("tiny", TINY)
    later = responders_cost(model, tokens, top_fraction=0.1, rounds=1)
    gain = selected_gain(model, sampled.tokens, sampled.rows, 0.05, control=15, seed=1, shards=1, rounds=1)
    made = {
        "machine": pl.DataFrame(machine),
        "methods": methods,
        "selected": frame(pl.DataFrame([gain]).to_dict(), SELECTED),
        "later_heads": frame(pl.DataFrame([later]).to_dict(), LATER_HEADS),
        "growth": growth,
        "precision": compare_precisions(model, tokens, row_before(4), "random"),
        "loading": frame(pl.DataFrame(measure_loading(GATED, ["bfloat16"], folder / "llama")).to_dict(), LOADING),
        "costs": extrapolate_costs(methods),
        "training": training(steps=1, rounds=1),
        "coverage": coverage(synthetic("synthetic", 0.7, 8, documents=200), documents=30, texts=2, replicates=20),
    }
    for name, table in made.items():
        write_table(table, folder / f"{name}.csv")
    return read_tables(folder)


@pytest.mark.slow
def test_every_method_is_measured_and_compared(tables):
    methods = tables["methods"]
    assert methods["method"].to_list() == ["sweep", "hooks", "authors"]
    sweep, *others = methods.iter_rows(named=True)
    assert sweep["ratio"] == 1 and sweep["heads"] == 4 and sweep["gflops"] > 0 and 0 < sweep["peak_fraction"] < 2
    for row in others:
        assert row["heads"] == 2 and row["ratio"] == pytest.approx(row["us"] / sweep["us"], rel=1e-2)
        assert row["gflops"] is None
        assert all(row[f"difference_{quantity}"] < 1e-5 for quantity in QUANTITIES)
    for row in methods.iter_rows(named=True):
        assert row["us_low"] <= row["us"] <= row["us_high"] and row["memory_mb"] > 50


@pytest.mark.slow
def test_growth_is_told_beside_its_prediction(tables):
    growth = tables["growth"]
    assert growth["axis"].to_list() == ["base", "layers", "heads", "tokens", "row_length"]
    assert growth["us"][0] == growth["predicted_us"][0]
    for row in growth.iter_rows(named=True):
        expected = growth["us"][0] * row["mflop"] / growth["mflop"][0]
        assert row["predicted_us"] == pytest.approx(expected, rel=1e-2)
    assert growth.filter(axis="tokens")["tokens"].item() == 2 * growth["tokens"][0]
    assert growth.filter(axis="row_length")["row_length"].item() == 8


@pytest.mark.slow
def test_costs_are_extrapolated_from_the_slowest_sweep(tables):
    costs, sweep = tables["costs"], tables["methods"].row(0, named=True)
    assert costs["model"].to_list() == list(SHAPES)
    small = costs.row(0, named=True)
    assert small["pflop"] == pytest.approx(13.1, rel=0.02)  # method.md section 3
    assert small["hours"] == pytest.approx(small["pflop"] * 1e6 / sweep["gflops"] / 3600, rel=1e-2)
    assert small["stream_gb"] == pytest.approx(0.057, rel=0.01)
    assert costs.filter(model="llama-7b")["weights_gb"].item() == pytest.approx(27, rel=0.01)


@pytest.mark.slow
def test_selected_tokens_are_less_work_for_the_same_rows(tables):
    row = tables["selected"].row(0, named=True)
    assert row["tokens"] == 60 and row["control_tokens"] == 15
    assert 0 < row["work"] < 1
    assert row["largest_difference"] < 1e-5
    assert row["time"] == pytest.approx(row["selected_seconds"] / row["all_seconds"], rel=1e-2)


@pytest.mark.slow
def test_errors_grow_as_precision_falls(tables):
    table = tables["precision"]
    for quantity in ("direct_effect", "self_repair", "repair_norm"):
        of = dict(table.filter(quantity=quantity).select("precision", "error_share").iter_rows())
        assert 0 < of["float32"] < 1e-4 < of["tf32"] < of["bfloat16"] < 0.2, (quantity, of)
    for row in table.iter_rows(named=True):
        assert row["rms_error"] / row["rms_effect"] == pytest.approx(row["error_share"], rel=1e-2)
        assert row["rms_error"] <= row["largest_error"]
    assert table.filter(precision="float32")["same_top_tokens"].min() == 1


@pytest.mark.slow
def test_the_recommendation_follows_the_errors(tables):
    def with_tf32(share: float) -> pl.DataFrame:
        chosen = pl.when(precision="tf32").then(share).when(precision="bfloat16").then(0.5).otherwise(1e-6)
        return tables["precision"].with_columns(error_share=chosen)

    assert "on a GPU `precision: tf32` (largest error 0.5 %)" in recommendation(with_tf32(0.005))
    assert "on a GPU `precision: float32` (largest error 0.0001 %)" in recommendation(with_tf32(0.02))


@pytest.mark.slow
def test_memory_of_folding_and_loading_is_measured(tables):
    loading = tables["loading"]
    assert loading["what"].to_list() == ["fold bfloat16", "load bfloat16"]
    assert (loading["peak_mb"] >= loading["base_mb"]).all() and (loading["weights_mb"] > 0).all()


@pytest.mark.slow
def test_the_page_shows_every_table(tables):
    text = page(tables)
    for row in (
        "| gpt2-small | one sweep |",
        "| llama-7b |",
        "estimate",
        "### Length of a row",
        "`difference_repair_mlp`",
    ):
        assert row in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 4
    assert "None" not in text and "nan" not in text


def test_the_page_is_made_from_the_tables_of_the_repository():
    """Otherwise it claims what was not measured: `snakemake --cores all benchmark` writes it."""
    assert (ROOT / "docs/benchmark.md").read_text() == page(read_tables(ROOT / "docs/benchmark"))
