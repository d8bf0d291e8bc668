"""Tables of responses as CSV: the one format in which stages hand rows to each other.

Columns: `id`, `text`, `question` (empty where the task has none), `label` (absent from unlabelled rows), then whatever
the table adds. All cells are strings; a cell is never read as "missing".
"""

import csv
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import DataError
from amalgam.files import open_sibling

if TYPE_CHECKING:
    import pandas as pd

SUBGROUP = "subgroup_"  # begins the column of each kind of subgroup

# Spreadsheets run a cell that begins so; an apostrophe in front makes it text, and is taken off again on reading.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_FREE_TEXT = re.compile(rf"text|question|{SUBGROUP}.+")  # columns


def guard_cell(cell: str) -> str:
    """Make a cell harmless in a spreadsheet; `unguard_cell` gives the original back."""
    return "'" + cell if _FORMULA.match(cell) else cell


def unguard_cell(cell: str) -> str:
    """Undo `guard_cell`."""
    return cell[1:] if _GUARDED.match(cell) else cell


def write_rows(path: Path, rows: "pd.DataFrame") -> None:
    """Write rows as UTF-8 CSV, formula-like texts made harmless; the file is put in place when all are written."""
    free = [bool(_FREE_TEXT.fullmatch(str(name))) for name in rows]
    with open_sibling(path) as stream:
        plain = csv.writer(stream, lineterminator="\n")
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in chain([tuple(rows)], rows.itertuples(index=False, name=None)):
            cells = [guard_cell(cell) if guards else cell for cell, guards in zip(row, free, strict=True)]
            # A carriage return is left unquoted otherwise, and then read as the end of a row.
            returns = any("\r" in cell for cell in cells if isinstance(cell, str))
            (quoted if returns else plain).writerow(cells)


def read_rows(path: Path) -> "pd.DataFrame":
    """Read rows that `write_rows` wrote."""
    import pandas as pd

    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run `dvc repro` to make it") from error
    except ValueError as error:
        raise DataError(f"{path} is not a table in UTF-8: delete it and run `dvc repro`") from error
    return rows.assign(**{name: rows[name].map(unguard_cell) for name in map(str, rows) if _FREE_TEXT.fullmatch(name)})
