"""Tables as people have them (CSV, TSV, JSON Lines, Parquet), read in parts of bounded size.

A broken file is an error, never a guess. What programs write beside the rows (byte order marks, a line `sep=;`, empty
rows and columns, apostrophes before formulas) is not content. Rows count from 1 with the header, as in a spreadsheet.
"""

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from amalgam.errors import DataError
from amalgam.rows import unguard_cell

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

Format = Literal["csv", "tsv", "plain_tsv", "jsonl", "parquet"]  # `plain_tsv` is tab-separated without quotes
SEPARATORS = {"csv": ",", "tsv": "\t", "plain_tsv": "\t"}  # of the formats that have one
OTHERS = ",;\t|"  # what may part cells instead
_SAMPLE = 1 << 16  # bytes that show the layout
_ROWS = 8192  # of a part
_LETTERS = 8_000_000  # of a part at most, so that a part of long texts has fewer rows
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_MARKS = ("\ufeff", "\xef\xbb\xbf")  # of byte order, also where UTF-8 was read as Latin-1
_INVISIBLE = "\u200b\u2060\ufeff"
_IMPORT_ID = re.compile(r"""\{\s*["']ImportId["']""")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that holds a table, by its name in messages and a function that opens its bytes.

    `short_rows` may lack their last cells; columns of one name are `numbered` ("score (1)"), or else refused.
    """

    name: str
    open: Callable[[], BinaryIO]
    format: Format
    header: Sequence[str] = ()  # where the file has none
    short_rows: bool = False
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is written: encoding, whether it has a mark, lines before the table, and what parts its cells."""

    encoding: str
    marks: bool
    lines: int
    separator: str


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows and their numbers; from Parquet also as they came, with their types."""

    rows: list[dict[str, Any]]
    numbers: list[int]
    batch: "RecordBatch | None" = None


def read_parts(source: Source) -> Iterator[Part]:
    """Yield all rows in order, part by part; what cannot be read is a DataError with its row or line."""
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
    """Return the names of the columns in order; none of JSON Lines, where each row names its own."""
    if source.format == "parquet":
        with open_parquet(source) as file:
            return _name_columns(source, file.schema_arrow.names)
    return [] if source.format == "jsonl" else [name for name in _read_header(source)[0] if name is not None]


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


def find_layout(source: Source) -> Layout:
    """Find out by its first bytes how a text file is written, and whether another separator than its own fits best."""
    with _open_bytes(source) as stream:
        head = stream.read(_SAMPLE)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = head.decode(encoding, "ignore")
    sample, own = _strip_marks(text), SEPARATORS.get(source.format, "")
    marks = encoding == "utf-16" or sample != text
    if source.format in ("csv", "tsv"):
        if said := re.match(r'"?sep=([^\r\n"])"?[\r\n]', sample, re.IGNORECASE):
            return Layout(encoding, marks, 1, said[1])
        fitting = [each for each in OTHERS if _fits(each, sample, source.header, whole=len(head) < _SAMPLE)]
        own = fitting[0] if len(fitting) == 1 else own
    return Layout(encoding, marks, 0, own)


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
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
        first = 1
        for batch in file.iter_batches(max(1, min(_ROWS, _LETTERS * file.metadata.num_rows // max(size, 1)))):
            named = batch.rename_columns(names)
            yield Part(named.to_pylist(), list(range(first, first + len(named))), named)
            first += len(named)


def _iterate_json(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json.JSONDecoder(object_pairs_hook=_read_object, parse_constant=_refuse_constant)
    for number, line in enumerate(_iterate_lines(source, find_layout(source)), start=1):
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


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(row := dict(pairs)) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"two keys are named {name!r}, rename one")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _iterate_delimited(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    names, rows = _read_header(source)
    least = max((column for column, name in enumerate(names, start=1) if name is not None), default=0)
    for number, cells in rows:
        place, filled = f"{source.name}, row {number}", _count_filled(cells)
        if not filled and (len(names) > 1 or not cells):
            continue
        if filled > len(names) or (len(cells) < least and not source.short_rows):
            raise DataError(
                f"{place} has {len(cells)} cells, but the header has {len(names)}: mend the row, and put quotes around "
                "a text that holds the separator"
            )
        row = {}
        for column, (name, cell) in enumerate(itertools.zip_longest(names, cells[: len(names)], fillvalue=""), start=1):
            if name is not None:
                row[name] = unguard_cell(cell or "")
            elif cell and cell.strip():
                raise DataError(
                    f"{place} has {cell[:40]!r} in column {column}, which has no name: "
                    "name the column in the header, or delete it"
                )
        yield number, row


def _read_header(source: Source) -> tuple[list[str | None], Iterator[tuple[int, list[str]]]]:
    """Return the names of the columns, None where one has no name, and the rows below with their numbers."""
    rows = _iterate_cells(source)
    header = source.header or next((cells for _, cells in rows if _count_filled(cells)), [])
    names = _name_columns(source, [unguard_cell(name) for name in header])
    # Without a name, a first column holds those of the rows: R and pandas write it so.
    return [name if name or (not place and any(names)) else None for place, name in enumerate(names)], rows


def _name_columns(source: Source, header: Sequence[str]) -> list[str]:
    """Strip the names of columns; what is named alike is numbered or refused."""
    names = [name.strip().strip(_INVISIBLE).strip() for name in header]
    doubled = {name: itertools.count(1) for name, count in Counter(names).items() if name and count > 1}
    if doubled and not source.numbered:
        raise DataError(f"{source.name} has two columns named {next(iter(doubled))!r}: rename one")
    return [f"{name} ({next(doubled[name])})" if name in doubled else name for name in names]


def _iterate_cells(source: Source) -> Iterator[tuple[int, list[str]]]:
    layout = find_layout(source)
    csv.field_size_limit(2**31 - 1)  # a response may be longer than 128 KiB
    reader = csv.reader(
        _iterate_lines(source, layout),
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


def _iterate_lines(source: Source, layout: Layout) -> Iterator[str]:
    """Yield the lines of the table with their ends, whatever these are."""
    number = 0
    try:
        with _open_bytes(source) as stream, io.TextIOWrapper(stream, layout.encoding, newline="") as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise DataError(f"{source.name}, line {number} holds a NUL: save the file as UTF-8 text")
                if number > layout.lines:
                    yield _strip_marks(line) if number == 1 else line
    except UnicodeDecodeError as error:
        where = _locate_fault(source) if layout.encoding == "utf-8" else f", after line {number}"
        raise DataError(f"{source.name}{where} is not UTF-8: save the file as UTF-8 (`CSV UTF-8`)") from error


def _strip_marks(text: str) -> str:
    while text.startswith(_MARKS):  # some programs write it twice
        text = text.removeprefix(_MARKS[0]).removeprefix(_MARKS[1])
    return text


def _locate_fault(source: Source) -> str:
    with _open_bytes(source) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f", line {number}, byte {error.start + 1}"
    return ""


@contextmanager
def _open_bytes(source: Source) -> Iterator[BinaryIO]:
    """Open a text file at its start, unpacked where it is packed by gzip."""
    try:
        with source.open() as stream:
            head = stream.read(4)
            stream.seek(0)
            if head.startswith(_WORKBOOKS):
                raise DataError(f"{source.name} is a workbook or an archive: save its sheet as `CSV UTF-8`")
            yield cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if head.startswith(b"\x1f\x8b") else stream
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source.name} cannot be read ({error}): put a whole, readable file there") from error


def _fits(separator: str, sample: str, header: Sequence[str], *, whole: bool) -> bool:
    """Say whether a separator parts the header, and most of the rows below into no more cells."""
    rows = list(csv.reader(io.StringIO(sample, newline=""), delimiter=separator))
    rows = [cells for cells in (rows if whole else rows[:-1]) if _count_filled(cells)]
    names = header or (rows.pop(0) if rows else [])
    widths = [_count_filled(cells) for cells in rows[:20]]
    fitting = sum(1 < width <= len(names) for width in widths)
    return len(names) > 1 and not any(name.count('"') % 2 for name in names) and 2 * fitting >= len(widths)


def _count_filled(cells: Sequence[str]) -> int:
    """Count cells up to the last one that is not blank."""
    return max((place for place, cell in enumerate(cells, start=1) if cell.strip()), default=0)
