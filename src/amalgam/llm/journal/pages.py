"""Reading the rows of an SQLite file page by page, without SQLite, where the file is too damaged for it.

A table's rows lie in leaf pages, and each leaf page says by itself where its rows are, so a broken header, a missing
part or a zeroed page costs only what it held. The format is that of https://www.sqlite.org/fileformat2.html. What is
read here may be old or half overwritten: the caller must know by the row itself whether it is whole.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO

Value = int | float | str | bytes | None
PageRow = tuple[int, list[Value]]  # its number in the table, 0 where the table has none, and its columns

PAGE = 4096  # bytes; the size of a page where the file cannot say it
_HEADER = b"SQLite format 3\x00"
_LOG_HEADER, _FRAME_HEADER = 32, 24  # bytes before the first frame of a write-ahead log, and before the page in each
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_TABLE_LEAF, _INDEX_LEAF, _INDEX_NODE = 13, 10, 2  # kinds of pages that hold rows; a table without numbers is an index
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes of an integer by its type
_UNREADABLE = (IndexError, ValueError, struct.error)


def read_rows(path: Path, columns: frozenset[int]) -> Iterator[PageRow]:
    """Yield every row that can be read from a database file and its log: first those that count, then older versions.

    No connection of this process may have the file open: the system drops its locks when any handle is closed.

    Args:
        path: the database file; its write-ahead log is beside it. Either may be missing.
        columns: numbers of columns that wanted rows have; others are passed over quickly.

    Raises:
        OSError: the disk cannot be read.
    """
    with ExitStack() as stack:
        main, log = _open_file(path, stack), _open_file(locate_log(path), stack)
        # What a damaged header says of sizes may be wrong, so what they mostly are is tried as well.
        for sizes in dict.fromkeys([_read_sizes(main, log), (PAGE, 0)]):
            pages = _Pages(main, log, *sizes)
            for page in chain(pages.iterate_current(), pages.iterate_older()):
                yield from _read_page(page, pages, columns)


def read_log_rows(path: Path, columns: frozenset[int]) -> Iterator[PageRow]:
    """Yield every row that was committed to the write-ahead log of a database, also behind a place where it is torn."""
    with ExitStack() as stack:
        log = _open_file(locate_log(path), stack)
        pages = _Pages(None, log, *_read_sizes(None, log))
        pages.drop_uncommitted()
        for page in chain(pages.iterate_current(), pages.iterate_older()):
            yield from _read_page(page, pages, columns)


def has_broken_log(path: Path) -> bool:
    """Say whether a database has a write-ahead log that holds pages but does not begin as such a log does."""
    with ExitStack() as stack:
        log = _open_file(locate_log(path), stack)
        header = log.read(_LOG_HEADER + _FRAME_HEADER) if log else b""
        return len(header) == _LOG_HEADER + _FRAME_HEADER and not _is_log(header)


def locate_log(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of a database."""
    return path.with_name(path.name + "-wal")


class _Pages:
    """Pages of a database file, and later versions of them in its log."""

    def __init__(self, main: BinaryIO | None, log: BinaryIO | None, size: int, reserved: int) -> None:
        self._main, self._log = main, log
        self.size, self.usable = size, size - reserved
        self.length = sum(stream.seek(0, os.SEEK_END) for stream in (main, log) if stream)  # bytes of both files
        self._frames: list[int] = []  # where in the log a page begins
        self._latest: dict[int, int] = {}  # by number of the page: where in the log its latest version begins
        self._committed = -1  # of the frames: the last one that ends a transaction
        self._is_log_whole = False  # so far as its header says
        if log:
            self._list_frames(log)

    def drop_uncommitted(self) -> None:
        """Forget what follows the last transaction in the log: a killed process has left it, or it is older still."""
        if self._is_log_whole:
            del self._frames[self._committed + 1 :]
            kept = set(self._frames)
            self._latest = {number: start for number, start in self._latest.items() if start in kept}

    def iterate_current(self) -> Iterator[bytes]:
        """Yield the pages that count now. The first is left out: it holds no rows but the schema's."""
        number = 2
        while page := self.read(number):
            yield page
            number += 1
        for later in sorted(self._latest):
            if later > number:  # behind a gap
                yield self.read(later)

    def iterate_older(self) -> Iterator[bytes]:
        """Yield what a later version in the log has replaced, and versions in the log that do not count."""
        for number in sorted(self._latest):
            yield self._read_at(self._main, (number - 1) * self.size)
        current = set(self._latest.values())
        for start in self._frames:
            if start not in current:
                yield self._read_at(self._log, start)

    def read(self, number: int) -> bytes:
        """Return the page that counts now, filled with zeros where the file ends within it; empty behind its end."""
        if number in self._latest:
            return self._read_at(self._log, self._latest[number])
        return self._read_at(self._main, (number - 1) * self.size)

    def _read_at(self, stream: BinaryIO | None, start: int) -> bytes:
        if not stream or start < 0:
            return b""
        stream.seek(start)
        page = stream.read(self.size)
        return page.ljust(self.size, b"\x00") if page else b""

    def _list_frames(self, log: BinaryIO) -> None:
        header = _read_header(log)
        # A log that was begun anew holds older frames behind the new ones; they have another salt.
        self._is_log_whole = _is_log(header)
        start = _LOG_HEADER
        while len(frame := log.read(_FRAME_HEADER)) == _FRAME_HEADER:
            self._frames.append(start + _FRAME_HEADER)
            if not self._is_log_whole or frame[8:16] == header[16:24]:
                if any(frame[4:8]):
                    self._committed = len(self._frames) - 1
                self._latest[int.from_bytes(frame[:4], "big")] = start + _FRAME_HEADER
            start += _FRAME_HEADER + self.size
            log.seek(start)


