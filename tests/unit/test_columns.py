"""From the columns of a table to rows, and every fault in them in one sentence."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amalgam.errors import DataError
from amalgam.tasks.cells import Fault, read_cells
from amalgam.tasks.columns import measure_agreement
from amalgam.tasks.schema import LEAVE_OUT, Cell
from tests.unit.tasks import load_rows, make_task

GOOD = "id,text,label\n1,Fine work,yes\n2,Poor work,no\n"


def make_cells(cell: dict[str, Any], values: list[str]) -> tuple[list[str], list[Fault]]:
    faults: list[Fault] = []
    table = pd.DataFrame({"text": "t", "x": values}, index=[f"a.csv, row {n}" for n in range(2, len(values) + 2)])
    made = read_cells(table, {"text": Cell(column="text"), "x": Cell(column="x", **cell)}, None, faults)
    return made["x"].tolist(), faults


BOUNDS = {"above": {"positive": 0.5}, "below": {"negative": -0.5}, "otherwise": "neutral"}


@pytest.mark.parametrize(
    ("cell", "values", "expected", "fault"),
    [
        ({"map": {"0": "no", "1": "yes"}}, ["1", "0"], ["yes", "no"], ""),
        ({"map": {"1": "yes"}}, ["9"], [LEAVE_OUT], "'9' in `x` is not in its `map`, which covers only '1'"),
        ({"map": {"": "none"}, "otherwise": LEAVE_OUT}, ["", "x"], ["none", LEAVE_OUT], ""),
        ({"pattern": r"(\d+)_\d+"}, [" 12_3"], ["12"], ""),
        ({"pattern": r"(\d+)"}, ["a"], [LEAVE_OUT], "does not match the pattern"),
        ({"item": 1, "map": {"2": "two"}}, ["[1, 2, 3]"], ["two"], ""),
        ({"item": 0, "otherwise": LEAVE_OUT}, ["[]", '["a"]', "[null]"], [LEAVE_OUT, "a", LEAVE_OUT], ""),
        ({"item": 0}, ["1, 2"], [LEAVE_OUT], "is not a list in brackets"),
        ({"item": 2}, ["[1, 2]"], [LEAVE_OUT], "is not a list with an item 2 (the first is 0): correct the cell, or"),
        (BOUNDS, ["0,51", "0.5", "-0.5", "-3"], ["positive", "neutral", "neutral", "negative"], ""),
        ({"below": {"low": -1, "lowest": -5}, "otherwise": "none"}, ["-1", "-2", "-6"], ["none", "low", "lowest"], ""),
        ({"above": {"yes": 1}, "otherwise": "no"}, ["nan"], [LEAVE_OUT], "'nan' in `x` is not a number"),
        ({"above": {"yes": 1}}, ["0"], [LEAVE_OUT], "is within all bounds"),
    ],
)
def test_each_step_by_value_and_what_it_refuses(
    cell: dict[str, Any], values: list[str], expected: list[str], fault: str
) -> None:
    made, faults = make_cells(cell, values)
    assert (made, len(faults)) == (expected, int(fault != ""))
    assert all(each.sentence.startswith("a.csv, row 2: ") and fault in each.sentence for each in faults)


@pytest.mark.parametrize(
    ("text", "columns", "parts"),
    [
        ("id,label\n1,yes\n", {}, ["a.csv has no column `text`, only `id`, `label`"]),
        (GOOD + "3, ,yes\n4,\u200b,no\n", {}, ["a.csv, row 4; a.csv, row 5 has no text"]),
        (GOOD + ",More,yes\n", {}, ["a.csv, row 4 has no id"]),
        (GOOD + "3,More,maybe\n", {}, ["a.csv, row 4", "'maybe'", "no, yes", "`columns.label.map`"]),
        (GOOD + "3,More,\n", {}, ["a.csv, row 4 has no label", "{'': leave_out, no: no, yes: yes}"]),
        (
            GOOD + "3,More,x\n",
            {"label": {"column": "label", "map": {"yes": "yes"}, "otherwise": "leave_out"}},
            ["no row coded 'no'", "and 2 were left out as `columns` says"],
        ),
        (
            GOOD,
            {"time": {"column": "label", "map": {"yes": "2024-05-31", "no": "last May"}}},
            ["the row 2 has the time 'last May', which is not a date such as 2024-05-31"],
        ),
        ("id,text,label\n1,Fine,yes\n2,Good,yes\n", {}, ["no row coded 'no'", "all 2 rows are coded 'yes'"]),
        (
            f"id,text,label\n1,{'Fine ' * 20},no\n2,{'fine ' * 20},yes\n3,Good,no\n",
            {},
            ["2 rows were left out", f"('{('Fine ' * 20)[:40]}…', no)", "; no row coded yes is left"],
        ),
        (GOOD, {"set": "label"}, ["a.csv, row 2 is in the set 'yes'"]),
        (GOOD, {"where": {"text": "Art"}}, ["a.csv has no row that `columns.where` selects: correct it"]),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, text: str, columns: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load_rows(tmp_path, text, columns)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_rows_are_selected_and_subgroups_become_columns_with_clean_cells(tmp_path: Path) -> None:
    text = "id,text,label,sex,place,term\n1,x,no,F,a &amp;\tb,Spring \n2,y,yes, ,c,Spring\n3,z,no,F,d,Fall\n"
    subgroups = {"gender": {"column": "sex", "map": {"F": "female", "": ""}}, "school": "place"}
    columns = {"id": {"columns": ["id", "text"]}, "subgroups": subgroups, "where": {"term": "Spring"}}
    rows = load_rows(tmp_path, text, columns)
    cells = {"subgroup_gender": ["female", ""], "subgroup_school": ["a & b", "c"]}
    assert rows.main[["id", *cells]].to_dict("list") == {"id": ["1-x", "2-y"], **cells}
    assert rows.left_out["not_selected"] == 1


def test_a_row_of_totals_is_left_out_and_has_no_faults(tmp_path: Path) -> None:
    columns = {
        "text": {"column": "text", "otherwise": LEAVE_OUT},
        "label": {"column": "label", "map": {"yes": "yes", "no": "no"}},
    }
    rows = load_rows(tmp_path, f"{GOOD},\u200b,102\n", columns)
    assert (rows.main["id"].tolist(), rows.left_out["no_text"]) == (["1", "2"], 1)


def test_equal_texts_of_different_labels_are_dropped_and_described(tmp_path: Path) -> None:
    text = "id,text,label,asked\na,Good,yes,\nb,Fine.,no,\nc,fine,yes,\nd,good!,yes,\ne,Two,no,1+2?\nf,two,yes,1+1?\n"
    rows = load_rows(tmp_path, text, {"question": "asked"})
    assert rows.main["id"].tolist() == ["a", "d", "e", "f"]  # equal answers to different questions may differ
    assert rows.left_out == {"equal_text_other_label": 2}
    (note,) = rows.notes
    assert note.rows == ["a.csv, row 3", "a.csv, row 4"]
    assert note.sentence == (
        "2 rows were left out, because their text also has another label, as in b ('Fine.', no) and c ('fine', yes)"
    )


def test_agreement_counts_a_neutral_rating_as_a_category() -> None:
    ratings = pd.DataFrame({"rater1": ["no", "yes", "neutral", "yes", ""], "rater2": ["no", "yes", "no", "yes", "no"]})
    assert measure_agreement(ratings, make_task()) == {"rater_kappa": 0.6}
    ordinal = make_task().model_copy(update={"ordinal": True})
    assert measure_agreement(ratings, ordinal) == {"rater_quadratic_kappa": 1.0}
    assert measure_agreement(ratings[["rater1"]], make_task()) == {"rater_kappa": None}
