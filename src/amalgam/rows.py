"""Tables of responses as CSV: the one format in which stages hand rows to each other.

Columns: `id`, `text`, `question` (empty where the task has none), `label` (absent from unlabelled rows),
then whatever the table adds. All cells are strings; a cell is never read as "missing".
"""

import csv
import re
from pathlib import Path

import pandas as pd

from amalgam.errors import DataError
from amalgam.files import write_text

# Spreadsheets run a cell that begins so; an apostrophe in front makes it text, and is taken off again on reading.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_FREE_TEXT = ("text", "question")


def guard_cell(cell: str) -> str:
    """Make a cell harmless in a spreadsheet; `unguard_cell` gives the original back."""
    return "'" + cell if _FORMULA.match(cell) else cell


def unguard_cell(cell: str) -> str:
    """Undo `guard_cell`."""
    return cell[1:] if _GUARDED.match(cell) else cell


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Write rows as UTF-8 CSV, formula-like texts made harmless."""
    guarded = rows.assign(**{name: rows[name].map(guard_cell) for name in _FREE_TEXT if name in rows})
    table = guarded.to_csv(index=False, lineterminator="\n")
    if "\r" in table:  # which is left unquoted otherwise, and then read as the end of a row
        table = guarded.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL)
    write_text(path, table)


def read_rows(path: Path) -> pd.DataFrame:
    """Read rows that `write_rows` wrote."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run `dvc repro` to make it") from error
    except ValueError as error:
        raise DataError(f"{path} is not a table in UTF-8: delete it and run `dvc repro`") from error
    return rows.assign(**{name: rows[name].map(unguard_cell) for name in _FREE_TEXT if name in rows})
