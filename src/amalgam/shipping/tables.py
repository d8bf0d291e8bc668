"""Survey and write the tables of `amalgam predict`.

A source is read once before the first row is scored, so that even a fault in its last row is found early. The output
goes to a temporary file that is moved into place once it is complete.
"""

import datetime
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from amalgam.errors import DataError
from amalgam.files import guard_cell, open_sibling, write_cells
from amalgam.tasks.formats import ENDINGS, OTHERS, SEPARATORS, Format, Source
from amalgam.tasks.tables import Part, find_value, list_columns, read_parts, spread_record
from amalgam.tasks.texts import blank_numbers, write_text

if TYPE_CHECKING:
    from pyarrow import DataType

Added = dict[str, list[Any]]  # the new columns of a part
Parts = Iterable[tuple[Part, Added]]
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")  # begins like a formula, but is harmless
SHEET_ROWS = 1_048_575  # that an Excel sheet holds below the header
_SHEET_LETTERS = 32_767  # that an Excel cell holds


def find_format(path: Path) -> Format:
    """Return the format in which to write a table, by its ending; DataError if the ending is unknown."""
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path} does not end in .csv, .tsv, .xlsx, .json, .jsonl or .parquet: rename it")
    return ENDINGS[path.suffix.lower()]


def survey_table(source: Source, needed: Sequence[str], sheet: Path | None = None) -> tuple[int, list[str]]:
    """Count a table's rows and list its columns, so that its faults are found before the first row is scored.

    A row must have text or null in the columns that are `needed`. `sheet` is the Excel file to which the table will be
    written, if it is one.
    """
    columns, rows = dict.fromkeys(list_columns(source)), 0
    if source.format not in ("json", "jsonl", "folder"):
        _check_columns(source, list(columns), needed)
    for part in read_parts(source):
        rows += len(part.rows)
        for number, row in zip(part.numbers, part.rows, strict=True):
            columns.update(dict.fromkeys(row))
            if sheet:
                for value in row.values():
                    _make_cell(None, value, sheet)
            for name in needed:
                # In Excel, a response that looks like a number is a number.
                found = find_value(row, name, ...)
                if not isinstance(found, str | None) and source.format != "xlsx":
                    keys = ", ".join(spread_record(row))
                    what = f"no key {name!r}, only {keys}" if found is ... else f"no text under {name!r}"
                    raise DataError(f"{source.name}, row {number} has {what}: fix it, or name another column")
    return rows, list(columns)


def write_table(path: Path, source: Source, columns: Sequence[str], added: dict[str, type], parts: Parts) -> None:
    """Write the parts of a table in the format of the path's ending: `columns`, then the new ones with their types."""
    form, names = find_format(path), [*columns, *added]
    try:
        with open_sibling(path, binary=True) as stream:
            if form == "parquet":
                _write_parquet(stream, columns, added, parts)
            elif form == "xlsx":
                _write_sheet(stream, path, source, names, parts)
            elif form in ("json", "jsonl"):
                _write_json(stream, parts, lines=form == "jsonl")
            else:
                _write_cells(stream, form, source, names, parts)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): check the folder and the disk") from error


def _write_cell(value: object) -> str:
    """Write a value as a CSV cell that no spreadsheet runs as a formula; reading it gives the text back."""
    text = (write_text(value) or "").replace("\0", "")  # not allowed in a text file
    return text if _NUMBER.fullmatch(text) else guard_cell(text)


def _write_cells(stream: IO[bytes], form: Format, source: Source, names: Sequence[str], parts: Parts) -> None:
    kept = source.format == form and source.separator and source.separator in OTHERS
    separator = source.separator if kept else SEPARATORS[form]
    # Excel recognises UTF-8 by the byte order mark, and separates cells by the separator of its locale.
    marked = source.marked or source.format == "xlsx" or source.encoding not in ("", "utf-8")
    lines = io.TextIOWrapper(stream, "utf-8-sig" if marked else "utf-8", newline="")
    write_cells(lines, (list(map(_write_cell, cells)) for cells in _list_cells(names, parts)), separator)
    lines.detach()


