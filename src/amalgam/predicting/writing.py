"""Labelled tables, written part by part to a temporary file that is put in place when it is whole."""

import csv
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from amalgam.errors import DataError
from amalgam.predicting.survey import find_format
from amalgam.rows import guard_cell
from amalgam.tasks.tables import OTHERS, SEPARATORS, Format, Part, Source, blank_numbers, find_layout, write_text

if TYPE_CHECKING:
    from pyarrow import DataType, Schema

Added = dict[str, list[Any]]  # the new columns of a part
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")  # begins like a formula, and is harmless


class Writer(ABC):
    """Writes parts of a table with their new columns."""

    @abstractmethod
    def write(self, part: Part, added: Added) -> None:
        """Write a part's rows in their order."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


@contextmanager
def open_table(path: Path, source: Source, columns: Sequence[str], added: dict[str, type]) -> Iterator[Writer]:
    """Yield a writer for the format that the path ends in; the table is put in place when the block ends well.

    Args:
        path: the table.
        source: where the rows come from.
        columns: of the rows, in order.
        added: the new columns with the type of their values.

    Raises:
        DataError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = _open_writer(temporary, find_format(path), source, columns, added)
        try:
            yield writer
        finally:
            writer.close()
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _open_writer(path: Path, form: Format, source: Source, columns: Sequence[str], added: dict[str, type]) -> Writer:
    if form == "jsonl":
        return _JsonWriter(path)
    if form == "parquet":
        return _ParquetWriter(path, columns, added)
    layout = None if source.format == "parquet" else find_layout(source)
    # Excel takes a file for UTF-8 by its mark, and tells cells apart by the separator of its country.
    encoding = "utf-8-sig" if layout and layout.marks else "utf-8"
    kept = layout and source.format == form and layout.separator in OTHERS
    return _CsvWriter(path, layout.separator if layout and kept else SEPARATORS[form], encoding, columns, added)


class _CsvWriter(Writer):
    """Texts that a spreadsheet would run as a formula get an apostrophe in front; numbers are left alone."""

    def __init__(
        self, path: Path, separator: str, encoding: str, columns: Sequence[str], added: dict[str, type]
    ) -> None:
        self._columns = columns
        self._stream = path.open("w", encoding=encoding, newline="")
        self._writer = csv.writer(self._stream, delimiter=separator, lineterminator="\n")
        self._quoted = csv.writer(self._stream, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._write_cells([write_cell(name) for name in (*columns, *added)])

    def write(self, part: Part, added: Added) -> None:
        for row, values in zip(part.rows, zip(*added.values(), strict=True), strict=True):
            self._write_cells([*(write_cell(row.get(name)) for name in self._columns), *map(write_cell, values)])

    def _write_cells(self, cells: list[str]) -> None:
        # A carriage return is left unquoted otherwise, and then read as the end of a row.
        (self._quoted if any("\r" in cell for cell in cells) else self._writer).writerow(cells)

    def close(self) -> None:
        self._stream.close()


class _JsonWriter(Writer):
    def __init__(self, path: Path) -> None:
        self._stream: TextIO = path.open("w", encoding="utf-8", newline="\n")

    def write(self, part: Part, added: Added) -> None:
        for row, values in zip(part.rows, zip(*added.values(), strict=True), strict=True):
            whole = row | dict(zip(added, values, strict=True))
            self._stream.write(json.dumps(blank_numbers(whole), ensure_ascii=False, default=str) + "\n")

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter(Writer):
    """Parquet keeps the types of Parquet; from elsewhere, columns are text, and what is no text is JSON."""

    def __init__(self, path: Path, columns: Sequence[str], added: dict[str, type]) -> None:
        import pyarrow
        from pyarrow import parquet

        types: dict[type, DataType] = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
        self._added = pyarrow.schema([(name, types[kind]) for name, kind in added.items()])
        self._texts = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        self._open = parquet.ParquetWriter
        self._path = path
        self._writer: parquet.ParquetWriter | None = None

    def write(self, part: Part, added: Added) -> None:
        import pyarrow

        batch = part.batch
        if batch is None:
            rows = [{name: write_text(row.get(name)) for name in self._texts.names} for row in part.rows]
            batch = pyarrow.RecordBatch.from_pylist(rows, schema=self._texts)
        for field in self._added:
            batch = batch.append_column(field, pyarrow.array(added[field.name], field.type))
        self._begin(batch.schema).write_batch(batch)

    def close(self) -> None:
        import pyarrow

        self._begin(pyarrow.schema([*self._texts, *self._added])).close()

    def _begin(self, schema: "Schema") -> Any:
        if self._writer is None:
            self._writer = self._open(self._path, schema)
        return self._writer


def write_cell(value: object) -> str:
    """Write a value as a cell of CSV, harmless in a spreadsheet; reading it gives the text back."""
    text = (write_text(value) or "").replace("\0", "")  # which no file of text may hold
    return text if _NUMBER.fullmatch(text) else guard_cell(text)
