"""Files between stages: written so that a kill never leaves half a file, and read back.

Tables of responses are CSV. Columns: `id`, `text`, `question` (empty where the task has none), `label` (absent from
unlabelled rows), then whatever the table adds. All cells are strings; a cell is never read as "missing".
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from amalgam.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SUBGROUP = "subgroup_"  # prefix of the column of each kind of subgroup

# A spreadsheet runs a cell that begins like this. A leading apostrophe makes it text, and is removed on reading.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_FREE_TEXT = re.compile(rf"text|question|{SUBGROUP}.+")  # columns


@contextmanager
def open_sibling(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a temporary sibling for UTF-8 text or bytes; if the block succeeds, flush it and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        opened: IO[Any] = temporary.open("wb") if binary else temporary.open("w", encoding="utf-8", newline="\n")
        with opened as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with open_sibling(path) as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented by two spaces; keys keep their order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, streaming."""
    with open_sibling(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_rows(path: Path, rows: "pd.DataFrame") -> None:
    """Write rows as UTF-8 CSV, with formula-like texts made harmless."""
    free = (name for name in map(str, rows) if _FREE_TEXT.fullmatch(name))
    guarded = rows.assign(**{name: rows[name].map(guard_cell) for name in free})
    with open_sibling(path) as stream:
        write_cells(stream, chain([tuple(rows)], guarded.itertuples(index=False, name=None)))


def write_cells(stream: IO[str], rows: Iterable[Sequence[Any]], separator: str = ",") -> None:
    """Write rows of cells as CSV."""
    plain, quoted = (
        csv.writer(stream, delimiter=separator, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for cells in rows:
        # An unquoted carriage return would be read as the end of a row.
        returns = any("\r" in cell for cell in cells if isinstance(cell, str))
        (quoted if returns else plain).writerow(cells)


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is a DataError that names it."""
    with _explain(path, " is not valid JSON"):
        return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; a broken line is a DataError with its number."""
    with _explain(path), path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            with _explain(path, f", line {number} is not valid JSON"):
                yield json.loads(line)


def read_rows(path: Path) -> "pd.DataFrame":
    """Read rows that `write_rows` wrote."""
    import pandas as pd

    with _explain(path, " is not a table in UTF-8"):
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    return rows.assign(**{name: rows[name].map(unguard_cell) for name in map(str, rows) if _FREE_TEXT.fullmatch(name)})


def guard_cell(cell: str) -> str:
    """Make a cell harmless in a spreadsheet; `unguard_cell` gives the original back."""
    return "'" + cell if _FORMULA.match(cell) else cell


def unguard_cell(cell: str) -> str:
    """Undo `guard_cell`."""
    return cell[1:] if _GUARDED.match(cell) else cell


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _explain(path: Path, fault: str = "") -> Iterator[None]:
    """Raise a DataError if the file is missing or its content is wrong."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run `dvc repro` to make it") from error
    except ValueError as error:
        raise DataError(f"{path}{fault}: delete it and run `dvc repro`") from error
