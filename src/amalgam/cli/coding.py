"""`amalgam next` and `amalgam code`: write a sheet of responses to code next, and import their codes."""

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import yaml

from amalgam.errors import AmalgamError, DataError
from amalgam.files import guard_cell, open_sibling, read_json, read_rows
from amalgam.machine import notify
from amalgam.params import Params, load_params
from amalgam.synthesis.mix import count_synthetic
from amalgam.tasks.coding import CODED, add_codes, choose_responses, read_codes, read_sheet
from amalgam.tasks.schema import Task, load_task

if TYPE_CHECKING:
    from openpyxl import Workbook

_WIDTHS = {"id": 14, "question": 40, "text": 80, "label": 18, "definition": 80}  # of the columns, in characters


class _Coding(NamedTuple):
    """What both commands need from a project."""

    params: Params
    folder: Path  # the task's
    task: Task
    human: pd.DataFrame  # train and validation rows
    pool: pd.DataFrame  # responses without a code in this split


def run_next(project: Path, target: Path, count: int) -> None:
    """Write the responses whose codes would help most to `target`."""
    if target.suffix.lower() not in (".xlsx", ".csv"):
        raise DataError(f"{target} does not end in .xlsx or .csv: name a file that does")
    if target.exists():
        raise DataError(f"{target} exists already: import its codes with `amalgam code {target}`, then delete it")
    coding = _open_project(project)
    human = _add_codes(coding.human, read_codes(coding.folder, coding.task.label_names))
    pool = coding.pool[~coding.pool["text"].isin(human["text"])].reset_index(drop=True)
    if pool.empty:
        more = "raise `split.unlabelled`, or add texts as `source.unlabelled` in task.yaml"
        raise DataError(f"every response of this split is coded: {more}, then run `dvc repro prepare`")
    chosen = pool.iloc[_choose(project, coding, human, pool, count)]
    write_sheet(target, chosen, coding.task)
    written = f"{target}: {len(chosen)} of {len(pool)} uncoded responses"
    print(f"{written}; fill in `label`, then run `amalgam code {target}`")


def run_code(project: Path, source: Path) -> None:
    """Import the codes of a filled-in sheet as human-coded rows; without a usable code, nothing is written."""
    coding = _open_project(project)
    labels = coding.task.label_names
    added, notes = add_codes(coding.folder, labels, read_sheet(source), coding.pool)
    for note in notes:
        print(note)
    codes = read_codes(coding.folder, labels)
    counts = ", ".join(f"{label} {(codes['label'] == label).sum()}" for label in labels)
    print(f"{coding.folder / CODED}: {added} codes added, {len(codes)} responses in all ({counts})")
    print("track the file with Git or `dvc add`, then run `dvc repro`")
    ratio, rows = coding.params.ratio, len(_add_codes(coding.human, codes))
    if ratio < 1 and (wanted := -(-count_synthetic(ratio, rows) // len(labels))) > coding.params.synthesis.rows:
        print(f"`ratio: {ratio:g}` now takes {wanted} synthetic rows per label: raise `synthesis.rows` above that")


def _open_project(project: Path) -> _Coding:
    params = load_params(project / "params.yaml")
    folder, prepared = project / "data/tasks" / params.task, project / "data/prepared"
    task = load_task(folder)
    try:
        stage = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))["stages"]["prepare"]
        ready = stage["params"]["params.yaml"]["task"] == task.name and prepared.is_dir()
    except (FileNotFoundError, KeyError, TypeError, ValueError, yaml.YAMLError):
        ready = False
    if not ready:
        raise DataError(f"the rows of the task {task.name} are not prepared: run `dvc repro prepare models` first")
    train, validation, pool = (read_rows(prepared / f"{name}.csv") for name in ("train", "validation", "unlabelled"))
    return _Coding(params, folder, task, pd.concat([train, validation], ignore_index=True), pool)


def _add_codes(human: pd.DataFrame, codes: pd.DataFrame) -> pd.DataFrame:
    """Return the human-coded rows with the codes added since the stage `prepare` ran."""
    return pd.concat([codes, human], ignore_index=True).drop_duplicates(["text", "question"])


