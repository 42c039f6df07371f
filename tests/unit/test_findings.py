"""The table of findings: what was said beforehand, beside the null twin, and what differs from it."""

from pathlib import Path

import polars as pl
import pytest
import yaml

from selfrepair.analysis.schema_beyond import FINDINGS
from selfrepair.core.tables import frame
from selfrepair.report.findings import ABOVE, BELOW, FOUND, NO_NULL, UNMEASURED, WITHIN, table_of_findings

STUDIES = Path(__file__).parents[2] / "config/studies.yaml"
LISTED = yaml.safe_load(STUDIES.read_text())["studies"]


def found(models: list[str], values: dict[str, tuple[float, float, float]] | None = None) -> pl.DataFrame:
    """Every statistic of every study for some models: 0.5 [0.4, 0.6], or what is given for a model."""
    rows = [
        (model, study["id"], statistic, "top", *(values or {}).get(model, (0.5, 0.4, 0.6)), 30)
        for model in models
        for study in LISTED
        for statistic in (study["primary"], *study["secondary"])
    ]
    return frame(dict(zip(FINDINGS, map(list, zip(*rows, strict=True)), strict=True)), FINDINGS)


@pytest.mark.parametrize(
    ("value", "null", "outcome"),
    [
        ((0.5, 0.4, 0.6), (0.1, 0.0, 0.3), ABOVE),
        ((0.5, 0.4, 0.6), (0.9, 0.7, 1.0), BELOW),
        ((0.5, 0.4, 0.6), (0.3, 0.2, 0.45), WITHIN),
        ((0.5, 0.4, 0.6), (float("nan"),) * 3, NO_NULL),
        ((float("nan"),) * 3, (0.3, 0.2, 0.45), UNMEASURED),
    ],
)
def test_a_finding_is_judged_by_its_null(value, null, outcome):
    """Otherwise what shuffled weights show as well would be called a finding."""
    rows, _ = table_of_findings(STUDIES, found(["m", "m-shuffled"], {"m": value, "m-shuffled": null}))
    assert set(rows["outcome"]) == {outcome} and set(rows["model"]) == {"m"}
    assert rows.schema == {name: column.dtype for name, column in FOUND.items()}


def test_statistics_that_answer_come_first_and_stand_in_the_paper():
    rows, latex = table_of_findings(STUDIES, found(["m", "m-shuffled", "n"]))
    primary = rows.filter("primary", model="m")
    assert primary["statistic"].to_list() == [study["primary"] for study in LISTED]
    assert rows["study"].unique(maintain_order=True).to_list() == [study["id"] for study in LISTED]
    assert latex.count(r"\texttt{n}") == len(LISTED) and "longtable" in latex
    assert rows.filter(model="n")["outcome"].unique().to_list() == [NO_NULL]


def test_a_statistic_that_was_not_written_down_is_refused():
    """Otherwise one could be chosen after it was seen."""
    table = found(["m"]).with_columns(statistic=pl.lit("best"))
    with pytest.raises(ValueError, match=r"does not say what .*layers/best"):
        table_of_findings(STUDIES, table)


def test_every_study_is_in_the_workflow():
    """Otherwise a question would be asked that no run answers."""
    rules = (STUDIES.parents[1] / "workflow/rules/common.smk").read_text()
    assert all(f'"{study["id"]}"' in rules for study in LISTED)
