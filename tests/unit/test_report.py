import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import amalgam
from amalgam.report.charts import BLUE
from amalgam.report.models import MIN_BIN, build_curves, build_groups
from amalgam.report.page import build_page, write_section
from amalgam.report.rows import LONGEST_TEXT, browse_mistakes, browse_pool, list_mistakes, thin_rows
from tests.unit.reporting import HOSTILE, METRICS, make_content, make_difference, make_estimates, make_mistakes

DRAWING = {"svg", "g", "path", "line", "text", "title", "desc", "rect", "circle", "tspan"}
SOURCE = Path(amalgam.__file__).parent
RUN = make_content().metrics
NO_PLOTS = {name: plot[:0] for name, plot in make_content().plots.items()}
NO_ROWS = pd.DataFrame({"text": []}, dtype=str)
THIN, WIDE = "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"


class Page(HTMLParser):
    """What a browser would see: elements with attributes, texts outside scripts, scripts, and tables by caption."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.tags, self.texts, self.raw, self.tables = [], [], [], [], {}
        self._open, self._cells = "", [[""]]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.tags.append(tag)
        self._open = tag
        if tag == "tr":
            self._cells.append([])
        elif tag in ("th", "td"):
            self._cells[-1].append("")

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open in ("script", "style"):
            self.raw.append((self._open, self.elements[-1][1], data))
            return
        self.texts.append(data.strip())
        if self._open == "caption":
            self._cells = self.tables[data] = []
        elif self._open in ("th", "td", "small"):
            self._cells[-1][-1] += f"|{data}" if self._open == "small" else data

    def list_values(self, *names):
        return [value for _, attributes in self.elements for name, value in attributes.items() if name in names]


@pytest.fixture(scope="module")
def plain():
    return build_page(make_content())


def test_texts_stay_texts(plain):
    harmless, page = Page(plain), Page(build_page(make_content(HOSTILE)))
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
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(own[name].encode()).digest()).decode()
        assert rules[f"{name}-src"] == [f"'sha256-{digest}'"]
    assert rules["default-src"] == ["'none'"]
    assert not page.list_values("style")
    # Nothing is fetched.
    assert {link[1:] for link in page.list_values("href", "src") if link != "data:,"} <= {*page.list_values("id")}
    assert "url(" not in plain


def test_page_can_be_read_aloud(plain):
    page = Page(plain)
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    assert page.tags.count("table") == page.tags.count("caption")
    ids = page.list_values("id")
    assert len(ids) == len(set(ids))
    assert {*page.list_values("aria-labelledby", "aria-describedby", "for")} <= set(ids)
    assert page.tags.count("svg") == page.tags.count("desc") == page.tags.count("figure")


def test_every_class_in_a_template_has_a_style_or_a_script():
    known = "".join((SOURCE / "report" / name).read_text() for name in ("style.css", "page.js"))
    texts = [path.read_text() for path in (*SOURCE.glob("report/templates/*.j2"), SOURCE / "study/page.html.j2")]
    used = {name for text in texts for names in re.findall(r'class="([\w -]+)"', text) for name in names.split()}
    assert {name for name in used if f".{name}" not in known} == {"unclear"}  # which looks plain


def test_what_a_run_lacks_is_left_out(plain):
    metrics = {name: {} for name in ("cost", "ceiling", "subgroups", "periods", "selective")}
    metrics |= {"data": RUN["data"] | {"learned": {"human": 0, "synthetic": 164}}, "training": {"training": {}}}
    metrics["data"].pop("rater_kappa")
    metrics["synthetic"] = {"synthesis": RUN["synthetic"]["synthesis"], "judge": {"rows": 0, "unparsed": 0}}
    bare = {"plots": NO_PLOTS, "pool": NO_ROWS, "mistakes": NO_ROWS, "inputs": {}, "versions": {}}
    params = make_content().params | {"seeds": [1], "ratio": 1}
    html = build_page(make_content(params=params, metrics=metrics, **bare))
    for words in ("raters agree", "guard", "Subgroups", "Curves", "Mistakes", "Drift", "ceiling", "Requests", "<form"):
        assert words in plain
        assert words not in html
    assert f"intervals (95{WIDE}%) cover test rows only" in html
    assert "alongside 0 human rows" in html


@pytest.mark.parametrize(
    ("file", "place", "counts", "sentence"),
    [
        ("data", "models/grader", (40, 40), "gave no readable grade for 40 rows, so it has no score."),
        ("data", "models/grader", (40, 30), "most rows, 30 of 40: for these, its scores treat every label as equally"),
        ("synthetic", "synthetic/judge", (24, 24), "Asked to grade 24 responses by the rubric, the LLM gave no grade"),
    ],
)
def test_an_llm_whose_grades_cannot_be_read_is_named(file, place, counts, sentence):
    section, who = place.split("/")
    graded = {who: dict(zip(("rows", "unparsed"), counts, strict=True))}
    assert sentence in write_section(section, make_content(metrics={file: RUN[file] | graded}))
    assert sentence not in write_section(section, make_content())


def test_texts_that_the_llm_labelled_do_not_count_as_its_responses():
    data = RUN["data"] | {"learned": {"human": 41, "synthetic": 164, "labelled": 100}}
    html = write_section("synthetic", make_content(metrics={"data": data}))
    assert all(title in html for title in ("What became of the LLM", "Drift from human rows"))
    assert "kept; 64 of them and 100 real texts that the LLM labelled were used for training, alongside 41" in html
    synthesis = {"synthesis": {"responses": 0, "kept": 0, "rejected": {}, "kept_by_label": {}}}
    none = RUN["synthetic"] | synthesis | {"synthetic": {"rows": 0, "human_rows": 841}}
    html = write_section("synthetic", make_content(metrics={"data": data, "synthetic": none}, pool=NO_ROWS))
    assert "<p>100 real texts that the LLM labelled were used" in html
    assert "<table" not in html


def test_the_distance_of_all_rows_is_drawn_once_even_if_a_label_is_named_all():
    tables = Page(write_section("synthetic", make_content(labels={"all": "x", "yes": "y"}))).tables
    assert [row[0] for row in tables["Distance of the embeddings"][1:]] == ["All rows", "yes"]


def test_tables_hold_what_was_measured(plain):
    tables = Page(plain).tables
    assert tables["Requests to the LLM"][1] == ["Writing responses", "3", f"12{THIN}345", "7", "unknown"]
    assert tables["Time and size"][3] == ["Student, int8", "", "17.6"]
    assert tables["Training runs"][1:] == [[name, "1", "10", "20", "10", "0.500"] for name in ("Teacher", "Student")]
    outcomes = [["Kept", "1", f"50.0{WIDE}%"], ["Empty", "2", f"100.0{WIDE}%"]]
    assert tables["What became of the LLM's responses"][1:] == outcomes
    assert tables["Properties of the rows"][2] == ["Distinct words", "0.200", "0.300"]
    assert tables["Human responses by set and label"][2] == ["Test", f"1{THIN}500", "750", "750"]
    assert tables["Test rows by fine"][-1] == ["other", "4", "too few rows", *[""] * 4]
    assert tables["Test rows by fine"][1][-1] == "0.030|chance gives up to 0.060"
    assert tables["Params that the results depend on"][-1] == ["llm.body", "{}"]


def test_bins_of_few_predictions_are_not_drawn():
    bins = pd.DataFrame({"model": "teacher", "confidence": [0.6, 0.7], "share": 0.6, "rows": [MIN_BIN - 1, MIN_BIN]})
    (figure,) = build_curves(make_content(plots=NO_PLOTS | {"calibration": bins}))["figures"]
    assert figure.svg.count(f'fill="{BLUE}"') == 1
    assert len(figure.numbers.rows) == 2
    assert build_curves(make_content(plots=NO_PLOTS | {"calibration": bins[:1]})) is None


def test_subgroups_whose_long_names_begin_alike_are_drawn_apart():
    (group,) = RUN["periods"]["periods"].values()
    names = [f"Faculty of Engineering and {name}" for name in ("Design", "Architecture", "Law")]
    parts = build_groups(make_content(metrics={"subgroups": {"subgroups": {"unit": dict.fromkeys(names, group)}}}))
    labels = re.findall("<text[^>]*>(Faculty[^<]*)", parts["subgroups"][0]["figures"][0].svg)
    assert labels == ["Faculty of Engineering …", "Faculty of Engineer… (2)", "Faculty of Engineer… (3)"]


def test_long_texts_are_cut_and_captions_say_how_many_of_how_many():
    rows = thin_rows(pd.DataFrame({"text": ["a" * LONGEST_TEXT, "a" * (LONGEST_TEXT + 7)]}), 100_000)
    assert rows["text"][0] == "a" * LONGEST_TEXT
    assert rows["text"][1].endswith("a … [7 more characters]")
    content = make_content(mistakes=make_mistakes(["a", "b"]))
    assert f"gets 2 of 1{THIN}500 test rows wrong; all of them are listed" in browse_mistakes(content).caption
    assert "wrong; 1 of them are listed" in browse_mistakes(content, 150).caption  # the bytes of a row, not of two
    assert browse_pool(content).caption == "All of the 2 responses of the LLM, sampled at temperature 0.7"
    assert browse_pool(content, 150).caption.startswith("1 of the 2 responses")
    assert browse_pool(content, 10) is None


def test_mistakes_are_those_of_the_mean_over_seeds_most_confident_first():
    rows = pd.DataFrame({"text": list("abcd"), "question": "", "label": ["no", "no", "yes", "no"]})
    rows = rows.assign(rater1=["no", "yes", "yes", "no"], rater2=["yes", "", "yes", "no"])
    # Probability of `yes` by seed and row: the student is wrong about a and b, and about d in one seed.
    given = {"student": [[0.6, 0.9, 0.9, 0.8], [0.7, 0.9, 0.6, 0.1]], "teacher": [[0.1, 0.8, 0.9, 0.1]]}
    stacks = {model: np.stack([1 - np.array(yes), np.array(yes)], axis=2) for model, yes in given.items()}
    found = list_mistakes(rows, stacks, ["no", "yes"])
    assert found[["text", "predicted", "wrong", "raters", "teacher"]].to_numpy().tolist() == [
        ["b", "yes", 2, "yes", "yes"],
        ["a", "yes", 2, "no, yes", "no"],
    ]
    assert list(found["probability"]) == pytest.approx([0.9, 0.65])
    browser = browse_mistakes(make_content(mistakes=found))
    assert browser.head == ["Response", "Human label", "Student", "Raters", "Teacher"]
    assert browser.data[0][0][2] == ("yes", "p = 0.900; 2 of 2 seeds")


def read_claims(**metrics):
    """Return the claims of the verdict (outcome, claim, numbers), the lead first, of a run with other metrics."""
    params = {"ratio": metrics.pop("ratio", 0.8), "synthesis": {"source": metrics.pop("source", "write")}}
    params = make_content().params | params
    html = write_section("verdict", make_content(metrics=metrics, params=params))
    found = re.findall(r'<(?:p|li) class="(?:lead )?(\w+)"><strong>(.*?)</strong>(.*?)</(?:p|li)>', html)
    return [(outcome, unescape(claim), unescape(numbers).strip()) for outcome, claim, numbers in found]


STUDENT = f"The student, 77{WIDE}% of the teacher's size and 1.9 times as fast, "
HUMAN, BEST = "gain_over_human_only", "gain_over_best_baseline"
DISTILLED, ROUNDED = "student_minus_undistilled", "int8_minus_student"
NEVER = {"selective": {"rows": 500, "coverage": 0.0, "basis": "So few."}}


def differ(key, low, high, **more):
    """Return the metrics of a run with another paired difference."""
    models = RUN["models"] | dict.fromkeys(("student_undistilled", "student_int8"), make_estimates(METRICS))
    change = RUN["comparisons"].get(key, {}) | make_difference(low, high)
    return {"models": models, "comparisons": RUN["comparisons"] | {key: change}, **more}


def agree(low, high):
    """Return the metrics of a run whose student agrees with the coders so far."""
    return {"selective": {"selective": {"rows": 500, "coverage": 0.53, **make_difference(low, high, "agreement")}}}


@pytest.mark.parametrize(
    ("place", "outcome", "claim", "changes"),
    [
        (0, "better", "Adding 164 synthetic rows to 41 human-coded ones makes the teacher better:", {}),
        (0, "worse", "Training only on synthetic rows makes the teacher worse:", differ(HUMAN, -0.2, -0.1, ratio=1)),
        (0, "unclear", "There is no evidence that adding 164 synthetic rows to 41", differ(HUMAN, -0.1, 0.1)),
        (0, "better", "Adding 164 LLM-labelled rows to 41 human-coded ones makes the teacher", {"source": "label"}),
        (0, "unclear", "This run shows nothing about synthetic and LLM-labelled rows", {"source": "both", "ratio": 0}),
        (1, "unclear", "The guard let the LLM-labelled rows in, but could", {"source": "label"}),
        (2, "worse", "The teacher is worse than the best baseline:", differ(BEST, -0.2, -0.1)),
        (3, "worse", f"{STUDENT}is worse:", {}),
        (4, "better", "Distillation makes the student better:", differ(DISTILLED, 0.01, 0.1)),
        (4, "unclear", "Rounding the student's weights to 8 bits makes no difference", differ(ROUNDED, -0.01, 0.01)),
        (-1, "better", f"The student that ships labels 53{WIDE}%", agree(0.9, 0.97)),
        (-1, "worse", f"The student that ships labels 53{WIDE}%", agree(0.7, 0.89)),
        (-1, "unclear", "The student that ships asks a human about all 500 test rows:", {"selective": NEVER}),
    ],
)
def test_claims_follow_the_intervals(place, outcome, claim, changes):
    found = read_claims(**changes)[place]
    assert (found[0], found[1][: len(claim)]) == (outcome, claim)


def test_a_difference_that_rounds_to_nothing_has_no_minus_sign():
    assert "a paired difference of +0.000" in read_claims(**differ(ROUNDED, -0.1001, 0.1))[4][2]


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"helps": 0}, "The guard left the synthetic rows out:"),
        ({}, "The guard let the synthetic rows in, but could not tell whether they help:"),
        ({"difference_low": 0.001}, "The guard let the synthetic rows in:"),
    ],
)
def test_guard_says_what_it_rests_on(changes, claim):
    guard = RUN["training"]["guard"] | changes
    (outcome, lead, _), (_, said, numbers), *_ = read_claims(training={"guard": guard})
    assert said == claim
    assert ("the guard left" in lead) == (not guard["helps"])  # no praise for rows that were left out
    assert guard["helps"] or outcome == "unclear"
    assert "an AUC of 0.830 with the synthetic rows and of 0.820 without, a difference of +0.010" in numbers
    assert "5-fold cross-validation on 51 human rows" in numbers
    assert "tell the synthetic labels apart with an AUC of 0.800; at least 0.650 is required" in numbers
