import json
from collections import Counter, defaultdict
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import ParamsError
from amalgam.synthesis.prompts import build_prompts, draw_attributes, list_shortages
from amalgam.synthesis.templates import load_template
from amalgam.tasks.schema import Task
from tests.unit.prompting import PARAMS, TEMPLATES, build, change, make_train, vary


def test_a_line_says_what_the_request_is_made_of(task: Task) -> None:
    line = build(vary(task), make_train(task, 8), rows=17)[-2]
    assert {key: value for key, value in line.items() if key not in ("shots", "messages")} == {
        "id": "good-00016",
        "label": "good",
        "sample": 16,
        "question": "",
        "attributes": {"length": "long", "mistakes": line["attributes"]["mistakes"], "subject": "bread"},
        "group": "good/1",
        "responses": 1,
        "format": "text",
    }
    order = ["id", "label", "sample", "question", "shots", "attributes", "group", "responses", "format", "messages"]
    assert list(line) == order


@settings(max_examples=30, deadline=None)
@given(
    few=st.integers(1, 20),
    many=st.integers(1, 40),
    seed=st.integers(0, 99),
    shots=st.integers(0, 4),
    questions=st.sampled_from([("",), ("Why?", "How?")]),
    responses=st.integers(1, 4),
    varied=st.booleans(),
)
def test_prompts_for_more_rows_begin_with_those_for_fewer(
    task: Task, few: int, many: int, seed: int, shots: int, questions: tuple[str, ...], responses: int, varied: bool
) -> None:
    params = change(seed=seed, shots=shots, responses=responses, format="lines")
    task = vary(task) if varied else task
    train = make_train(task, 16, questions)
    first, second = (build(task, train, params, rows) for rows in sorted((few, many)))
    assert second[: len(first)] == first
    # One request for several responses, the last one for some too many rather than too few.
    assert len(first) == -(-min(few, many) // responses) * len(task.labels)
    # More human rows, and rows of other labels among them, change nothing either.
    assert build(task, make_train(task, 20, questions), params, few) == build(task, train, params, few)


def test_every_sample_is_there_once_by_sample_then_by_label(task: Task) -> None:
    prompts = build(task, make_train(task, 8), rows=5)
    assert [(prompt["sample"], prompt["label"]) for prompt in prompts] == [
        (sample, label) for sample in range(5) for label in task.label_names
    ]
    assert [prompt["id"] for prompt in prompts[:2]] == ["bad-00000", "good-00000"]
    assert len({prompt["id"] for prompt in prompts}) == len(prompts)


def test_shots_are_of_the_wanted_label_and_from_its_first_rows(task: Task) -> None:
    train = make_train(task, 20).sample(frac=1, random_state=1)
    pools = {label: set(rows["id"].head(16)) for label, rows in train.groupby("label")}
    seen = defaultdict(set)
    for prompt in build(task, train, rows=200):
        assert len(set(prompt["shots"])) == PARAMS.shots
        seen[prompt["label"]] |= set(prompt["shots"])
    assert seen == pools


def test_samples_share_all_shots_but_the_last_and_sets_differ(task: Task) -> None:
    prompts = [prompt for prompt in build(task, make_train(task, 8), rows=160) if prompt["label"] == "good"]
    sets = [prompts[start : start + 16] for start in range(0, 160, 16)]
    for same in sets:
        openings = {json.dumps(prompt["messages"][:-3]) for prompt in same}  # the last shot is in the last three turns
        assert len(openings) == 1
        for start in range(0, 16, 4):  # four share the last shot as well
            assert len({tuple(prompt["shots"]) for prompt in same[start : start + 4]}) == 1
        assert len({tuple(prompt["shots"]) for prompt in same}) > 1
    assert len({tuple(same[0]["shots"][:-1]) for same in sets}) >= 8  # of 10; there are 56 ordered ones to draw from
    said = {scenario for same in sets for scenario in task.scenarios if scenario in same[0]["messages"][0]["content"]}
    assert said == {*task.scenarios}


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
    prompts = build(task, train, rows=200)
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
    prompts = [prompt for prompt in build(task, train, rows=160) if prompt["question"] == "How?"]
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
    prompts = build(task, train, rows=240)
    assert {(prompt["label"], prompt["question"]) for prompt in prompts} == {
        (label, f"about {other}?") for label in task.label_names for other in task.label_names
    }


def test_no_shots_make_a_short_conversation(task: Task) -> None:
    for train in (make_train(task, 8), make_train(task, 0)):
        prompts = build(task, train, change(shots=0), 2)
        assert all(len(prompt["messages"]) == 1 and prompt["shots"] == [] for prompt in prompts)


@pytest.mark.parametrize(
    ("count", "shots", "words"), [(2, 3, "raise `human_rows` for more"), (20, 17, "lower `prompts.shots`")]
)
def test_a_label_with_few_rows_has_fewer_shots_and_one_sentence_says_so(
    task: Task, count: int, shots: int, words: str
) -> None:
    train, params, few = make_train(task, count), change(shots=shots), min(count, 16)
    sentences = list_shortages(task, train, params)
    assert sentences[0] == (
        f"label 'bad' has {few} train rows to draw examples from, so that requests show {few} of them and not {shots}: "
        f"{words}"
    )
    assert len(sentences) == len(task.labels)
    assert {len(prompt["shots"]) for prompt in build(task, train, params)} == {few}
    assert list_shortages(task, make_train(task, 3), PARAMS) == []


def test_a_format_for_one_response_is_refused_for_several(task: Task) -> None:
    with pytest.raises(ParamsError, match=r"holds one response, but `prompts\.responses` is 2: set the format"):
        build(task, make_train(task, 8), change(responses=2))


def test_prompts_are_made_as_they_are_taken(task: Task) -> None:
    prompts = build_prompts(task, make_train(task, 8), load_template("chat", [TEMPLATES]), PARAMS, 10**12)
    assert [prompt["id"] for prompt in islice(prompts, 2)] == ["bad-00000", "good-00000"]


VALUES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)
NAMES = st.sampled_from(["length", "mistakes", "register"])


