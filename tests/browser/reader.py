"""What a reader of the explorer does and sees."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
READY = "document.querySelector('main')?.getAttribute('aria-busy') === 'false'"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser, headless; what asks for it is skipped where there is none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("no Chromium was found; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


def show(browser: Browser, file: Path, fragment: str = "", width: int = 1280) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(file.as_uri() + fragment)
    page.wait_for_function(READY)
    return page


def silent_and_alone(page: Page, file: Path) -> None:
    """The browser complains of nothing, and the page has asked for nothing but itself."""
    assert [message.text for message in page.console_messages() if message.type in ("error", "warning")] == []
    assert page.page_errors() == []
    addresses = {request.url.split("#")[0] for request in page.requests()}
    assert {address for address in addresses if not address.startswith(("data:", "blob:"))} == {file.as_uri()}


def signed(value: float) -> str:
    """A number as the page writes it, with a minus sign unless it rounds to zero."""
    return f"{value:z.3f}".replace("-", "\N{MINUS SIGN}")


def state(page: Page) -> dict[str, str]:
    fragment = page.evaluate("location.hash").removeprefix("#")
    return {key: value for key, (value,) in parse_qs(fragment).items()}


def text(page: Page, selector: str) -> str:
    return page.text_content(selector) or ""


def shown(page: Page) -> dict[str, str]:
    """What the page says of the chosen head, in every panel."""
    panels = ["#head-title", "#status", "#effects", "#contexts"]
    return {panel: text(page, panel) for panel in panels} | {"split": chart(page, "split")}


def chart(page: Page, name: str) -> str:
    """Description of a chart for screen readers."""
    return page.get_attribute(f"#{name}", "aria-label") or ""


def cell(head: str) -> str:
    return f"#grid path[aria-label^='{head}:']"


def choose(page: Page, name: str, value: str) -> None:
    """Choose from a list."""
    page.select_option(f"select[name={name}]", value)
    settled(page)


def moved(page: Page, head: str) -> None:
    """Wait until the address names a head, and the panels show it."""
    page.wait_for_function(f"location.hash.includes('head={head}')")
    settled(page)


def settled(page: Page) -> None:
    """Wait until the head of the address is shown."""
    title = "document.querySelector('#head-title').textContent"
    page.wait_for_function(f"{READY} && {title}.includes(location.hash.match(/head=(\\w+)/)[1])")
