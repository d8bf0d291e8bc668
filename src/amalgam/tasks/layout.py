"""Text files of tables as lines: what their first bytes say about encoding and separator, and what is no text."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from amalgam.errors import DataError

Format = Literal["csv", "tsv", "plain_tsv", "jsonl", "parquet"]
SEPARATORS = {"csv": ",", "tsv": "\t", "plain_tsv": "\t"}  # of the formats that have one
OTHERS = ",;\t|"  # what may part cells instead
_SAMPLE = 1 << 16  # bytes that show the layout
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_PACKED = b"\x1f\x8b"  # by gzip
_ENCODINGS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}  # by the mark of byte order; else UTF-8
_MARKS = ("\ufeff", "\xef\xbb\xbf")  # that mark, and what is left of it where UTF-8 was read as Latin-1


@dataclass(frozen=True, slots=True)
class Source:
    """A file that holds a table.

    Attributes:
        name: of the file, for messages.
        open: opens its bytes at their start.
        format: `plain_tsv` is tab-separated without quotes.
        header: names of the columns, where the file does not name them itself.
        short_rows: whether rows may lack their last cells.
        numbered: whether columns that are named alike get numbers ("score (1)"); else they are refused.
    """

    name: str
    open: Callable[[], BinaryIO]
    format: Format
    header: Sequence[str] = ()
    short_rows: bool = False
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is written: encoding, bytes of marks and lines before the table, and what parts its cells."""

    encoding: str
    marks: int
    lines: int
    separator: str


def find_layout(source: Source) -> Layout:
    """Find out how a text file is written, by its first bytes.

    Another separator than that of the format is taken if it alone parts the header, and most rows likewise.
    """
    with _open_bytes(source) as stream:
        head = stream.read(_SAMPLE)
    encoding, marks = _ENCODINGS.get(head[:2], "utf-8"), 0
    known = [mark.encode(encoding) for mark in _MARKS]
    while mark := next((mark for mark in known if head.startswith(mark, marks)), b""):
        marks += len(mark)  # some programs write it twice
    sample = head[marks:].decode(encoding, "ignore")
    own = SEPARATORS.get(source.format, "")
    if source.format in ("csv", "tsv"):
        if said := re.match(r'"?sep=([^\r\n"])"?[\r\n]', sample, re.IGNORECASE):
            return Layout(encoding, marks, 1, said[1])
        fitting = [each for each in OTHERS if _fits(each, sample, source.header, whole=len(head) < _SAMPLE)]
        own = fitting[0] if len(fitting) == 1 else own
    return Layout(encoding, marks, 0, own)


def iterate_lines(source: Source, layout: Layout) -> Iterator[str]:
    """Yield the lines of the table with their ends, whatever these are.

    Raises:
        DataError: with the line that is no text.
    """
    number = 0
    try:
        with _open_bytes(source) as stream:
            stream.seek(layout.marks)
            with io.TextIOWrapper(stream, layout.encoding, newline="") as lines:
                for number, line in enumerate(lines, start=1):
                    if "\0" in line:
                        raise DataError(f"{source.name}, line {number} holds a NUL: save the file as UTF-8 text")
                    if number > layout.lines:
                        yield line
    except UnicodeDecodeError as error:
        where = _locate_fault(source, layout) or f", after line {number}"
        raise DataError(f"{source.name}{where} is not UTF-8: save the file as UTF-8 (`CSV UTF-8`)") from error


def count_filled(cells: Sequence[str]) -> int:
    """Count cells up to the last one that is not blank."""
    count = len(cells)
    while count and not cells[count - 1].strip():
        count -= 1
    return count


@contextmanager
def _open_bytes(source: Source) -> Iterator[BinaryIO]:
    try:
        with source.open() as stream:
            head = stream.read(4)
            stream.seek(0)
            if head.startswith(_WORKBOOKS):
                raise DataError(f"{source.name} is a workbook or an archive: save its sheet as `CSV UTF-8`")
            yield cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if head.startswith(_PACKED) else stream
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source.name} cannot be read ({error}): put a whole, readable file there") from error


def _locate_fault(source: Source, layout: Layout) -> str:
    """Name the line, and the byte in it, of what is not UTF-8."""
    with _open_bytes(source) as stream:
        stream.seek(layout.marks)
        for number, line in enumerate(stream if layout.encoding == "utf-8" else (), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f", line {number}, byte {error.start + 1}"
    return ""


def _fits(separator: str, sample: str, header: Sequence[str], *, whole: bool) -> bool:
    """Say whether a separator parts the header, and most of the rows below into no more cells."""
    rows = list(csv.reader(io.StringIO(sample, newline=""), delimiter=separator))
    rows = [cells for cells in (rows if whole else rows[:-1]) if count_filled(cells)]
    names = header or (rows.pop(0) if rows else [])
    widths = [count_filled(cells) for cells in rows[:20]]
    fitting = sum(1 < width <= len(names) for width in widths)
    return len(names) > 1 and not any(name.count('"') % 2 for name in names) and 2 * fitting >= len(widths)
