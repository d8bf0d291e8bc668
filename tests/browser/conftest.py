"""A real browser, and the page of a small run in it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Visit:
    """An open page, and what the browser said and asked for meanwhile."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")  # no longer than its tests: while it is open, asyncio cannot run anything else
def chromium() -> Iterator[Browser]:
    """Headless Chromium of this machine; without one the tests are skipped, and the summary says so."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        pytest.skip(f"the report was not looked at in a browser: none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        # Its sandbox refuses to start for root, as in a container; the page is this project's own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def visit(browser: Browser, file: Path, **options: object) -> Visit:
    """Open a file in a fresh context and note every message and request."""
    seen = Visit(browser.new_context(**options).new_page())
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.add_init_script(
        "document.addEventListener('securitypolicyviolation', event => console.error(event.violatedDirective))"
    )
    seen.page.goto(file.as_uri())
    return seen
