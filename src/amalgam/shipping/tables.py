"""Tables that `amalgam predict` reads and writes.

A source is read once before the first row is scored, so that a fault in its last row is found in time. The output goes
to a temporary file that is put in place when it is whole.
"""

import csv
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from amalgam.errors import DataError
from amalgam.rows import guard_cell
from amalgam.tasks.tables import (
    OTHERS,
    SEPARATORS,
    Format,
    Part,
    Source,
    find_layout,
    list_columns,
    open_parquet,
    read_parts,
)
from amalgam.tasks.texts import blank_numbers, write_text

if TYPE_CHECKING:
    from pyarrow import DataType

Added = dict[str, list[Any]]  # the new columns of a part
Parts = Iterable[tuple[Part, Added]]
_FORMATS: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")  # begins like a formula, and is harmless


class Survey(NamedTuple):
    """A table's number of rows, and its columns in order."""

    rows: int
    columns: list[str]


def find_format(path: Path) -> Format:
    """Return how a table is stored, by its ending.

    Raises:
        DataError: it is none that is known.
    """
    ending = path.suffix.lower()
    if ending in _WORKBOOKS:
        raise DataError(f"{path} is a workbook: save its sheet as `CSV UTF-8`, and name that file")
    if ending not in _FORMATS:
        raise DataError(f"{path} does not end in .csv, .tsv, .jsonl or .parquet: rename or convert it")
    return _FORMATS[ending]


def open_source(path: Path) -> Source:
    """Return a table to be read; one in text may be packed (.csv.gz).

    Raises:
        DataError: its ending is none that is known.
    """
    packed = path.suffix.lower() == ".gz"
    return Source(str(path), lambda: path.open("rb"), find_format(path.with_suffix("") if packed else path))


def survey_table(source: Source, needed: Sequence[str]) -> Survey:
    """Read a whole table once; of Parquet, the types of its columns say enough.

    Raises:
        DataError: the table cannot be read, or a row has neither text nor null in a column that is `needed`.
    """
    columns = dict.fromkeys(list_columns(source))
    if source.format != "jsonl":
        _check_columns(source, list(columns), needed)
    if source.format == "parquet":
        with open_parquet(source) as file:
            types = dict(zip(columns, file.schema_arrow.types, strict=True))
            rows = file.metadata.num_rows
        for name in needed:
            if not _holds_text(types[name]):
                raise DataError(
                    f"{source.name} has no text under {name!r}, but {types[name]}: write it as text, "
                    "or name another column"
                )
        return Survey(rows, list(columns))
    rows = 0
    for part in read_parts(source):
        rows += len(part.rows)
        for number, row in zip(part.numbers, part.rows, strict=True):
            columns.update(dict.fromkeys(row))
            for name in needed:
                if not isinstance(row.get(name, ...), str | None):
                    what = "no text" if name in row else f"no key {name!r}, only {', '.join(row)}"
                    raise DataError(
                        f"{source.name}, row {number} has {what} under {name!r}: mend it, or name another column"
                    )
    return Survey(rows, list(columns))


def write_table(path: Path, source: Source, columns: Sequence[str], added: dict[str, type], parts: Parts) -> None:
    """Write parts of a table in the format that the path ends in: `columns`, then the new ones with their types.

    Raises:
        DataError: the file cannot be written.
    """
    form = find_format(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            _write_parquet(temporary, columns, added, parts)
        elif form == "jsonl":
            _write_json(temporary, parts)
        else:
            _write_cells(temporary, form, source, [*columns, *added], parts)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_cell(value: object) -> str:
    """Write a value as a cell of CSV that no spreadsheet runs as a formula; reading it gives the text back."""
    text = (write_text(value) or "").replace("\0", "")  # which no file of text may hold
    return text if _NUMBER.fullmatch(text) else guard_cell(text)


def _write_cells(path: Path, form: Format, source: Source, names: Sequence[str], parts: Parts) -> None:
    layout = None if source.format == "parquet" else find_layout(source)
    # Excel takes a file for UTF-8 by its mark, and tells cells apart by the separator of its country.
    encoding = "utf-8-sig" if layout and layout.marks else "utf-8"
    kept = layout and source.format == form and layout.separator in OTHERS
    separator = layout.separator if layout and kept else SEPARATORS[form]
    with path.open("w", encoding=encoding, newline="") as stream:
        plain = csv.writer(stream, delimiter=separator, lineterminator="\n")
        quoted = csv.writer(stream, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in itertools.chain([dict(zip(names, names, strict=True))], _merge(parts)):
            cells = [write_cell(row.get(name)) for name in names]
            # A carriage return is left unquoted otherwise, and then read as the end of a row.
            (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _write_json(path: Path, parts: Parts) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in _merge(parts):
            stream.write(json.dumps(blank_numbers(row), ensure_ascii=False, default=str) + "\n")


def _write_parquet(path: Path, columns: Sequence[str], added: dict[str, type], parts: Parts) -> None:
    """Keep the types of Parquet; from elsewhere, columns are text, and what is no text is JSON."""
    import pyarrow
    from pyarrow import parquet

    types: dict[type, DataType] = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    texts = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    writer = None
    try:
        # Without any row, an empty part still gives the columns.
        for part, values in itertools.chain(parts, [(Part([], []), {name: [] for name in added})]):
            batch = part.batch
            if batch is None:
                rows = [{name: write_text(row.get(name)) for name in columns} for row in part.rows]
                batch = pyarrow.RecordBatch.from_pylist(rows, schema=texts)
            for name, kind in added.items():
                batch = batch.append_column(name, pyarrow.array(values[name], types[kind]))
            if writer is None:
                writer = parquet.ParquetWriter(path, batch.schema)
            if len(part.rows):
                writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()


def _merge(parts: Parts) -> Iterator[dict[str, Any]]:
    """Yield each row with its new columns."""
    for part, added in parts:
        for row, values in zip(part.rows, zip(*added.values(), strict=True), strict=True):
            yield row | dict(zip(added, values, strict=True))


def _check_columns(source: Source, columns: list[str], needed: Sequence[str]) -> None:
    if not columns:
        raise DataError(f"{source.name} has no header: name its columns in the first line")
    there = ", ".join(" ".join(name.split()) for name in columns)
    parting = ", or part its cells by commas" if len(columns) == 1 and source.format == "csv" else ""
    for name in needed:
        if name not in columns:
            raise DataError(
                f"{source.name} has no column {name!r}, only {there}: name the right one with "
                f"--text-column or --question-column{parting}"
            )


def _holds_text(kind: "DataType") -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(is_text(kind) for is_text in (types.is_string, types.is_large_string, types.is_string_view))
