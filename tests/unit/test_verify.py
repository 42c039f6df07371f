"""A run that was tampered with does not pass: files changed, gone or added, and rows that the weights do not give."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file, save_file
from small_run import RUN, make_record, make_run

from selfrepair import verify
from selfrepair.crate import read_crate
from selfrepair.verify import Check, check_files, check_rows, draw

SCRIPT = Path(__file__).parents[2] / "workflow/scripts/verify_run.py"
EVERY = 10**6  # more rows than there are
ROWS = "ablation/m/resample/tokens-1.parquet"


@pytest.fixture(scope="module")
def made(zoo, tmp_path_factory) -> Path:
    return make_run(zoo, tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run elsewhere: nothing in the record holds on to the old place."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return RUN


def failed(checks: object) -> list[Check]:
    return [check for check in checks if check.problem is not None]


def alter(change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Keep one head's rows, change those in the second shard of resample ablation, and make the record fit."""
    for path in RUN.glob("ablation/m/*/tokens-?.parquet"):
        table = pl.read_parquet(path).filter(layer=1, head=2)
        (change(table) if path == RUN / ROWS else table).write_parquet(path)
    make_record()


def test_an_untouched_run_passes_with_a_line_for_each_folder_and_sample(run: Path) -> None:
    crate = read_crate(run)
    files, rows = list(check_files(crate)), list(check_rows(crate, 12, seed=1))
    assert not failed(files) and not failed(rows)
    assert {"ablation: 8 files are as recorded", "no other results lie in the run's folder"} <= {c.what for c in files}
    assert [check.what.split(":")[0] for check in rows] == ["m, resample", "m, zero", "m, mean"]
    assert all("12 token rows" in check.what and "(allowed: 1e-04)" in check.what for check in rows)


def test_a_tampered_file_is_named(run: Path) -> None:
    (run / "report/costs.csv").write_text("rule\n")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == "report/costs.csv" and "this result is not what was recorded" in problem.problem


def test_a_missing_file_is_named(run: Path) -> None:
    (run / ROWS).unlink()
    (problem,) = failed(check_files(read_crate(run)))
    assert problem == Check(ROWS, "this result is missing")


def test_other_weights_are_named(run: Path) -> None:
    Path("models/m/model.safetensors").write_bytes(b"other")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == "../../models/m/model.safetensors" and "this input is not" in problem.problem


@pytest.mark.parametrize("name", ["analysis/m/heads.csv", "figures/new.svg", "ablation/m/zero/tokens-2.parquet"])
def test_a_result_that_no_record_knows_is_named(run: Path, name: str) -> None:
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text("x")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == name and "does not know this file" in problem.problem


def test_logs_and_folded_models_need_no_record(run: Path) -> None:
    for name in ("logs/fold_model.m.log", "logs/notes.txt", "models/m/folded/layer-000.safetensors"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    assert not failed(check_files(read_crate(run)))


@pytest.mark.parametrize("column", ["self_repair", "direct_effect", "own_scale", "ablated_logit"])
def test_an_altered_row_is_found_even_if_the_record_is_made_to_fit(run: Path, column: str) -> None:
    def change(table: pl.DataFrame) -> pl.DataFrame:
        here = pl.col("row") == table["row"].max()
        return table.with_columns(pl.when(here).then(pl.col(column) * 1.01 + 0.01).otherwise(column).alias(column))

    alter(change)
    crate = read_crate(run)
    assert not failed(check_files(crate))
    (problem,) = failed(check_rows(crate, EVERY, seed=0))
    assert problem.what.startswith("m, resample: ")
    assert problem.problem.startswith("L1H2, row 8, pos ") and f": {column} is " in problem.problem


def test_a_layer_of_a_column_by_layer_is_looked_at(run: Path) -> None:
    def change(table: pl.DataFrame) -> pl.DataFrame:
        spoilt = table["repair_mlp_by_layer"].to_numpy().copy()
        spoilt[:, 2] += 0.01
        return table.with_columns(pl.Series("repair_mlp_by_layer", spoilt, dtype=table.schema["repair_mlp_by_layer"]))

    alter(change)
    (problem,) = failed(check_rows(read_crate(run), EVERY, seed=0))
    assert "repair_mlp_by_layer is " in problem.problem


def test_what_is_not_a_number_is_found(run: Path) -> None:
    alter(lambda table: table.with_columns(repair_norm=pl.lit(float("nan"), pl.Float32)))
    (problem,) = failed(check_rows(read_crate(run), EVERY, seed=0))
    assert "repair_norm is nan" in problem.problem


def test_rows_of_other_weights_do_not_pass(run: Path) -> None:
    weights = load_file("models/m/model.safetensors")
    weights["transformer.h.1.attn.c_proj.weight"] *= 1.001
    save_file(weights, "models/m/model.safetensors", {"format": "pt"})
    make_record()
    assert len(failed(check_rows(read_crate(run), 20, seed=0))) == 3


def test_means_of_large_runs_are_those_of_the_run_and_the_check_says_so(run: Path, monkeypatch) -> None:
    monkeypatch.setattr(verify, "MEAN_TOKENS", 10)
    (mean,) = (check for check in check_rows(read_crate(run), 12, seed=1) if check.what.startswith("m, mean"))
    assert mean.problem is None and mean.what.startswith("m, mean (means of the run): 12 token rows")


def test_a_sample_is_uniform_without_repetition_and_by_its_seed(run: Path) -> None:
    shards = [run / f"ablation/m/zero/tokens-{shard}.parquet" for shard in range(2)]
    whole = pl.concat(map(pl.read_parquet, shards))
    first, again, other = (draw(shards, 30, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)
    assert first.height == 30 and first.select("layer", "head", "row", "pos").is_unique().all()
    assert draw(shards, EVERY, np.random.default_rng(1)).equals(whole)


def verify_run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Exit status of the program."""
    monkeypatch.setattr(sys, "argv", ["verify_run.py", "--run", str(RUN), *arguments])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_the_program_says_what_it_did_and_fails_with_the_name(run: Path, monkeypatch, capsys) -> None:
    assert verify_run(monkeypatch, "--sample", "3", "--seed", "7") == 0
    said = capsys.readouterr().out
    assert "ok      m, zero: 3 token rows" in said and "in a sample of seed 7 are what the weights give" in said
    document = json.loads((RUN / "ro-crate-metadata.json").read_text())
    (RUN / ROWS).write_bytes(b"")
    assert "differs from its record in 1 places" in verify_run(monkeypatch)
    assert f"FAILED  {ROWS}: this result is not what was recorded" in capsys.readouterr().out
    assert document == json.loads((RUN / "ro-crate-metadata.json").read_text()), "verifying changes nothing"
    (RUN / "ro-crate-metadata.json").unlink()
    assert "the run is not finished" in verify_run(monkeypatch)
