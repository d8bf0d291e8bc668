"""Source files as tables of strings, read strictly: a broken file is an error, never a guess.

A table is a pandas frame of strings whose index says where each row stands ("responses.csv, row 7"; rows count
from 1 with the header, as a spreadsheet shows them).
"""

import csv
import io
import json
from collections import Counter
from typing import Any

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.schema import File

_DELIMITERS = {"csv": ",", "tsv": "\t"}


def parse_table(data: bytes, file: File) -> pd.DataFrame:
    """Read the bytes of one file as a table.

    Raises:
        DataError: with the file and the row (or line and byte) that cannot be read.
    """
    if file.format == "parquet":
        table = _parse_parquet(data, file.path)
    elif file.format == "jsonl":
        table = _parse_jsonl(decode_text(data, file.path), file.path)
    else:
        table = _parse_delimited(decode_text(data, file.path), file)
    if table.empty:
        raise DataError(f"{file.path} holds no rows: put the coded rows in, below the header")
    return table.assign(**file.add)


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
    """Make a table of records, with what is not text written as JSON and what is missing left empty."""
    names = list(dict.fromkeys(name for record in records for name in record))
    cells = [[_write_cell(record.get(name)) for name in names] for record in records]
    return pd.DataFrame(cells, columns=names, index=places, dtype=str)


def decode_text(data: bytes, name: str) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        DataError: with the line and the byte in that line which is not UTF-8, both from 1.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, byte = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise DataError(f"{name}, line {line}, byte {byte} is not UTF-8: save the file as UTF-8") from error


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


def _parse_delimited(text: str, file: File) -> pd.DataFrame:
    numbered = [(number, cells) for number, cells in enumerate(_read_cells(text, file), start=1) if any(cells)]
    header = _tell_apart([name.strip() for name in file.header or (numbered.pop(0)[1] if numbered else [])])
    rows = {f"{file.path}, row {number}": cells for number, cells in numbered}
    for place, cells in rows.items():
        if file.short_rows:
            cells += [""] * (len(header) - len(cells))
        if len(cells) != len(header):
            raise DataError(
                f"{place} has {len(cells)} cells, but the header has {len(header)}: "
                "mend the row, and put quotes around a text that holds the separator"
            )
    return pd.DataFrame(list(rows.values()), columns=header, index=list(rows), dtype=str)


def _read_cells(text: str, file: File) -> list[list[str]]:
    if file.format == "plain_tsv":
        return [line.removesuffix("\r").split("\t") for line in text.split("\n")]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_DELIMITERS[file.format], strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend(reader)
    except csv.Error as error:
        unquoted = ", or set `format: plain_tsv` in task.yaml if its cells are not quoted"
        raise DataError(
            f"{file.path}, row {len(rows) + 1} cannot be read ({error}): close its quotes"
            f"{unquoted if file.format == 'tsv' else ''}"
        ) from error
    return rows


def _tell_apart(names: list[str]) -> list[str]:
    # Exports may name columns alike; numbered ones can be asked for, and none is taken for another.
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} ({seen[name]})" if names.count(name) > 1 else name)
    return numbered


def _parse_jsonl(text: str, name: str) -> pd.DataFrame:
    records: list[dict[str, Any]] = []
    places = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}, row {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place} is not valid JSON ({error}): write one object a line") from error
        if not isinstance(record, dict):
            raise DataError(f"{place} is not a JSON object: write one object a line")
        records.append(record)
        places.append(place)
    return make_table(records, places)


def _parse_parquet(data: bytes, name: str) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        records = pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{name} is not a readable Parquet file: write it again") from error
    return make_table(records, [f"{name}, row {number}" for number in range(1, len(records) + 1)])


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


def _write_cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _quote(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