def _choose(project: Path, coding: _Coding, human: pd.DataFrame, pool: pd.DataFrame, count: int) -> list[int]:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from amalgam.training.embeddings import STRENGTH, embed_rows, fit_logistic, index_labels, predict_logistic

    encoder, labels = project / "models/base/encoder", coding.task.label_names
    if not (encoder / "config.json").is_file():
        raise DataError(f"{encoder} is missing: run `dvc repro models`, or `dvc pull` to fetch it")
    rows = pd.concat([human, pool], ignore_index=True)
    vectors = embed_rows(encoder, rows, max_length=coding.params.teacher.max_length)
    known, free = vectors[: len(human)], vectors[len(human) :]
    probabilities = _score_by_student(project, coding, pool)
    if probabilities is None:
        model = fit_logistic(known, index_labels(human, labels), strength=STRENGTH)
        probabilities = predict_logistic(model, free, len(labels))
    return choose_responses(free, known, probabilities, count)


def _score_by_student(project: Path, coding: _Coding, pool: pd.DataFrame) -> "np.ndarray | None":
    """Return probabilities [rows, classes] of the shipped student; None if this task has no student."""
    from amalgam.shipping.predict import MANIFEST, load_shipped

    folder = project / "models/student"
    try:
        of_task = f"data/tasks/{coding.task.name}/task.yaml" in read_json(folder / MANIFEST)["data"]
        scorer = load_shipped(folder).scorer if of_task else None
    except (AmalgamError, KeyError, TypeError):
        scorer = None
    if scorer is None or list(scorer.labels) != coding.task.label_names:
        notify("next: this task has no student yet, so a classifier on frozen embeddings stands in for it")
        return None
    return scorer.score(pool)


def write_sheet(path: Path, rows: pd.DataFrame, task: Task) -> None:
    """Write responses with an empty column `label`, such that no spreadsheet runs a text as a formula."""
    names = ["id", *(["question"] if (rows["question"] != "").any() else []), "text"]
    table = [[*names, "label"], *([*row, ""] for row in rows[names].to_numpy().tolist())]
    try:
        with open_sibling(path, binary=(book := path.suffix.lower() != ".csv")) as stream:
            if book:
                _make_book(table, task).save(stream)
            else:
                stream.write("\ufeff")  # Excel detects UTF-8 by this mark
                csv.writer(stream).writerows(map(guard_cell, row) for row in table)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): check the folder and the disk") from error


def _make_book(rows: list[list[str]], task: Task) -> "Workbook":
    """Make a workbook of responses with a drop-down list of labels, and a second sheet that defines the labels."""
    from openpyxl import Workbook
    from openpyxl.styles import Alignment
    from openpyxl.worksheet.datavalidation import DataValidation

    book = Workbook()
    sheet, rubric = book.active, book.create_sheet("labels")
    choice = DataValidation("list", formula1=f"labels!$A$2:$A${len(task.labels) + 1}", allow_blank=True)
    choice.error = "Choose one of the labels, or leave the cell empty."
    definitions = [["label", "definition"], *([label.name, label.definition] for label in task.labels)]
    for page, table in ((sheet, rows), (rubric, definitions)):
        for number, row in enumerate(table, start=1):
            for column, text in enumerate(row, start=1):
                cell = page.cell(number, column, text or None)
                if text:
                    cell.data_type, cell.quotePrefix = "s", guard_cell(text) != text
                cell.number_format = "@"  # text, or else a code typed as 1 is not the label "1"
                cell.alignment = Alignment(wrap_text=True, vertical="top")
        for column, name in enumerate(table[0]):
            page.column_dimensions["ABCD"[column]].width = _WIDTHS[name]
        page.freeze_panes = "A2"
    sheet.title = "responses"
    choice.add(f"{sheet.cell(2, len(rows[0])).coordinate}:{sheet.cell(len(rows), len(rows[0])).coordinate}")
    sheet.add_data_validation(choice)
    return book
