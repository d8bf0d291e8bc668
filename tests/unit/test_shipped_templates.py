import json
import re

import pytest

from amalgam.synthesis.answers import parse_answer
from amalgam.tasks.schema import Task
from tests.unit.prompting import PARAMS, build, change, make_train, vary

# An answer in a journal is found by exactly these bytes: a change makes every user pay again.
MESSAGES = {
    "mixed_view": [
        {
            "role": "user",
            "content": "A guest of a café was asked.\n\nQuestion: Why?\n\n"
            "Write one comment that is mixed view: It is mixed_view.\n\nAnswer with the comment alone.",
        },
        {"role": "assistant", "content": "text mixed_view 0"},
        {"role": "user", "content": "Write another comment that is mixed view."},
        {"role": "assistant", "content": "text mixed_view 2"},
        {"role": "user", "content": "Write another comment that is mixed view.\nWrite as x."},
    ],
    "bad": [
        {
            "role": "user",
            "content": "A guest of a café was asked.\n\n"
            "Write one comment that is bad: It is bad.\n\nAnswer with the comment alone.\nWrite as a bad guest.",
        },
    ],
}


def test_the_default_template_sends_the_same_bytes_as_ever(task: Task) -> None:
    with_questions = build(task, make_train(task, 6, ("Why?", "How?")), change(shots=2))
    assert with_questions[2]["messages"] == MESSAGES["mixed_view"]
    assert build(task, make_train(task, 8), change(shots=0))[0]["messages"] == MESSAGES["bad"]


def test_the_conversation_holds_the_rubric_and_the_examples(task: Task) -> None:
    train = make_train(task, 8)
    prompt = build(task, train)[2]
    request, *turns = prompt["messages"]
    assert request["role"] == "user"
    assert "Write one comment that is mixed view: It is mixed_view." in request["content"]
    assert "Question:" not in request["content"]
    texts = train.set_index("id")["text"]
    assert [turn["content"] for turn in turns[::2]] == [texts[shot] for shot in prompt["shots"]]
    assert [turn["role"] for turn in turns] == ["assistant", "user"] * PARAMS.shots


def test_attributes_are_the_last_that_is_said(task: Task) -> None:
    train = make_train(task, 8)
    plain, varied = (build(of, train, rows=8) for of in (task, vary(task)))
    for before, after in zip(plain, varied, strict=True):
        assert before["attributes"] == {}
        assert after["messages"][:-1] == before["messages"][:-1]
        sentences = [f"{name.capitalize()}: {value}." for name, value in after["attributes"].items()]
        assert after["messages"][-1]["content"] == "\n".join([before["messages"][-1]["content"], *sentences])
    # They vary within a group, which shares all that is before them.
    assert len({json.dumps(prompt["messages"]) for prompt in varied if prompt["group"] == "bad/0"}) > 1


def test_attributes_end_a_request_without_shots(task: Task) -> None:
    for prompt in build(vary(task), make_train(task, 8), change(shots=0), 2):
        length = prompt["attributes"]["length"]
        assert "Answer with the comment alone.\nWrite as " in prompt["messages"][-1]["content"]
        assert f"\nLength: {length}.\nMistakes: " in prompt["messages"][-1]["content"]


def test_several_responses_are_asked_for_in_one_request(task: Task) -> None:
    lines = build(task, make_train(task, 8), change(responses=5, format="lines"), 11)
    assert len(lines) == 3 * len(task.labels)
    request, answer, again = lines[1]["messages"]
    assert "Write 3 responses. Each is a comment that is good: It is good." in request["content"]
    assert "Write one on each line" in request["content"]
    assert again["content"].startswith("Write 5 other responses. Each is a comment that is good.\nWrite as ")
    assert parse_answer(answer["content"], "stop", "lines", 5)[0] == answer["content"].split("\n")
    alone = build(task, make_train(task, 8), change(responses=5, format="lines", shots=0))[1]["messages"]
    assert len(alone) == 1
    assert "Write 5 responses." in alone[0]["content"]


@pytest.mark.parametrize("responses", [1, 4])
def test_earlier_answers_have_the_form_that_is_asked_for(task: Task, responses: int) -> None:
    train = make_train(task, 8)
    texts = train.set_index("id")["text"]
    prompt = build(task, train, change(responses=responses, format="json"))[0]
    answers = [turn["content"] for turn in prompt["messages"] if turn["role"] == "assistant"]
    assert len(answers) == (3 if responses == 1 else 1)
    parsed = [text for answer in answers for text in parse_answer(answer, "stop", "json", responses)[0]]
    assert parsed == [texts[shot] for shot in prompt["shots"]]
    key = '"response"' if responses == 1 else '"response_1", "response_2" and so on'
    assert key in prompt["messages"][0]["content"]


def test_the_paper_s_prompt(task: Task) -> None:
    params = change(template="paper", responses=10, format="lines", shots=4)
    prompts = build(vary(task), make_train(task, 8), params, 20)
    assert len(prompts) == 2 * len(task.labels)
    system, request = prompts[2]["messages"]
    texts = "\n".join(f"text mixed_view {shot.removeprefix('mixed_view')}" for shot in prompts[2]["shots"][:3])
    assert system == {"role": "system", "content": f"You are {system['content'][8:-1]}."}
    opening, *parts = request["content"].split("\n\n")
    assert opening in task.scenarios
    assert parts == [
        "Draft 10 responses. Each is a comment that is mixed view.",
        "It is mixed_view.",
        f"Sample responses:\n{texts}",
        "Write one on each line and nothing else, without numbers and without quotation marks.\n"
        f"Length: {prompts[2]['attributes']['length']}.\nMistakes: {prompts[2]['attributes']['mistakes']}.",
    ]
    without = build(task, make_train(task, 8), change(template="paper", shots=0))[2]["messages"][1]["content"]
    assert "Sample responses:\nSo mixed_view.\n\nAnswer with the comment alone." in without
    assert "Draft 1 response. " in without


@pytest.mark.parametrize("template", ["chat", "paper"])
@pytest.mark.parametrize("responses", [1, 10])
@pytest.mark.parametrize("shots", [0, 2])
def test_no_loose_blanks_are_sent(task: Task, template: str, responses: int, shots: int) -> None:
    values = {"template": template, "responses": responses, "shots": shots, "format": "lines"}
    for of, questions in ((task, ("",)), (vary(task), ("Why?",))):
        for prompt in build(of, make_train(task, 8, questions), change(**values)):
            for turn in prompt["messages"]:
                assert not re.search(r"\n{3}|[ \t]\n|^\s|\s$|  ", turn["content"]), turn["content"]
