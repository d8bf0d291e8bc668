"""A file becomes a task that runs, and nobody edits a file."""

import json
from pathlib import Path

import openpyxl

from amalgam.params import load_params
from tests.pipeline.project import STAGES, Project
from tests.pipeline.toy import make_rows

ROWS = [{key: row[key] for key in ("id", "guest", "text", "label")} for row in make_rows(160)]


def test_a_workbook_becomes_a_report_and_labels_and_the_other_task_is_kept(project: Project, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Read me first"])
    sheet = book.create_sheet("Codes")
    for row in [[*ROWS[0]], *([*row.values()] for row in ROWS)]:
        sheet.append(row)
    book.save(tmp_path / "answers.xlsx")
    project.do("amalgam", "new", "own", "--from", str(tmp_path / "answers.xlsx"), "--yes")
    project.set_params(seeds=[1])
    assert {*STAGES} - {*project.repro().ran} <= {"models", "label"}
    params, rows = load_params(project.folder / "params.yaml"), project.read_json("data/prepared/summary.json")["rows"]
    assert (rows["test"], rows["train"] + rows["validation"]) == (params.split.test, params.human_rows) != (40, 24)
    said = project.do("amalgam", "tasks", "--json").output  # after a sentence about files that are not on this machine
    listed = {task["name"]: task for task in json.loads(said[said.index("[") :])}
    assert (listed["own"]["rows"], listed["own"]["student_auc"] > 0.5) == (160, True)
    labelled = tmp_path / "labelled.xlsx"
    project.do("amalgam", "predict", str(tmp_path / "answers.xlsx"), str(labelled), "--prefix", "new_")
    header = [cell.value for cell in next(openpyxl.load_workbook(labelled).active.rows)]
    assert header == [*ROWS[0], "new_label", "new_p_complaint", "new_p_praise", "new_needs_human"]
    project.do("git", "checkout", "--quiet", "params.yaml")
    assert not project.repro().ran
