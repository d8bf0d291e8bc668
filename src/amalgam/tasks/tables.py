"""Read tables in parts of bounded size: delimited text, Excel, JSON, Parquet, saved data sets.

What programs add to the rows (byte order marks, a line `sep=;`, empty rows and columns, apostrophes before formulas,
additional header rows) is not content. Rows are counted from 1, with the header, as in a spreadsheet.
"""

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from amalgam.errors import DataError
from amalgam.files import unguard_cell
from amalgam.tasks.formats import TOP, Source, count_filled, count_titles, iterate_lines

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

_ROWS = 8192  # of a part at most
_LETTERS = 8_000_000  # characters of a part at most, so that a part with long texts has fewer rows
_INVISIBLE = "\u200b\u2060\ufeff"
_IMPORT_ID = re.compile(r"""\{\s*["']ImportId["']""")  # in the third header row of Qualtrics


class Part(NamedTuple):
    """Consecutive rows and their numbers; from Parquet also the original batch, with its types."""

    rows: list[dict[str, Any]]
    numbers: list[int]
    batch: "RecordBatch | None" = None


def read_parts(source: Source) -> Iterator[Part]:
    """Yield all rows in order, part by part; a DataError names the row or line that cannot be read."""
    if source.format == "parquet":
        return _read_parquet(source)
    iterate = {"jsonl": _iterate_json_lines, "json": _iterate_json, "folder": _iterate_folder}
    return _gather_rows(iterate.get(source.format, _iterate_cells)(source))


def spread_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record in which an object is replaced by a value for each of its keys ("data.text").

    Label Studio's JSON-MIN has one choice as a text, but several as {"choices": […]}: that is one value, too.
    """
    spread: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and value.keys() == {"choices"}:
            value = value["choices"]
        inner = spread_record(value) if isinstance(value, dict) else {}
        spread |= {f"{key}.{name}": part for name, part in inner.items()} or {key: None if value == {} else value}
    return spread


def find_value(record: dict[str, Any], name: str, otherwise: object = None) -> Any:
    """Return the value under a name, which may be inside an object ("data.text")."""
    return record[name] if name in record else spread_record(record).get(name, otherwise)


def list_columns(source: Source) -> list[str]:
    """Return the names of the columns in order; none for JSON and data sets, where each row names its own."""
    return [name for name in read_header(source).names if name is not None]


class Header(NamedTuple):
    """The header of a table; only names for Parquet, empty for JSON and data sets."""

    names: list[str | None]  # None where a column has none
    questions: dict[str, str]  # in the second row of Qualtrics, by column
    titles: list[str]  # the text of each row above the header
    rows: Iterator[tuple[int, list[Any]]]  # the rows below, with their numbers


def read_header(source: Source) -> Header:
    """Read the header; rows above it that are not part of the table are skipped."""
    if source.format == "parquet":
        with open_parquet(source) as file:
            return Header([*_name_columns(source, file.schema_arrow.names)], {}, [], iter(()))
    if source.format in ("jsonl", "json", "folder"):
        return Header([], {}, [], iter(()))
    rows = iter(enumerate(source.cells, start=1)) if source.format == "xlsx" else _iterate_delimited(source)
    titles, header = list[str](), source.header
    if not header:
        top = list(itertools.islice(rows, TOP))
        above = count_titles([cells for _, cells in top])
        titles = [" ".join(str(cell) for cell in cells if cell is not None).strip() for _, cells in top[:above]]
        header = top[above][1] if above < len(top) else []
        rows = itertools.chain(top[above + 1 :], rows)
    peeked = list(itertools.islice(rows, max(2, source.header_rows or 0)))
    if peeked and "Open-Ended Response" in peeked[0][1] and not source.header_rows:  # SurveyMonkey's second header row
        header = [name or below for name, below in zip(header, peeked.pop(0)[1], strict=False)]
    names = _name_columns(source, ["" if name is None else str(name) for name in header])
    # A first column without a name holds the names of the rows: R and pandas write it so.
    named = [name if name or (not place and any(names)) else None for place, name in enumerate(names)]
    ids = [number for number, row in enumerate(peeked[:2], 1) if any(_IMPORT_ID.match(str(cell)) for cell in row[1])]
    more = source.header_rows - 1 if source.header_rows else max(ids, default=0)
    asked = zip(named, peeked[0][1], strict=False) if more > 1 and peeked else ()
    questions = {name: str(cell).strip() for name, cell in asked if name and cell}
    return Header(named, questions, [title for title in titles if title], itertools.chain(peeked[more:], rows))


@contextmanager
def open_parquet(source: Source) -> "Iterator[ParquetFile]":
    """Open a Parquet file; damaged bytes are a DataError, also within the block."""
    import pyarrow
    from pyarrow import parquet

    try:
        content = source.content if isinstance(source.content, Path) else pyarrow.BufferReader(source.content)
        with parquet.ParquetFile(content) as file:
            yield file
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{source.name} is not a readable Parquet file: write it again") from error


def iterate_dataset(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set of `datasets`, with the names of classes in place of their codes."""
    classes = {name: kind for name, kind in dataset.features.items() if type(kind).__name__ == "ClassLabel"}
    for row in dataset:
        codes = {name: row[name] for name in classes if row[name] is not None}
        # Where codes are withheld, as in many test sets, each is -1.
        yield row | {name: classes[name].int2str(code) if code >= 0 else None for name, code in codes.items()}


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


