import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.report import tables
from amalgam.report.page import Content, build_page, load_library, pick_rows
from amalgam.report.phrases import format_count, format_difference, format_number, format_share, phrase_verdict

HOSTILE = """<script>alert(1)</script> </script><img src=x onerror="alert(2)"> {{7*7}} {% raw %} =1+1 '"&amp; \u2028"""
METRICS = {"auc": 0.874, "macro_f1": 0.8, "accuracy": 0.81, "kappa": 0.6, "brier": 0.1}
MODEL = METRICS | {f"{name}_{end}": value for name, value in METRICS.items() for end in ("low", "high")} | {"ece": 0.05}


def make_difference(low, high):
    return {"auc": (low + high) / 2, "auc_low": low, "auc_high": high}


def make_content(text="fine", **changes):
    run = {"seed_1": {"steps": 20, "best_step": 10, "validation_loss": 0.5, "train_rows": 10}}
    row = {"id": "a", "text": text, "question": text, "label": "no", "sample": "0", "judged": ""}
    points = [{"model": model, "label": "yes", "fpr": x, "tpr": x} for model in ("teacher", "tfidf_lr") for x in (0, 1)]
    content = Content(
        title=text,
        response=text,
        licence=text,
        citation=text,
        labels={"no": text, "yes": text},
        params={
            "ratio": 0.8,
            "human_rows": 51,
            "seeds": [1, 2],
            "evaluation": {"confidence": 0.95},
            "llm": {"model": text},
        },
        models={name: dict(MODEL) for name in ("teacher", "student", "human_only", "embedding_lr", "tfidf_lr")},
        comparisons={
            "gain_over_human_only": make_difference(0.1, 0.2),
            "gain_over_best_baseline": {**make_difference(-0.1, 0.2), "baseline": "tfidf_lr"},
            "student_minus_teacher": make_difference(-0.2, -0.1),
        },
        data={
            "rows": {"train": 41, "test": 1500, "unlabelled": 800},
            "labels": {"train": {"no": 20, "yes": 21}, "test": {"no": 750, "yes": 750}},
            "rater_kappa": 0.68,
            "mixed": {"human": 41, "synthetic": 164},
        },
        synthetic={
            "synthesis": {
                "completions": 3,
                "responses": 3,
                "kept": 1,
                "rejected": {"empty": 2, "refusal": 0},
                "kept_by_label": {"no": 1},
            },
            "judge": {"rows": 3, "unparsed": 1, "accuracy": 0.5, "kappa": 0.1, "f1": 0.4, "prompt_tokens": 12345},
            "grader": {"requests": 7, "unparsed": 0},
        },
        training={"training": {"teacher": run, "student": run, "human_only": run}},
        speed={
            "teacher_rows_per_second": 230.0,
            "student_rows_per_second": 430.0,
            "speedup": 1.9,
            "teacher_megabytes": 90.9,
            "student_megabytes": 69.6,
            "size_ratio": 0.766,
        },
        plots={
            "roc": points,
            "calibration": [{"model": "teacher", "confidence": 0.7, "share": 0.6, "rows": 3}],
            "confusion": [{"model": "teacher", "actual": "no", "predicted": "yes"}],
            "training": [{"model": "teacher", "seed": 1, "step": 5, "loss": float("nan"), "validation_loss": 0.5}],
        },
        kept=[row],
        rejected=[row | {"reason": "cut_off", "detail": text}],
        base_models={"Language model": {"name": text, "files": {text: text}}},
    )
    return replace(content, **changes)


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


@pytest.mark.parametrize("text", ["fine", HOSTILE])
def test_texts_stay_texts(text):
    page = Page(build_page(make_content(text), "var library;"))
    assert [tag for tag, _ in page.elements].count("script") == 2 + 5
    assert not {tag for tag, _ in page.elements} & {"img", "svg", "iframe", "object", "link", "base"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.texts.count(text.strip()) >= 10
    assert f"Amalgam: {text}".strip() in page.texts


@settings(max_examples=5)
@given(text=st.text(min_size=1).filter(str.strip))
def test_no_text_adds_an_element(text):
    plain, odd = (Page(build_page(make_content(value), "")) for value in ("fine", text))
    assert [tag for tag, _ in odd.elements] == [tag for tag, _ in plain.elements]


def test_policy_allows_the_page_its_own_scripts_and_style_and_nothing_else():
    page = Page(build_page(make_content(), "var library = '</script>';"))
    policy = next(attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)
    own = [text for _, attributes, text in page.raw if "type" not in attributes]
    assert len(own) == 3
    hashes = {"'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'" for text in own}
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert set(rules["script-src"]) | set(rules["style-src"]) == hashes
    assert rules["default-src"] == ["'none'"]


def test_nothing_is_fetched():
    page = Page(build_page(make_content(), ""))
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("href", "src")]
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link[0] for link in links} == {"#"}
    assert {link[1:] for link in links} <= anchors


def test_charts_hold_their_data_and_no_markup():
    curve = [{"model": "teacher", "label": HOSTILE, "fpr": 0, "tpr": 0}]
    content = make_content(labels={"no": "", HOSTILE: ""}, plots=make_content().plots | {"roc": curve})
    page = Page(build_page(content, ""))
    texts = [text for _, attributes, text in page.raw if attributes.get("type") == "application/json"]
    assert not [text for text in texts if set("<>&\u2028") & set(text)]
    gains, roc, *_ = (json.loads(text) for text in texts)
    assert roc["description"] == f"ROC curves for the label {HOSTILE}"
    rows = [row for data in gains["datasets"].values() for row in data if "comparison" in row]
    assert len(rows) == 3
    assert (rows[0]["comparison"], rows[0]["text"]) == (
        "Teacher minus human-only teacher",
        "+0.150 (+0.100\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}+0.200)",
    )


