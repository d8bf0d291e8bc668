import json
from collections.abc import Iterator

import pandas as pd
import pytest

from amalgam.llm.request import Request
from amalgam.params import Judge
from amalgam.synthesis.grading import GradeReader, build_grading_requests, parse_grade, select_gradable
from amalgam.tasks.schema import Task

ROWS = [
    {"id": "r1", "text": "first text", "question": "", "label": "good"},
    {"id": "r2", "text": "second text", "question": "Why?", "label": "bad"},
]
EXAMPLES = pd.DataFrame(
    {
        "id": ["e3", "e1", "e2", "e4", "e5"],
        "text": ["three", "one", "two", "four", "five"],
        "question": ["", "", "How?", "", ""],
        "label": ["good", "bad", "good", "good", "mixed_view"],
    }
)


def build(task: Task, *, shots: int = 2, rationale: bool = False) -> list[Request]:
    return list(build_grading_requests(task, ROWS, EXAMPLES, "m", Judge(rows=9, shots=shots, rationale=rationale)))


@pytest.mark.parametrize("rationale", [False, True])
@pytest.mark.parametrize("shots", [0, 2])
def test_all_requests_begin_alike_and_differ_in_the_last_turn(task: Task, shots: int, rationale: bool) -> None:
    first, second = build(task, shots=shots, rationale=rationale)
    assert first.body | {"messages": []} == second.body | {"messages": []}
    assert first.body["messages"][:-1] == second.body["messages"][:-1]
    assert [request.id for request in (first, second)] == ["r1", "r2"]
    assert first.body["messages"][-1]["content"] == "Comment: first text"
    assert second.body["messages"][-1]["content"].startswith("Question: Why?\n\nComment: second text")


def test_the_rubric_and_some_examples_of_each_label_come_first(task: Task) -> None:
    system, *turns = build(task)[0].body["messages"][:-1]
    assert all(f"- {label.name}: {label.definition}" in system["content"] for label in task.labels)
    shown = [json.loads(turn["content"])["label"] for turn in turns if turn["role"] == "assistant"]
    assert shown == ["bad", "good", "good", "mixed_view"]  # e1, e2, e3, e5: at most two of each, by id
    assert "Question: How?" in turns[2]["content"]


def test_no_coder_gave_a_rationale_to_show(task: Task) -> None:
    assert len(build(task, rationale=True)[0].body["messages"]) == len(build(task, shots=0)[0].body["messages"]) == 2


@pytest.mark.parametrize("rationale", [False, True])
def test_the_schema_holds_the_labels_and_asks_for_the_reason_first(task: Task, rationale: bool) -> None:
    form = build(task, rationale=rationale)[0].body["response_format"]
    schema = form["json_schema"]["schema"]
    assert form["json_schema"]["strict"]
    assert schema["properties"]["label"]["enum"] == task.label_names
    assert list(schema["properties"]) == schema["required"] == ["rationale"] * rationale + ["label"]
    assert schema["additionalProperties"] is False


