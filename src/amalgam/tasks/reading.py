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

_RATER = re.compile(r"(.+) \(rater \d+\)")
_ONE_ITEM = r'\[(?:"(?:[^"\\]|\\.)*"|[^\[\]{},"]*)\]'  # a JSON list of at most one text or number
_EXPORTS = {"Transaction Id": "DataShop", "Transaction_Id": "DataShop", "Timestamp": "Google Forms"}  # by a column


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
    frame = frames[0] if len(frames) == 1 else pd.concat(frames).fillna("")
    is_json = source.format in ("json", "jsonl", "folder", "parquet")
    return describe_frame(frame, source, {} if is_json else read_header(source)[0].questions)


def describe_frame(frame: pd.DataFrame, source: Source, questions: dict[str, str]) -> Table:
    """Add what the columns say about the program that wrote them."""
    frame = spread_argilla(frame)
    names, notes = [str(name) for name in frame], []
    raters: dict[str, list[str]] = {}
    for match in filter(None, map(_RATER.fullmatch, names)):
        raters.setdefault(match[1], []).append(match[0])
    cells = frame.where(frame != "").dropna(axis="columns", how="all")
    lists = [name for name in map(str, cells) if cells[name].str.fullmatch(_ONE_ITEM, na=True).all()]
    export = "Qualtrics" if questions else next((_EXPORTS[name] for name in names if name in _EXPORTS), None)
    if raters:
        export = "Label Studio" if source.format == "json" else "Argilla"
    elif source.format == "jsonl" and lists:
        export = "doccano"
    if source.encoding not in ("utf-8", "utf-16"):
        notes.append(f"the file is not UTF-8, and was read as {source.encoding}: look whether its letters are right")
    if questions:
        notes.append("the further header rows were left out")
    if doubled := [name for name in names if name.endswith(" (1)") and f"{name[:-4]} (2)" in frame]:
        notes.append(f"several columns are named {doubled[0][:-4]!r}, and got numbers")
    return Table(frame, source, export, questions, raters, lists, notes)


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