def test_tables_can_be_read_aloud():
    html = build_page(make_content(), "")
    page = Page(html)
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    assert html.count("<table") == html.count("<caption>")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_what_a_run_lacks_is_left_out():
    content = make_content()
    bare = replace(
        content,
        params=content.params | {"seeds": [1], "ratio": 1},
        data={name: value for name, value in content.data.items() if name != "rater_kappa"}
        | {"mixed": {"synthetic": 164}},
        synthetic={
            "synthesis": content.synthetic["synthesis"],
            "judge": {"rows": 0, "unparsed": 0},
        },
        kept=[],
        rejected=[],
    )
    html = build_page(bare, "")
    assert "raters agree" not in html
    assert "intervals (95\N{NO-BREAK SPACE}%) cover test rows only" in html
    assert "beside 0 human rows" in html
    assert "Grading human rows" not in html
    more = replace(
        content, labels=content.labels | {"maybe": ""}, models=content.models | {"transfer_test": {"teacher": MODEL}}
    )
    html = build_page(more, "")
    assert html.count("Transfer test: human-coded") == 2
    assert "one against the rest" in html


@pytest.mark.parametrize(
    ("ratio", "ends", "start"),
    [
        (
            0.8,
            (0.1, 0.2),
            "Adding synthetic rows (80\N{NO-BREAK SPACE}% of the training rows) makes the teacher better than",
        ),
        (1, (-0.2, -0.1), "Training on synthetic rows alone makes the teacher worse than"),
        (
            0.5,
            (-0.1, 0.1),
            "It is not clear whether adding synthetic rows (50\N{NO-BREAK SPACE}% of the training rows) helps",
        ),
        (0, (-0.1, 0.1), "No synthetic rows were added"),
    ],
)
def test_verdict_follows_the_interval(ratio, ends, start):
    content = make_content()
    comparisons = content.comparisons | {"gain_over_human_only": make_difference(*ends)}
    verdict = phrase_verdict(content.params | {"ratio": ratio}, content.models, comparisons, content.speed)
    assert verdict[0][0].startswith(start)
    assert (
        verdict[1][0] == "It is not clear whether the teacher is better or worse than the best baseline, TF-IDF + LR."
    )
    assert verdict[2] == (
        "The student, 77\N{NO-BREAK SPACE}% of the teacher's size and 1.9 times as fast, is less accurate.",
        "AUC\N{NO-BREAK SPACE}0.874 against 0.874: a paired difference of \N{MINUS SIGN}0.150 (95\N{NO-BREAK SPACE}% "
        "interval \N{MINUS SIGN}0.200\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}\N{MINUS SIGN}0.100).",
    )


@pytest.mark.parametrize(
    ("baseline", "ends", "claim"),
    [
        ("human_only", (0.1, 0.2), "None of the other baselines does better than that human-only teacher."),
        ("embedding_lr", (0.1, 0.2), "The teacher beats the best baseline, Embedding + LR."),
        ("llm_grader", (-0.2, -0.1), "The teacher is worse than the best baseline, LLM as grader."),
    ],
)
def test_verdict_names_the_best_baseline(baseline, ends, claim):
    content = make_content()
    comparisons = content.comparisons | {"gain_over_best_baseline": {**make_difference(*ends), "baseline": baseline}}
    models = content.models | {"llm_grader": MODEL}
    assert phrase_verdict(content.params, models, comparisons, content.speed)[1][0] == claim


def test_numbers_as_text():
    assert format_number(-0.12345) == "\N{MINUS SIGN}0.123"
    assert format_difference(0.1) == "+0.100"
    assert format_count(1234567) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"
    assert [format_share(value) for value in (0.8, 0.975, 1)] == [
        f"{text}\N{NO-BREAK SPACE}%" for text in ("80", "97.5", "100")
    ]
    assert format_share(0.05, 1) == "5.0\N{NO-BREAK SPACE}%"


def test_confusion_shares_are_of_the_human_label():
    lines = [
        {"model": model, "actual": actual, "predicted": predicted}
        for model, actual, predicted in [
            ("teacher", "no", "no"),
            ("teacher", "no", "no"),
            ("teacher", "no", "no"),
            ("teacher", "no", "yes"),
            ("student", "yes", "yes"),
        ]
    ]
    table = tables.tabulate_confusion(lines, "teacher", ["no", "yes"])
    assert [[(cell.text, cell.small, cell.shade) for cell in cells] for _, cells in table.rows] == [
        [("75.0\N{NO-BREAK SPACE}%", "3", 8), ("25.0\N{NO-BREAK SPACE}%", "1", 2)],
        [("0.0\N{NO-BREAK SPACE}%", "0", 0), ("0.0\N{NO-BREAK SPACE}%", "0", 0)],
    ]


def test_nested_values_become_dotted_keys():
    values = {"ratio": 0.8, "seeds": [1, 2], "judge": {"rationale": False}}
    assert tables.flatten_values(values) == [("ratio", "0.8"), ("seeds", "1, 2"), ("judge.rationale", "false")]


def test_picked_rows_take_turns_and_keep_their_order():
    rows = [{"id": number, "label": label} for number, label in enumerate("aaaabbc")]
    assert [row["id"] for row in pick_rows(rows, "label", 4)] == [0, 1, 4, 6]
    assert pick_rows(rows, "label", 100) == rows


def test_page_with_its_library_is_small_enough():
    html = build_page(make_content(), load_library())
    assert "vegaEmbed" in html
    assert len(html.encode()) < 5_000_000
    assert len([tag for tag, _ in Page(html).elements if tag == "script"]) == 7
