"""What rules read that no rule makes is known by content, and lists of inputs by what they list."""

import json
import os
from pathlib import Path

import pytest
from arguments import listed
from content import KNOWN, LARGE, content_of, digest

MADE = ("results/run/", "results/hub/")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digest.cache_clear()


def content(file: str, text: str) -> str:
    """Content of a rule's only input, written with the time of an old file."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)
    os.utime(file, (1e9, 1e9))
    digest.cache_clear()
    return content_of([file], MADE)(None)


@pytest.mark.parametrize("file", ["config/claims.yaml", "results/studies/s/heads.parquet", "results/runner/model.json"])
def test_another_source_is_other_content_wherever_it_lies(file: str) -> None:
    assert content(file, "a") != content(file, "b")


@pytest.mark.parametrize("file", ["results/run/tables/heads.csv", "results/hub/models/m/config.json"])
def test_what_rules_make_is_left_to_them(file: str) -> None:
    assert content(file, "a") == content(file, "b")


@pytest.mark.parametrize("damaged", ["{", "[]", ""])
def test_a_damaged_memory_of_large_files_is_passed_over(damaged: str) -> None:
    KNOWN.parent.mkdir()
    KNOWN.write_text(damaged)
    assert content("weights", "a" * LARGE) != content("weights", "b" * LARGE)
    assert list(json.loads(KNOWN.read_text())) == ["weights"]


def test_the_plan_of_another_run_leaves_a_list_as_it_is() -> None:
    Path(".snakemake").mkdir()
    first = listed("record_costs", "run", benchmarks=["a", "b"])
    listed("record_costs", "run", benchmarks=["a"])
    assert json.loads(first.read_text()) == {"benchmarks": ["a", "b"]}
    assert listed("record_costs", "run", benchmarks=["a", "b"]) == first
