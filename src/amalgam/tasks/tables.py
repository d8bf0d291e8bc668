"""Source files as tables of strings, all parts of a file together, stacked and joined.

A table is a pandas frame of strings whose index says where each row stands ("responses.csv, row 7"); see
`amalgam.tasks.reading`.
"""

import io
from functools import partial
from typing import Any

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.layout import Source
from amalgam.tasks.reading import read_parts, write_text
from amalgam.tasks.schema import File


def parse_table(data: bytes, file: File) -> pd.DataFrame:
    """Read the bytes of one file as a table.

    Raises:
        DataError: with the file and the row (or line and byte) that cannot be read.
    """
    source = Source(file.path, partial(io.BytesIO, data), file.format, file.header, file.short_rows, numbered=True)
    parts = list(read_parts(source))
    if not parts:
        raise DataError(f"{file.path} holds no rows: put the coded rows in, below the header")
    places = [f"{file.path}, row {number}" for part in parts for number in part.numbers]
    return make_table([row for part in parts for row in part.rows], places).assign(**file.add)


def stack_tables(tables: list[tuple[File, pd.DataFrame]]) -> pd.DataFrame:
    """Make one table: a file without `join` adds rows, one with `join` adds columns to the rows before it.

    Raises:
        DataError: if a file to be joined names a row twice, or lacks one that is asked for.
    """
    stacked = tables[0][1]
    for file, table in tables[1:]:
        stacked = _join(stacked, table, file) if file.join else _append(stacked, table, file)
    return stacked


def make_table(records: list[dict[str, Any]], places: list[str]) -> pd.DataFrame:
    """Make a table of records, with what is not text written as JSON and what is missing left empty.

    Raises:
        DataError: a value is bytes.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    for place, record in zip(places, records, strict=True):
        if binary := [name for name, value in record.items() if isinstance(value, bytes)]:
            raise DataError(
                f"{place} has no text under '{binary[0]}', but bytes: write them as text, or leave them out"
            )
    cells = [[write_text(record.get(name)) or "" for name in names] for record in records]
    return pd.DataFrame(cells, columns=names, index=places, dtype=str)


def check_columns(table: pd.DataFrame, names: list[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        DataError: with the missing columns and those that there are.
    """
    if missing := [name for name in names if name not in table]:
        raise DataError(
            f"{table.index[0].rpartition(',')[0]} has no column {_quote(missing)}, only {_quote(table.columns)}: "
            "correct the file, or `columns` in task.yaml"
        )


def _append(above: pd.DataFrame, below: pd.DataFrame, file: File) -> pd.DataFrame:
    if set(above.columns) != set(below.columns):
        raise DataError(
            f"{file.path} has the columns {_quote(below.columns)}, but the file before it {_quote(above.columns)}: "
            "give both the same, or join them by `join`"
        )
    return pd.concat([above, below])


def _join(left: pd.DataFrame, right: pd.DataFrame, file: File) -> pd.DataFrame:
    check_columns(left, file.join)
    check_columns(right, file.join)
    found = pd.MultiIndex.from_frame(right[file.join])
    wanted = pd.MultiIndex.from_frame(left[file.join])
    if found.has_duplicates:
        second = right.index[found.duplicated()][0]
        raise DataError(f"{second} is the second one with its {_quote(file.join)}: keep one of them")
    positions = found.get_indexer(wanted)
    if (positions < 0).any():
        place = left.index[positions < 0][0]
        raise DataError(f"{place} has no row in {file.path} with the same {_quote(file.join)}: add it there")
    added = right[[name for name in right if name not in left]].iloc[positions].set_axis(left.index)
    return pd.concat([left, added], axis=1)


def _quote(names: Any) -> str:
    return ", ".join(f"`{' '.join(str(name).split())}`" for name in names)
