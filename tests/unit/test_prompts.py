import hashlib
import json
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amalgam.errors import ParamsError
from amalgam.params import Prompts
from amalgam.synthesis.answers import parse_answer
from amalgam.synthesis.prompts import build_prompts, list_shortages, load_template
from amalgam.tasks.schema import Task

TEMPLATES = Path(__file__).parents[2] / "data" / "templates"
PARAMS = Prompts(seed=7, template="chat", shots=3, responses=1, format="text")


def make_train(task: Task, count: int, questions: tuple[str, ...] = ("",)) -> pd.DataFrame:
    """Make `count` rows a label; labels alternate, and so do the questions of each label."""
    rows = [
        (f"{label}{number}", f"text {label} {number}", questions[number % len(questions)], label)
        for number in range(count)
        for label in task.label_names
    ]
    return pd.DataFrame(rows, columns=["id", "text", "question", "label"])


def change(**values: Any) -> Prompts:
    return Prompts.model_validate({**PARAMS.model_dump(), **values})


def build(task: Task, train: pd.DataFrame, params: Prompts = PARAMS, rows: int = 1) -> list[dict[str, Any]]:
    return list(build_prompts(task, train, load_template(params.template, [TEMPLATES]), params, rows))


def vary(task: Task) -> Task:
    """Give the task attributes, and its label `good` an additional and a different one."""
    good = {"length": ["long"], "subject": ["bread", "coffee"]}
    labels = [label.model_dump() | {"attributes": good if label.name == "good" else {}} for label in task.labels]
    attributes = {"length": ["a few words", "one sentence"], "mistakes": ["none", "some"]}
    return Task.model_validate({**task.model_dump(), "labels": labels, "prompts": {"attributes": attributes}})


