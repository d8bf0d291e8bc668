"""From the responses that `amalgam next` writes to train rows."""

import shutil

import pandas as pd
from openpyxl import load_workbook

from amalgam.files import read_rows
from tests.pipeline.project import Project
from tests.pipeline.toy import guess_label


def test_codes_come_back_as_train_rows_and_no_other_row_moves(project: Project) -> None:
    prepared = project.folder / "data/prepared"
    train, unlabelled = (read_rows(prepared / f"{name}.csv") for name in ("train", "unlabelled"))
    project.do("amalgam", "next", "-n", "6")
    book = load_workbook(project.folder / "to_code.xlsx")
    sheet = book["responses"]
    header, *rows = sheet.iter_rows(values_only=True)
    assert header == ("id", "text", "label")
    ids = [row[0] for row in rows]
    assert len(set(ids)) == 6
    assert set(ids) <= set(unlabelled["id"])
    assert {row[2] for row in rows} == {None}
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
