"""Results that are kept of a run: what is kept, and a new run against it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from test_findings import LISTED, STUDIES, found

from selfrepair.artifact import study
from selfrepair.artifact.crate import METADATA
from selfrepair.artifact.study import StudyError, compare_study, keep_study
from selfrepair.core.files import sha256
from selfrepair.report.claims_table import claims_of_studies
from selfrepair.report.findings import table_of_findings

CLAIM = {
    "id": "repair-exists",
    "source": "Figure 1",
    "wording": "Most heads are repaired.",
    "identity": False,
    "exploratory": False,
    "statistic": "late_heads_repaired",
    "unit": "fraction of heads",
    "rule": "above 0.5",
    "against": "twin",
    "paper_value": 0.86,
    "verdict": "not measured",
    "others": {"held": ["m"], "models": 1},
}
ENTRY = {"model": "m", "role": "other model", "value": 0.9, "low": 0.8, "high": 0.95, "null": 0.5, "verdict": "held"}
RUN = {
    "commit": "0123abc",
    "modified": False,
    "config": {"run": "r", "models": {"m": {}}, "tokens": {"rows": 4, "row_length": 8, "corpus": "text"}},
    "machine": {"cores": 2, "processor": "any"},
}
TABLE = "analysis/m/resample/heads.parquet"


def record(run: Path) -> None:
    """The record of a run, as far as it is looked at."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != METADATA]
    graph = [{"@id": str(path.relative_to(run)), "@type": "File", "sha256": sha256(path)} for path in files]
    (run / METADATA).write_text(json.dumps({"@graph": graph}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for name, text in {
        "report/claims.json": json.dumps({"claims": [CLAIM | {"models": [ENTRY]}]}),
        "report/run.json": json.dumps(RUN),
        "report/costs.csv": "rule,jobs,wall_time,cpu_time,gpu_time,memory\nfold_model,1,7200.0,7000.0,0.0,1000.0\n",
        "tables/heads.csv": "head\n1\n",
        "logs/any.log": "not to be kept",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / TABLE).parent.mkdir(parents=True)
    table_of_findings(STUDIES, found(["m"], {}))[0].write_csv(folder / "tables/findings.csv")
    pl.DataFrame({"head": range(300), "value": [0.5] * 300}).write_parquet(folder / TABLE)
    record(folder)
    return folder


@pytest.fixture
def kept(run: Path, tmp_path: Path) -> Path:
    keep_study(run, tmp_path / "kept", "the command")
    return tmp_path / "kept"


def test_what_is_small_is_kept_with_a_page_that_says_how_it_was_made(kept: Path, run: Path) -> None:
    assert (kept / TABLE).is_file() and (kept / "tables/heads.csv").is_file() and not (kept / "logs").exists()
    page = (kept / "README.md").read_text()
    assert (
        "`the command` at commit 0123abc" in page
        and "1:56:40 hours of processor time" in page
        and "Most heads are repaired." in page
        and page.count("| 0 of 1 |") == len(LISTED)
    )


def test_what_is_large_is_named_and_not_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = run / "report/explorer.html"
    large.write_text("a" * 100_000)
    monkeypatch.setattr(study, "LARGEST", large.stat().st_size - 1)
    keep_study(run, tmp_path / "kept", "the command")
    assert not (tmp_path / "kept/report/explorer.html").exists() and (tmp_path / "kept" / TABLE).exists()
    assert "`report/explorer.html` is too large" in (tmp_path / "kept/README.md").read_text()


def test_a_run_that_is_not_finished_is_not_kept(run: Path, tmp_path: Path) -> None:
    (run / "ro-crate-metadata.json").unlink()
    with pytest.raises(StudyError, match="finish the run first"):
        keep_study(run, tmp_path / "kept", "the command")


@pytest.mark.parametrize(
    ("change", "agree"),
    [
        (pl.col("value") + 1e-5, 300),
        (pl.col("value") + (pl.col("head") < 3), 297),  # another token is the last of three heads' top tokens
        (pl.col("value") + 0.1, None),
        (pl.col("value") + (pl.col("head") < 4), None),
    ],
)
def test_a_new_run_agrees_as_far_as_rounding_goes(run: Path, kept: Path, change: pl.Expr, agree: int | None) -> None:
    pl.read_parquet(run / TABLE).with_columns(value=change).write_parquet(run / TABLE)
    if agree is not None:
        compare_study(run, kept, run / "comparison.txt")
        assert f"{TABLE}: {agree} of 300 numbers agree" in (run / "comparison.txt").read_text()
    else:
        with pytest.raises(StudyError, match=re.escape(TABLE)):
            compare_study(run, kept, run / "comparison.txt")
        assert not (run / "comparison.txt").exists()


def test_a_table_of_other_rows_is_a_difference(run: Path, kept: Path) -> None:
    pl.read_parquet(run / TABLE).head(299).write_parquet(run / TABLE)
    with pytest.raises(StudyError, match="300 of 300 numbers differ"):
        compare_study(run, kept, run / "comparison.txt")


def test_another_verdict_is_a_difference(run: Path, kept: Path) -> None:
    claims = run / "report/claims.json"
    claims.write_text(claims.read_text().replace('"verdict": "held"', '"verdict": "undecided"'))
    with pytest.raises(StudyError, match=r"repair-exists \(m\)"):
        compare_study(run, kept, run / "comparison.txt")


def test_another_value_of_a_claim_is_a_difference(run: Path, kept: Path) -> None:
    claims = run / "report/claims.json"
    claims.write_text(claims.read_text().replace('"value": 0.9, "low": 0.8', '"value": 0.7, "low": 0.6'))
    with pytest.raises(StudyError, match="2 of 4 numbers differ"):
        compare_study(run, kept, run / "comparison.txt")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda kept: (kept / TABLE).write_bytes(b"x"), f"{TABLE} is not what the record kept beside it says"),
        (lambda kept: (kept / "report/claims.json").write_text("[]"), "claims.json is not what the record"),
        (lambda kept: (kept / "tables/heads.csv").write_text("head\n2\n"), "heads.csv is not what the record"),
        (lambda kept: shutil.rmtree(kept / "analysis"), f"{TABLE} is missing"),
        (lambda kept: (kept / METADATA).write_text("{"), "is damaged"),
    ],
)
def test_what_was_kept_must_be_as_its_own_record_says(run: Path, kept: Path, damage: Callable, said: str) -> None:
    damage(kept)
    with pytest.raises(StudyError, match=re.escape(said)):
        compare_study(run, kept, run / "comparison.txt")


def test_a_table_that_the_run_lacks_is_a_difference(run: Path, kept: Path) -> None:
    (run / TABLE).unlink()
    with pytest.raises(StudyError, match=r"does not exist, and .* holds it"):
        compare_study(run, kept, run / "comparison.txt")


def test_nothing_kept_ends_with_how_to_keep_it(run: Path, kept: Path) -> None:
    shutil.rmtree(kept)
    with pytest.raises(StudyError, match="keep_study"):
        compare_study(run, kept, run / "comparison.txt")


def test_claims_of_studies_stand_in_a_table_with_their_intervals(run: Path) -> None:
    rows, latex = claims_of_studies([run / "report/claims.json"])
    assert rows["model"].to_list() == ["m"] and rows["model_verdict"].to_list() == ["held"]
    assert r"Most heads are repaired. & $0.86$ & $0.90$ & [$0.80$, $0.95$] & $0.50$ & $\checkmark$" in latex
