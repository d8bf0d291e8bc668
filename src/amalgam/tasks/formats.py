"""Find out how a table file is written, from its content: its format, encoding, separator and sheet.

The ending of its name is a hint; the first bytes decide. Text is UTF-8, unless they show UTF-16 or an older encoding.
"""

import codecs
import csv
import datetime
import gzip
import io
import re
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from amalgam.errors import DataError

Format = Literal["csv", "tsv", "plain_tsv", "jsonl", "json", "parquet", "xlsx", "folder"]
ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}
SEPARATORS = {"csv": ",", "tsv": "\t", "plain_tsv": "\t"}  # `plain_tsv` is tab-separated without quotes
OTHERS = ",;\t|"  # other possible separators
# Tables in older encodings come from Excel; each is used by Windows or the Mac for some languages.
_OLDER = [f"cp{page}" for page in range(1250, 1257)] + ["shift_jis", "gb18030", "big5", "euc_kr", "mac_roman"]
# Letters, dashes and apostrophes within and between words, as Windows and the Mac write them.
_SMALL = (rb"[a-z][\xdf-\xff]| [\x96\x97] ", rb"[a-z][\x87-\x90\x95\x98-\x9f\xd5]| [\xd0\xd1] ")
# How other files begin, in lower case.
_NO_TABLES = {
    b"\xd0\xcf\x11\xe0": "an old workbook (.xls) or has a password",
    b"$fl2@(#)": "an SPSS file",
    b"<stata_dta>": "a Stata file",
    b"sqlite format 3\0": "a database",
    b"arrow1\0\0": "a Feather file",
    **dict.fromkeys((b"%pdf", b"{\\rtf", b"<!doctype", b"<html", b"<table", b"<?xml"), "a web page or a document"),
}
_WORKBOOK = (b"[Content_Types]", b"_rels/", b"docProps/", b"xl/")  # how the name of its first member begins
TOP = 12  # first rows, which include the header
_SAMPLE = 1 << 16  # first bytes, which show the layout
_MARKS = re.compile("\\A(?:\ufeff|\xef\xbb\xbf)+")  # byte order marks, also where UTF-8 was read as Latin-1
csv.field_size_limit(2**31 - 1)  # a response may be longer than 128 KiB
_MIXED = 0.05  # ratio of UTF-8 to other non-ASCII lines, above which a file counts as having two encodings


@dataclass(frozen=True, slots=True)
class Source:
    """A file that holds a table: its path or bytes, and how they are written.

    `header` names the columns if the file does not. Columns with the same name are `numbered` ("score (1)") or else
    refused. With `short_rows`, rows may lack their last cells. In text, `lines` lines come before the table. The
    `cells` of a sheet are in memory.
    """

    name: str
    content: Path | bytes
    format: Format
    encoding: str = ""
    marked: bool = False
    lines: int = 0
    separator: str = ""
    sheet: str | None = None
    cells: Sequence[list[Any]] = ()
    header: Sequence[str] = ()
    header_rows: int | None = None
    short_rows: bool = False
    numbered: bool = False


def open_source(content: Path | bytes, name: str = "", *, format: Format | None = None, **said: Any) -> Source:
    """Inspect a file, its bytes, or a folder that `datasets` saved; `said` has fields of `Source`, None if unknown.

    If no format is given, the ending of the name decides, or else the content.
    """
    name, said = name or str(content), {key: value for key, value in said.items() if value is not None}
    try:
        codecs.lookup(said.get("encoding", "utf-8"))
    except LookupError as error:
        raise DataError(f"{name} cannot be read: {said['encoding']!r} is not an encoding, so name another") from error
    if isinstance(content, Path) and not content.exists():
        raise DataError(f"{name} does not exist")
    if isinstance(content, Path) and content.is_dir():
        if not {"dataset_dict.json", "state.json"} & {path.name for path in content.iterdir()}:
            raise DataError(f"{name} is a folder, but not one written by `save_to_disk` of `datasets`: name a file")
        return Source(str(content), content, "folder", **said)
    format = format or ENDINGS.get(Path(name.lower().removesuffix(".gz")).suffix)
    source = Source(name, content, format or "csv", **said)
    with open_stream(source) as stream:
        head = stream.read(_SAMPLE)
    found = next((what for mark, what in _NO_TABLES.items() if head.lstrip().lower().startswith(mark)), "")
    zipped = head.startswith(b"PK\x03\x04")
    if zipped and b"opendocument" in head[:99]:
        found = "an OpenDocument file"
    if found:
        unlocked = " without a password," if "password" in found else ""
        raise DataError(f"{name} is {found}: export the table as .xlsx{unlocked} or as `CSV UTF-8`")
    if zipped and not head[30:].startswith(_WORKBOOK):
        raise DataError(f"{name} is an archive: unpack it, and name the table in it")
    if zipped or format == "xlsx":
        with open_stream(source) as stream:
            title, cells = read_workbook(stream.read(), name, source.sheet)
        return replace(source, format="xlsx", sheet=title, cells=cells)
    if head.startswith(b"PAR1") or format == "parquet":
        return replace(source, format="parquet")
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    source = replace(source, encoding="utf-16" if utf16 else source.encoding or _find_encoding(source, head))
    text = _MARKS.sub("", sample := head.decode(source.encoding, "ignore"))
    source = replace(source, marked=utf16 or text != sample)
    if format is None and text.lstrip()[:1] in ("[", "{"):
        return replace(source, format="json")
    if format in ("json", "jsonl"):
        return source
    return _find_separator(source, text, whole=len(head) < _SAMPLE, known=format is not None)


