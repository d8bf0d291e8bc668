from itertools import combinations
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.params import Split
from amalgam.tasks.split import choose_sizes, keep_apart, split_rows
from amalgam.tasks.texts import fold_text

SETTINGS = {"seed": 3, "by": "random", "test": 40, "validation": 0.2, "unlabelled": 50}
Rows = pd.DataFrame


def split(
    rows: Rows, human_rows: int = 30, texts: Rows | None = None, codes: Rows | None = None, **changed: Any
) -> dict[str, Rows]:
    return split_rows(rows, human_rows, Split.model_validate({**SETTINGS, **changed}), texts, codes)


def make_rows(labels: list[str], groups: list[str] | None = None, texts: list[str] | None = None) -> pd.DataFrame:
    rows = pd.DataFrame({"id": [f"r{number}" for number in range(len(labels))], "question": "", "label": labels})
    rows.insert(1, "text", texts or [f"Text {number}!" for number in range(len(labels))])
    return rows.assign(group=groups) if groups else rows


def make_dated_rows(step: int = 1, labels: list[str] | None = None) -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=120).repeat(step)[:120]
    return make_rows(labels or ["no", "yes"] * 60).assign(time=days.strftime("%Y-%m-%d"))


@st.composite
def draw_rows(draw: st.DrawFn) -> pd.DataFrame:
    count = draw(st.integers(150, 220))
    seeds = draw(st.lists(st.integers(0, 10**6), min_size=count, max_size=count))
    groups = [f"g{seed % 40}" for seed in seeds] if draw(st.booleans()) else None
    labels = [("no", "no", "yes")[seed // 40 % 3] for seed in seeds]
    texts = [f"{'TEXT' if seed % 2 else 'text'} {seed // 120 % 120}" for seed in seeds] if draw(st.booleans()) else None
    return make_rows(labels, groups, texts)


@given(draw_rows(), st.integers(8, 40), st.integers(0, 5))
@settings(max_examples=25)
def test_sets_are_apart_and_of_the_wanted_size(rows: pd.DataFrame, human_rows: int, seed: int) -> None:
    tables = split(rows, human_rows=human_rows, seed=seed)
    assert len(tables["train"]) + len(tables["validation"]) == human_rows
    assert len(tables["test"]) == SETTINGS["test"]
    assert len(tables["unlabelled"]) <= SETTINGS["unlabelled"]
    assert list(tables["unlabelled"]) == ["id", "text", "question"]
    ids = [name for table in tables.values() for name in table["id"]]
    assert len(set(ids)) == len(ids)
    for one, other in combinations(tables.values(), 2):
        for key in {"text", "group"} & {*one} & {*other}:
            assert not {*one[key].map(fold_text)} & {*other[key].map(fold_text)}
    if "group" in rows:
        held = {*tables["validation"]["group"], *tables["test"]["group"]}
        assert not {*rows.set_index("id")["group"][tables["unlabelled"]["id"]]} & held


@given(draw_rows(), st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_the_order_of_the_file_changes_nothing(rows: pd.DataFrame, random: object) -> None:
    mixed = rows.iloc[random.sample(range(len(rows)), len(rows))]  # type: ignore[attr-defined]
    first, second = split(rows), split(mixed)
    assert all(first[name].equals(second[name]) for name in first)


@given(draw_rows(), st.integers(8, 20), st.integers(20, 40))
@settings(max_examples=15)
def test_more_human_rows_only_add_rows_and_leave_the_test_set(rows: pd.DataFrame, few: int, many: int) -> None:
    small = split(rows, human_rows=few)
    large = split(rows, human_rows=many)
    assert small["test"].equals(large["test"])
    for name in ("train", "validation"):
        assert large[name]["id"].tolist()[: len(small[name])] == small[name]["id"].tolist()


@given(st.integers(8, 60), st.sampled_from([0.1, 0.2, 0.5]))
@settings(max_examples=25)
def test_labels_keep_their_shares(human_rows: int, validation: float) -> None:
    rows = make_rows(["no", "no", "no", "yes"] * 75)
    tables = split(rows, human_rows=human_rows, validation=validation)
    human = pd.concat([tables["train"], tables["validation"]])
    assert abs((human["label"] == "yes").sum() - max(human_rows / 4, 3)) <= 1
    assert (tables["test"]["label"] == "yes").sum() == SETTINGS["test"] / 4
    assert abs(len(tables["validation"]) - validation * human_rows) <= 2
    assert len(split(rows.head(70), test=500)["test"]) == 35  # at most half


def test_more_texts_join_the_unlabelled_set_unless_a_held_out_row_has_them() -> None:
    rows = make_rows(["no", "yes"] * 50).assign(personal=["name", "", "", "name"] * 25)
    test_text = split(rows)["test"]["text"][0]
    texts = pd.DataFrame({"id": ["a", "b"], "text": [test_text.upper(), "quite new"], "question": ""})
    unlabelled = split(rows, texts=texts)["unlabelled"]
    assert {*unlabelled["id"]} & {"a", "b"} == {"b"}
    assert {*unlabelled["personal"]} == {"name", ""}  # texts that name somebody stay marked


@pytest.mark.parametrize("step", [1, 30])
def test_a_split_by_time_tests_on_the_future_and_trains_on_the_past(step: int) -> None:
    rows = make_dated_rows(step=step)
    texts = pd.DataFrame({"id": ["a"], "text": ["quite new"], "question": [""]})  # without a time
    tables = split(rows.sample(frac=1, random_state=1), by="time", texts=texts)
    test, times = tables.pop("test"), rows.set_index("id")["time"]
    assert len(test) == SETTINGS["test"]
    assert all(times[table["id"]].max() < test["time"].min() for table in tables.values())
    assert step > 1 or set(test["id"]) == set(rows["id"][-SETTINGS["test"] :])


def test_the_sizes_of_a_new_task_allow_its_split_by_time() -> None:
    rows = make_dated_rows(step=50)  # 20 rows of the last day, so that the test set has 70
    test, human, validation = choose_sizes(rows, 3, "time")
    sizes = {
        name: len(table) for name, table in split(rows, human, by="time", test=test, validation=validation).items()
    }
    assert sizes["train"] + sizes["validation"] == human == 50


GROUPS = [f"g{number % 10}" for number in range(50)] + ["one"] * 50


@pytest.mark.parametrize(
    ("rows", "changed", "words"),
    [
        (make_rows(["no", "yes"] * 50), {"human_rows": 5}, "`human_rows` is 5, but must be at least 6"),
        (make_rows(["no", "yes"] * 50), {"human_rows": 70}, "at most 60, or lower `split.test`"),
        (make_rows(["no"] * 90 + ["yes"] * 3), {}, "the label 'yes' has 2 rows, but needs 2 train rows"),
        (make_rows(["no"] * 50 + ["yes"] * 50, GROUPS), {"test": 10, "seed": 1}, "label 'yes'"),
        (make_rows(["no", "yes"] * 60), {"by": "time"}, "the task has no `columns.time`"),
        (make_dated_rows().assign(time=""), {"by": "time"}, "the row r0 has no time"),
        (make_dated_rows(labels=["no"] * 60 + ["yes"] * 60), {"by": "time"}, "none of the last 40 rows is coded 'no'"),
    ],
)
def test_rows_that_do_not_suffice_name_the_key(rows: pd.DataFrame, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        split(rows, **changed)
    assert "\n" not in str(caught.value)


def test_rows_of_known_groups_or_texts_are_taken_out() -> None:
    rows = make_rows(["no"] * 3, ["a", "b", "c"])
    others = make_rows(["no"] * 2, ["a", "d"], ["other", "text  1!"])
    assert keep_apart(rows, others)["id"].tolist() == ["r2"]
    assert keep_apart(rows, others.head(0)).equals(rows)