def test_a_grade_is_the_same_each_time(task: Task) -> None:
    request = build(task)[0]
    assert (request.body["temperature"], request.body["seed"], request.sample) == (0.0, 0, 0)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"label": "good"}', "good"),
        ('\n {"rationale": "It says so.", "label": "mixed_view"} ', "mixed_view"),
        ('{"label": "Good"}', "good"),
        ('{"Label": "mixed view"}', "mixed_view"),
        ("{'label': 'bad'}", "bad"),
        ("{label: bad}", "bad"),
        ('```json\n{"label": "bad"}\n```', "bad"),
        ('<think>Is it {"label": "good"}?</think>\n{"label": "bad"}', "bad"),
        ('The comment is harsh.\n\n{"label": "bad"}\n\nIt is not good.', "bad"),
        ('{"label": "bad"} or rather {"label": "good"}', ""),
        ('{"grade": {"label": "bad"}}', "bad"),
        ('{"rationale": "She says "fine"", "label": "good"}', "good"),
        ("Label: bad", "bad"),
        ("**Label:** Bad.", "bad"),
        ('The label is "mixed view", since both occur.', "mixed_view"),
        ("label: good or bad", ""),
        ("The label is not good.", ""),
        ("Label: good\nLabel: bad", ""),
        ("Bad.", "bad"),
        ("bad\n\nIt says nothing good.", "bad"),
        ("It is harsh.\n\n**bad**", "bad"),
        ("It is bad.", ""),
        ("goodness", ""),
        ("label: goodness", ""),
        ('{"label": "awful"}', ""),
        ('{"label": null}', ""),
        ('{"label": ["good"]}', ""),
        ('{"label": {}}', ""),
        ('{"grade": "good"}', ""),
        ('["good"]', ""),
        ('"label"', ""),
        ("null", ""),
        ("good", "good"),
        ('{"label": "go', ""),
        ("", ""),
    ],
)
def test_a_grade_is_one_of_the_labels_or_nothing(task: Task, text: str, label: str) -> None:
    assert parse_grade(text, task.label_names) == label


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        ('{"label": 2}', ["1", "2"], "2"),
        ('{"label": 2.0}', ["1", "2"], "2"),
        ("Label: 2", ["1", "2"], "2"),
        ("Label: 2.5", ["2", "3"], ""),
        ('{"label": true}', ["true", "false"], "true"),
        ('{"label": "-1"}', ["1", "-1"], "-1"),
        ("-1", ["1", "-1"], "-1"),
        ('{"label": "a"}', ["a", "A"], "a"),
        ('{"label": "a."}', ["a", "A"], ""),
        ("label: very good", ["good", "very_good"], "very_good"),
        ("label: good indeed", ["good", "very_good"], "good"),
        ('{"label": "ÉLOGE"}', ["éloge", "critique"], "éloge"),
        ("{" * 100_000, ["a", "b"], ""),
        ('{"a":' * 100_000, ["a", "b"], ""),
    ],
)
def test_a_label_is_known_by_number_and_in_another_case(text: str, labels: list[str], label: str) -> None:
    assert parse_grade(text, labels) == label


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (["good", "bad", "?"], ""),
        (["?", "!"], "it gave no readable grade of 2 rows (it answered '?'), so it has no score: take another model"),
        (["good", "?", "!"], "it gave 1 readable grades of 3 rows (it answered '?'), so its score"),
        (["<think>\nHm"], "(it answered '<think> Hm'), so it has no score: turn off the reasoning of a model"),
        ([], ""),
    ],
)
def test_a_grader_of_which_most_cannot_be_read_is_named(answers: list[str], sentence: str) -> None:
    reader = GradeReader(["good", "bad"])
    for answer in answers:
        reader.read({"text": answer, "finish_reason": "stop"})
    assert (sentence in reader.describe("it")) if sentence else not reader.describe("it")


def test_requests_are_made_one_by_one_of_a_head_that_they_share(task: Task) -> None:
    read: list[str] = []
    params = Judge(rows=9, shots=2, rationale=False)
    requests = build_grading_requests(task, _watch(read), EXAMPLES, "m", params)
    first = next(requests)
    assert read == ["r1"]
    second = next(requests)
    assert first.body["messages"][0] is second.body["messages"][0]
    assert [request.key for request in (first, second)] == [request.key for request in build(task)]


def test_the_key_of_a_request_stays_as_it_was(task: Task) -> None:
    # Answers are kept under it: a change here pays for all of them again.
    assert build(task)[1].key == "7cf121b9dbcbda302fa1d149e767bfc34f84e91f638413faa65ad670308b5786"


@pytest.mark.parametrize(
    ("rows", "ids"),
    [(0, []), (1, ["g1", "b1"]), (2, ["g1", "g2", "b1", "b2"]), (None, ["g1", "g2", "b1", "g3", "b2", "b3"])],
)
def test_the_first_usable_responses_of_each_label_are_graded(rows: int | None, ids: list[str]) -> None:
    responses = [
        {"id": name, "label": {"g": "good", "b": "bad"}[name[0]], "fault": fault}
        for name, fault in (("g0", "cut_off"), ("g1", ""), ("g2", ""), ("b1", ""), ("b0", "empty"), ("g3", ""))
    ]
    responses += [{"id": name, "label": "bad", "fault": ""} for name in ("b2", "b3")]
    stream = iter(responses)
    assert [row["id"] for row in select_gradable(stream, ["bad", "good"], rows)] == ids
    left = {0: "g0", 1: "b0", 2: "b3", None: None}[rows]
    assert next((response["id"] for response in stream), None) == left


def test_a_label_without_responses_does_not_matter() -> None:
    assert list(select_gradable([], ["bad"], 3)) == []
    only = [{"id": "a", "label": "bad", "fault": ""}]
    assert list(select_gradable(only, ["bad", "good"], 3)) == only


def _watch(read: list[str]) -> Iterator[dict[str, str]]:
    for row in ROWS:
        read.append(row["id"])
        yield row