@contextmanager
def open_stream(source: Source) -> Iterator[BinaryIO]:
    """Open a file at its start, and unpack it if it is gzipped."""
    try:
        with source.content.open("rb") if isinstance(source.content, Path) else io.BytesIO(source.content) as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            yield cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if packed else stream
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source.name} cannot be read ({error}): put a complete, readable file there") from error


def iterate_lines(source: Source) -> Iterator[str]:
    """Yield the lines of the table with their line ends, whatever these are."""
    number = 0
    try:
        with open_stream(source) as stream, io.TextIOWrapper(stream, source.encoding, newline="") as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise DataError(f"{source.name}, line {number} has a NUL character: save the file as UTF-8 text")
                if number > source.lines:
                    yield _MARKS.sub("", line) if number == 1 else line
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source.name} is not {source.encoding} after line {number}: save the file as UTF-8 (`CSV UTF-8`)"
        ) from error


def count_titles(rows: Sequence[Sequence[Any]]) -> int:
    """Count the rows above the header: blank rows and, if all others have one length, titles and merged cells."""
    filled = [sum(cell is not None and str(cell).strip() != "" for cell in cells) for cells in rows]
    width = max(filled, default=0)
    blank = next((place for place, count in enumerate(filled) if count), len(rows))
    for place, count in enumerate(filled):
        narrow = width > 2 and 2 * count <= width
        if count and not (narrow and (count == 1 or count < len(rows[place]))):
            below = zip(rows[place:], filled[place:], strict=True)
            return place if len({len(cells) for cells, count in below if count}) == 1 else blank
    return blank


def note_encoding(source: Source) -> list[str]:
    """Note that an older encoding was used, because it may be the wrong one."""
    note = f"{source.name} is not UTF-8, and was read as {source.encoding}: check that its letters are right"
    return [] if source.encoding in ("", "utf-8", "utf-16") else [note]


def _find_encoding(source: Source, head: bytes) -> str:
    """Find UTF-16 without a byte order mark and older encodings; refuse a file with lines in two encodings."""
    if b"\0" in head and (encoding := _guess_encoding(head, ["utf_16_le", "utf_16_be"])):
        return encoding
    utf, others, first, sample = 0, 0, "", b""
    with open_stream(source) as stream:
        for number, line in enumerate(stream, start=1):
            if line.isascii():
                continue
            try:
                line.decode()
                utf += 1
            except UnicodeDecodeError as error:
                first = first or f"line {number}, byte {error.start + 1}"
                others += 1
                sample += line if len(sample) < _SAMPLE else b""
    if not others:
        return "utf-8"
    if utf <= _MIXED * others and b"\0" not in head and (encoding := _guess_encoding(sample, _OLDER)):
        return encoding
    raise DataError(f"{source.name}, {first} is not UTF-8: save the file as UTF-8 (`CSV UTF-8`)")


def _guess_encoding(sample: bytes, encodings: list[str]) -> str | None:
    from charset_normalizer import from_bytes

    sample *= 1 + 2000 // max(1, len(sample))  # short samples are taken for Chinese
    found = {match.encoding: match for match in from_bytes(sample, cp_isolation=encodings)}
    best = next(iter(found), None)
    # Western European and Central European texts look alike; the former are far more frequent.
    if best == "cp1250" and ("cp1252" in found[best].could_be_from_charset or "cp1252" in found):
        best = "cp1252"
    if best in ("cp1252", "mac_roman"):  # each has capital letters and signs where the other has small letters
        windows, mac = (len(re.findall(small, sample)) for small in _SMALL)
        return "cp1252" if windows > mac else "mac_roman" if mac > windows else best
    return best


