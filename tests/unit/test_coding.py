"""What to code next, and the codes that come back."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amalgam.cli.coding import write_sheet
from amalgam.errors import DataError
from amalgam.tasks.coding import CODED, add_codes, choose_responses, read_codes, read_log, read_sheet
from amalgam.tasks.schema import Task
from tests.unit.tasks import describe_task
from tests.unit.test_split import make_rows, split

LABELS = ["no", "yes"]
POOL = pd.DataFrame(
    {"id": ["a", "b", "c", "d"], "text": ["One.", "=2+2", "Three, or so", "Four"], "question": ["", "", "", ""]}
)


def make_sheet(**labels: str) -> pd.DataFrame:
    rows = POOL.set_index("id").loc[list(labels)].reset_index(drop=True)
    return rows.assign(label=list(labels.values())).set_index(pd.Index([f"row {n + 2}" for n in range(len(labels))]))


def test_codes_are_kept_in_the_order_given_and_the_last_one_counts(tmp_path: Path) -> None:
    assert add_codes(tmp_path, LABELS, make_sheet(c="yes", b="NO"), POOL) == (2, [])
    sheet = make_sheet(a="yes", b="yes", c="yes", d="maybe").assign(question="")
    sheet.loc["row 6"] = "", "", " "
    sheet.loc["row 7"] = "Fourteen", "", "no"
    added, notes = add_codes(tmp_path, LABELS, sheet, POOL.head(1))
    assert (added, [re.sub(r":.*(?= \()", "", note) for note in notes]) == (
        2,
        [
            "1 row without a label (row 6)",
            "1 row with a label that task.yaml does not list, only no, yes (row 5)",
            "1 row with a text that is not among the responses to code (row 7)",
            "1 row with the code that they already have (row 4)",
            "1 row that had another code (row 3)",
        ],
    )
    assert read_log(tmp_path, LABELS)["label"].tolist() == ["yes", "no", "yes", "yes"]
    codes = read_codes(tmp_path, LABELS)[["id", "text", "label"]].to_numpy().tolist()
    assert codes == [["c", "Three, or so", "yes"], ["a", "One.", "yes"], ["b", "=2+2", "yes"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\nOne.,\n", "no code was added: 1 row without a label"),
        ("text,code\nOne.,yes\n", "has no column `label`, only text, code"),
        ('text,label\n"One.,yes\n', "line 2 begins a row that cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_sheet_that_brings_nothing_is_refused_and_nothing_is_written(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "sheet.csv"
    if content:
        path.write_text(content)
    with pytest.raises(DataError, match=words):
        add_codes(tmp_path, LABELS, read_sheet(path), POOL)
    assert not (tmp_path / CODED).exists()


def test_a_label_that_the_task_no_longer_has_is_named_and_never_dropped(tmp_path: Path) -> None:
    add_codes(tmp_path, LABELS, make_sheet(a="yes"), POOL)
    before = (tmp_path / CODED).read_bytes()
    with pytest.raises(DataError, match=r"coded\.csv, row 2 has the label 'yes'"):
        add_codes(tmp_path, ["no", "well"], make_sheet(b="no"), POOL)
    assert (tmp_path / CODED).read_bytes() == before


@pytest.mark.parametrize("grouped", [False, True])
def test_coded_rows_join_the_end_of_train_and_move_no_other_row(grouped: bool) -> None:
    groups = [f"g{number // 2}" for number in range(200)] if grouped else None
    rows = make_rows(["no", "yes"] * 100, groups)
    texts = pd.DataFrame({"id": ["text-1"], "text": ["quite new"], "question": [""]})
    before = split(rows, texts=texts)
    held = pd.concat([before[name].head(2) for name in ("test", "validation", "train")])
    codes = pd.concat([before["unlabelled"].iloc[3:6], texts, held, texts.assign(text="gone")]).assign(label="yes")
    after = split(rows, texts=texts, codes=codes)
    for name in ("test", "validation"):
        assert after[name].equals(before[name])
    count = len(before["train"])
    assert after["train"].head(count).equals(before["train"])
    joined = after["train"][count:]
    assert joined["id"].tolist() == [*before["unlabelled"]["id"][3:6], "text-1"]
    assert set(joined["label"]) == {"yes"}
    assert not joined.isna().any(axis=None)
    assert not set(after["unlabelled"]["id"]) & set(joined["id"])
    more = split(rows, human_rows=36, texts=texts, codes=codes)  # the larger split itself takes some of them
    assert (more["test"].equals(before["test"]), more["train"]["id"].is_unique) == (True, True)


def test_the_uncertain_and_typical_are_chosen_and_no_two_alike() -> None:
    draw = np.random.default_rng(0)
    centres = np.eye(4)[[0] * 30 + [1] * 20 + [2] * 10 + [3] * 2]  # four clusters; the first has a code already
    free = centres + draw.normal(0, 0.02, centres.shape)
    free /= np.linalg.norm(free, axis=1, keepdims=True)
    doubt = np.full(len(free), 0.4)
    doubt[30:50] = 0.02  # the second cluster is certain
    chosen = choose_responses(free, np.eye(4)[:1], np.column_stack([doubt, 1 - doubt]), 2)
    assert [int(centres[row].argmax()) for row in chosen] == [2, 3]
    assert sorted(choose_responses(free, free[:0], np.column_stack([doubt, 1 - doubt]), 100)) == list(range(len(free)))


@pytest.mark.parametrize("name", ["sheet.xlsx", "sheet.csv"])
def test_a_sheet_comes_back_as_it_was_written_and_holds_no_formula(tmp_path: Path, name: str) -> None:
    from openpyxl import load_workbook

    task = Task.model_validate(describe_task(*LABELS))
    texts = ["=2+2", "'=quoted", "-5 °C", '@home, "no"', "plain"]
    rows = pd.DataFrame({"id": ["3-4", "0012", "=a", "b", "c"], "text": texts, "question": ["+Why?"] * 5})
    write_sheet(tmp_path / name, rows, task)
    sheet = read_sheet(tmp_path / name)
    assert sheet["text"].tolist() == texts
    assert (sheet["question"].tolist(), sheet["label"].tolist()) == (["+Why?"] * 5, [""] * 5)
    if name.endswith("csv"):
        assert "\n=" not in (tmp_path / name).read_text("utf-8-sig").replace(",", "\n")
    else:
        cells = [cell for row in load_workbook(tmp_path / name)["responses"] for cell in row if cell.value]
        assert {cell.data_type for cell in cells} == {"s"}
    assert add_codes(tmp_path, LABELS, sheet.assign(label="no"), rows) == (5, [])
    assert read_codes(tmp_path, LABELS)["id"].tolist() == rows["id"].tolist()
