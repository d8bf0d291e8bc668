from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.synthesis.attributes import draw_attributes, phrase_attribute
from amalgam.tasks.schema import Task

VALUES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)
NAMES = st.sampled_from(["length", "mistakes", "register"])


def vary(task: Task, attributes: dict[str, list[str]], of_label: dict[str, list[str]] | None = None) -> Task:
    labels = [label.model_dump() for label in task.labels]
    labels[0]["attributes"] = of_label or {}
    return Task.model_validate({**task.model_dump(), "labels": labels, "prompts": {"attributes": attributes}})


@settings(max_examples=50)
@given(attributes=st.dictionaries(NAMES, VALUES), seed=st.integers(0, 99), rounds=st.integers(1, 4))
def test_each_value_comes_equally_often(task: Task, attributes: dict[str, list[str]], seed: int, rounds: int) -> None:
    task = vary(task, attributes)
    for label in task.labels:
        for name, values in attributes.items():
            slots = range(rounds * len(values))
            drawn = Counter(draw_attributes(task, label, seed, slot)[name] for slot in slots)
            assert drawn == dict.fromkeys(values, rounds)


def test_combinations_vary_and_differ_by_label_and_seed(task: Task) -> None:
    task = vary(task, {"length": list("abcd"), "mistakes": list("efgh")})
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
        before, after = (draw_attributes(vary(task, each), task.labels[1], 7, slot) for each in (few, more))
        assert after["length"] == before["length"]


def test_a_label_adds_attributes_and_overrides_them(task: Task) -> None:
    task = vary(task, {"length": ["short"], "mistakes": ["none"]}, {"length": ["long"], "subject": ["bread"]})
    assert draw_attributes(task, task.labels[0], 7, 0) == {"length": "long", "mistakes": "none", "subject": "bread"}
    assert draw_attributes(task, task.labels[1], 7, 0) == {"length": "short", "mistakes": "none"}


def test_no_attributes_draw_nothing(task: Task) -> None:
    assert draw_attributes(task, task.labels[0], 7, 3) == {}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("length", "a few words", "Length: a few words."),
        ("sub_topic", "the price.", "Sub topic: the price."),
        ("register", "Like, totally!", "Register: Like, totally!"),
    ],
)
def test_an_attribute_is_said_as_a_sentence(name: str, value: str, sentence: str) -> None:
    assert phrase_attribute(name, value) == sentence
