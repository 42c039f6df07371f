"""One browser for all tests, and the explorer of two small runs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser

from tests.browser.random_run import PARTIAL, add_hand_off, every_head, tables, write_page, write_run
from tests.browser.reader import chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `one` with a whole model and one with heads left out, run `two` with a model of one layer.

    Later heads are known of model `whole` only. In run `two` only selected tokens were measured, and all its statistics
    are a little below zero.
    """
    folder = tmp_path_factory.mktemp("runs")
    whole = tables("whole", 3, 4, every_head(3, 4), seed=1)
    partial = tables("partial", 3, 4, PARTIAL, parallel=True, seed=2)
    write_run(folder / "one", [whole, partial])
    add_hand_off(folder / "one/analysis/whole", 3, 4)
    flat = tables("flat", 1, 2, every_head(1, 2), parallel=True, measure="selected", seed=3)
    write_run(folder / "two", [replace(flat, heads=flat.heads.with_columns(value=pl.lit(-0.0002)))])
    write_page(folder / "explorer.html", [folder / "one", folder / "two"])
    return folder / "explorer.html"
