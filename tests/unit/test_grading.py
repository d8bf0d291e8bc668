import pandas as pd
import pytest

from amalgam.errors import DataError
from amalgam.llm.request import Answer, Request
from amalgam.params import Judge
from amalgam.synthesis.grading import build_grading_requests, check_personal, parse_grade, read_grades, select_gradable
from amalgam.synthesis.labelling import read_logits
from amalgam.tasks.schema import Task

ROWS = pd.DataFrame({"id": ["r1", "r2"], "text": ["first text", "second text"], "question": ["", "Why?"]})
EXAMPLES = pd.DataFrame(
    {
        "id": ["e3", "e1", "e2", "e4", "e5"],
        "text": ["three", "one", "two", "four", "five"],
        "question": ["", "", "How?", "", ""],
        "label": ["good", "bad", "good", "good", "mixed_view"],
    }
)


def build(task: Task, examples: pd.DataFrame = EXAMPLES, *, rationale: bool = False) -> list[Request]:
    return build_grading_requests(task, ROWS, examples, "m", Judge(rows=9, rationale=rationale))


@pytest.mark.parametrize("rationale", [False, True])
def test_all_requests_begin_alike_and_differ_in_the_last_turn(task: Task, rationale: bool) -> None:
    first, second = build(task, rationale=rationale)
    turns = first.body["messages"]
    assert second.body == first.body | {"messages": [*turns[:-1], second.body["messages"][-1]]}
    assert second.body["messages"][0] is turns[0]
    assert (first.id, turns[-1]["content"]) == ("r1", "Comment: first text")
    assert (second.id, second.body["messages"][-1]["content"]) == ("r2", "Question: Why?\n\nComment: second text")
    assert (first.body["temperature"], first.body["seed"], first.sample) == (0.0, 0, 0)
    schema = first.body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == schema["required"] == ["rationale"] * rationale + ["label"]
    assert schema["properties"]["label"]["enum"] == task.label_names
    # No coder gave a rationale to show.
    assert len(turns) == (2 if rationale else 10)
    if not rationale:  # an answer is kept under its key: a change here means paying for all of them again
        assert second.key == "7cf121b9dbcbda302fa1d149e767bfc34f84e91f638413faa65ad670308b5786"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('\n {"rationale": "It says so.", "label": "mixed_view"} ', "mixed_view"),
        ('{"label": "Good"}', "good"),
        ("{'label': 'bad'}", "bad"),
        ('{"label": "bad"} or rather {"label": "good"}', ""),
        ('{"rationale": "She says "fine"", "label": "good"}', "good"),
        ("Label: bad", "bad"),
        ('The label is "mixed view", since both occur.', "mixed_view"),
        ("label: good or bad", ""),
        ("The label is not good.", ""),
        ("Bad.", "bad"),
        ("bad\n\nIt says nothing good.", "bad"),
        ("It is bad.", ""),
        ('{"label": "awful"}', ""),
        ("{" * 100_000, ""),
        ('{"label": 2}', "2"),
        ("Label: 2.5", ""),
        ("-1", "-1"),
        ("label: very good", "very_good"),
        ('{"label": "ÉLOGE"}', "éloge"),
    ],
)
def test_a_grade_is_one_of_the_labels_or_nothing(text: str, label: str) -> None:
    assert parse_grade(text, ["bad", "good", "mixed_view", "1", "2", "-1", "very_good", "éloge"]) == label


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (["good", "bad", "?"], ""),
        (["?", "!"], "it gave no readable grade for 2 of 2 rows, such as '?': use another model"),
        (["<think>\nHm"], "for 1 of 1 rows, such as '<think> Hm': turn off the reasoning of a reasoning"),
        ([], ""),
    ],
)
def test_a_grader_of_which_most_cannot_be_read_is_named(answers: list[str], sentence: str) -> None:
    grades, said = read_grades([Answer(answer, "stop", 1, 1) for answer in answers], ["good", "bad"], "it")
    assert grades == [answer if answer in ("good", "bad") else "" for answer in answers]
    assert (sentence in said) if sentence else not said


def test_a_letter_that_cannot_be_the_answer_has_a_finite_log_probability() -> None:
    found = read_logits(Answer('{"logprobs": {"A": 0.0, "B": -9999.0}}', "stop", 1, 1), 3)
    assert found is not None
    assert found.tolist() == [0, -99, -99]  # an AUC takes no difference of infinities


def test_the_first_usable_responses_of_each_label_are_graded() -> None:
    drawn = {"g0": "cut_off", "g1": "", "g2": "", "b1": "", "b0": "empty", "b2": ""}
    responses = pd.DataFrame({"id": list(drawn), "label": [name[0] for name in drawn], "fault": list(drawn.values())})
    for rows, ids in ((0, []), (1, ["g1", "b1"]), (None, ["g1", "g2", "b1", "b2"])):
        assert select_gradable(responses, rows)["id"].tolist() == ids


def test_a_row_with_personal_data_is_no_example(task: Task) -> None:
    rows = EXAMPLES.assign(text=["three", "one@example.org", "two", "four", "five"])
    assert build(task, rows)[0].rows == ("e2", "e3", "e5", "r1")
    words = "1 test rows hold personal data .* such as e1, and would be sent to https://x"
    with pytest.raises(DataError, match=words):
        check_personal(task, rows, "test", "https://x.org/v1")
    for endpoint in ("embedded", "http://localhost:1/v1"):
        check_personal(task, rows, "test", endpoint)
    check_personal(task, EXAMPLES, "test", "https://x.org/v1")