def _iterate_folder(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    import datasets

    try:
        saved = datasets.load_from_disk(source.name)
    except Exception as error:  # a damaged folder may raise any of many types
        raise DataError(f"{source.name} is not a readable data set: save it again with `save_to_disk`") from error
    splits = saved if isinstance(saved, dict) else {"": saved}
    rows = ({**row, **({"split": name} if name else {})} for name in splits for row in iterate_dataset(splits[name]))
    return enumerate(rows, start=1)


def _iterate_json(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a list of objects, an object with one such list or with columns as its values, or one object per line."""
    try:
        value = _decode("".join(iterate_lines(source)))
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):
            return _iterate_json_lines(source)
        raise DataError(f"{source.name} is not valid JSON ({error}): export it again") from error
    lists = list(value.values()) if isinstance(value, dict) else [value]
    lists = [rows for rows in lists if isinstance(rows, list) and all(isinstance(row, dict) for row in rows)]
    if not lists and isinstance(value, dict):
        lists = _turn_columns(value)
    if len(lists) != 1:
        raise DataError(f"{source.name} is neither a list of objects nor an object with one such list: write one")
    return enumerate(_flatten_label_studio(lists[0]), start=1)


def _turn_columns(value: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """List the rows of an object of rows or columns, or of `columns` and `data`, as pandas writes; [] for any other."""
    names, parts = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(parts, list) and all(isinstance(cells, list) for cells in parts):
        return [[dict(zip(names, cells, strict=False)) for cells in parts]]
    rows = [each for each in value.values() if isinstance(each, dict) and len(each) < len(value)]
    if rows and len(rows) == len(value) and not any(map(str.isdigit, rows[0])):  # pandas numbers the cells of columns
        return [[{"id": name, **each} for name, each in value.items()]]
    columns = [list(each.values()) if isinstance(each, dict) else each for each in value.values()]
    if len(columns) > 1 and all(isinstance(each, list) and len(each) == len(columns[0]) for each in columns):
        return [[dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]]
    return []


def _flatten_label_studio(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one record from each task of a Label Studio export: its data, and the code of each control ("sentiment").

    If a task has several annotations, each annotator has a column: "sentiment (rater 1)". Other records stay the same.
    """
    if not all(isinstance(each.get("annotations"), list) and isinstance(each.get("data"), dict) for each in records):
        return records
    raters: dict[str, int] = {}
    coded: list[dict[int, dict[str, Any]]] = [{} for _ in records]
    for record, codes in zip(records, coded, strict=True):
        for annotation in record["annotations"]:
            if not annotation.get("was_cancelled"):
                rater = raters.setdefault(json.dumps(annotation.get("completed_by"), sort_keys=True), len(raters) + 1)
                made = [part for part in annotation.get("result", []) if "from_name" in part]  # not relations
                codes[rater] = {part["from_name"]: _take_code(part) for part in made}
    several = any(len(codes) > 1 for codes in coded)
    flat = [{"id": record.get("id"), **record["data"]} for record in records]
    for record, row, codes in zip(records, flat, coded, strict=True):
        for rater in sorted(codes):
            for name, code in codes[rater].items():
                mark = f" (rater {rater})" if several else " (code)" if name in record["data"] else ""
                row[name + mark] = code
    return flat


def _take_code(part: dict[str, Any]) -> Any:
    """Return what an annotator chose: one value as itself, several as a list."""
    value = part.get("value", {})
    code = next((value[key] for key in ("choices", "rating", "number", "text", "taxonomy") if key in value), value)
    return code[0] if isinstance(code, list) and len(code) == 1 else code


def _iterate_json_lines(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(iterate_lines(source), start=1):
        if line.isspace():
            continue
        place = f"{source.name}, row {number}"
        try:
            row = _decode(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} is not valid JSON ({error}): write one object per line") from error
        if not isinstance(row, dict):
            raise DataError(f"{place} is not a JSON object: write one object per line")
        yield number, row


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(row := dict(pairs)) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"two keys are named {name!r}, rename one")
    return row


def _decode(text: str) -> Any:
    value = json.loads(text, object_pairs_hook=_read_object)
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    return value


def _iterate_cells(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    header = read_header(source)
    names = header.names
    empty = None if source.format == "xlsx" else ""
    least = max((column for column, name in enumerate(names, start=1) if name is not None), default=0)
    short = source.short_rows or source.format == "xlsx"
    for number, cells in header.rows:
        place, filled = f"{source.name}, row {number}", count_filled(cells)
        if not filled and (len(names) > 1 or not cells or source.format == "xlsx"):
            continue
        if filled > len(names) or (len(cells) < least and not short):
            raise DataError(
                f"{place} has {len(cells)} cells, but the header has {len(names)}: fix the row, and put quotes around "
                "a text that holds the separator"
            )
        cells = [*cells, *[empty] * (len(names) - len(cells))]
        for column, (name, cell) in enumerate(zip(names, cells, strict=False), start=1):
            if name is None and count_filled([cell]):
                what = f"{str(cell).strip()[:40]!r} in column {column}, which has no name"
                raise DataError(f"{place} has {what}: name the column in the header, or delete it")
        yield number, {name: cell for name, cell in zip(names, cells, strict=False) if name is not None}


def _name_columns(source: Source, header: Sequence[str]) -> list[str]:
    """Strip the names of columns; equal names are numbered or refused."""
    names = [name.strip().strip(_INVISIBLE).strip() for name in header]
    doubled = {name: itertools.count(1) for name, count in Counter(names).items() if name and count > 1}
    if doubled and not source.numbered:
        raise DataError(f"{source.name} has two columns named {next(iter(doubled))!r}: rename one")
    return [f"{name} ({next(doubled[name])})" if name in doubled else name for name in names]


def _iterate_delimited(source: Source) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        iterate_lines(source),
        delimiter=source.separator,
        quoting=csv.QUOTE_NONE if source.format == "plain_tsv" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    line = source.lines + 1  # on which a row begins
    try:
        for number, cells in enumerate(reader, start=line):
            yield number, [unguard_cell(cell) for cell in cells]
            line = source.lines + reader.line_num + 1
    except csv.Error as error:
        plain = source.format == "tsv" and source.numbered
        other = ", or set `format: plain_tsv` in task.yaml if its cells are not quoted" if plain else ""
        what = f"line {line} begins a row that cannot be read ({error}): close its quotes{other}"
        raise DataError(f"{source.name}, {what}") from error
