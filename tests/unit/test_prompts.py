from collections import defaultdict
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.params import Prompts
from amalgam.synthesis.prompts import build_prompts
from amalgam.tasks.schema import Task

PARAMS = Prompts(seed=7, shots=3, shot_pool=6, samples_per_shots=4)


def make_train(task: Task, count: int, questions: tuple[str, ...] = ("",)) -> pd.DataFrame:
    """Make `count` rows a label, in turn, each label's questions in turn as well."""
    rows = [
        {
            "id": f"{label}{number}",
            "text": f"text {label} {number}",
            "question": questions[number % len(questions)],
            "label": label,
        }
        for number in range(count)
        for label in task.label_names
    ]
    return pd.DataFrame(rows, columns=["id", "text", "question", "label"])


def change(**values: int) -> Prompts:
    return PARAMS.model_copy(update=values)


@settings(max_examples=40)
@given(
    few=st.integers(1, 20),
    many=st.integers(1, 20),
    seed=st.integers(0, 99),
    shots=st.integers(0, 4),
    pool=st.integers(4, 8),
    each=st.integers(1, 5),
    questions=st.sampled_from([("",), ("Why?", "How?")]),
)
def test_prompts_for_more_rows_begin_with_those_for_fewer(
    task: Task, few: int, many: int, seed: int, shots: int, pool: int, each: int, questions: tuple[str, ...]
) -> None:
    params = Prompts(seed=seed, shots=shots, shot_pool=pool, samples_per_shots=each)
    train = make_train(task, 8, questions)
    first, second = (build_prompts(task, train, params, rows) for rows in sorted((few, many)))
    assert second[: len(first)] == first
    assert len(first) == min(few, many) * len(task.labels)
    # More human rows, and rows of other labels among them, change nothing either.
    more = make_train(task, 12, questions)
    assert build_prompts(task, more, params, few) == build_prompts(task, train, params, few)


def test_every_sample_is_there_once_by_sample_then_by_label(task: Task) -> None:
    prompts = build_prompts(task, make_train(task, 8), PARAMS, 5)
    assert [(prompt["sample"], prompt["label"]) for prompt in prompts] == [
        (sample, label) for sample in range(5) for label in task.label_names
    ]
    assert [prompt["id"] for prompt in prompts[:2]] == ["bad-00000", "good-00000"]
    assert len({prompt["id"] for prompt in prompts}) == len(prompts)


def test_shots_are_of_the_wanted_label_and_from_its_first_rows(task: Task) -> None:
    train = make_train(task, 20).sample(frac=1, random_state=1)
    pools = {label: set(rows["id"].head(PARAMS.shot_pool)) for label, rows in train.groupby("label")}
    seen = defaultdict(set)
    for prompt in build_prompts(task, train, PARAMS, 60):
        assert len(set(prompt["shots"])) == PARAMS.shots
        seen[prompt["label"]] |= set(prompt["shots"])
    assert seen == pools


def test_samples_share_a_set_of_shots_and_sets_differ(task: Task) -> None:
    prompts = [prompt for prompt in build_prompts(task, make_train(task, 8), PARAMS, 40) if prompt["label"] == "good"]
    sets = [prompts[start : start + 4] for start in range(0, 40, 4)]
    for same in sets:
        assert all(prompt["messages"] == same[0]["messages"] for prompt in same)
    distinct = {tuple(same[0]["shots"]) for same in sets}
    assert len(distinct) >= 8  # of 10; there are 120 ordered ones to draw from
    openings = {same[0]["messages"][0]["content"] for same in sets}
    assert openings == {"You are a good guest.", "You are x."}
    assert {
        scenario for same in sets for scenario in task.scenarios if scenario in same[0]["messages"][1]["content"]
    } == {*task.scenarios}


def test_another_seed_draws_other_sets(task: Task) -> None:
    train = make_train(task, 8)
    one, other = (build_prompts(task, train, change(seed=seed), 40) for seed in (1, 2))
    assert [prompt["shots"] for prompt in one] != [prompt["shots"] for prompt in other]


def test_the_conversation_holds_the_rubric_and_the_examples(task: Task) -> None:
    train = make_train(task, 8)
    prompt = build_prompts(task, train, PARAMS, 1)[2]
    system, request, *turns = prompt["messages"]
    assert system["role"] == "system"
    assert request["role"] == "user"
    assert "Write one comment that is mixed view: It is mixed_view." in request["content"]
    assert "Question:" not in request["content"]
    texts = train.set_index("id")["text"]
    assert [turn["content"] for turn in turns[::2]] == [texts[shot] for shot in prompt["shots"]]
    assert [turn["role"] for turn in turns] == ["assistant", "user"] * PARAMS.shots


def test_shots_answer_the_question_of_the_request(task: Task) -> None:
    train = make_train(task, 9, ("Why?", "How?", "Where?"))
    questions = train.set_index("id")["question"]
    prompts = build_prompts(task, train, change(shot_pool=9), 60)
    assert {prompt["question"] for prompt in prompts} == {"Why?", "How?", "Where?"}
    for prompt in prompts:
        assert f"Question: {prompt['question']}\n" in prompt["messages"][1]["content"]
        assert len(prompt["shots"]) == 3
        assert {questions[shot] for shot in prompt["shots"]} == {prompt["question"]}


def test_a_question_with_few_rows_has_fewer_shots(task: Task) -> None:
    train = make_train(task, 4, ("Why?", "Why?", "Why?", "How?"))
    counts = {(prompt["question"], len(prompt["shots"])) for prompt in build_prompts(task, train, PARAMS, 40)}
    assert counts == {("Why?", 3), ("How?", 1)}


def test_no_shots_make_a_short_conversation(task: Task) -> None:
    for train in (make_train(task, 8), make_train(task, 0)):
        prompts: list[dict[str, Any]] = build_prompts(task, train, change(shots=0), 2)
        assert all(len(prompt["messages"]) == 2 and prompt["shots"] == [] for prompt in prompts)


@pytest.mark.parametrize(("count", "pool"), [(2, 6), (8, 2)])
def test_too_few_rows_give_one_sentence(task: Task, count: int, pool: int) -> None:
    words = "label 'bad' has 2 train rows to draw `prompts.shots: 3` examples from: lower `prompts.shots`, or raise"
    with pytest.raises(DataError, match=words):
        build_prompts(task, make_train(task, count), change(shot_pool=pool), 1)