def give(task: Task, attributes: dict[str, list[str]], of_label: dict[str, list[str]] | None = None) -> Task:
    labels = [label.model_dump() for label in task.labels]
    labels[0]["attributes"] = of_label or {}
    return Task.model_validate({**task.model_dump(), "labels": labels, "prompts": {"attributes": attributes}})


@settings(max_examples=40, deadline=None)
@given(attributes=st.dictionaries(NAMES, VALUES), seed=st.integers(0, 99), rounds=st.integers(1, 4))
def test_each_value_comes_equally_often(task: Task, attributes: dict[str, list[str]], seed: int, rounds: int) -> None:
    task = give(task, attributes)
    for label in task.labels:
        for name, values in attributes.items():
            slots = range(rounds * len(values))
            drawn = Counter(draw_attributes(task, label, seed, slot)[name] for slot in slots)
            assert drawn == dict.fromkeys(values, rounds)


def test_combinations_vary_and_differ_by_label_and_seed(task: Task) -> None:
    task = give(task, {"length": list("abcd"), "mistakes": list("efgh")})
    runs = [
        [tuple(draw_attributes(task, label, seed, slot).values()) for slot in range(160)]
        for label in task.labels
        for seed in (1, 2)
    ]
    assert all(len(set(run)) == 16 for run in runs)
    assert len({tuple(run) for run in runs}) == len(runs)


def test_a_new_attribute_leaves_the_others_as_they_are(task: Task) -> None:
    few, more = {"length": list("abcd")}, {"mistakes": list("ef"), "length": list("abcd")}
    for slot in range(20):
        before, after = (draw_attributes(give(task, each), task.labels[1], 7, slot) for each in (few, more))
        assert after["length"] == before["length"]


def test_a_label_adds_attributes_and_overrides_them(task: Task) -> None:
    task = give(task, {"length": ["short"], "mistakes": ["none"]}, {"length": ["long"], "subject": ["bread"]})
    assert draw_attributes(task, task.labels[0], 7, 0) == {"length": "long", "mistakes": "none", "subject": "bread"}
    assert draw_attributes(task, task.labels[1], 7, 0) == {"length": "short", "mistakes": "none"}
