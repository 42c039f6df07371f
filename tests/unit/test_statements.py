"""The paper's sentences follow the results of a run."""

from pathlib import Path

import pytest
import yaml

from selfrepair.report.statements import NOT_MEASURED, statements

ROOT = Path(__file__).parents[2]
LISTED = yaml.safe_load((ROOT / "paper/statements.yaml").read_text())
WORDS = {"all": "all {models}", "some": "{held} of {models}", "none": "none of {models}, against it {failed}"}


def claim(name: str, *verdicts: str, low: float = 0, high: float = 1) -> dict:
    models = [{"model": f"m{i}", "verdict": verdict, "low": low, "high": high} for i, verdict in enumerate(verdicts)]
    return {"id": name, "models": models}


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        (["held", "held"], "all 2"),
        (["held", "undecided", "not measured"], "1 of 2"),
        (["did not hold", "undecided"], "none of 2, against it 1"),
        (["not measured"], NOT_MEASURED),
        ([], NOT_MEASURED),
    ],
)
def test_a_sentence_says_in_how_many_models_its_claim_held(verdicts: list[str], sentence: str) -> None:
    assert statements({"x": {"claim": "a"} | WORDS}, [claim("a", *verdicts)]) == {"x": sentence}


def test_a_comparison_needs_the_intervals_apart() -> None:
    larger = {"x": {"larger": ["a", "b"]} | WORDS}
    assert statements(larger, [claim("a", "held", low=2, high=3), claim("b", "held")]) == {"x": "all 1"}
    assert statements(larger, [claim("a", "held", low=0.9, high=3), claim("b", "held")]) == {
        "x": "none of 1, against it 0"
    }


def test_a_sentence_without_the_wording_that_results_call_for_stops_the_build() -> None:
    with pytest.raises(ValueError, match="x has no wording for `none`"):
        statements({"x": {"claim": "a", "all": "yes"}}, [claim("a", "did not hold")])
    with pytest.raises(ValueError, match=r"x is about b, which config/claims\.yaml lacks"):
        statements({"x": {"claim": "b"} | WORDS}, [claim("a", "held")])


def test_every_statement_is_used_by_the_paper_and_cites_a_claim() -> None:
    tex = (ROOT / "paper/main.tex").read_text()
    claims = {entry["id"] for entry in yaml.safe_load((ROOT / "config/claims.yaml").read_text())["claims"]}
    for name, statement in LISTED.items():
        macro = "\\Says" + "".join(word.capitalize() for word in name.split("-"))
        assert macro in tex, f"{macro} is not in the paper"
        assert set(statement.get("larger", [statement.get("claim")])) <= claims
        assert {"all", "some", "none"} <= set(statement)
