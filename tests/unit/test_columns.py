from typing import Any

import pandas as pd
import pytest

from amalgam.errors import DataError
from amalgam.tasks.columns import drop_contradictions, read_columns, select_rows
from amalgam.tasks.schema import Columns


def make_table(**columns: list[str]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=[f"a.csv, row {number}" for number in range(2, count + 2)], dtype=str)


def read_label(cell: dict[str, Any], values: list[str]) -> list[str]:
    table = make_table(id=[str(number) for number in range(len(values))], text=["t"] * len(values), x=values)
    return read_columns(table, Columns.model_validate({"label": {"column": "x", **cell}}))["label"].tolist()


@pytest.mark.parametrize(
    ("cell", "values", "expected"),
    [
        ({}, [" a ", "b"], ["a", "b"]),
        ({"map": {"0": "no", "1": "yes"}}, ["1", "0"], ["yes", "no"]),
        ({"map": {"1": "yes"}, "otherwise": "leave_out"}, ["1", "9"], ["yes", "leave_out"]),
        ({"pattern": r"(\d+)_\d+"}, ["12_3"], ["12"]),
        ({"item": 1, "map": {"2": "two"}}, ["[1, 2, 3]"], ["two"]),
        (
            {"item": 0, "otherwise": "leave_out"},
            ["[]", '["a"]', "", "[null]"],
            ["leave_out", "a", "leave_out", "leave_out"],
        ),
        ({"map": {"": "none"}, "otherwise": "leave_out"}, ["", "x"], ["none", "leave_out"]),
        (
            {"above": {"positive": 0.5}, "below": {"negative": -0.5}, "otherwise": "neutral"},
            ["0.51", "0.5", "-0.5", "-3"],
            ["positive", "neutral", "neutral", "negative"],
        ),
        ({"below": {"low": -1, "lowest": -5}, "otherwise": "none"}, ["-1", "-2", "-6"], ["none", "low", "lowest"]),
    ],
)
def test_each_step_by_value(cell: dict[str, Any], values: list[str], expected: list[str]) -> None:
    assert read_label(cell, values) == expected


@pytest.mark.parametrize(
    ("cell", "value", "parts"),
    [
        ({"map": {"1": "yes"}}, "9", ["a.csv, row 2", "'9'", "is none of '1'"]),
        ({"above": {"yes": 1}, "otherwise": "no"}, "", ["'' of `x` is not a number"]),
        ({"above": {"yes": 1}}, "0", ["lies within all bounds"]),
        ({"pattern": r"(\d+)"}, "a", ["does not match the pattern"]),
        ({"item": 0}, "1, 2", ["is not a list in brackets"]),
        ({"item": 2}, "[1, 2]", ["is not a list with an item 2", "add `otherwise: leave_out` beside `item`"]),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(cell: dict[str, Any], value: str, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_label(cell, [value])
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_subgroups_become_columns_with_clean_cells() -> None:
    table = make_table(id=["1", "2"], text=["x", "y"], label=["no", "no"], sex=["F", " "], place=["a &amp;\tb", "c"])
    subgroups = {"gender": {"column": "sex", "map": {"F": "female", "": ""}}, "school": "place"}
    rows = read_columns(table, Columns.model_validate({"id": {"columns": ["id", "text"]}, "subgroups": subgroups}))
    assert rows["id"].tolist() == ["1-x", "2-y"]
    assert list(rows)[-2:] == ["subgroup_gender", "subgroup_school"]
    assert rows["subgroup_gender"].tolist() == ["female", ""]
    assert rows["subgroup_school"].tolist() == ["a & b", "c"]


def test_where_selects_rows_and_names_a_value_that_none_has() -> None:
    table = make_table(domain=["ELA", "Math "], x=["1", "2"])
    assert select_rows(table, Columns(where={"domain": "Math"})).index.tolist() == ["a.csv, row 3"]
    with pytest.raises(DataError, match="no row whose `domain` is 'Art'"):
        select_rows(table, Columns(where={"domain": "Art"}))


def make_rows(*coded: tuple[str, str], question: str = "") -> pd.DataFrame:
    rows = [
        {"id": f"r{number}", "text": text, "question": question, "label": label}
        for number, (text, label) in enumerate(coded)
    ]
    return pd.DataFrame(rows, dtype=str)


def test_equal_texts_of_different_labels_are_dropped_and_described() -> None:
    rows = make_rows(("Good", "yes"), ("Fine.", "no"), ("fine", "yes"), ("good!", "yes"))
    left, note = drop_contradictions(rows)
    assert left["id"].tolist() == ["r0", "r3"]
    assert note
    assert note.rows == ["1", "2"]
    assert note.sentence == (
        "2 rows were left out, since their text also stands with another label, "
        "as in r1 ('Fine.', no) and r2 ('fine', yes)"
    )
    assert drop_contradictions(left)[1] is drop_contradictions(rows.head(0))[1] is None


def test_equal_answers_to_different_questions_may_differ() -> None:
    rows = make_rows(("Two", "no"), ("two", "yes")).assign(question=["1+2?", "1+1?"])
    assert len(drop_contradictions(rows)[0]) == 2
