"""A run that was tampered with does not pass: files changed, gone or added, and rows that the weights do not give."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from selfrepair.ablation import clean
from selfrepair.artifact import verify_rows
from selfrepair.artifact.crate import Crate, CrateError, read_crate
from selfrepair.artifact.verify import PDF, Check, check_code, check_files, expected
from selfrepair.artifact.verify_rows import check_rows, draw
from selfrepair.artifact.verify_run import VerificationError, verify_run
from selfrepair.artifact.verify_sample import TOLERANCES
from selfrepair.artifact.verify_tables import check_tables
from selfrepair.core.files import sha256, write_text
from selfrepair.models.folded_files import load_folded
from selfrepair.models.load import fold_to_disk
from selfrepair.models.shuffle import shuffle_model
from tests.helpers.small_run import CONFIG, RUN, make_record, make_results, make_run

ROOT = Path(__file__).parents[2]
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


def rewrite(pattern: str, change: Callable[[pl.DataFrame], pl.DataFrame], config: dict = CONFIG) -> None:
    """Change tables of a run and make the record fit."""
    paths = list(RUN.glob(pattern))
    assert paths
    for path in paths:
        change(pl.read_parquet(path)).write_parquet(path)
    make_record(config)
    assert not failed(check_files(read_crate(RUN)))


def test_an_untouched_run_passes_with_a_line_for_each_folder_and_sample(run: Path) -> None:
    crate = read_crate(run)
    files, rows = list(check_files(crate)), list(check_rows(crate, 12, seed=1))
    assert not failed(files) and not failed(rows) and not failed(check_tables(crate))
    assert {"ablation: 23 files are as recorded", "no other results lie in the run's folder"} <= {c.what for c in files}
    kinds = ["m, resample", "m, zero", "m, mean"]
    assert [check.what.split(":")[0] for check in rows] == [f"{k}{s}" for k in kinds for s in ("", ", sums")]
    assert all("12 token rows" in check.what and "root mean square " in check.what for check in rows[::2])
    assert all(check.what.count("(allowed: ") == 2 for check in rows[::2])
    assert len(list(check_tables(crate))) == 3


def test_a_tampered_file_is_named(run: Path) -> None:
    (run / "report/costs.csv").write_text("rule\n")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == "report/costs.csv" and "this result is not what was recorded" in problem.problem


def test_a_missing_file_is_named(run: Path) -> None:
    (run / ROWS).unlink()
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == ROWS and "missing; `snakemake --cores all -- " in problem.problem


def test_rows_of_a_null_twin_are_recomputed_from_weights_shuffled_anew(run: Path, tmp_path: Path) -> None:
    """Claims are judged against them."""
    shuffled = shuffle_model(Path("models/m"), CONFIG["seed"], tmp_path / "m-shuffled")
    fold_to_disk(shuffled, "m-shuffled", tmp_path / "folded", "float32")
    make_results(load_folded(tmp_path / "folded"), "m-shuffled", kinds=("resample",))
    config = CONFIG | {"null_twins": {"rows": 9}}
    make_record(config)
    rows = list(check_rows(read_crate(run), 12, seed=1))
    assert not failed(rows) and [check.what.split(":")[0] for check in rows][-2:] == [
        *("m-shuffled, resample", "m-shuffled, resample, sums"),
    ]
    rows = "ablation/m-shuffled/resample/tokens-?.parquet"
    rewrite(rows, lambda table: table.with_columns(pl.col("self_repair") * 3), config)
    (problem,) = failed(check_rows(read_crate(run), EVERY, seed=0))
    assert "self_repair" in problem.problem and problem.what.startswith("m-shuffled, resample: ")
    shutil.rmtree(run / "ablation/m-shuffled")
    make_record(config)
    assert {check.what for check in failed(check_rows(read_crate(run), 3, seed=0))} == {
        *("m-shuffled, resample", "m-shuffled, resample, sums"),
    }


def test_other_weights_are_named(run: Path) -> None:
    Path("models/m/model.safetensors").write_bytes(b"other")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == "../../models/m/model.safetensors" and "this input is not" in problem.problem


@pytest.mark.parametrize(
    "name",
    ["analysis/m/heads.csv", "figures/new.svg", "ablation/m/zero/tokens-2.parquet", "notes", "a.log", "figures/.a.svg"],
)
def test_a_result_that_no_record_knows_is_named(run: Path, name: str) -> None:
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text("x")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == name and "does not know this file" in problem.problem


def test_logs_need_no_record(run: Path) -> None:
    names = ("logs/fold_model.m.log", "benchmarks/a.tsv", "trained/m/model.safetensors")
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    assert not failed(check_files(read_crate(run)))


def test_what_lies_in_a_linked_folder_is_looked_at(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/new.svg").write_text("x")
    (run / "figures").symlink_to(tmp_path / "elsewhere")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == "figures/new.svg"


def test_another_folded_model_is_named(zoo, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    facts = fold_to_disk(zoo.folder("gpt2"), "m", RUN / "models/m/folded", "float32")
    write_text(RUN / "models/m/model.json", json.dumps(facts))
    crate = Crate(RUN, {"models/m/model.json": sha256(RUN / "models/m/model.json")}, {}, {})
    (RUN / "models/m/folded/.snakemake_timestamp").touch()
    assert not failed(check_files(crate))
    (RUN / "models/m/folded/other.safetensors").touch()
    (problem,) = failed(check_files(crate))
    assert problem.what == "models/m/folded/other.safetensors" and "does not know this file" in problem.problem
    (RUN / "models/m/folded/other.safetensors").unlink()
    with (RUN / "models/m/folded/layer-001.safetensors").open("ab") as file:
        file.write(b"x")
    (problem,) = failed(check_files(crate))
    assert problem.what.endswith("models/m/folded/layer-001.safetensors") and "not what was measured" in problem.problem


def test_a_folder_that_leads_back_is_looked_at_once(run: Path) -> None:
    (run / "loop").symlink_to(".")
    (run / "analysis/up").symlink_to("..")
    assert not failed(check_files(read_crate(run)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (ROWS, b""),
        ("analysis/m/zero/heads.parquet", b"PAR1"),
        ("tokens/m/rows.parquet", b""),
        ("report/run.json", b'{"config": {}, "commit": null, "modified": null}'),
    ],
)
def test_damage_that_the_record_is_made_to_fit_ends_in_a_failed_check(
    run: Path, name: str, text: bytes, capsys
) -> None:
    (run / name).write_bytes(text)
    path = run / "ro-crate-metadata.json"
    document = json.loads(path.read_text())
    next(entity for entity in document["@graph"] if entity["@id"] == name)["sha256"] = sha256(run / name)
    path.write_text(json.dumps(document))
    with pytest.raises(VerificationError):
        verify_run(RUN, again=False)
    assert "FAILED  " in capsys.readouterr().out


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
    assert [check.what.split(":")[0] for check in failed(check_rows(read_crate(run), 20, seed=0))][::2] == [
        "m, resample",
        "m, zero",
        "m, mean",
    ]


def test_means_of_large_runs_are_those_of_the_run_and_the_check_says_so(run: Path, monkeypatch) -> None:
    monkeypatch.setattr(verify_rows, "MEAN_TOKENS", 10)
    mean = list(check_rows(read_crate(run), 12, seed=1))[4]
    assert mean.problem is None and mean.what.startswith("m, mean (means of the run): 12 token rows")


def test_a_sample_is_uniform_without_repetition_and_by_its_seed(run: Path) -> None:
    shards = [run / f"ablation/m/zero/tokens-{shard}.parquet" for shard in range(2)]
    whole = pl.concat(map(pl.read_parquet, shards))
    first, again, other = (draw(shards, 30, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)
    assert first.height == 30 and first.select("layer", "head", "row", "pos").is_unique().all()
    assert draw(shards, EVERY, np.random.default_rng(1)).equals(whole)


def test_limits_follow_from_the_benchmark() -> None:
    with (ROOT / "docs/benchmark/precision.csv").open() as file:
        errors = list(csv.DictReader(file))
    measured = {"largest": "largest_error", "typical": "rms_error", "share": "error_share"}
    for precision in ("float32", "tf32", "bfloat16"):
        for name, column in measured.items():
            largest = max(float(row[column]) for row in errors if row["precision"] == precision)
            assert 3 * largest <= getattr(TOLERANCES[precision], name) <= 8 * largest, (precision, name)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_in_every_precision_zeroed_and_flipped_effects_are_found(zoo, tmp_path, monkeypatch, precision: str) -> None:
    monkeypatch.setattr(clean, "TOLERANCE", 1e-2)  # in bfloat16 the parts of this model's logits miss them by more
    monkeypatch.chdir(make_run(zoo, tmp_path, precision, kinds=("resample",)))
    config = json.loads((RUN / "report/run.json").read_text())["config"]
    parts = ("self_repair", "repair_norm", "repair_attention", "repair_mlp")
    assert not failed([*check_tables(read_crate(RUN)), *check_rows(read_crate(RUN), 100, seed=2)])
    tables = {path: path.read_bytes() for path in RUN.glob("ablation/m/resample/tokens-?.parquet")}
    for name in (*parts, "repair_mlp_by_layer"):
        for factor in (0, -1):
            rewrite("ablation/m/resample/tokens-?.parquet", lambda t, n=name, f=factor: scaled(t, n, f), config)
            (problem,) = failed(check_rows(read_crate(RUN), 100, seed=2))
            assert name in problem.problem and "(allowed: " in problem.problem
            for path, content in tables.items():
                path.write_bytes(content)


def scaled(table: pl.DataFrame, name: str, factor: int) -> pl.DataFrame:
    values = table[name].to_numpy() * np.float32(factor)
    return table.with_columns(pl.Series(name, values, dtype=table.schema[name]))


def test_a_single_value_is_found_that_the_root_mean_square_hides(run: Path) -> None:
    def change(table: pl.DataFrame) -> pl.DataFrame:
        first = pl.int_range(pl.len()) == 0
        return table.with_columns(logit=pl.when(first).then(pl.col("logit") + 0.01).otherwise("logit"))

    alter(change)
    (problem,) = failed(check_rows(read_crate(run), EVERY, seed=0))
    assert ": logit is " in problem.problem and "largest deviation 1.0e-02 (allowed: " in problem.problem


def test_a_model_without_weights_in_the_record_is_named(run: Path) -> None:
    make_record(models={})
    (problem,) = check_rows(read_crate(run), 3, seed=0)
    assert problem.what == "m" and "no row was recomputed" in problem.problem


def test_what_was_to_be_measured_and_is_not_there_is_named(run: Path) -> None:
    make_record(CONFIG | {"models": CONFIG["models"] | {"n": {"path": "models/m"}}})
    assert {check.what for check in failed(check_rows(read_crate(run), 3, seed=0))} == {"n"}
    assert {check.what for check in failed(check_tables(read_crate(run)))} == {
        f"n, {k}" for k in ("resample", "zero", "mean")
    }
    shutil.rmtree(run / "ablation/m/zero")
    make_record()
    assert {check.what for check in failed(check_rows(read_crate(run), 3, seed=0))} == {"m, zero", "m, zero, sums"}
    assert {check.what for check in failed(check_tables(read_crate(run)))} == {"m, zero"}


def test_tables_without_rows_do_not_pass(run: Path) -> None:
    rewrite("ablation/m/zero/*-?.parquet", lambda table: table.clear())
    assert {check.what for check in failed(check_rows(read_crate(run), 3, seed=0))} == {"m, zero", "m, zero, sums"}
    assert {check.what for check in failed(check_tables(read_crate(run)))} == {"m, zero"}


def test_second_measurements_are_expected_of_models_that_ask_for_one() -> None:
    config = {"models": {"a": {}, "b": {"as_published": True}}, "ablation": {"kinds": ["resample", "zero"]}}
    of_all = [(model, kind) for model in "ab" for kind in ("resample", "zero")]
    assert expected(config) == [*of_all, ("b-as-published", "resample")]


TAMPERED = {
    "a part": ("tokens-?", lambda t: t.with_columns(repair_norm=pl.lit(0.0, pl.Float32)), "repair_norm + "),
    "a layer": ("tokens-?", lambda t: scaled(t, "repair_mlp_by_layer", 2), "repair_mlp is not"),
    "a logit": ("tokens-?", lambda t: t.with_columns(pl.col("ablated_logit") + 1), "delta_logit is not"),
    "rows taken away": ("tokens-?", lambda t: t.filter(pl.col("self_repair") > 0), "lacks"),
    "a head taken away": ("tokens-?", lambda t: t.filter((pl.col("layer") != 1) | (pl.col("head") != 2)), "of L1H2"),
    "rows twice": ("tokens-?", lambda t: pl.concat([t, t.head(1)]), "twice"),
    "a row more": ("tokens-?", lambda t: pl.concat([t, t.head(1).with_columns(pos=pl.lit(99, pl.Int16))]), "pos 99"),
    "selected inverted": ("tokens-?", lambda t: t.with_columns(~pl.col("selected")), "selected"),
    "control inverted": ("tokens-?", lambda t: t.with_columns(~pl.col("control")), "control"),
    "document": ("tokens-?", lambda t: t.with_columns(document=pl.lit(0, pl.Int32)), "document"),
    "counts": ("sums-?", lambda t: t.with_columns(n=pl.lit(0, pl.Int64)), "sums-*.parquet are not over"),
    "sums": ("sums-?", lambda t: t.with_columns(self_repair=pl.lit(0.0)), "mean of L"),
    "effects": ("tokens-?", lambda t: t.with_columns(pl.col("self_repair").abs()), "self_repair is not"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tables_that_do_not_agree_are_found_without_the_model(run: Path, how: str) -> None:
    table, change, said = TAMPERED[how]
    rewrite(f"ablation/m/zero/{table}.parquet", change)
    (problem,) = failed(check_tables(read_crate(run)))
    assert problem.what == "m, zero" and said in problem.problem


def test_top_tokens_taken_from_all_tables_alike_are_missed(run: Path) -> None:
    selected = pl.read_parquet(run / "ablation/m/clean/selected.parquet")
    gone = selected.filter(pl.col("rank") == 0)
    selected.filter(pl.col("rank") > 0).write_parquet(run / "ablation/m/clean/selected.parquet")
    place = ["layer", "head", "row", "pos"]
    rewrite("ablation/m/*/tokens-?.parquet", lambda t: t.join(gone, on=place, how="anti"))
    assert all("top tokens of each head" in problem.problem for problem in failed(check_tables(read_crate(run))))


@pytest.mark.parametrize("tokens", ["top", "all"])
def test_means_of_heads_are_compared_with_rows_and_sums(run: Path, tokens: str) -> None:
    here = (pl.col("statistic") == "mean") & (pl.col("tokens") == tokens) & (pl.col("quantity") == "repair_mlp")
    better = pl.when(here).then(pl.col("value") * 1.01).otherwise("value")
    rewrite("analysis/m/mean/heads.parquet", lambda table: table.with_columns(value=better))
    (problem,) = failed(check_tables(read_crate(run)))
    assert problem.what == "m, mean" and f"{tokens} tokens, repair_mlp is " in problem.problem


@pytest.mark.parametrize("name", ["self_repair", "repair_attention_by_layer"])
def test_sums_are_recomputed_from_the_model(run: Path, name: str) -> None:
    rewrite("ablation/m/resample/sums-?.parquet", lambda table: scaled(table, name, 0))
    (problem,) = failed(check_rows(read_crate(run), 3, seed=0))
    assert problem.what == "m, resample, sums" and f": {name} is " in problem.problem


def test_runs_of_selected_tokens_and_some_heads_only_are_checked_alike(zoo, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(make_run(zoo, tmp_path, measure="selected"))
    assert not failed([*check_tables(read_crate(RUN)), *check_rows(read_crate(RUN), 12, seed=1)])
    config = CONFIG | {"models": {"m": CONFIG["models"]["m"] | {"heads": ["L1H2", "L2H0"]}}}
    config["ablation"] = CONFIG["ablation"] | {"measure": "selected"}
    two = ((pl.col("layer") == 1) & (pl.col("head") == 2)) | ((pl.col("layer") == 2) & (pl.col("head") == 0))
    for pattern in ("ablation/m/*/*-?.parquet", "analysis/m/*/heads.parquet"):
        rewrite(pattern, lambda table: table.filter(two), config)
    assert not failed([*check_tables(read_crate(RUN)), *check_rows(read_crate(RUN), 12, seed=1)])
    rewrite("ablation/m/mean/tokens-?.parquet", lambda table: table.filter(pl.col("head") > 0), config)
    (problem,) = failed(check_tables(read_crate(RUN)))
    assert "of L2H0" in problem.problem


def test_a_second_measurement_is_checked_in_its_own_units(zoo, run: Path, tmp_path: Path) -> None:
    shutil.copytree(zoo.folder("llama_mha"), "models/n")
    fold_to_disk(Path("models/n"), "n", tmp_path / "n", "float32", authors_units=True)
    make_results(load_folded(tmp_path / "n"), "n-as-published", ("resample",))
    fold_to_disk(Path("models/n"), "n", tmp_path / "centred", "float32")
    make_results(load_folded(tmp_path / "centred"), "n")
    models = {"m": Path("models/m"), "n": Path("models/n"), "n-as-published": Path("models/n")}
    make_record(CONFIG | {"models": CONFIG["models"] | {"n": {"path": "models/n", "as_published": True}}}, models)
    checks = [*check_tables(read_crate(run)), *check_rows(read_crate(run), 12, seed=1)]
    assert not failed(checks) and "n-as-published, resample: 12 token" in "".join(check.what for check in checks)


def test_a_linked_folder_is_checked_as_if_it_lay_here(run: Path, tmp_path: Path) -> None:
    shutil.move("results", tmp_path / "elsewhere")
    Path("results").symlink_to(tmp_path / "elsewhere")
    assert not failed(check_files(read_crate(run)))
    assert not failed(check_rows(read_crate(run), 2, seed=1))
    Path("results").unlink()
    Path("results").mkdir()
    run.symlink_to(tmp_path / "elsewhere" / run.name)
    assert not failed(check_files(read_crate(run)))


def test_a_pdf_typeset_after_the_record_is_no_failure_and_said_to_be_unchecked(run: Path) -> None:
    (run / PDF).parent.mkdir()
    (run / PDF).write_text("%PDF")
    checks = list(check_files(read_crate(run)))
    assert not failed(checks) and f"{PDF} was typeset apart from the recorded run: not checked" in {
        c.what for c in checks
    }
    make_record()
    (run / PDF).write_text("%PDF-1.7")
    (problem,) = failed(check_files(read_crate(run)))
    assert problem.what == PDF


def test_a_missing_input_is_named_with_the_way_to_get_it(run: Path) -> None:
    shutil.copytree("models/m", "results/hub/models/remote")
    Path("results/hub/corpora").mkdir()
    Path("results/hub/corpora/pile.parquet").write_text("x")
    document = make_record(models={"m": Path("results/hub/models/remote")})
    for entity in document["@graph"]:  # as if they had been inputs
        if entity.get("localPath") == "../../models/m/model.safetensors":
            entity["localPath"] = "../hub/models/remote/model.safetensors"
        if entity.get("localPath") == "../../models/m/config.json":
            entity["localPath"] = "../hub/corpora/pile.parquet"
    (run / "ro-crate-metadata.json").write_text(json.dumps(document))
    shutil.rmtree("results/hub")
    Path("config/claims.yaml").unlink()
    said = {check.what: check.problem for check in failed(check_files(read_crate(run)))}
    fetch = "this input is missing; fetch it, with the configuration of the run: `snakemake --cores all results/hub/"
    assert said["../hub/models/remote/model.safetensors"] == f"{fetch}models/remote`"
    assert said["../hub/corpora/pile.parquet"] == f"{fetch}corpora/pile.parquet`"
    assert said["../../config/claims.yaml"] == "this input is missing; put it back to config/claims.yaml"


def test_the_code_of_the_run_and_that_which_is_here_are_named(run: Path, monkeypatch) -> None:
    record = json.loads((run / "report/run.json").read_text())
    monkeypatch.setattr("selfrepair.artifact.verify.git", lambda *command: "b" * 40)
    monkeypatch.setattr("selfrepair.artifact.verify.modifications", lambda: " M Snakefile")
    said = f"here at {'b' * 40} with modified files"
    assert check_code(read_crate(run)) == Check(f"code: recorded outside Git; {said}")
    (run / "report/run.json").write_text(json.dumps(record | {"commit": "a" * 40, "modified": False}))
    assert check_code(read_crate(run)) == Check(f"code: recorded at {'a' * 40}; {said}")
    monkeypatch.setattr("selfrepair.artifact.verify.git", lambda *command: None)
    monkeypatch.setattr("selfrepair.artifact.verify.modifications", lambda: None)
    assert check_code(read_crate(run)).what.endswith("; here there is no Git checkout")


def test_the_program_says_what_it_did_and_fails_with_the_name(run: Path, capsys) -> None:
    verify_run(RUN, sample=3, seed=7, again=False)
    said = capsys.readouterr().out
    assert "info    code: recorded " in said and " kept rows are those to be kept" in said
    assert "recomputing token rows: 9/9 rows" in said
    assert "ok      m, zero: 3 token rows" in said and "in a sample of seed 7 are what the weights give" in said
    document = json.loads((RUN / "ro-crate-metadata.json").read_text())
    (RUN / ROWS).write_bytes(b"")
    with pytest.raises(VerificationError, match="differs from its record in 1 places"):
        verify_run(RUN)
    assert f"FAILED  {ROWS}: this result is not what was recorded" in capsys.readouterr().out
    assert document == json.loads((RUN / "ro-crate-metadata.json").read_text()), "verifying changes nothing"
    (RUN / "ro-crate-metadata.json").unlink()
    with pytest.raises(CrateError, match="the run is not finished"):
        verify_run(RUN)


@pytest.mark.parametrize("sample", [0, -1])
def test_no_rows_are_no_check(run: Path, sample: int) -> None:
    with pytest.raises(ValueError, match=f"sample: {sample} token rows would check nothing"):
        verify_run(RUN, sample)


def test_a_seed_below_zero_is_refused_before_any_check(run: Path) -> None:
    with pytest.raises(ValueError, match="seed: -1 is below 0"):
        verify_run(run, seed=-1)


def test_the_program_stops_where_tables_disagree(run: Path, capsys) -> None:
    rewrite("ablation/m/zero/tokens-?.parquet", lambda table: table.filter(pl.col("self_repair") > 0))
    with pytest.raises(VerificationError, match="1 of its measurements do not agree"):
        verify_run(RUN)
    assert "FAILED  m, zero: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "report/../../../secret", "."])
def test_a_record_that_leads_out_of_the_run_is_refused(run: Path, name: str) -> None:
    path = RUN / "ro-crate-metadata.json"
    document = json.loads(path.read_text())
    next(entity for entity in document["@graph"] if entity["@id"] == ROWS)["@id"] = name
    path.write_text(json.dumps(document))
    with pytest.raises(CrateError, match="is no file in the run's folder"):
        read_crate(RUN)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_a_run_without_its_configuration_ends_with_a_sentence(run: Path, damage: Callable[[Path], object]) -> None:
    damage(RUN / "report/run.json")
    with pytest.raises(CrateError, match=r"report/run\.json can't be read"):
        verify_run(RUN)
