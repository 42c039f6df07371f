"""The README's table says of each finding what the run's verdicts say."""

import json

import polars as pl
import pytest
from test_findings import LISTED, STUDIES, found

from selfrepair.report.claims_table import by_model
from selfrepair.report.findings import table_of_findings
from selfrepair.report.readme import BEGIN, END, beyond, findings, parts, repairers, with_block

CLAIM = {"wording": "Heads are repaired.", "paper_value": 0.86}


def test_a_finding_stands_beside_its_null_and_says_where_it_held() -> None:
    models = [{"value": 0.9, "null": 0.5}, {"value": 0.25, "null": None}, {"value": None, "null": None}]
    *_, row = findings([CLAIM | {"models": models, "others": {"held": ["a"], "models": 2}}], {}).splitlines()
    assert row == "| Heads are repaired. | 0.86 | 0.25 to 0.90 | 0.50 | 1 of 2 |"
    nothing = {"models": models[2:], "others": {"held": [], "models": 0}, "paper_value": None}
    *_, row = findings([CLAIM | nothing], {}).splitlines()
    assert row == "| Heads are repaired. |  | not measured | not measured | 0 of 0 |"


def test_a_readme_without_its_markers_is_refused() -> None:
    """Otherwise its text would be lost or doubled."""
    written = with_block(f"before\n{BEGIN}\nold\n{END}\nafter\n", "table")
    assert written == f"before\n{BEGIN}\n\ntable\n\n{END}\nafter\n" == with_block(written, "table")
    for text in ("", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"):
        with pytest.raises(ValueError, match="the page must hold"):
            with_block(text, "table")


def test_models_of_other_runs_stand_before_with_their_verdict(tmp_path) -> None:
    small = CLAIM | {"id": "a", "models": [{"value": 0.9, "null": 0.5}], "others": {"held": ["a"], "models": 1}}
    entry = {"model": "real", "value": 0.93, "verdict": "held"}
    file = tmp_path / "claims.json"
    file.write_text(json.dumps({"claims": [{"id": "a", "models": [entry]}, {"id": "b", "models": [entry]}]}))
    head, _, row = findings([small], by_model([file])).splitlines()
    assert head == "| claim of the paper | its value | real | small models | shuffled weights | held in |"
    assert row == "| Heads are repaired. | 0.86 | 0.93, held | 0.90 | 0.50 | 1 of 1 |"


def test_who_repairs_is_said_as_the_intervals_allow() -> None:
    def study(norm_high: float) -> list[dict]:
        values = {
            "late-norm-part": (0.1, 0.08, norm_high),
            "late-attention-part": (0, 0, 0),
            "late-mlp-part": (0.4, 0.3, 0.5),
        }
        return [
            {"id": name, "paper_value": 0.2, "models": [{"model": "m", "value": v, "low": low, "high": high}]}
            for name, (v, low, high) in values.items()
        ]

    assert "norm 0.10, later attention 0.00, MLPs 0.40" in parts(study(0.2)) and "here the MLPs" in parts(study(0.2))
    assert "here the MLPs" not in parts(study(0.35))


def test_studies_are_told_by_their_first_statistic_and_what_differs() -> None:
    """Otherwise the README would claim more than the studies found."""
    table = found(
        ["m", "n", "m-shuffled", "n-shuffled"], {"m-shuffled": (0.1, 0.0, 0.2), "n-shuffled": (0.5, 0.4, 0.6)}
    )
    head, _, *rows = beyond(table_of_findings(STUDIES, table)[0]).splitlines()
    assert len(rows) == len(LISTED) and head.startswith("| beyond the paper |")
    assert all(row.endswith("| 0.50 | 0.10 to 0.50 | 1 of 2 |") for row in rows)
    head, _, *rows = beyond(table_of_findings(STUDIES, table)[0], ["n"]).splitlines()
    assert head.startswith("| beyond the paper | n | small models | shuffled weights |")
    assert all(row.endswith("| 0.50 | 0.50 | 0.10 to 0.50 | 1 of 2 |") for row in rows)


def test_who_repairs_whom_is_said_with_intervals_and_only_where_measured() -> None:
    shares = [
        ("hand-off", "strongest_share", "top", 0.26),
        ("hand-off", "strongest_of_others", "top", 0.23),
        ("distributions", "strongest_own", "code", 0.29),
        ("distributions", "strongest_on_first", "code", 0.25),
        ("distributions", "strongest_on_first", "copying (answers)", None),
    ]
    rows = [
        {"model": "m", "study": study, "statistic": statistic, "tokens": tokens, "value": value}
        | {"low": value and value - 0.05, "high": value and value + 0.05}
        for study, statistic, tokens, value in shares
    ]
    rows.append(rows[0] | {"study": "attribution", "statistic": "misses", "low": None, "high": None})
    table = pl.DataFrame(rows)
    said = repairers(table, "m")
    assert "makes 0.26 [0.21, 0.31] of all positive" in said and "*other* ablated heads makes 0.23 [0.18, 0.28]" in said
    assert said.endswith(
        "On other text: the strongest there, and the strongest on prose: code 0.29 [0.24, 0.34] and 0.25 [0.20, 0.30]."
    )
    assert repairers(table, "another") == repairers(table.filter(study="distributions"), "m") == ""
