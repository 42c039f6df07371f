"""The check on a GPU does what it says: here on the CPU with tiny models, and on a GPU where there is one."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from selfrepair.ablation.measure import measure
from selfrepair.benchmark import gpu_errors
from selfrepair.benchmark.costs import count_weights
from selfrepair.benchmark.flops import sweep_flops
from selfrepair.benchmark.gpu_check import Case, check
from selfrepair.benchmark.gpu_errors import LIMITS, beyond_limits, product_errors, sweep_errors
from selfrepair.benchmark.gpu_page import ERRORS, SPEED, gpu_page, read_rows
from selfrepair.benchmark.machine import mm_rate
from selfrepair.benchmark.patched import patch_every_head
from selfrepair.benchmark.random_model import Shape, random_folded, random_rows, row_before, save_random_model
from selfrepair.models.load import load_model
from selfrepair.models.precision import PRECISIONS

ROOT = Path(__file__).parents[2]
TINY = Shape("llama", n_layers=2, n_heads=4, d_model=32, d_mlp=48, d_vocab=50, max_positions=128, n_kv_heads=2)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_errors, "ROWS", 3)
    monkeypatch.setattr(gpu_errors, "LENGTH", 12)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_the_check_writes_both_tables_and_their_page(tmp_path, device, capsys):
    cases = [Case("tiny", TINY, precision, 2) for precision in ("float32", "tf32", "bfloat16")]
    check(tmp_path / "new", device, cases, ["llama, grouped heads"])
    speed, errors = (read_rows(tmp_path / f"new/{name}.csv") for name in ("gpu", "gpu_errors"))
    assert [row["precision"] for row in speed] == ["float32", "tf32", "bfloat16"]
    for row in speed:
        assert list(row) == list(SPEED)
        assert row["tokens"] == 2 * 8 * 127 and row["torch"] == torch.__version__
        assert row["tflops"] == pytest.approx(row["mflop"] / row["us"], rel=1e-2)
        assert row["peak_fraction"] == pytest.approx(row["tflops"] / row["mm_tflops"], rel=1e-2)
        assert row["hours"] == pytest.approx(row["us"] * 8 / 3600, rel=1e-2)
        assert (row["memory_gb"] is None) == (device == "cpu")
    assert {row["model"] for row in errors} == {"product", "llama, grouped heads"}
    assert all(list(row) == list(ERRORS) for row in errors) and not beyond_limits(errors)
    page = (tmp_path / "new/gpu.md").read_text()
    assert page == gpu_page(tmp_path / "new")
    assert "| tiny | tf32 |" in page and "| llama, grouped heads | bfloat16 |" in page and "None" not in page
    assert "all errors are within their limits" in capsys.readouterr().out


def test_an_error_beyond_its_limit_is_raised_once_all_is_written(tmp_path, monkeypatch):
    """Otherwise a GPU that computes something else would pass, or its figures would be lost."""
    monkeypatch.setitem(LIMITS, "tf32", 1e-9)
    with pytest.raises(ArithmeticError, match=r"gpt2, tf32: error of delta_logit is \d"):
        check(tmp_path, "cpu", [Case("tiny", TINY, "float32", 2)], ["gpt2"])
    assert len(read_rows(tmp_path / "gpu.csv")) == 1


def test_nan_and_another_precision_are_beyond_limits():
    row = {"model": "m", "precision": "tf32", "quantity": "x W", "least": 1e-5, "limit": 1e-3}
    assert not beyond_limits([row | {"error": 1e-4}])
    for error in (1e-7, 1e-2, float("nan")):
        assert len(beyond_limits([row | {"error": error}])) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_have_the_errors_of_their_precision(precision):
    assert not beyond_limits(product_errors("cpu", precision))


@pytest.mark.parametrize("name", list(gpu_errors.SHAPES))
def test_sweeps_agree_with_patching_head_by_head(name):
    rows = list(sweep_errors(name, "cpu", ("float64",)))
    assert len(rows) == 11 and max(row["error"] for row in rows) < 1e-13


def test_patching_finds_every_field_of_a_measurement(zoo, rows, source):
    """On weights large enough for effects to be large."""
    model = zoo.folded("llama_gqa")
    found, m = patch_every_head(model, rows, source), measure(model, rows, source)
    for name, value in found.items():
        expected = getattr(m, name)
        assert (value - expected).abs().max() < 1e-5 * m.logit.abs().max(), name
    assert found["repair_mlp"].abs().max() > 0.1


def test_without_a_table_the_page_says_so(tmp_path):
    assert gpu_page(tmp_path).endswith("\n\nNot run on a GPU.\n")


def test_the_page_is_made_from_the_tables_of_the_repository():
    """Otherwise it claims what was not measured: `make gpu-check` writes it."""
    folder = ROOT / "docs/benchmark"
    assert (folder / "gpu.md").read_text() == gpu_page(folder)


# What it stands on.


def test_a_random_model_with_grouped_heads_has_the_size_of_a_loaded_one(tmp_path):
    save_random_model(TINY, tmp_path)
    loaded, made = load_model(tmp_path), random_folded("tiny", TINY, "meta")
    assert count_weights(loaded) == count_weights(made) and loaded.n_kv_heads == made.n_kv_heads == 2
    assert sweep_flops(loaded, 8) == sweep_flops(made, 8)


def test_a_random_model_in_a_precision_is_the_same_model():
    model = random_folded("tiny", TINY, biases=True)
    made, expected = random_folded("tiny", TINY, "cpu", "bfloat16", biases=True), model.in_precision("bfloat16")
    tokens = random_rows(50, 2, 9)
    assert torch.equal(*(measure(m, tokens, row_before(2)).delta_logit for m in (made, expected)))
    assert all((layer.b_QKV != 0).any() for layer in model.layers)
    assert all((layer.b_QKV == 0).all() for layer in random_folded("tiny", TINY).layers)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_rate_of_products_counts_all_linear_maps(monkeypatch, precision):
    """By a clock that says a second for each product."""
    monkeypatch.setattr("selfrepair.benchmark.machine.seconds_of", lambda product, device: product() is not None)
    layer = (model := random_folded("tiny", TINY, "cpu", precision)).layers[0]
    weights = [layer.W_QKV, layer.W_O, layer.W_in, layer.W_gate, layer.W_out]
    flops = 2 * 7 * sum(weight.numel() for weight in weights)
    assert mm_rate(model, 7) == pytest.approx(flops / 5 / 1e9)
    plain = partial(random_folded, "tiny", replace(TINY, family="gpt2", n_kv_heads=None))
    assert mm_rate(plain(), 7) > 0
