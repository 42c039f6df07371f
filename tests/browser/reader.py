"""What a reader of the explorer does and sees."""

import json
from pathlib import Path
from urllib.parse import parse_qs

from tests.browser.devtools import Browser, Page

READY = "document.querySelector('main')?.getAttribute('aria-busy') === 'false'"


def show(browser: Browser, file: Path, fragment: str = "", width: int = 1280) -> Page:
    page = browser.page(width, 900)
    page.open(file.as_uri() + fragment)
    page.until(READY)
    return page


def silent_and_alone(page: Page, file: Path) -> None:
    assert page.complaints() == []
    addresses = {address.split("#")[0] for address in page.requested() if not address.startswith(("data:", "blob:"))}
    assert addresses == {file.as_uri()}


def signed(value: float) -> str:
    """A number as the page writes it, with a minus sign unless it rounds to zero."""
    return f"{value:z.3f}".replace("-", "\N{MINUS SIGN}")


def state(page: Page) -> dict[str, str]:
    fragment = page.evaluate("location.hash").removeprefix("#")
    return {key: value for key, (value,) in parse_qs(fragment).items()}


def text(page: Page, selector: str) -> str:
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def shown(page: Page) -> dict[str, str]:
    """What the page says of the chosen head, in every panel."""
    panels = ["#head-title", "#status", "#effects", "#contexts"]
    return {panel: text(page, panel) for panel in panels} | {"split": chart(page, "split")}


def chart(page: Page, name: str) -> str:
    """Description of a chart for screen readers."""
    return page.evaluate(f"document.querySelector('#{name}').getAttribute('aria-label')")


def cell(head: str) -> str:
    return f"#grid path[aria-label^='{head}:']"


def choose(page: Page, name: str, value: str) -> None:
    """Choose from a list."""
    select = f"document.querySelector('select[name={name}]')"
    page.evaluate(f"{select}.value = {json.dumps(value)}")
    page.evaluate(f"{select}.dispatchEvent(new Event('change', {{bubbles: true}}))")
    settled(page)


def settled(page: Page) -> None:
    """Wait until the head of the address is shown."""
    title = "document.querySelector('#head-title').textContent"
    page.until(f"{READY} && {title}.includes(location.hash.match(/head=(\\w+)/)[1])")
