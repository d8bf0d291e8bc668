"""The report as a reader sees it, in headless Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from amalgam.report.page import build_page
from tests.unit.reporting import HOSTILE, make_content, make_mistakes, make_pool

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ODD = {
    "script": "<script>document.title = 'run'</script>",
    "handler": "<img src=x onerror=\"document.title = 'run'\">",
    "end": "</script></td><h1>out</h1>",
    "formula": "=cmd|' /C calc'!A0",
    "direction": "before \u202eafter",
    "long": "word " * 2000,  # 10,000 characters
    "unbroken": "x" * 3000,
    "emoji": "👩🏽‍🏫 good 🎉",
    "breaks": "a\u2028b\nc",
}
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


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


@contextmanager
def visit(browser: Browser, file: Path, **options: object) -> Iterator[Page]:
    """Open a file in a fresh context; the browser must have nothing to complain of or to fetch."""
    page, complaints, requests = browser.new_context(**options).new_page(), list[str](), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', event => console.error(event.violatedDirective))"
    )
    page.goto(file.as_uri())
    yield page
    assert complaints == []
    assert requests == [file.as_uri()]
    page.context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose rows try everything, and are so many that they fill many pages."""
    texts = [*ODD.values(), *(f"plain comment {number}" for number in range(2000))]
    file = tmp_path_factory.mktemp("report") / "report.html"
    content = make_content(HOSTILE, pool=make_pool(texts), mistakes=make_mistakes([*ODD.values(), "plain"]))
    file.write_text(build_page(content), encoding="utf-8")
    return file


@pytest.fixture
def page(chromium: Browser, report: Path) -> Iterator[Page]:
    """The report on a desk's screen."""
    with visit(chromium, report, viewport=DESK) as page:
        yield page


def test_hostile_rows_stay_text(page: Page) -> None:
    for browser in ("#pool", "#errors"):
        cells = page.locator(f"{browser} tbody td:first-child")
        for text in ODD.values():
            shown = cells.filter(has_text=" ".join(text.split())[:40]).first
            expect(shown).to_be_visible()
            assert shown.evaluate("cell => cell.childNodes[0].nodeType") == 3  # a text node
        assert cells.nth(list(ODD).index("script")).text_content() == ODD["script"]
        assert cells.nth(list(ODD).index("long")).text_content().startswith(ODD["long"][:5000])
    assert page.title() == f"Amalgam: {HOSTILE}"
    assert page.locator("img").count() == 0
    assert page.locator("h1").count() == 1


def test_rows_are_searched_filtered_and_turned(page: Page) -> None:
    pool = page.locator("#pool")
    rows, hits = pool.locator("tbody tr"), pool.locator("[aria-live=polite]")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the verdict")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    expect(hits).to_have_text(f"{len(ODD) + 2001} of {len(ODD) + 2001} rows match")
    expect(rows).to_have_count(25)
    pool.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    expect(pool).to_contain_text("Page 2 of 81")
    expect(rows.first).to_contain_text(f"plain comment {25 - len(ODD)}")

    pool.get_by_label("Search").fill("COMMENT 199")  # both words, whatever their case: 199, 1199, 1990 to 1999
    expect(hits).to_have_text(f"12 of {len(ODD) + 2001} rows match")
    expect(rows).to_have_count(12)
    expect(pool.get_by_role("button", name="Next")).to_be_hidden()
    pool.get_by_label("Label").select_option("yes")
    expect(rows).to_have_count(7)
    assert set(pool.locator("tbody td:nth-child(2)").all_text_contents()) == {"yes"}

    pool.get_by_label("Search").fill("")
    pool.get_by_label("Label").select_option("all")
    pool.get_by_label("Judge").select_option("disagrees")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Cut off at the token limit")
    pool.get_by_label("Search").fill("no such row")
    expect(hits).to_contain_text("0 of")
    expect(rows).to_have_count(0)


@pytest.mark.parametrize(("scheme", "size"), [("light", PHONE), ("dark", DESK)], ids=["light phone", "dark desk"])
def test_page_is_accessible(chromium: Browser, report: Path, scheme: str, size: dict[str, int]) -> None:
    page = chromium.new_page(viewport=size, color_scheme=scheme)
    page.goto(report.as_uri())
    for details in page.locator("summary").all():
        details.click()
    found = Axe().run(page)  # the order of headings too
    assert not found.response["violations"], found.generate_report()
    assert len(found.response["passes"]) > 20
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.close()


def test_page_says_what_matters_without_scripts_and_on_paper(chromium: Browser, report: Path, tmp_path: Path) -> None:
    with visit(chromium, report, java_script_enabled=False, color_scheme="dark") as page:
        expect(page.locator(".lead")).to_contain_text("AUC 0.874 against 0.874")
        assert page.locator("figure svg").count() >= 5
        expect(page.locator("#pool")).to_contain_text("they are also in data/curated/")
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        expect(page.locator("nav")).to_be_hidden()
        page.pdf(path=tmp_path / "report.pdf", format="A4")
        assert (tmp_path / "report.pdf").stat().st_size > 20_000
