import base64
import hashlib
import json
from html.parser import HTMLParser

import pandas as pd
import pytest

from amalgam.report.page import build_page, write_section
from amalgam.report.phrases import flatten_values, format_difference, format_number, format_share
from tests.unit.reporting import HOSTILE, METRICS, make_content, make_estimates, make_pool

DRAWING = {"svg", "g", "path", "line", "text", "title", "desc", "rect", "circle", "tspan"}
THIN, WIDE = "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"


class Page(HTMLParser):
    """What a browser would see: elements with attributes, texts outside scripts, scripts, and tables by caption."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.raw, self.tables, self._open = [], [], [], {}, ""
        self._cells = [[""]]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open = tag
        if tag == "table":
            self._cells = []
        elif tag == "tr":
            self._cells.append([])
        elif tag in ("th", "td"):
            self._cells[-1].append("")

    def handle_endtag(self, tag):
        if tag == "table":
            self.tables[self._caption] = self._cells
        self._open = ""

    def handle_data(self, data):
        if self._open in ("script", "style"):
            self.raw.append((self._open, self.elements[-1][1], data))
            return
        self.texts.append(data.strip())
        if self._open == "caption":
            self._caption = data
        elif self._open in ("th", "td", "small"):
            self._cells[-1][-1] += f"|{data}" if self._open == "small" else data

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
    assert [tag for tag in page.tags if tag not in DRAWING] == [tag for tag in harmless.tags if tag not in DRAWING]
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
    digests = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in own.items()}
    hashes = {name: f"'sha256-{digest}'" for name, digest in digests.items()}
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
    naming = ("aria-labelledby", "for")
    named = {value for _, attributes in page.elements for name, value in attributes.items() if name in naming}
    assert named <= set(ids)
    charts = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(charts) == page.tags.count("figure")
    assert all({"role", "aria-labelledby", "aria-describedby"} <= set(attributes) for attributes in charts)


def test_what_a_run_lacks_is_left_out(plain):
    content = make_content()
    metrics = content.metrics
    empty = {name: {} for name in ("cost", "ceiling", "subgroups", "periods", "selective")}
    data = {name: value for name, value in metrics["data"].items() if name != "rater_kappa"}
    synthetic = {"synthesis": metrics["synthetic"]["synthesis"], "judge": {"rows": 0, "unparsed": 0}}
    data |= {"learned": {"human": 0, "synthetic": 164}}
    bare = make_content(
        params=content.params | {"seeds": [1], "ratio": 1},
        metrics=empty | {"data": data, "synthetic": synthetic, "training": {"training": {}}},
        **{"plots": {}, "pool": content.pool[:0], "mistakes": content.mistakes[:0], "inputs": {}, "versions": {}},
    )
    html = build_page(bare)
    for words in ("raters agree", "guard", "For whom", "Curves", "Mistakes", "Drift", "ceiling", "Requests", "<form"):
        assert words in plain
        assert words not in html
    assert f"intervals (95{WIDE}%) cover test rows only" in html
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
    data = make_content().metrics["data"] | {"grader": {"rows": 40, "unparsed": unparsed}}
    html = build_page(make_content(metrics={"data": data}, plots={}))
    assert ("gave no readable grade" in html) == bool(sentence)
    assert sentence in html


def test_a_judge_that_cannot_be_read_is_named():
    synthetic = make_content().metrics["synthetic"] | {"judge": {"rows": 24, "unparsed": 24}}
    html = build_page(make_content(metrics={"synthetic": synthetic}, plots={}))
    assert "Asked to grade 24 responses by the rubric, the LLM gave no grade that could be read" in html


def test_rows_of_which_none_was_judged_have_no_column_for_it():
    assert "not judged" in write_section("synthetic", make_content())
    html = write_section("synthetic", make_content(pool=make_pool(["a"]).assign(judged="")))
    assert not [words for words in ("not judged", "did not judge", "Judge's label") if words in html]


def test_more_labels_and_sets_are_explained():
    content = make_content()
    models = content.metrics["models"] | {"transfer_test": {"teacher": make_estimates(METRICS)}}
    html = build_page(make_content(labels=content.labels | {"maybe": ""}, metrics={"models": models}, plots={}))
    assert html.count("Transfer test: human-coded") == 2  # the caption, and the name of the region that scrolls
    assert "one against the rest" in html


def test_page_does_not_depend_on_when_and_where(plain):
    assert build_page(make_content()) == plain


def test_tables_hold_what_was_measured(plain):
    tables = Page(plain).tables
    assert tables["Requests to the LLM"][1:] == [
        ["Writing responses", "3", f"12{THIN}345", "7", "unknown"],
        ["All", "3", f"12{THIN}345", "7", "1.50"],
    ]
    assert tables["Time and size"][1:] == [
        ["Teacher", "230", "90.9"],
        ["Student", "430", "69.6"],
        ["Student, int8", "", "17.6"],
    ]
    assert tables["Training runs"][1:] == [[name, "1", "10", "20", "10", "0.500"] for name in ("Teacher", "Student")]
    outcomes = [["Kept", "1", f"50.0{WIDE}%"], ["Empty", "2", f"100.0{WIDE}%"]]
    assert tables["What became of the LLM's responses"][1:] == outcomes
    assert tables["What the rows are like"][1:] == [
        ["Words a row|mean and standard deviation", "20.0 ± 5.0", "18.0"],
        ["Distinct words", "0.200", "0.300"],
        ["Rejected as a duplicate", f"1.0{WIDE}%", ""],
    ]
    assert tables["Human responses by set and label"][1:] == [
        ["Train", "41", "20", "21"],
        ["Test", f"1{THIN}500", "750", "750"],
        ["Unlabelled", "800", "no labels", "no labels"],
    ]
    assert tables["Test rows by fine"][-1] == ["other", "4", "too few rows", *[""] * 5]
    assert tables["Test rows by fine"][1][-2:] == ["0.030|chance gives up to 0.060", "0.400"]
    assert tables["Params that the results depend on"][-1] == ["llm.body", "{}"]


def test_confusion_shares_are_of_the_human_label():
    lines = pd.DataFrame({"model": "teacher", "actual": ["no"] * 4, "predicted": ["no", "no", "no", "yes"]})
    html = write_section("mistakes", make_content(plots={"confusion": lines}))
    assert Page(html).tables["Teacher"] == [
        ["Human label", "predicted no", "predicted yes"],
        ["no", f"75.0{WIDE}%|3", f"25.0{WIDE}%|1"],
        ["yes", f"0.0{WIDE}%|0", f"0.0{WIDE}%|0"],
    ]
    assert [html.count(f'class="shade-{tint}"') for tint in (8, 2, 0)] == [1, 1, 0]


def test_labels_that_are_long_or_many_do_not_break_the_charts_of_subgroups():
    group = make_content().metrics["subgroups"]["subgroups"]["fine"]["fine"]
    groups = {"subgroups": {"school": {f"{number} {'x' * 50}": group for number in range(20)}}}
    html = build_page(make_content(metrics={"subgroups": groups}, plots={}))
    assert "AUC by school, with 95\N{NO-BREAK SPACE}% intervals. The first 12; the table has all." in html


def test_numbers_as_text():
    assert [format_number(-0.12345), format_difference(0.1)] == ["\N{MINUS SIGN}0.123", "+0.100"]
    assert [format_share(value) for value in (0.8, 0.975, 1)] == [f"{text}{WIDE}%" for text in ("80", "97.5", "100")]


def test_nested_values_become_dotted_keys():
    values = {"ratio": 0.8, "seeds": [1, 2], "judge": {"rationale": False, "model": None, "body": {}}}
    judge = [("judge.rationale", "false"), ("judge.model", "null"), ("judge.body", "{}")]
    assert flatten_values(values) == [("ratio", "0.8"), ("seeds", "1, 2"), *judge]
