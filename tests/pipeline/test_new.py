"""A file becomes a task that runs, nobody edits a file, and codes for more of its responses come back."""

import json
import shutil
from pathlib import Path

import openpyxl
import pandas as pd

from amalgam.files import read_rows
from amalgam.params import load_params
from tests.pipeline.project import STAGES, Project
from tests.pipeline.toy import guess_label, make_rows

ROWS = [{key: row[key] for key in ("id", "guest", "text", "label")} for row in make_rows(160)]


def test_a_workbook_becomes_a_report_and_labels_and_the_other_task_is_kept(project: Project, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Read me first"])
    sheet = book.create_sheet("Codes")
    for row in [[*ROWS[0]], *([*row.values()] for row in ROWS)]:
        sheet.append(row)
    book.save(tmp_path / "answers.xlsx")
    project.do("amalgam", "new", "own", "--from", str(tmp_path / "answers.xlsx"), "--yes")
    assert {*STAGES} - {*project.repro().ran} <= {"models", "label"}
    params, rows = load_params(project.folder / "params.yaml"), project.read_json("data/prepared/summary.json")["rows"]
    assert (rows["test"], rows["train"] + rows["validation"]) == (params.split.test, params.human_rows) != (40, 24)
    said = project.do("amalgam", "tasks", "--json").output  # after a sentence about files that are not on this machine
    listed = {task["name"]: task for task in json.loads(said[said.index("[") :])}
    assert (listed["own"]["rows"], listed["own"]["student_auc"] > 0.5) == (160, True)
    labelled = tmp_path / "labelled.xlsx"
    options = ["--prefix", "new_", "--text-column", "text"]
    project.do("amalgam", "predict", str(tmp_path / "answers.xlsx"), str(labelled), *options)
    header, *cells = openpyxl.load_workbook(labelled).active.iter_rows(values_only=True)
    assert header == (*ROWS[0], "new_label", "new_p_complaint", "new_p_praise", "new_needs_human")
    assert [list(row[:4]) for row in cells] == [[*row.values()] for row in ROWS]
    assert all(row[4] == ("complaint" if row[5] > row[6] else "praise") for row in cells)
    project.do("git", "checkout", "--quiet", "params.yaml")
    assert not project.repro().ran


def test_codes_come_back_as_train_rows_and_no_other_row_moves(project: Project) -> None:
    prepared = project.folder / "data/prepared"
    train, unlabelled = (read_rows(prepared / f"{name}.csv") for name in ("train", "unlabelled"))
    project.do("amalgam", "next", "-n", "6")
    book = openpyxl.load_workbook(project.folder / "to_code.xlsx")
    sheet = book["responses"]
    header, *rows = sheet.iter_rows(values_only=True)
    assert header == ("id", "text", "label")
    ids = [row[0] for row in rows]
    assert (len(set(ids)), {row[2] for row in rows}) == (6, {None})
    assert set(ids) <= set(unlabelled["id"])
    assert [cell.value for cell in book["labels"]["A"]] == ["label", "complaint", "praise"]
    assert str(sheet.data_validations.dataValidation[0].sqref) == "C2:C7"
    for number, row in enumerate(rows[:5], start=2):
        sheet.cell(number, 3, guess_label(row[1]).upper())
    book.save(project.folder / "to_code.xlsx")
    again = project.run("amalgam", "next")
    assert (again.code, "to_code.xlsx exists already" in again.output) == (2, True)

    with project.keep("data/prepared/test.csv", "data/prepared/validation.csv"):
        run = project.do("amalgam", "code", "to_code.xlsx")
        assert "1 row without a label: they stay uncoded (to_code.xlsx, row 7)" in run.output
        assert "5 codes added, 5 responses in all" in run.output
        assert "raise `synthesis.rows`" in run.output  # 52 are too few for the ratio now
        project.repro("prepare")
    after = read_rows(prepared / "train.csv")
    assert after["id"].tolist() == [*train["id"], *ids[:5]]
    assert after["label"].tolist()[-5:] == [guess_label(row[1]) for row in rows[:5]]
    assert (after["group"] != "").all()
    assert not set(ids[:5]) & set(read_rows(prepared / "unlabelled.csv")["id"])

    shutil.rmtree(project.folder / "models/student")
    cold = project.do("amalgam", "next", "more.csv", "-n", "100")
    assert "this task has no student yet" in cold.output
    offered = pd.read_csv(project.folder / "more.csv", encoding="utf-8-sig")
    assert set(offered["id"]) == set(read_rows(prepared / "unlabelled.csv")["id"])
    project.set_params(task="product_feedback")
    other = project.run("amalgam", "code", "more.csv")
    assert (other.code, "run `dvc repro prepare models` first" in other.output) == (2, True)