def _find_separator(source: Source, sample: str, *, whole: bool, known: bool) -> Source:
    """Find what separates cells: the one in a line `sep=;`, the one of `OTHERS` that fits, or else the format's own."""
    own = SEPARATORS[source.format]
    if source.format != "plain_tsv":
        if said := re.match(r'"?sep=([^\r\n"])"?[\r\n]', sample, re.IGNORECASE):
            return replace(source, lines=1, separator=said[1])
        above = {each: _find_names(each, sample, source.header, whole=whole) for each in OTHERS}
        least = min((count for count in above.values() if count is not None), default=None)
        fitting = [each for each, count in above.items() if count == least]
        own = fitting[0] if len(fitting) == 1 else own
    source = replace(source, separator=own)
    if known or own != "\t":
        return source
    try:
        deque(csv.reader(iterate_lines(source), delimiter=own, strict=True), maxlen=0)
    except csv.Error:
        return replace(source, format="plain_tsv")
    return replace(source, format="tsv")


def _find_names(separator: str, sample: str, header: Sequence[str], *, whole: bool) -> int | None:
    """Count the rows above the header if a separator divides it, and divides most rows below into no more cells."""
    rows = list(csv.reader(io.StringIO(sample, newline=""), delimiter=separator))
    rows = [cells for cells in (rows if whole else rows[:-1]) if count_filled(cells)]
    above = 0 if header else count_titles(rows[:TOP])
    names = header or next(iter(rows[above:]), [])
    widths = [count_filled(cells) for cells in rows[above + (not header) :][:20]]
    fitting = sum(1 < width <= len(names) for width in widths)
    fits = len(names) > 1 and not any(name.count('"') % 2 for name in names) and 2 * fitting >= len(widths)
    return above if fits else None


def count_filled(cells: Sequence[Any]) -> int:
    """Count cells up to the last one that is not blank."""
    return max((place for place, cell in enumerate(cells, 1) if cell is not None and str(cell).strip()), default=0)


def read_workbook(content: bytes, file: str, sheet: str | None) -> tuple[str | None, list[list[Any]]]:
    """Read a whole sheet, the named one or the first visible one with a table; return its name and cells.

    Formulas are read as their last calculated values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and other parts that hold no rows
            return _read_sheet(content, file, sheet)
    except DataError:
        raise
    except Exception as error:  # openpyxl raises many types where parts are missing or malformed
        raise DataError(f"{file} is not an Excel workbook or is damaged: save it as .xlsx or as `CSV UTF-8`") from error


def _read_sheet(content: bytes, file: str, sheet: str | None) -> tuple[str | None, list[list[Any]]]:
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    sheets = {each.title: each for each in sorted(book.worksheets, key=lambda each: each.sheet_state != "visible")}
    if sheet and sheet not in sheets:
        raise DataError(f"{file} has no sheet {sheet!r}, only {', '.join(sheets)}: name one of them")
    title, cells = sheet, list[list[Any]]()
    for name in [sheet] if sheet else sheets:
        read = _list_rows(sheets[name])
        table = sum(count_filled(row) > 1 for row in read) > 1  # unlike a cover sheet
        if table or (not cells and any(map(count_filled, read))):
            title, cells = name, read
        if table:
            break
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
        if not any(re.search(rb"<f[ />]", archive.read(name)) for name in parts):
            return title, cells
    written = _list_rows(load_workbook(io.BytesIO(content), read_only=True)[title])
    rows = enumerate(zip(written, cells, strict=True), 1)
    found = [(number, *pair) for number, row in rows for pair in zip(*row, strict=True) if pair[0] != pair[1]]
    # Some formulas may give an empty text, but not all of them.
    formulas = [cell for cell in found if str(cell[1]).startswith("=") or hasattr(cell[1], "ref")]
    if formulas and all(value is None for _, _, value in formulas):
        what = f"row {formulas[0][0]} has a formula without a stored value ({str(formulas[0][1])[:40]})"
        raise DataError(f"{file}, {what}: open the file in a spreadsheet program and save it")
    return title, cells


def _list_rows(sheet: Any) -> list[list[Any]]:
    sheet.reset_dimensions()  # some programs write that a sheet ends at A1
    rows = [[_read_cell(cell) for cell in row] for row in sheet.values]
    width = max(map(len, rows), default=0)
    return [row + [None] * (width - len(row)) for row in rows]


def _read_cell(cell: Any) -> Any:
    """Return whole numbers and dates as such: some programs write 1 as 1.0, and a date is stored as its midnight."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 10**15:
        return int(cell)
    return cell.date() if isinstance(cell, datetime.datetime) and cell.time() == datetime.time() else cell
