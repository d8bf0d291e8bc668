"""Files become tasks that run, and nobody edits a file."""

import json
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from tests.pipeline.project import STAGES, Project, make_project
from tests.pipeline.toy import make_rows
from tests.unit.helpers import run_amalgam

ROWS = [{key: row[key] for key in ("id", "guest", "text", "label")} for row in make_rows(160)]


def test_a_row_a_coder_becomes_a_task_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "project", "http://127.0.0.1:9/v1")
    frame = pd.DataFrame(ROWS)
    wrong = frame["label"].iloc[::-1].to_numpy()
    long = [frame.assign(coder="Ann"), frame.assign(coder="Bo"), frame.assign(coder="Cy", label=wrong)]
    pd.concat(long).sort_values("id").to_csv(tmp_path / "answers.csv", index=False)
    monkeypatch.chdir(project.folder)
    assert run_amalgam("new", "coders", "--from", str(tmp_path / "answers.csv"), "--yes", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == {"complaint": 80, "praise": 80}
    assert run_amalgam("check", "coders") == 1
    assert capsys.readouterr().out.count("warning: ") == 3  # two of Cy, and there are no definitions
    assert project.repro("prompts").ran[-2:] == ["prepare", "prompts"]
    rows = json.loads(Path("data/prepared/summary.json").read_text("utf-8"))["rows"]
    assert rows["test"] == found["params"]["split.test"] == 48
    assert rows["train"] + rows["validation"] == found["params"]["human_rows"] > 80
    first = json.loads(Path("data/prompts.jsonl").read_text("utf-8").splitlines()[0])
    assert "that coders labelled" in first["messages"][0]["content"]


def test_a_workbook_becomes_a_report_and_labels_and_the_other_task_is_kept(project: Project, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Read me first"])
    sheet = book.create_sheet("Codes")
    for row in [[*ROWS[0]], *([*row.values()] for row in ROWS)]:
        sheet.append(row)
    book.save(tmp_path / "answers.xlsx")
    project.do("amalgam", "new", "own", "--from", str(tmp_path / "answers.xlsx"), "--yes")
    assert {*STAGES} - {*project.repro().ran} <= {"models", "label"}
    said = project.do("amalgam", "tasks", "--json").output  # after a sentence on what is not on this machine
    listed = {task["name"]: task for task in json.loads(said[said.index("[") :])}
    assert (listed["own"]["rows"], listed["own"]["student_auc"] > 0.5) == (160, True)
    labelled = tmp_path / "labelled.xlsx"
    project.do("amalgam", "predict", str(tmp_path / "answers.xlsx"), str(labelled), "--prefix", "new_")
    header = [cell.value for cell in next(openpyxl.load_workbook(labelled).active.rows)]
    assert header == [*ROWS[0], "new_label", "new_p_complaint", "new_p_praise", "new_needs_human"]
    project.do("git", "checkout", "--quiet", "params.yaml")
    assert not project.repro().ran
