"""`amalgam predict` on the student of a run, and `amalgam doctor` on the project around it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from amalgam.cli.predict import run_predict
from amalgam.errors import DataError, ModelError
from amalgam.shipping.predict import Columns
from tests.pipeline.project import AFTER_RATIO, ROWS, Project, Run
from tests.pipeline.server import Log, StubServer
from tests.pipeline.toy import LABELS, make_rows

HEADER = ["id", "note", "text"]
ADDED = ["label", "p_complaint", "p_praise", "needs_human"]
COLUMNS = Columns("text", "question")


@pytest.fixture(scope="module")
def student(first_run: tuple[Project, Run, Log]) -> Path:
    return first_run[0].folder / "models/student"


def label(rows: list[list[str]], model: Path, folder: Path) -> list[list[str]]:
    """Write rows as CSV, label them, and read what came out."""
    with (folder / "in.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    run_predict(folder / "in.csv", folder / "out.csv", model, COLUMNS)
    with (folder / "out.csv").open(encoding="utf-8", newline="") as stream:
        header, *labelled = list(csv.reader(stream))
    assert header == HEADER + ADDED
    return labelled


def test_rows_keep_their_order_and_their_columns(student: Path, tmp_path: Path) -> None:
    # Of many lengths, since the model reads them sorted by length.
    rows = [
        [row["id"], 'a "note", two\nlines', row["text"] * (1 + number % 3)] for number, row in enumerate(make_rows(90))
    ]
    labelled = label(rows, student, tmp_path)
    assert [row[:3] for row in labelled] == rows
    for row in labelled:
        chances = [float(cell) for cell in row[4:6]]
        assert sum(chances) == pytest.approx(1, abs=2e-6)
        assert row[3] == LABELS[chances.index(max(chances))]


def test_a_row_alone_gets_the_same_as_among_others(student: Path, tmp_path: Path) -> None:
    rows = [[row["id"], "", row["text"]] for row in make_rows(9)]
    among = label(rows, student, tmp_path)
    alone = label(rows[4:5], student, tmp_path)
    assert alone[0][:3] == among[4][:3]
    # Activations of 8 bits are scaled over the batch, so that a row's neighbours count a little.
    assert [float(cell) for cell in alone[0][4:6]] == pytest.approx([float(cell) for cell in among[4][4:6]], abs=0.05)


def test_no_rows_give_the_header_alone(student: Path, tmp_path: Path) -> None:
    assert label([], student, tmp_path) == []


def test_cells_that_a_spreadsheet_would_run_are_made_text(student: Path, tmp_path: Path) -> None:
    labelled = label([["1", "=1+1", "@home the bread is stale"], ["-2", "plain", "nan"]], student, tmp_path)
    assert [row[:3] for row in labelled] == [["1", "'=1+1", "'@home the bread is stale"], ["-2", "plain", "nan"]]


def test_a_missing_column_is_named(student: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,comment\n1,good\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"in.csv has no column 'text', only id, comment: .* --text-column"):
        run_predict(tmp_path / "in.csv", tmp_path / "out.csv", student, COLUMNS)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a shipped student"):
        label([], tmp_path / "nothing", tmp_path)


def test_the_command_labels_and_says_in_one_sentence_what_is_wrong(project: Project) -> None:
    (project.folder / "in.csv").write_text("comment\nthe bread is stale\n", encoding="utf-8")
    run = project.run("amalgam", "predict", "in.csv", "out.csv", "--text-column", "comment")
    assert run.code == 0, run.output
    assert (
        (project.folder / "out.csv")
        .read_text(encoding="utf-8")
        .startswith("comment,label,p_complaint,p_praise,needs_human\n")
    )
    run = project.run("amalgam", "predict", "nowhere.csv", "out.csv")
    assert (run.code, run.output.splitlines()[-1]) == (2, "amalgam: nowhere.csv does not exist")
    assert "Traceback" not in run.output


def test_the_doctor_says_what_would_run_and_what_it_would_send(project: Project, server: StubServer) -> None:
    healthy = examine(project)
    assert (healthy["stages"], healthy["requests"], healthy["problems"]) == ([], [], [])
    project.set_params(synthesis__temperature=0.3)
    changed = examine(project)
    following = ["synthesize", "judge", "curate", "describe", *AFTER_RATIO]
    assert changed["stages"] == following
    assert changed["requests"] == [
        {"stage": "synthesize", "needed": 2 * ROWS, "unanswered": 2 * ROWS, "exact": True},
        {"stage": "judge", "needed": 2 * ROWS, "unanswered": 2 * ROWS, "exact": False},
    ]
    assert not server.log.answered
    project.repro("synthesize")
    assert server.log.synthesis == 2 * ROWS


def examine(project: Project) -> dict[str, Any]:
    """Return what `amalgam doctor --json` prints."""
    run = project.run("amalgam", "doctor", "--json")
    assert run.code == 0, run.output
    findings: dict[str, Any] = json.loads(run.output)
    return findings