def _open_file(path: Path, stack: ExitStack) -> BinaryIO | None:
    try:
        return stack.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _read_header(stream: BinaryIO | None) -> bytes:
    if not stream:
        return b""
    stream.seek(0)
    return stream.read(_LOG_HEADER)


def _is_log(header: bytes) -> bool:
    return int.from_bytes(header[:4], "big") in _LOG_MAGIC


def _read_sizes(main: BinaryIO | None, log: BinaryIO | None) -> tuple[int, int]:
    """Return the size of a page, and how much of its end is reserved."""
    header = _read_header(main)
    if header.startswith(_HEADER):
        size, reserved = int.from_bytes(header[16:18], "big"), header[20]
        size = 65536 if size == 1 else size  # which two bytes cannot hold
    else:
        header = _read_header(log)
        size, reserved = int.from_bytes(header[8:12], "big") if _is_log(header) else 0, 0
    return (size, reserved) if 512 <= size <= 65536 and not size & (size - 1) else (PAGE, 0)


def _read_page(page: bytes, pages: _Pages, columns: frozenset[int]) -> Iterator[PageRow]:
    kind = page[0] if page else 0
    if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_NODE):
        return
    pointers = 12 if kind == _INDEX_NODE else 8
    cells = int.from_bytes(page[3:5], "big")
    for at in range(pointers, min(pointers + 2 * cells, len(page) - 1), 2):
        try:
            row = _read_cell(page, int.from_bytes(page[at : at + 2], "big"), kind, pages, columns)
        except _UNREADABLE:
            continue
        if row:
            yield row


def _read_cell(page: bytes, at: int, kind: int, pages: _Pages, columns: frozenset[int]) -> PageRow | None:
    at += 4 if kind == _INDEX_NODE else 0
    length, at = _read_varint(page, at)
    number, at = _read_varint(page, at) if kind == _TABLE_LEAF else (0, at)
    # How much of a row lies in its page, and how much in pages of its own.
    most = pages.usable - 35 if kind == _TABLE_LEAF else (pages.usable - 12) * 64 // 255 - 23
    local = length
    if length > most:
        least = (pages.usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (pages.usable - 4)
        local = local if local <= most else least
    payload = page[at : at + local]
    types, end = _read_types(payload)
    # A row whose columns are not as long as it is noise, which could say anything of where it goes on.
    if len(types) not in columns or end + sum(map(_measure_value, types)) != length:
        return None
    if local < length:
        payload += _read_overflow(int.from_bytes(page[at + local : at + local + 4], "big"), length - local, pages)
    return (number, _read_values(payload, end, types)) if len(payload) == length else None


def _read_overflow(number: int, length: int, pages: _Pages) -> bytes:
    if length > pages.length:  # noise
        raise ValueError
    parts: list[bytes] = []
    while length > 0:
        page = pages.read(number) if number else b""
        if not page:
            raise ValueError
        parts.append(page[4 : 4 + min(length, pages.usable - 4)])
        length -= len(parts[-1])
        number = int.from_bytes(page[:4], "big")
    return b"".join(parts)


def _read_types(payload: bytes) -> tuple[list[int], int]:
    """Return the types of a row's columns, and where the columns begin."""
    end, at = _read_varint(payload, 0)
    types = []
    while at < end:
        kind, at = _read_varint(payload, at)
        types.append(kind)
    return types, at


def _measure_value(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    return 8 if kind == 7 else _INTEGERS.get(kind, 0)


def _read_values(payload: bytes, at: int, types: list[int]) -> list[Value]:
    values: list[Value] = []
    for kind in types:
        length = _measure_value(kind)
        values.append(_read_value(kind, payload[at : at + length]))
        at += length
    return values


def _read_value(kind: int, content: bytes) -> Value:
    if kind >= 12:
        return content.decode() if kind % 2 else content
    if kind in _INTEGERS:
        return int.from_bytes(content, "big", signed=True)
    if kind == 7:
        value: float = struct.unpack(">d", content)[0]
        return value
    return {8: 0, 9: 1}.get(kind)


def _read_varint(page: bytes, at: int) -> tuple[int, int]:
    """Return the integer of one to nine bytes that begins there, and where it ends."""
    value = 0
    for length in range(8):
        byte = page[at + length]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + length + 1
    return value << 8 | page[at + 8], at + 9
