"""Tables of responses as users have them: CSV, JSON Lines or Parquet, read in parts of bounded size."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amalgam.errors import DataError

if TYPE_CHECKING:
    from pyarrow import RecordBatch

ENDINGS = (".csv", ".jsonl", ".parquet")
_ROWS = 8192  # of a part: enough to find rows of similar length, few enough for any memory
_LETTERS = 8_000_000  # of a part's lines at most, so that a part of long texts has fewer rows


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows; from Parquet also as they came, with their types."""

    rows: list[dict[str, Any]]
    batch: "RecordBatch | None" = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over a table finds: its number of rows and its columns in order."""

    rows: int
    columns: list[str]


def find_format(path: Path) -> str:
    """Return the ending that says how a table is stored.

    Raises:
        DataError: it is none that is known.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(f"{path} does not end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}: rename or convert it")
    return ending


def survey_table(path: Path, needed: Sequence[str]) -> Survey:
    """Read a whole table once, so that a fault in its last row is found before the first row is scored.

    Args:
        path: the table.
        needed: columns that must hold text in each row; null counts as empty text.

    Raises:
        DataError: the table cannot be read, or a row lacks a text.
    """
    if find_format(path) == ".parquet":
        survey = _survey_parquet(path)
        _check_columns(path, survey.columns, needed)
        return survey
    columns: dict[str, None] = dict.fromkeys(_read_header(path)) if find_format(path) == ".csv" else {}
    if columns:
        _check_columns(path, list(columns), needed)
    count = 0
    for number, row in _iterate_rows(path):
        count += 1
        columns.update(dict.fromkeys(row))
        for name in needed:
            if not isinstance(row.get(name, ...), str | None):
                what = "no text" if name in row else f"no key {name!r}, only {', '.join(row)}"
                raise DataError(f"{path}, line {number} has {what} under {name!r}: mend it, or name another column")
    return Survey(count, list(columns))


def read_parts(path: Path) -> Iterator[Part]:
    """Yield all rows of a table in order, part by part.

    Raises:
        DataError: the table cannot be read.
    """
    if find_format(path) == ".parquet":
        yield from _read_parquet(path)
        return
    rows: list[dict[str, Any]] = []
    letters = 0
    for _, row in _iterate_rows(path):
        rows.append(row)
        letters += sum(len(cell) for cell in row.values() if isinstance(cell, str))
        if len(rows) == _ROWS or letters > _LETTERS:
            yield Part(rows)
            rows, letters = [], 0
    if rows:
        yield Part(rows)


def _iterate_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a CSV or JSON Lines file with the number of the line on which each ends."""
    try:
        yield from _iterate_csv(path) if find_format(path) == ".csv" else _iterate_json(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _read_header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not CSV in UTF-8: save it as `CSV UTF-8`") from error
    if not header:
        raise DataError(f"{path} has no header: name its columns in the first line")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(f"{path} has two columns named {twice[0]!r}: rename one")
    return header


def _iterate_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    header = _read_header(path)
    csv.field_size_limit(sys.maxsize)  # a response may be longer than 128 KiB
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            next(reader)
            for cells in reader:
                if len(cells) == len(header):
                    yield reader.line_num, dict(zip(header, cells, strict=True))
                elif cells:  # else a blank line
                    raise DataError(
                        f"{path}, line {reader.line_num} has {len(cells)} cells where the header has {len(header)}: "
                        "put a text with a comma, quote or line break into double quotes"
                    )
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num} is not valid CSV ({error}): mend its quotes") from error


def _iterate_json(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_constant=_refuse_constant)
                if "\\ud" in line.lower():
                    json.dumps(row, ensure_ascii=False).encode()  # refuses half of a surrogate pair
            except ValueError as error:
                raise DataError(f"{path}, line {number} is not valid JSON: mend or delete it") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number} is not a JSON object: give each line the form {{...}}")
            yield number, row


def _survey_parquet(path: Path) -> Survey:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return Survey(file.metadata.num_rows, list(file.schema_arrow.names))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: write it again") from error


def _read_parquet(path: Path) -> Iterator[Part]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                yield Part(batch.to_pylist(), batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: write it again") from error


def _check_columns(path: Path, columns: list[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in columns:
            there = ", ".join(columns)
            raise DataError(
                f"{path} has no column {name!r}, only {there}: name the right one with --text-column or "
                "--question-column"
            )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
