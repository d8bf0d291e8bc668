"""Files of many formats become tasks that run, and nobody edits a file."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from tests.pipeline.project import STAGES, Project, make_project
from tests.pipeline.toy import make_rows
from tests.unit.helpers import run_amalgam

ROWS = [{key: row[key] for key in ("id", "guest", "text", "label")} for row in make_rows(160)]
Write = Callable[[pd.DataFrame], bytes]


def write_xlsx(frame: pd.DataFrame) -> bytes:
    stream, book = io.BytesIO(), openpyxl.Workbook()
    book.active.append(["Read me first"])
    sheet = book.create_sheet("Codes")
    for row in [list(frame), *frame.to_numpy().tolist()]:
        sheet.append(row)
    book.save(stream)
    return stream.getvalue()


def write_parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


def write_qualtrics(frame: pd.DataFrame) -> bytes:
    ids = {"id": "_recordId", "guest": "Q1", "text": "Q2", "label": "code"}
    asked = {"id": "Response ID", "guest": "Who are you?", "text": "How was the bakery?", "label": "code"}
    heads = [asked, {name: json.dumps({"ImportId": ids[name]}) for name in frame}]
    return pd.concat([pd.DataFrame(heads), frame]).rename(columns=ids).to_csv(index=False).encode()


def write_label_studio(frame: pd.DataFrame) -> bytes:
    def annotate(row: dict[str, Any]) -> dict[str, Any]:
        result = [{"from_name": "tone", "type": "choices", "value": {"choices": [row["label"]]}}]
        data = {"text": row["text"], "guest": row["guest"]}
        return {"id": int(row["id"][1:]), "data": data, "annotations": [{"completed_by": 1, "result": result}]}

    return json.dumps([annotate(row) for row in frame.to_dict("records")]).encode()


def write_doccano(frame: pd.DataFrame) -> bytes:
    renamed = frame.assign(label=[[label] for label in frame["label"]])
    return renamed.to_json(orient="records", lines=True).encode()


def write_datashop(frame: pd.DataFrame) -> bytes:
    frame = frame.rename(
        columns={"id": "Transaction Id", "guest": "Anon Student Id", "text": "Input", "label": "CF (Code)"}
    )
    return frame.assign(**{"Problem Name": "bakery"}).to_csv(index=False, sep="\t").encode()


def write_coders(frame: pd.DataFrame) -> bytes:
    """A row a coder: three of them, of whom the third is often wrong."""
    wrong = frame["label"].iloc[::-1].to_numpy()
    long = pd.concat([frame.assign(coder=name) for name in ("Ann", "Bo")] + [frame.assign(coder="Cy", label=wrong)])
    return long.sort_values("id").to_csv(index=False).encode()


FORMATS: dict[str, tuple[str, Write]] = {
    "german": (
        "answers.csv",
        lambda frame: frame.to_csv(index=False, sep=";").replace("oil", "\u00d6l").encode("cp1252"),
    ),
    "excel": ("answers.xlsx", write_xlsx),
    "objects": ("answers.json", lambda frame: frame.to_json(orient="records").encode()),
    "parquet": ("answers.parquet", write_parquet),
    "qualtrics": ("answers.csv", write_qualtrics),
    "studio": ("answers.json", write_label_studio),
    "doccano": ("answers.jsonl", write_doccano),
    "datashop": ("answers.txt", write_datashop),
    "coders": ("answers.csv", write_coders),
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("new") / "project", "http://127.0.0.1:9/v1")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_any_format_becomes_a_task_that_runs(
    name: str, empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, write = FORMATS[name]
    (tmp_path / file).write_bytes(write(pd.DataFrame(ROWS)))
    monkeypatch.chdir(empty.folder)
    sheet = ["--sheet", "Codes"] if name == "excel" else []
    assert run_amalgam("new", name, "--from", str(tmp_path / file), "--yes", "--json", *sheet) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == {"complaint": 80, "praise": 80}
    assert found["groups"] == len({row["guest"] for row in ROWS})
    assert run_amalgam("check", name) == 1  # there are no definitions
    assert capsys.readouterr().out.count("warning: ") == (3 if name == "coders" else 1)
    assert empty.repro("prompts").ran[-2:] == ["prepare", "prompts"]
    rows = json.loads(Path("data/prepared/summary.json").read_text("utf-8"))["rows"]
    assert rows["test"] == found["params"]["split.test"] == 48
    assert rows["train"] + rows["validation"] == found["params"]["human_rows"] > 80
    first = json.loads(Path("data/prompts.jsonl").read_text("utf-8").splitlines()[0])
    assert "that coders labelled" in first["messages"][0]["content"]


def test_a_workbook_becomes_a_report_and_labels_and_the_other_task_is_kept(project: Project, tmp_path: Path) -> None:
    (tmp_path / "answers.xlsx").write_bytes(write_xlsx(pd.DataFrame(ROWS)))
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
