"""A first look at a whole table, so that a fault in its last row is found before the first row is scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import DataError
from amalgam.tasks.tables import Format, Source, list_columns, open_parquet, read_parts

if TYPE_CHECKING:
    from pyarrow import DataType

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
}
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a table holds: its number of rows and its columns in order."""

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

    Args:
        source: the table.
        needed: columns that must hold text in each row; null counts as empty text.

    Raises:
        DataError: the table cannot be read, or a row lacks a text.
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
