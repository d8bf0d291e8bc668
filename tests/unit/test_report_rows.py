import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.utils import htmlsafe_json_dumps

from amalgam.report.rows import LONGEST_TEXT, browse_mistakes, browse_pool, list_mistakes, pick_rows, thin_rows
from tests.unit.reporting import make_content, make_mistakes, make_pool

LABELS = ["no", "yes"]


def test_picked_rows_take_turns_and_keep_their_order():
    rows = pd.DataFrame({"label": list("aaaabbc")})
    assert list(pick_rows(rows, "label", 4).index) == [0, 1, 4, 6]
    assert pick_rows(rows, "label", 100).equals(rows)
    assert pick_rows(rows[:0], "label", 4).empty


@given(st.lists(st.text(max_size=30)), st.integers(0, 300))
def test_thinned_rows_fit(texts, limit):
    rows = pd.DataFrame({"text": texts}, dtype=object)
    thin = thin_rows(rows, limit)
    assert sum(len(htmlsafe_json_dumps(row)) for row in thin.to_dict("records")) <= limit
    assert set(thin.index) <= set(rows.index)
    if sum(len(htmlsafe_json_dumps(row)) for row in rows.to_dict("records")) <= limit:
        assert list(thin["text"]) == texts


def test_long_texts_are_cut_and_say_so():
    rows = thin_rows(pd.DataFrame({"text": ["a" * LONGEST_TEXT, "a" * (LONGEST_TEXT + 7)]}), 100_000)
    assert rows["text"][0] == "a" * LONGEST_TEXT
    assert rows["text"][1].endswith("a … [7 more characters]")


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
    assert found[["text", "predicted", "wrong", "raters", "teacher"]].to_numpy().tolist() == [
        ["b", "yes", 2, "yes", "yes"],
        ["a", "yes", 2, "no, yes", "no"],
    ]
    assert list(found["probability"]) == pytest.approx([0.9, 0.65])
    browser = browse_mistakes(make_content(mistakes=found))
    assert browser.head == ["Response", "Human label", "Student", "Raters", "Teacher"]
    assert browser.data[0][0][2] == ("yes", "p = 0.900; 2 of 2 seeds")


def test_caption_says_how_many_of_how_many():
    content = make_content(mistakes=make_mistakes(["a", "b"]))
    assert "gets 2 of 1\N{NARROW NO-BREAK SPACE}500 test rows wrong; these are them" in browse_mistakes(content).caption
    assert "here are 1 of them" in browse_mistakes(content, 150).caption
    assert browse_pool(content).caption == "All of the 2 responses of the LLM, sampled at temperature 0.7"
    assert browse_pool(content, 150).caption.startswith("1 of the 2 responses")
    assert browse_pool(content, 10) is None


def test_rows_can_be_filtered_by_what_the_judge_thought():
    browser = browse_pool(make_content(pool=make_pool(["a", "b"])))
    place = list(browser.filters).index("Judge")
    views = [browser.filters["Judge"][chosen[place]] for _, chosen in browser.data]
    assert views == ["did not judge", "did not judge", "disagrees"]
    assert json.loads(json.dumps(browser.data))[0] == [[["a", ""], "yes", "not judged", ["Kept", ""]], [0, 0, 0, 0]]


def test_temperatures_that_differ_have_a_column_and_a_filter():
    browser = browse_pool(make_content(pool=make_pool(["a", "b"]).assign(temperature=["0.5", "", "1"])))
    assert [cells[2] for cells, _ in browser.data] == ["0.5", "0.7", "1"]
    assert browser.filters["Temperature"] == ["0.5", "0.7", "1"]
