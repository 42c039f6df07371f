"""The explorer of a finished run, opened in a browser."""

from tests.browser.reader import cell, chromium, moved, show, silent_and_alone, text
from tests.workflow.conftest import Clone

PAGE = "results/test/report/explorer.html"


def test_the_explorer_of_a_run_opens_and_answers(finished_run: Clone) -> None:
    file = finished_run.root / PAGE
    assert file.stat().st_size < 15e6
    with chromium() as browser:
        page = show(browser, file, "#model=tiny-pythia")
        page.click(cell("L3H5"))
        moved(page, "L3H5")
        assert "Head L3H5 of tiny-pythia" in text(page, "#head-title")
        silent_and_alone(page, file)
