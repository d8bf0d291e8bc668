import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam.report.browser import LONGEST, build_browser, cut_text, escape_json, pick_rows, thin_rows
from amalgam.report.mistakes import list_mistakes
from tests.unit.reporting import make_mistakes, make_pool

LABELS = ["no", "yes"]


@given(st.recursive(st.text(), st.lists))
def test_json_is_the_same_and_has_no_markup(value):
    text = escape_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_half_of_a_surrogate_pair_can_be_written():
    assert json.loads(escape_json("a\ud800b")) == "a?b"


def test_picked_rows_take_turns_and_keep_their_order():
    rows = [{"id": number, "label": label} for number, label in enumerate("aaaabbc")]
    assert [row["id"] for row in pick_rows(rows, "label", 4)] == [0, 1, 4, 6]
    assert pick_rows(rows, "label", 100) == rows


@given(st.lists(st.text(max_size=30)), st.integers(0, 300))
def test_thinned_rows_fit(texts, limit):
    rows = [{"text": text} for text in texts]
    thin = thin_rows(rows, limit)
    assert sum(len(escape_json(row).encode()) for row in thin) <= limit
    assert [row for row in rows if row in thin][: len(thin)] != [] or not thin
    if sum(len(escape_json(row).encode()) for row in rows) <= limit:
        assert thin == rows


def test_long_texts_are_cut_and_say_so():
    assert cut_text("a" * LONGEST) == "a" * LONGEST
    assert cut_text("a" * (LONGEST + 7)).endswith("a … [7 more characters]")


def test_filters_number_their_options():
    browser = build_browser("k", "c", ["a"], [["x"], ["y"], ["z"]], {"one": ["p", "q", "p"], "same": ["r", "r", "r"]})
    assert [(choice.name, choice.options) for choice in browser.filters] == [("one", ["p", "q"])]
    assert json.loads(browser.data) == [[["x"], [0]], [["y"], [1]], [["z"], [0]]]


def make_stacks(*seeds):
    """Return stacks of two-label probabilities, given that of `yes` by seed and row."""
    yes = np.array(seeds)
    return np.stack([1 - yes, yes], axis=2)


def test_mistakes_are_those_of_the_mean_over_seeds_most_confident_first():
    rows = pd.DataFrame({"text": list("abcd"), "question": "", "label": ["no", "no", "yes", "no"]})
    rows = rows.assign(rater1=["no", "yes", "yes", "no"], rater2=["yes", "", "yes", "no"])
    student = make_stacks([0.6, 0.9, 0.9, 0.8], [0.7, 0.9, 0.6, 0.1])  # wrong about a and b; about d in one seed
    teacher = make_stacks([0.1, 0.8, 0.9, 0.1])
    found = list_mistakes(rows, {"student": student, "teacher": teacher}, LABELS)
    assert [(row["text"], row["predicted"], row["raters"], row["others"]) for row in found] == [
        ("b", "yes", "yes", {"teacher": "yes"}),
        ("a", "yes", "no, yes", {"teacher": "no"}),
    ]
    assert [row["probability"] for row in found] == pytest.approx([0.9, 0.65])
    assert [(row["wrong"], row["seeds"]) for row in found] == [(2, 2), (2, 2)]


def test_caption_says_how_many_of_how_many():
    assert make_mistakes(["a", "b"]).caption.startswith("The student gets 2 of 500 test rows wrong; these are them")
    assert "here are 1 of them" in make_mistakes(["a", "b"], limit=1).caption
    assert make_pool(["a"]).caption == "All of the 2 responses of the LLM, sampled at temperature 0.7"
    assert make_pool(["a"], total=1234).caption.startswith("2 of the 1\N{NARROW NO-BREAK SPACE}234 responses")


def test_no_rows_no_browser():
    assert make_pool(["a" * 100], size=10) is None


def test_pool_says_what_the_judge_thought():
    browser = make_pool(["a", "b"])
    judge = next(choice for choice in browser.filters if choice.name == "Judge")
    assert [judge.options[number] for number in judge.column] == ["did not judge", "did not judge", "disagrees"]
    assert "Temperature" not in browser.head
