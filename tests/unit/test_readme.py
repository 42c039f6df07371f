"""The README's table says of each finding what the run's verdicts say."""

import pytest

from selfrepair.report.readme import BEGIN, END, findings, with_block

CLAIM = {"wording": "Heads are repaired.", "unit": "fraction", "paper_value": 0.86}


def test_a_finding_names_the_models_that_it_holds_in() -> None:
    models = [
        {"model": "a", "value": 0.9, "holds": True},
        {"model": "b", "value": 0.25, "holds": False},
        {"model": "c", "value": None, "holds": None},
    ]
    *_, row = findings([CLAIM | {"models": models}]).splitlines()
    assert row == "| Heads are repaired. (fraction) | 0.86 | 0.25 to 0.90 | 1 of 2: a |"
    *_, row = findings([CLAIM | {"models": models[:1], "paper_value": None}]).splitlines()
    assert row == "| Heads are repaired. (fraction) |  | 0.90 to 0.90 | 1 of 1 |"


def test_a_readme_without_its_markers_is_refused() -> None:
    """Otherwise its text would be lost or doubled."""
    written = with_block(f"before\n{BEGIN}\nold\n{END}\nafter\n", "table")
    assert written == f"before\n{BEGIN}\n\ntable\n\n{END}\nafter\n" == with_block(written, "table")
    for text in ("", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"):
        with pytest.raises(ValueError, match="README"):
            with_block(text, "table")
