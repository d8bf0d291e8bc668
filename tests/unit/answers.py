"""Tables of coded responses as files of every kind, and making a task from one."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import openpyxl.chart
import pandas as pd

from amalgam.params import load_params
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import load_task
from tests.pipeline.toy import make_rows

ROWS = [{"id": row["id"], "guest": row["guest"], "text": row["text"], "code": row["label"]} for row in make_rows(80)]


def write_csv(rows: list[dict[str, str]], separator: str = ",") -> str:
    return pd.DataFrame(rows).to_csv(index=False, sep=separator)


def write_sheets(*sheets: list[list[Any]], hidden: bool = False) -> bytes:
    """Write sheets of cells; with `hidden`, the first is hidden and a chart sheet precedes it."""
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for place, rows in enumerate(sheets):
        sheet = book.create_sheet() if place else book.active
        for row in rows:
            sheet.append(row)
    if hidden:
        chart = openpyxl.chart.BarChart()
        chart.add_data(openpyxl.chart.Reference(book.worksheets[0], min_col=1, min_row=1, max_row=2))
        book.create_chartsheet("Chart", 0).add_chart(chart)
        book.worksheets[0].sheet_state = "hidden"
    book.save(stream)
    return stream.getvalue()


def write_zip(name: str, text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, text)
    return stream.getvalue()


def code(codes: list[str], **changes: Any) -> str:
    """Write the rows with other codes, repeated in turn."""
    return write_csv([{**row, "code": codes[place % len(codes)], **changes} for place, row in enumerate(ROWS)])


Amalgam = Callable[..., tuple[int, str, str]]


def make_task(amalgam: Amalgam, content: str | bytes, *flags: str, name: str = "a.csv") -> dict[str, Any]:
    """Make a task from a file, check that its rows can be read, and return what was found."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    exit_code, out, err = amalgam("new", "mine", "--from", name, "--json", "--force", *flags)
    assert exit_code == 0, err
    found: dict[str, Any] = json.loads(out)
    task = load_task(Path("data/tasks/mine"))
    assert (
        load_task_rows(task, Path("data/tasks/mine"), Path()).main["label"].value_counts().to_dict() == found["labels"]
    )
    assert load_params(Path("params.yaml")).human_rows == found["params"]["human_rows"]
    return found | {"order": task.label_names, "ordinal": task.ordinal, "task": task}


CELLS: list[list[Any]] = [list(ROWS[0]), *([*row.values()] for row in ROWS)]

# Files that leave a choice open: which of two columns is the code, and which number of a date is the day.
TWO_CODES = write_csv([{**row, "class": "xy"[number // 3 % 2]} for number, row in enumerate(ROWS)])
DOUBTFUL_DAYS = write_csv(
    [{**row, "when": f"{number % 9 + 1}/{number % 8 + 1}/2025"} for number, row in enumerate(ROWS)]
)
