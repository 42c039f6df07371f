"""Results that are kept with the code stand for a run only if they are whole and were made with its configuration."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from checks import read_settings
from kept import is_kept
from snakemake.exceptions import WorkflowError

ROOT = Path(__file__).parents[2]
CONFIG = Path("config/test.yaml")
REPORT = Path("results/studies/mine/report")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A configuration whose results are kept."""
    for shared in ("config", "workflow"):
        (tmp_path / shared).symlink_to(ROOT / shared)
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(CONFIG.read_text()) | {"study": "mine"}
    REPORT.mkdir(parents=True)
    (REPORT / "run.json").write_text(json.dumps({"config": config}))
    (REPORT / "claims.json").write_text(json.dumps({"claims": []}))
    (REPORT.parent / "README.md").write_text("The page.")
    return config


def kept(config: dict[str, Any]) -> bool:
    return is_kept(read_settings(copy.deepcopy(config), [CONFIG]))


def test_results_are_kept_of_a_configuration_and_of_no_other(config: dict[str, Any]) -> None:
    assert kept(config) and kept(config | {"device": "cpu", "studies": ["mine"]})
    assert not kept(config | {"seed": 99})
    assert not kept(config | {"study": "other"})


@pytest.mark.parametrize(
    ("content", "why"),
    [("{", "Expecting property name.*"), ("[]", "it holds no JSON object"), ("{}", "it lacks `config`")],
)
def test_a_damaged_record_is_named(config: dict[str, Any], content: str, why: str) -> None:
    file = REPORT / "run.json"
    file.write_text(content)
    with pytest.raises(WorkflowError, match=rf"^{file} is damaged \({why}\); `git checkout -- {file}` restores it$"):
        kept(config)


@pytest.mark.parametrize("key", ["studies", "beyond"])
@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_damaged_claims_are_named(config: dict[str, Any], key: str, content: str) -> None:
    (REPORT / "claims.json").write_text(content)
    with pytest.raises(WorkflowError, match=rf"^{REPORT}/claims\.json is damaged .*`git checkout -- "):
        kept(config | {key: ["mine"]})


@pytest.mark.parametrize("file", ["report/claims.json", "README.md"])
def test_what_is_missing_of_kept_results_is_named(config: dict[str, Any], file: str) -> None:
    """Otherwise a run would say that there is nothing to do."""
    (REPORT.parent / file).unlink()
    with pytest.raises(WorkflowError, match=f"^study: {REPORT.parent / file} is missing; `git checkout -- "):
        kept(config)
    assert not kept(config | {"seed": 99})