def _write_sheet(stream: IO[bytes], path: Path, source: Source, names: Sequence[str], parts: Parts) -> None:
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet(source.sheet or "labelled")
    with closing(sheet):
        for cells in _list_cells(names, parts):
            sheet.append([_make_cell(sheet, cell, path) for cell in cells])
    book.save(stream)


def _make_cell(sheet: Any, value: object, path: Path) -> Any:
    """Make an Excel cell in which a text stays text, even if it begins like a formula."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    value = blank_numbers(value)
    dated = isinstance(value, datetime.date | datetime.time | datetime.timedelta) and not getattr(value, "tzinfo", None)
    # Excel keeps 15 digits of a number, and has no time zones.
    if value is None or dated or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**15):
        return value
    text = ILLEGAL_CHARACTERS_RE.sub("", write_text(value) or "")
    if len(text) > _SHEET_LETTERS:
        raise DataError(
            f"{path} cannot hold a text of {len(text):,} characters, since an Excel cell holds at most "
            f"{_SHEET_LETTERS:,}: write .csv, .jsonl or .parquet"
        )
    cell = WriteOnlyCell(sheet, text)
    cell.data_type, cell.quotePrefix = "s", guard_cell(text) != text
    return cell


def _write_json(stream: IO[bytes], parts: Parts, *, lines: bool) -> None:
    before, after = ("", "\n") if lines else ("[\n", "")
    for row in _merge(parts):
        stream.write(f"{before}{json.dumps(blank_numbers(row), ensure_ascii=False, default=str)}{after}".encode())
        before = "" if lines else ",\n"
    if not lines:
        stream.write(b"\n]\n" if before == ",\n" else b"[]\n")


def _write_parquet(stream: IO[bytes], columns: Sequence[str], added: dict[str, type], parts: Parts) -> None:
    """Keep the types of a Parquet source; columns of other formats are text, and values that are not text are JSON."""
    import pyarrow
    from pyarrow import parquet

    types: dict[type, DataType] = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    texts = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    with ExitStack() as stack:
        writer = None
        # If there are no rows, an empty part still gives the columns.
        for part, values in itertools.chain(parts, [(Part([], []), {name: [] for name in added})]):
            batch = part.batch
            if batch is None:
                rows = [{name: write_text(row.get(name)) for name in columns} for row in part.rows]
                batch = pyarrow.RecordBatch.from_pylist(rows, schema=texts)
            for name, kind in added.items():
                batch = batch.append_column(name, pyarrow.array(values[name], types[kind]))
            writer = writer or stack.enter_context(parquet.ParquetWriter(stream, batch.schema))
            if len(part.rows):
                writer.write_batch(batch)


def _list_cells(names: Sequence[str], parts: Parts) -> Iterator[Sequence[Any]]:
    """Yield the cells of the header, then those of each row."""
    yield names
    for row in _merge(parts):
        yield [row.get(name) for name in names]


def _merge(parts: Parts) -> Iterator[dict[str, Any]]:
    """Yield each row with its new columns."""
    for part, added in parts:
        for row, values in zip(part.rows, zip(*added.values(), strict=True), strict=True):
            yield row | dict(zip(added, values, strict=True))


def _check_columns(source: Source, columns: list[str], needed: Sequence[str]) -> None:
    if not columns:
        raise DataError(f"{source.name} has no header: name its columns in the first line")
    there = ", ".join(" ".join(name.split()) for name in columns)
    parting = ", or separate its cells by commas" if len(columns) == 1 and source.format == "csv" else ""
    parting = f", or put its sheet before `{source.sheet}`" if source.sheet else parting
    for name in needed:
        inside = source.format == "parquet" and name.partition(".")[0] in columns  # perhaps: rows are checked too
        if name not in columns and not inside:
            raise DataError(
                f"{source.name} has no column {name!r}, only {there}: name the right one with "
                f"--text-column or --question-column{parting}"
            )
