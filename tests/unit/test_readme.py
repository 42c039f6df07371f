"""The README's table says of each finding what the run's verdicts say."""

import pytest

from selfrepair.report.readme import BEGIN, END, findings, with_block

CLAIM = {"wording": "Heads are repaired.", "paper_value": 0.86}


def test_a_finding_stands_beside_its_null_and_says_where_it_held() -> None:
    models = [{"value": 0.9, "null": 0.5}, {"value": 0.25, "null": None}, {"value": None, "null": None}]
    *_, row = findings([CLAIM | {"models": models, "others": {"held": ["a"], "models": 2}}]).splitlines()
    assert row == "| Heads are repaired. | 0.86 | 0.25 to 0.90 | 0.50 | 1 of 2 |"
    nothing = {"models": models[2:], "others": {"held": [], "models": 0}, "paper_value": None}
    *_, row = findings([CLAIM | nothing]).splitlines()
    assert row == "| Heads are repaired. |  | not measured | not measured | 0 of 0 |"


def test_a_readme_without_its_markers_is_refused() -> None:
    """Otherwise its text would be lost or doubled."""
    written = with_block(f"before\n{BEGIN}\nold\n{END}\nafter\n", "table")
    assert written == f"before\n{BEGIN}\n\ntable\n\n{END}\nafter\n" == with_block(written, "table")
    for text in ("", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"):
        with pytest.raises(ValueError, match="README"):
            with_block(text, "table")