@pytest.mark.parametrize(
    ("shots", "questions", "responses", "varied"),
    [(0, ("",), 1, True), (3, ("Why?", "How?"), 1, False), (4, ("",), 3, True)],
)
def test_prompts_for_more_rows_begin_with_those_for_fewer(
    task: Task, shots: int, questions: tuple[str, ...], responses: int, varied: bool
) -> None:
    params = change(shots=shots, responses=responses, format="lines")
    task = vary(task) if varied else task
    most = build(task, make_train(task, 16, questions), params, 60)
    for rows in (1, 17, 50):
        # More human rows, and rows of other labels among them, change nothing either.
        first = build(task, make_train(task, 20, questions), params, rows)
        assert most[: len(first)] == first
        # One request asks for several responses, the last one rather for too many than for too few.
        assert len(first) == -(-rows // responses) * len(task.labels)


def test_samples_share_all_shots_but_the_last_and_sets_differ(task: Task) -> None:
    prompts = [prompt for prompt in build(task, make_train(task, 8), rows=160) if prompt["label"] == "good"]
    assert {shot for prompt in prompts for shot in prompt["shots"]} == {f"good{number}" for number in range(8)}
    sets = [prompts[start : start + 16] for start in range(0, 160, 16)]
    for same in sets:
        assert len({json.dumps(prompt["messages"][:-3]) for prompt in same}) == 1  # the last three turns hold the last
        shots = [tuple(prompt["shots"]) for prompt in same]
        assert shots == [one for one in shots[::4] for _ in range(4)]  # four share the last shot as well
        assert len(set(shots)) > 1
    assert len({tuple(same[0]["shots"][:-1]) for same in sets}) >= 8  # of 10; there are 56 ordered ones to draw from
    assert len({same[0]["messages"][0]["content"].partition("\n")[0] for same in sets}) == len(task.scenarios)


def test_labels_are_asked_the_same_questions_and_shown_answers_to_them(task: Task) -> None:
    train = make_train(task, 9, ("Why?", "How?", "Where?"))
    questions = train.set_index("id")["question"]
    prompts = build(task, train, rows=200)
    asked = {tuple(line["question"] for line in prompts if line["label"] == label) for label in task.label_names}
    assert len(asked) == 1
    few = build(task, train, change(responses=10, format="lines"), rows=60)
    assert {line["question"] for line in few} == {"Why?", "How?", "Where?"}  # six requests a label
    for prompt in prompts:
        assert f"Question: {prompt['question']}\n" in prompt["messages"][0]["content"]
        assert [questions[shot] for shot in prompt["shots"]] == [prompt["question"]] * 3


def test_where_a_question_has_few_answers_those_of_others_come_first_with_their_question(task: Task) -> None:
    train = make_train(task, 4, ("Why?", "Why?", "Why?", "How?"))
    questions = train.set_index("id")["question"]
    prompts = [prompt for prompt in build(task, train, rows=160) if prompt["question"] == "How?"]
    assert prompts
    for prompt in prompts:
        assert [questions[shot] for shot in prompt["shots"]] == ["Why?", "Why?", "How?"]
        said = [turn["content"].count("Question:") for turn in prompt["messages"] if turn["role"] == "user"]
        assert said == [1, 0, 1, 0]
        assert "Question: Why?" in prompt["messages"][0]["content"]


@pytest.mark.parametrize(
    ("count", "shots", "words"), [(2, 3, "raise `human_rows` for more"), (20, 17, "lower `prompts.shots`")]
)
def test_few_rows_give_fewer_shots(task: Task, count: int, shots: int, words: str) -> None:
    train, params, few = make_train(task, count), change(shots=shots), min(count, 16)
    sentences = list_shortages(task, train, params)
    assert f"label 'bad' has {few} different train rows" in sentences[0]
    assert sentences[0].endswith(f"not {shots}: {words}")
    assert len(sentences) == len(task.labels)
    assert {len(prompt["shots"]) for prompt in build(task, train, params)} == {few}


def test_equal_texts_are_one_example(task: Task) -> None:
    train = make_train(task, 3).assign(text=[f"No{' ' * (number % 2)} response." for number in range(9)])
    assert [len(prompt["shots"]) for prompt in build(task, train)] == [1, 1, 1]


def test_the_default_template_sends_the_same_bytes_as_ever(task: Task) -> None:
    # An answer in a journal is found by exactly these bytes: a change makes every user pay again.
    cafe, form = "A guest of a café was asked.\n\n", "Answer with the comment alone."
    contents = [
        f"{cafe}Question: Why?\n\nWrite one comment that is mixed view: It is mixed_view.\n\n{form}",
        "text mixed_view 0",
        "Write another comment that is mixed view.",
        "text mixed_view 2",
        "Write another comment that is mixed view.\nWrite as x.",
    ]
    with_questions = build(task, make_train(task, 6, ("Why?", "How?")), change(shots=2))[2]["messages"]
    assert with_questions == [
        {"role": ("user", "assistant")[number % 2], "content": content} for number, content in enumerate(contents)
    ]
    said = f"{cafe}Write one comment that is bad: It is bad.\n\n{form}\nWrite as a bad guest."
    assert build(task, make_train(task, 8), change(shots=0))[0]["messages"] == [{"role": "user", "content": said}]


@pytest.mark.parametrize(
    ("template", "shots", "digest"),
    [
        ("chat", 0, "a8d7d039e53d73f3"),
        ("chat", 3, "f6f98f0fe928eb5c"),
        ("paper", 0, "afd4cdd5d96a7ac5"),
        ("paper", 3, "f3d4dbdc7ce0dde6"),
    ],
)
def test_other_prompts_are_the_same_bytes_as_ever_too(task: Task, template: str, shots: int, digest: str) -> None:
    bare = [label.model_copy(update={"definition": "", "examples": [], "personas": []}) for label in task.labels]
    tasks = (task, vary(task), task.model_copy(update={"labels": bare, "scenarios": []}))
    sent = hashlib.sha256()
    for of, (responses, format) in product(tasks, ((1, "text"), (1, "json"), (10, "lines"), (10, "json"))):
        params = change(template=template, shots=shots, responses=responses, format=format)
        for prompt in build(of, make_train(task, 8, ("Why?", "How?")), params, 20):
            sent.update(json.dumps(prompt["messages"]).encode())
            for turn in prompt["messages"]:  # no loose blanks
                assert not re.search(r"\n{3}|[ \t]\n|^\s|\s$|  ", turn["content"]), turn["content"]
    assert sent.hexdigest()[:16] == digest


def test_a_row_with_personal_data_is_no_example_unless_the_task_allows_it(task: Task) -> None:
    train = make_train(task, 3)
    train.loc[[1, 4], "text"] = ["Ask ann@example.org.", "Call +49 30 1234567!"]  # two of three that are good
    shown = {shot for prompt in build(task, train, rows=40) if prompt["label"] == "good" for shot in prompt["shots"]}
    assert shown == {"good2"}
    first, second = list_shortages(task, train, PARAMS)
    assert first.startswith("2 of 9 train rows hold personal data")
    assert second.startswith("label 'good' has 1 different train rows")
    assert list_shortages(task.model_copy(update={"send_personal": True}), train, PARAMS) == []


def test_attributes_are_the_last_that_is_said(task: Task) -> None:
    train = make_train(task, 8)
    plain, varied = (build(of, train, rows=8) for of in (task, vary(task)))
    assert varied[0]["attributes"].keys() == {"length", "mistakes"}
    assert varied[1]["attributes"].keys() == {"length", "mistakes", "subject"}  # the label adds one, and overrides one
    assert varied[1]["attributes"]["length"] == "long"
    for before, after in zip(plain, varied, strict=True):
        assert before["attributes"] == {}
        assert after["messages"][:-1] == before["messages"][:-1]
        sentences = [f"{name.capitalize()}: {value}." for name, value in after["attributes"].items()]
        assert after["messages"][-1]["content"] == "\n".join([before["messages"][-1]["content"], *sentences])
    # They vary within a group, which shares all that is before them, and each value comes equally often.
    assert len({json.dumps(prompt["messages"]) for prompt in varied if prompt["group"] == "bad/0"}) > 1
    for name, values in vary(task).prompts.attributes.items():
        drawn = Counter(prompt["attributes"][name] for prompt in varied if prompt["label"] == "bad")
        assert drawn == dict.fromkeys(values, 4)


def test_several_responses_are_asked_for_in_one_request(task: Task) -> None:
    with pytest.raises(ParamsError, match=r"holds one response, but `prompts\.responses` is 5: set the format"):
        build(task, make_train(task, 8), change(responses=5))
    lines = build(task, make_train(task, 8), change(responses=5, format="lines"), 11)
    request, answer, again = lines[1]["messages"]
    assert "Write 3 responses. Each is a comment that is good: It is good." in request["content"]
    assert "Write one on each line" in request["content"]
    assert again["content"].startswith("Write 5 other responses. Each is a comment that is good.\nWrite as ")
    assert parse_answer(answer["content"], "stop", "lines", 5)[0] == answer["content"].split("\n")
    (alone,) = build(task, make_train(task, 8), change(responses=5, format="json", shots=0))[1]["messages"]
    assert alone["content"].count('under the keys "response_1", "response_2" and so on.') == 1
