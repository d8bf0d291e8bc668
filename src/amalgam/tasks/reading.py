"""Rows of tables as people have them (CSV, TSV, JSON Lines, Parquet), in parts of bounded size.

A broken file is an error, never a guess. What spreadsheets and survey tools write beside the rows (byte order marks, a
line `sep=;`, columns and rows without any content, apostrophes before formulas) is not taken for content. Rows count
from 1 with the header, as a spreadsheet shows them.
"""

import csv
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amalgam.errors import DataError
from amalgam.rows import unguard_cell
from amalgam.tasks.layout import Source, count_filled, find_layout, iterate_lines

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

_ROWS = 8192  # of a part: enough to find rows of similar length, few enough for any memory
_LETTERS = 8_000_000  # of a part at most, so that a part of long texts has fewer rows
_INVISIBLE = "\u200b\u2060\ufeff"
_IMPORT_ID = re.compile(r"""\{\s*["']ImportId["']""")


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows and their numbers; from Parquet also as they came, with their types."""

    rows: list[dict[str, Any]]
    numbers: list[int]
    batch: "RecordBatch | None" = None


def read_parts(source: Source) -> Iterator[Part]:
    """Yield all rows in order, part by part.

    Raises:
        DataError: the table cannot be read, with the row or line where that is known.
    """
    if source.format == "parquet":
        parts = _read_parquet(source)
    else:
        parts = _gather_rows((_iterate_json if source.format == "jsonl" else _iterate_delimited)(source))
    for part in parts:
        for number, row in zip(part.numbers[:3], part.rows, strict=False):
            if number <= 3 and any(isinstance(cell, str) and _IMPORT_ID.match(cell) for cell in row.values()):
                raise DataError(
                    f"{source.name}, row {number} holds the import ids of Qualtrics: "
                    "delete all rows between the names of the columns and the first response"
                )
        yield part


def list_columns(source: Source) -> list[str]:
    """Return the names of the columns in order; none of JSON Lines, where each row names its own.

    Raises:
        DataError: the table cannot be read.
    """
    if source.format == "parquet":
        with open_parquet(source) as file:
            return _name_columns(source, file.schema_arrow.names)
    names = [] if source.format == "jsonl" else _read_header(source)[0]
    return [name for name in names if name is not None]


@contextmanager
def open_parquet(source: Source) -> "Iterator[ParquetFile]":
    """Open a Parquet file; what is wrong with its bytes is a DataError, also within the block."""
    import pyarrow
    from pyarrow import parquet

    try:
        with source.open() as stream, parquet.ParquetFile(stream) as file:
            yield file
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{source.name} is not a readable Parquet file: write it again") from error


def write_text(value: object) -> str | None:
    """Return text as it is, nothing and what is no number as None, dates as they are written, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value := blank_numbers(value), (bool, int, float, list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if value is None else str(value)


def blank_numbers(value: object) -> object:
    """Put None for NaN and the infinities, which JSON does not know and Parquet may hold."""
    if isinstance(value, dict):
        return {name: blank_numbers(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [blank_numbers(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gather_rows(rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[Part]:
    part, letters = Part([], []), 0
    for number, row in rows:
        part.numbers.append(number)
        part.rows.append(row)
        letters += sum(len(cell) for cell in row.values() if isinstance(cell, str))
        if len(part.rows) == _ROWS or letters > _LETTERS:
            yield part
            part, letters = Part([], []), 0
    if part.rows:
        yield part


def _read_parquet(source: Source) -> Iterator[Part]:
    with open_parquet(source) as file:
        names = _name_columns(source, file.schema_arrow.names)
        sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
        rows = _LETTERS * file.metadata.num_rows // max(sum(sizes), 1)
        first = 1
        for batch in file.iter_batches(max(1, min(_ROWS, rows))):
            named = batch.rename_columns(names)
            yield Part(named.to_pylist(), list(range(first, first + len(named))), named)
            first += len(named)


def _iterate_json(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json.JSONDecoder(object_pairs_hook=_read_object, parse_constant=_refuse_constant)
    for number, line in enumerate(iterate_lines(source, find_layout(source)), start=1):
        if line.isspace():
            continue
        place = f"{source.name}, row {number}"
        try:
            row = decoder.decode(line)
            if "\\ud" in line.lower():
                json.dumps(row, ensure_ascii=False).encode()  # refuses half of a surrogate pair
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} is not valid JSON ({error}): write one object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"{place} is not a JSON object: write one object a line")
        yield number, row


def _iterate_delimited(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    names, rows = _read_header(source)
    least = len(names)
    while least and names[least - 1] is None:
        least -= 1
    gaps = [place for place, name in enumerate(names) if name is None]
    for number, cells in rows:
        filled = count_filled(cells)
        if not filled and (len(names) > 1 or not cells):
            continue
        if filled > len(names) or (len(cells) < least and not source.short_rows):
            raise DataError(
                f"{source.name}, row {number} has {len(cells)} cells, but the header has {len(names)}: "
                "mend the row, and put quotes around a text that holds the separator"
            )
        cells += [""] * (len(names) - len(cells))
        for place in gaps:
            if cells[place].strip():
                raise DataError(
                    f"{source.name}, row {number} has {cells[place][:40]!r} in column {place + 1}, which has no name: "
                    "name the column in the header, or delete it"
                )
        named = zip(names, cells, strict=False)
        yield number, {name: unguard_cell(cell) for name, cell in named if name is not None}


def _read_header(source: Source) -> tuple[list[str | None], Iterator[tuple[int, list[str]]]]:
    """Return the names of the columns, None where one has no name, and the rows below with their numbers."""
    rows = _iterate_cells(source)
    header = source.header or next((cells for _, cells in rows if count_filled(cells)), [])
    names = _name_columns(source, [unguard_cell(name) for name in header])
    # Without a name, a first column holds those of the rows: R and pandas write it so.
    return [name if name or (not place and any(names)) else None for place, name in enumerate(names)], rows


def _iterate_cells(source: Source) -> Iterator[tuple[int, list[str]]]:
    layout = find_layout(source)
    csv.field_size_limit(2**31 - 1)  # a response may be longer than 128 KiB
    reader = csv.reader(
        iterate_lines(source, layout),
        delimiter=layout.separator,
        quoting=csv.QUOTE_NONE if source.format == "plain_tsv" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    line = layout.lines + 1  # on which a row begins
    try:
        for number, cells in enumerate(reader, start=line):
            yield number, cells
            line = layout.lines + reader.line_num + 1
    except csv.Error as error:
        unquoted = ", or set `format: plain_tsv` in task.yaml if its cells are not quoted"
        raise DataError(
            f"{source.name}, line {line} begins a row that cannot be read ({error}): close its quotes"
            f"{unquoted if source.format == 'tsv' and source.numbered else ''}"
        ) from error


def _name_columns(source: Source, header: Sequence[str]) -> list[str]:
    """Strip the names of columns; what is named alike is numbered or refused."""
    names = [name.strip().strip(_INVISIBLE).strip() for name in header]
    counts = Counter(filter(None, names))
    doubled = {name: itertools.count(1) for name, count in counts.items() if count > 1}
    if doubled and not source.numbered:
        raise DataError(f"{source.name} has two columns named {next(iter(doubled))!r}: rename one")
    return [f"{name} ({next(doubled[name])})" if name in doubled else name for name in names]


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"two keys are named {name!r}, rename one")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
