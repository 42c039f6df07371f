"""The workflow, unchanged, finds on the model that was set by hand what follows on paper, and the page shows it."""

import pytest

from tests.workflow.conftest import ROOT, Clone

CONFIG = "config/known-answer.yaml"
PAGE = "docs/known_answer.md"
TABLE = "results/known-answer/analysis/known-answer/known_answer.csv"


@pytest.mark.slow
def test_the_workflow_measures_the_known_answer(clone: Clone) -> None:
    done = clone.run("check_known_answer", config=CONFIG)
    assert done.returncode == 0, done.stdout[-8000:]
    assert (clone.root / TABLE).is_file()
    assert (clone.root / PAGE).read_text() == (ROOT / PAGE).read_text()
    # A derivation that says something else stops the rule: an eraser that does a little more than is written.
    clone.edit("src/selfrepair/analysis/known_answer.py", lambda text: text.replace("-ERASER,", "-1.001 * ERASER,"))
    done = clone.run("check_known_answer", config=CONFIG)
    assert done.returncode != 0 and "differs from what follows on paper" in done.stdout
