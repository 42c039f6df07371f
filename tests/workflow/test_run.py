"""The workflow on a small run: what it makes, in which form, and what it says."""

import json
import re
from pathlib import Path

import polars as pl
import polars.testing
import pytest
import yaml

from selfrepair.report.documentation import parquet_tables
from tests.workflow.conftest import CONFIG, ROOT, Clone

RESULTS = Path("results/test")
ABLATIONS = ("resample", "zero", "mean")


def test_every_deliverable_is_there_and_not_empty(finished_run: Clone) -> None:
    assert finished_run.plan() == {}
    files = [path for path in (finished_run.root / RESULTS).rglob("*") if path.is_file()]
    empty = [
        path.name
        for path in files
        if path.stat().st_size == 0 and path.suffix != ".log" and "snakemake" not in path.name
    ]
    assert len(files) > 100 and not empty


def test_the_run_says_where_its_results_are(finished_run: Clone) -> None:
    said = (finished_run.root / "run.out").read_text()
    for what in ("Paper:", "Figures:", "Claims and report:"):
        where = re.search(rf"^{what}\s+(\S+)", said, re.MULTILINE)[1]
        assert (finished_run.root / where).exists()


def test_the_run_shows_progress(finished_run: Clone) -> None:
    said = (finished_run.root / "run.out").read_text()
    assert re.search(r"\d+ of \d+ steps \(\d+%\) done", said)
    assert re.search(r"shard 1/2: [\d,]+/36,288 ablated tokens, [\d,]+ ablated tokens/s, \d\d:\d\d left", said)


# Tables of a comparison with published values are made only where one is configured.
DOCUMENTED = parquet_tables(n_layers=6, n_heads=8)
MADE = [pattern for pattern in DOCUMENTED if not pattern.startswith("analysis/reference/")]


@pytest.mark.parametrize("pattern", MADE)
def test_tables_have_the_documented_schema(finished_run: Clone, pattern: str) -> None:
    found = list((finished_run.root / RESULTS).glob(re.sub(r"<\w+>", "*", pattern)))
    of_ablations = [path for path in found if "<ablation>" not in pattern or path.parent.name in ABLATIONS]
    assert of_ablations
    for path in of_ablations:
        expected = {n: c.dtype() if isinstance(c.dtype, type) else c.dtype for n, c in DOCUMENTED[pattern].items()}
        if path.suffix == ".csv":
            assert pl.read_csv(path).columns == list(expected), path
        else:
            assert pl.read_parquet_schema(path) == expected, path


def test_kept_tokens_split_exactly_on_disk(finished_run: Clone) -> None:
    for path in (finished_run.root / RESULTS).glob("ablation/*/*/tokens-*.parquet"):
        rows = pl.read_parquet(path)
        clean = pl.read_parquet(path.parents[1] / "clean/tokens.parquet")
        largest = clean.group_by("row").agg(largest=pl.col("logit").abs().max())
        parts = pl.col("repair_norm") + pl.col("repair_attention") + pl.col("repair_mlp")
        error = (parts - pl.col("self_repair")).abs() / pl.col("largest")
        assert rows.join(largest, on="row").select(error.max()).item() <= 1e-4


def test_each_head_has_its_top_tokens(finished_run: Clone) -> None:
    rows = pl.concat(
        pl.read_parquet(path) for path in (finished_run.root / RESULTS).glob("ablation/tiny-gpt2/zero/tokens-*.parquet")
    )
    counts = rows.filter("selected").group_by("layer", "head").len()
    assert counts.height == 48 and set(counts["len"]) == {int(0.02 * 24 * 63)}


def test_only_the_named_heads_are_measured(finished_run: Clone) -> None:
    heads = pl.read_parquet(finished_run.root / RESULTS / "analysis/tiny-pythia/resample/heads.parquet")
    assert set(heads.select("layer", "head").unique().rows()) == {(2, 1), (3, 5), (3, 6)}
    assert set(heads["n_layers"]) == {6}


def test_the_run_is_recorded(finished_run: Clone) -> None:
    record = json.loads((finished_run.root / RESULTS / "report/run.json").read_text())
    said = yaml.safe_load((ROOT / CONFIG).read_text())
    said["ablation"]["units"] = []
    defaults = {"precision": "float32", "memory": "auto", "null_twins": {"rows": 64}, "studies": [], "beyond": []}
    assert record["config"] == defaults | said
    assert record["packages"]["torch"].startswith("2.13.0") and record["packages"]["snakemake"]


def test_measuring_only_selected_tokens_changes_no_top_statistic(finished_run: Clone, clone: Clone) -> None:
    """`measure: selected` in little memory: the same numbers for the top tokens, an estimate for all tokens."""

    def change(config: dict) -> None:
        config["ablation"]["measure"], config["memory"] = "selected", 2000

    table = f"{RESULTS}/analysis/tiny-gpt2/resample/heads.parquet"
    done = clone.run(table, config=clone.configure("selected.yaml", change))
    assert done.returncode == 0, done.stdout
    found, expected = (pl.read_parquet(run.root / table) for run in (clone, finished_run))
    key = ["layer", "head", "quantity", "statistic"]
    top, whole = (heads.filter(tokens="top").sort(key) for heads in (found, expected))
    pl.testing.assert_frame_equal(top.drop("low", "high"), whole.drop("low", "high"), abs_tol=1e-4)
    # Two rows of 63 tokens hold the 100 control tokens.
    assert set(found.filter(tokens="all")["n_tokens"]) == {126}


def test_a_second_run_gives_identical_tables(finished_run: Clone, clone: Clone) -> None:
    targets = [f"{RESULTS}/analysis/tiny-gpt2/resample/heads.parquet"]
    assert clone.run(*targets).returncode == 0
    for path in (clone.root / RESULTS).rglob("*.parquet"):
        again = finished_run.root / path.relative_to(clone.root)
        assert pl.read_parquet(path).equals(pl.read_parquet(again)), path.name
