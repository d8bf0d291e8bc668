import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from amalgam.report.page import build_page
from tests.unit.reporting import HOSTILE, METRICS, make_content, make_estimates

DRAWING = {"svg", "g", "path", "line", "text", "title", "desc"}


class Page(HTMLParser):
    """What a browser would see: elements with attributes, texts outside scripts, and scripts."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.raw, self._open = [], [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open in ("script", "style"):
            self.raw.append((self._open, self.elements[-1][1], data))
        else:
            self.texts.append(data.strip())

    @property
    def tags(self):
        return [tag for tag, _ in self.elements]


@pytest.fixture(scope="module")
def plain():
    return build_page(make_content())


@pytest.fixture(scope="module")
def hostile():
    return build_page(make_content(HOSTILE))


def test_texts_stay_texts(plain, hostile):
    harmless, page = Page(plain), Page(hostile)
    drawn = DRAWING | {"rect", "circle", "tspan", "defs", "clippath"}
    assert [tag for tag in page.tags if tag not in drawn] == [tag for tag in harmless.tags if tag not in drawn]
    assert page.tags.count("script") == 1 + 2  # one that runs, two with rows
    assert not set(page.tags) & {"img", "iframe", "object", "base", "image", "foreignobject", "use"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.texts.count(HOSTILE.strip()) >= 8
    assert f"Amalgam: {HOSTILE}".strip() in page.texts
    rows = [json.loads(text) for _, attributes, text in page.raw if attributes.get("type") == "application/json"]
    assert [cells[0][0] for found in rows for cells, _ in found] == [HOSTILE, HOSTILE, "half a"]
    assert not [text for _, attributes, text in page.raw if "type" in attributes and set("<>&\u2028") & set(text)]


def test_policy_allows_the_page_its_own_script_and_style_and_nothing_else(plain):
    page = Page(plain)
    policy = next(attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)
    own = {name: text for name, attributes, text in page.raw if "type" not in attributes}
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    hashes = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for name, text in own.items()
    }
    assert (rules["script-src"], rules["style-src"]) == ([hashes["script"]], [hashes["style"]])
    assert rules["default-src"] == ["'none'"]
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_nothing_is_fetched(plain):
    page = Page(plain)
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("href", "src")]
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link[1:] for link in links if link != "data:,"} <= anchors
    assert "url(" not in plain


def test_page_can_be_read_aloud(plain):
    page = Page(plain)
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    assert page.tags.count("table") == page.tags.count("caption")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {
        attributes[name] for _, attributes in page.elements for name in attributes if name in ("aria-labelledby", "for")
    }
    assert named <= set(ids)
    charts = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(charts) == page.tags.count("figure")
    assert all({"role", "aria-labelledby", "aria-describedby"} <= set(attributes) for attributes in charts)


def test_what_a_run_lacks_is_left_out(plain):
    content = make_content()
    bare = replace(
        content,
        params=content.params | {"seeds": [1], "ratio": 1},
        data={name: value for name, value in content.data.items() if name != "rater_kappa"}
        | {"learned": {"human": 0, "synthetic": 164}},
        synthetic={"synthesis": content.synthetic["synthesis"], "judge": {"rows": 0, "unparsed": 0}},
        training={"training": {}},
        plots={},
        **{name: {} for name in ("cost", "ceiling", "subgroups", "periods", "selective", "inputs", "versions")},
        **dict.fromkeys(("synthetic_rows", "mistakes")),
    )
    html = build_page(bare)
    for words in ("raters agree", "guard", "For whom", "Curves", "Mistakes", "Drift", "ceiling", "Requests", "<form"):
        assert words in plain
        assert words not in html
    assert "intervals (95\N{NO-BREAK SPACE}%) cover test rows only" in html
    assert "beside 0 human rows" in html


@pytest.mark.parametrize(
    ("unparsed", "sentence"),
    [
        (0, ""),
        (40, "gave no readable grade of 40 rows, so it has no score."),
        (30, "gave no readable grade of most rows, 30 of 40: there, its scores take every label as equally likely."),
        (3, "gave no readable grade of some rows, 3 of 40: there"),
    ],
)
def test_a_grader_that_cannot_be_read_is_named(unparsed, sentence):
    content = make_content()
    html = build_page(replace(content, data=content.data | {"grader": {"rows": 40, "unparsed": unparsed}}, plots={}))
    assert ("gave no readable grade" in html) == bool(sentence)
    assert sentence in html


def test_a_judge_that_cannot_be_read_is_named():
    content = make_content()
    synthetic = {"synthesis": content.synthetic["synthesis"], "judge": {"rows": 24, "unparsed": 24}}
    html = build_page(replace(content, synthetic=synthetic, plots={}))
    assert "Asked to grade 24 of them by the rubric, the LLM gave no grade that could be read" in html


def test_more_labels_and_sets_are_explained():
    content = make_content()
    labels = content.labels | {"maybe": ""}
    models = content.models | {"transfer_test": {"teacher": make_estimates(METRICS)}}
    html = build_page(replace(content, labels=labels, models=models, plots={}))
    assert html.count("Transfer test: human-coded") == 2  # the caption, and the name of the region that scrolls
    assert "one against the rest" in html


def test_page_does_not_depend_on_when_and_where(plain):
    assert build_page(make_content()) == plain
