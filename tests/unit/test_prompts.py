import json
from collections import defaultdict
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import ParamsError
from amalgam.synthesis.prompts import build_prompts, list_shortages
from amalgam.synthesis.templates import load_template
from amalgam.tasks.schema import Task
from tests.unit.prompting import PARAMS, TEMPLATES, build, change, make_train, vary


def test_a_line_says_what_the_request_is_made_of(task: Task) -> None:
    line = build(vary(task), make_train(task, 8), change(other_shots=1), 5)[-2]
    assert {key: value for key, value in line.items() if key not in ("shots", "messages")} == {
        "id": "good-00004",
        "label": "good",
        "sample": 4,
        "question": "",
        "attributes": {"length": "long", "mistakes": line["attributes"]["mistakes"], "subject": "bread"},
        "group": "good/1",
        "responses": 1,
        "format": "text",
    }
    order = ["id", "label", "sample", "question", "shots", "attributes", "group", "responses", "format", "messages"]
    assert list(line) == order
    assert [shot.rstrip("0123456789") for shot in line["shots"]] == ["good"] * 3 + ["bad", "mixed_view"]


@settings(max_examples=40)
@given(
    few=st.integers(1, 20),
    many=st.integers(1, 20),
    seed=st.integers(0, 99),
    shots=st.integers(0, 4),
    pool=st.integers(4, 8),
    each=st.integers(1, 5),
    pair=st.integers(1, 3),
    questions=st.sampled_from([("",), ("Why?", "How?")]),
    others=st.integers(0, 2),
    responses=st.integers(1, 4),
    varied=st.booleans(),
)
def test_prompts_for_more_rows_begin_with_those_for_fewer(
    task: Task,
    few: int,
    many: int,
    seed: int,
    shots: int,
    pool: int,
    each: int,
    pair: int,
    questions: tuple[str, ...],
    others: int,
    responses: int,
    varied: bool,
) -> None:
    params = change(
        seed=seed,
        shots=shots,
        shot_pool=pool,
        samples_per_shots=each,
        samples_per_last_shot=pair,
        other_shots=others,
        responses=responses,
        format="lines",
    )
    task = vary(task) if varied else task
    train = make_train(task, 8, questions)
    first, second = (build(task, train, params, rows) for rows in sorted((few, many)))
    assert second[: len(first)] == first
    # One request for several responses, the last one for some too many rather than too few.
    assert len(first) == -(-min(few, many) // responses) * len(task.labels)
    # More human rows, and rows of other labels among them, change nothing either.
    more = make_train(task, 12, questions)
    assert build(task, more, params, few) == build(task, train, params, few)


def test_every_sample_is_there_once_by_sample_then_by_label(task: Task) -> None:
    prompts = build(task, make_train(task, 8), rows=5)
    assert [(prompt["sample"], prompt["label"]) for prompt in prompts] == [
        (sample, label) for sample in range(5) for label in task.label_names
    ]
    assert [prompt["id"] for prompt in prompts[:2]] == ["bad-00000", "good-00000"]
    assert len({prompt["id"] for prompt in prompts}) == len(prompts)


def test_shots_are_of_the_wanted_label_and_from_its_first_rows(task: Task) -> None:
    train = make_train(task, 20).sample(frac=1, random_state=1)
    pools = {label: set(rows["id"].head(PARAMS.shot_pool)) for label, rows in train.groupby("label")}
    seen = defaultdict(set)
    for prompt in build(task, train, rows=60):
        assert len(set(prompt["shots"])) == PARAMS.shots
        seen[prompt["label"]] |= set(prompt["shots"])
    assert seen == pools


def test_samples_share_all_shots_but_the_last_and_sets_differ(task: Task) -> None:
    prompts = [prompt for prompt in build(task, make_train(task, 8), rows=40) if prompt["label"] == "good"]
    sets = [prompts[start : start + 4] for start in range(0, 40, 4)]
    for same in sets:
        openings = {json.dumps(prompt["messages"][:-3]) for prompt in same}  # the last shot is in the last three turns
        assert len(openings) == 1
        assert [prompt["shots"] for prompt in same[::2]] == [prompt["shots"] for prompt in same[1::2]]
    assert len({tuple(same[0]["shots"][:-1]) for same in sets}) >= 8  # of 10; there are 30 ordered ones to draw from
    assert sum(same[0]["shots"] != same[2]["shots"] for same in sets) >= 4  # of 10; four rows are left to draw from
    assert {
        scenario for same in sets for scenario in task.scenarios if scenario in same[0]["messages"][0]["content"]
    } == {*task.scenarios}


def test_each_sample_has_a_persona_of_its_own(task: Task) -> None:
    prompts = [prompt for prompt in build(task, make_train(task, 8), rows=40) if prompt["label"] == "good"]
    endings = [prompt["messages"][-1]["content"].rpartition("\n")[2] for prompt in prompts]
    assert set(endings) == {"Write as a good guest.", "Write as x."}
    assert any(one != other for one, other in zip(endings[::2], endings[1::2], strict=True))  # with the same shots


def test_another_seed_draws_other_sets(task: Task) -> None:
    train = make_train(task, 8)
    one, other = (build(task, train, change(seed=seed), 40) for seed in (1, 2))
    assert [prompt["shots"] for prompt in one] != [prompt["shots"] for prompt in other]


def test_labels_are_asked_the_same_questions_and_shown_answers_to_them(task: Task) -> None:
    train = make_train(task, 9, ("Why?", "How?", "Where?"))
    questions = train.set_index("id")["question"]
    prompts = build(task, train, change(shot_pool=9), 60)
    asked = {label: [line["question"] for line in prompts if line["label"] == label] for label in task.label_names}
    assert len({tuple(sequence) for sequence in asked.values()}) == 1
    assert set(asked["good"]) == {"Why?", "How?", "Where?"}
    for prompt in prompts:
        assert f"Question: {prompt['question']}\n" in prompt["messages"][0]["content"]
        assert len(prompt["shots"]) == 3
        assert {questions[shot] for shot in prompt["shots"]} == {prompt["question"]}


def test_where_a_question_has_few_answers_those_of_others_come_first_with_their_question(task: Task) -> None:
    train = make_train(task, 4, ("Why?", "Why?", "Why?", "How?"))
    questions = train.set_index("id")["question"]
    prompts = [prompt for prompt in build(task, train, rows=40) if prompt["question"] == "How?"]
    assert prompts
    for prompt in prompts:
        assert [questions[shot] for shot in prompt["shots"][:2]] == ["Why?", "Why?"]
        said = [turn["content"].count("Question:") for turn in prompt["messages"] if turn["role"] == "user"]
        assert said == [1, 0, 1, 0]
        assert questions[prompt["shots"][2]] == "How?"
        assert "Question: Why?" in prompt["messages"][0]["content"]


def test_a_label_whose_rows_answer_other_questions_is_asked_all_the_same(task: Task) -> None:
    train = make_train(task, 4)
    train["question"] = train["label"].map(lambda label: f"about {label}?")
    prompts = build(task, train, rows=60)
    assert {(prompt["label"], prompt["question"]) for prompt in prompts} == {
        (label, f"about {other}?") for label in task.label_names for other in task.label_names
    }


def test_no_shots_make_a_short_conversation(task: Task) -> None:
    for train in (make_train(task, 8), make_train(task, 0)):
        prompts = build(task, train, change(shots=0), 2)
        assert all(len(prompt["messages"]) == 1 and prompt["shots"] == [] for prompt in prompts)


@pytest.mark.parametrize(
    ("count", "values"), [(2, {}), (8, {"shot_pool": 2}), (8, {"shot_pool": 2, "shots": 0, "other_shots": 3})]
)
def test_a_label_with_few_rows_has_fewer_shots_and_one_sentence_says_so(
    task: Task, count: int, values: dict[str, int]
) -> None:
    train, params = make_train(task, count), change(**values)
    sentences = list_shortages(task, train, params)
    assert sentences[0] == (
        "label 'bad' has 2 train rows to draw examples from, so that requests show 2 of them and not 3: "
        "raise `human_rows` or `prompts.shot_pool` for more"
    )
    assert len(sentences) == len(task.labels)
    assert {len(prompt["shots"]) for prompt in build(task, train, params)} == {2 if params.shots else 4}
    assert list_shortages(task, make_train(task, 3), PARAMS) == []


def test_a_format_for_one_response_is_refused_for_several(task: Task) -> None:
    with pytest.raises(ParamsError, match=r"holds one response, but `prompts\.responses` is 2: set the format"):
        build(task, make_train(task, 8), change(responses=2))


def test_prompts_are_made_as_they_are_taken(task: Task) -> None:
    prompts = build_prompts(task, make_train(task, 8), load_template("chat", [TEMPLATES]), PARAMS, 10**12)
    assert [prompt["id"] for prompt in islice(prompts, 2)] == ["bad-00000", "good-00000"]
