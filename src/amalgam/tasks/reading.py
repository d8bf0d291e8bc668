"""Read any table that people have as a frame of text cells, with what was found out about its file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.exports import spread_argilla
from amalgam.tasks.formats import Format, Source, open_file
from amalgam.tasks.tables import read_header, read_parts
from amalgam.tasks.texts import write_text

_LABELS = {"csv": "CSV", "tsv": "CSV", "plain_tsv": "tab-separated text", "xlsx": "Excel", "json": "JSON"}
_RATER = re.compile(r"(.+) \(rater \d+\)")
# Columns by which an export shows.
_EXPORTS = {"Transaction Id": "DataShop", "Transaction_Id": "DataShop", "Timestamp": "Google Forms"}


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file as text cells, "" where nothing stands; the index is the number of a row in the file.

    Attributes:
        frame: columns in the order of the file.
        source: how the file is written: format, encoding, separator, sheet.
        export: the program that wrote it, where that shows: Qualtrics, Google Forms, DataShop, Label Studio, …
        questions: of Qualtrics, the question that each column asked.
        raters: of annotation programs, the columns of the raters by what they coded.
        lists: columns whose cells are JSON lists of at most one item; `item: 0` in task.yaml takes it out.
        notes: one sentence each on what is not as one would expect.
    """

    frame: pd.DataFrame
    source: Source
    export: str | None = None
    questions: dict[str, str] = field(default_factory=dict)
    raters: dict[str, list[str]] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_file(
    path: Path,
    *,
    format: Format | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    header_rows: int | None = None,
    header: Sequence[str] = (),
    short_rows: bool = False,
) -> Table:
    """Read a file, or a folder that `datasets` saved; what is not given is found out from its content.

    Raises:
        DataError: one sentence with the file, the row and what to do.
    """
    said: dict[str, Any] = {"sheet": sheet, "header_rows": header_rows, "header": header, "short_rows": short_rows}
    return read_table(open_file(path, format=format, encoding=encoding, numbered=True, **said))


def read_table(source: Source) -> Table:
    """Read all rows of a source; columns of one name are numbered if it says so.

    Raises:
        DataError: it has no rows, or one of them cannot be read.
    """
    frames = [make_frame(part.rows, part.numbers, source.name) for part in read_parts(source)]
    if not frames:
        raise DataError(f"{source.name} holds no rows: put the coded rows in, below the header")
    frame = spread_argilla(pd.concat(frames).fillna("") if len(frames) > 1 else frames[0])
    questions = read_header(source)[0].questions if source.format in ("csv", "tsv", "plain_tsv", "xlsx") else {}
    raters: dict[str, list[str]] = {}
    names = list(map(str, frame))
    for name in names:
        if match := _RATER.fullmatch(name):
            raters.setdefault(match[1], []).append(name)
    lists = [name for name in names if _is_list(frame[name])]
    export = "Qualtrics" if questions else next((_EXPORTS[name] for name in frame if name in _EXPORTS), None)
    if raters or "annotations" in frame:
        export = "Argilla" if source.format == "folder" else "Label Studio"
    elif source.format == "jsonl" and lists:
        export = "doccano"
    return Table(frame, source, export, questions, raters, lists, _list_notes(source, frame, questions))


def make_frame(records: list[dict[str, Any]], numbers: Sequence[Any], name: str) -> pd.DataFrame:
    """Make a frame of records: what is not text is written as JSON, what is missing stays empty."""
    names = list(dict.fromkeys(key for record in records for key in record))
    cells = []
    for number, record in zip(numbers, records, strict=True):
        cells.append([write_text(record.get(key)) or "" for key in names])
        if wrong := [key for key, value in record.items() if isinstance(value, bytes)]:
            raise DataError(
                f"{name}, row {number} has no text under '{wrong[0]}', but bytes: write them as text, or leave them out"
            )
    return pd.DataFrame(cells, columns=names, index=list(numbers), dtype=str)


def _is_list(cells: "pd.Series[str]") -> bool:
    filled = cells[cells != ""]
    return bool(
        len(filled) and filled.str.startswith("[").all() and filled.str.fullmatch(r'\[("[^"]*"|[^\[{,]*)\]').all()
    )


def _list_notes(source: Source, frame: pd.DataFrame, questions: dict[str, str]) -> list[str]:
    notes = []
    if source.encoding not in ("utf-8", "utf-16"):
        notes.append(f"the file is not UTF-8, and was read as {source.encoding}: look whether letters are right")
    if questions:
        notes.append("the further header rows were left out")
    if doubled := [name for name in map(str, frame) if name.endswith(" (1)") and f"{name[:-4]} (2)" in frame]:
        notes.append(f"several columns are named {doubled[0][:-4]!r}, and got numbers")
    return notes
