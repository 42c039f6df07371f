"""The explorer of a finished run, opened in a browser."""

from pathlib import Path

import pytest

from tests.browser.devtools import Browser, find_chromium
from tests.browser.reader import cell, settled, show, silent_and_alone, text
from tests.workflow.conftest import Clone

PAGE = "results/test/report/explorer.html"


def test_the_explorer_of_a_run_opens_and_answers(finished_run: Clone, tmp_path: Path) -> None:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium was found; on Debian: apt-get install chromium")
    file = finished_run.root / PAGE
    assert file.stat().st_size < 15e6
    browser = Browser(executable, tmp_path)
    try:
        page = show(browser, file, "#model=tiny-pythia")
        page.click(cell("L3H5"))
        page.until("location.hash.includes('head=L3H5')")
        settled(page)
        assert "Head L3H5 of tiny-pythia" in text(page, "#head-title")
        silent_and_alone(page, file)
    finally:
        browser.close()
