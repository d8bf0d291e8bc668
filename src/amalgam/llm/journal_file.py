"""Open the journal's file, change it in durable transactions, set it aside and replace it when it is damaged.

A damaged file is renamed for good (`….damaged-1`), and the rows that SQL can still read are copied into a new file.
"""

import hashlib
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from functools import lru_cache, partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from amalgam.errors import DataError

_APPLICATION, _VERSION = 0x416D6C67, 2  # mark a file as a journal, and as one of this format
# A setup is a model; `sample` and `settings` are no longer used. `folders` holds hashes of files that were read.
_SCHEMA = f"""
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    setup INTEGER,
    sample INTEGER,
    seeded INTEGER NOT NULL,
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_usd REAL,
    checksum INTEGER NOT NULL
);
CREATE TABLE setups (id INTEGER PRIMARY KEY, model TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE spending (usd REAL NOT NULL);
CREATE TABLE batches (name TEXT PRIMARY KEY, remote TEXT NOT NULL, keys BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE folders (source TEXT PRIMARY KEY);
INSERT INTO spending VALUES (0.0);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""
# Full synchronisation makes answers survive a power failure; macOS also needs `fullfsync` for that.
_SETTINGS = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536;
"""
ANSWER = "key, setup, sample, seeded, text, finish_reason, prompt_tokens, completion_tokens, cost_usd, checksum"
CHECKSUM = 9  # its index in the row of an answer
_SEEDED, _COST = 3, 8
_DECODE = partial(str, encoding="utf-8", errors="replace")  # the checksum shows what is damaged
_SIDES = ("-wal", "-shm")  # files that SQLite keeps next to a database
_OPENING_WAIT, _WAIT = 600.0, 60.0  # seconds to wait for a process that repairs the journal, and for one that writes
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last if a table is missing
_TROUBLE = {
    **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), "another program has locked it: close that program"),
    **dict.fromkeys((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR), "the disk is full or failing: free some space"),
    sqlite3.SQLITE_READONLY: "it is not writable: allow writing to it and to its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: allow reading and writing it and its folder",
}

Notify = Callable[[str], None]
Result = TypeVar("Result")
Row = tuple[Any, ...]
Models = Mapping[int, str]  # by number


class JournalFile:
    """An open journal, used by one thread at a time."""

    def __init__(self, path: Path, notify: Notify) -> None:
        """Open the file; create it if it is missing, replace it if it is damaged."""
        self._path, self._notify, self._lock, self._identity = path.absolute(), notify, RLock(), (0, 0)
        self._connection: sqlite3.Connection | None = None
        self.read("SELECT usd FROM spending")

    def close(self) -> None:
        """Close the file."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def read(self, query: str, *values: object, check: bool = False) -> list[Row]:
        """Return the rows of a query; `check` verifies the checksums of answers, if the query selects `ANSWER`."""

        def select(connection: sqlite3.Connection) -> list[Row]:
            rows = connection.execute(query, values).fetchall()
            if check and not all(map(_is_whole, rows)):
                raise ValueError("a row differs from what was written")
            return rows

        return self._run(select)

    def change(self, query: str, *values: object) -> None:
        """Make one durable change."""
        self._run(lambda connection: connection.execute(query, values), changing=True)

    def add(self, models: Models, answers: Sequence[Row]) -> int:
        """Add new answers, and to the spending the costs of those that are not seeded; return how many are new."""
        return self._run(lambda connection: _add_rows(connection, models, answers), changing=True)

    def _run(self, work: Callable[[sqlite3.Connection], Result], *, changing: bool = False) -> Result:
        """Return `work(connection)`, in one durable transaction if it changes something; replace a damaged file."""
        with self._lock:
            for _ in range(3):  # a new file does not help if the disk damages it again and again
                try:
                    with self._connect() as connection:
                        if changing:
                            connection.execute("BEGIN IMMEDIATE")
                        result = work(connection)
                    if not changing or self._is_in_place():
                        return result
                    # Another process has set the file aside in the meantime: repeat this in the new one.
                except (sqlite3.Error, ValueError) as error:
                    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    if isinstance(error, ValueError) or code in _DAMAGE:
                        self._set_aside()
                    elif not self._connection or self._is_in_place():
                        raise self._fail(_TROUBLE.get(code, str(error))) from error
                except OSError as error:
                    raise self._fail(f"{error.strerror or error}: fix that") from error
            raise self._fail("it was damaged again and again: check the disk")

    def _fail(self, trouble: str) -> DataError:
        name = f"the journal of LLM answers, {self._path}, cannot be used"
        return DataError(f"{name}, because {trouble}, and run again; the answers already recorded are kept")

    def _connect(self) -> sqlite3.Connection:
        if not (self._connection and self._is_in_place()):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _lock_opening(self._path):
                self.close()
                if not self._path.exists():
                    _build_file(self._path, self._notify)
                self._identity = _identify(self._path)
                self._connection = _open_file(self._path)
        return self._connection

    def _set_aside(self) -> None:
        """Move the file away while it is open: closing it in its place would merge its log into it."""
        with _lock_opening(self._path):
            if self._is_in_place():
                _move_aside(self._path, max(_list_damaged(self._path), default=0) + 1)
            self.close()

    def _is_in_place(self) -> bool:
        return _identify(self._path) == self._identity


def _lock_opening(path: Path) -> AbstractContextManager[object]:
    from filelock import FileLock

    return FileLock(f"{path}.lock", timeout=_OPENING_WAIT)


def _open_file(path: Path) -> sqlite3.Connection:
    """Open a journal; raise a ValueError or an SQLite error if the file is not a journal."""
    with ExitStack() as on_exit:
        uri = f"{path.as_uri()}?mode=rw"  # never creates a file
        connection = sqlite3.connect(uri, _WAIT, isolation_level=None, check_same_thread=False, uri=True)
        on_exit.callback(connection.close)
        connection.text_factory = _DECODE
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (form,) = connection.execute("PRAGMA user_version").fetchone()
        if application == _APPLICATION and form > _VERSION:
            raise DataError(
                f"the journal of LLM answers, {path}, was written by a newer Amalgam: update this one, or move the "
                "file away and pay for its answers again"
            )
        if (application, form) != (_APPLICATION, _VERSION):
            raise ValueError("it is not a journal")
        connection.executescript(_SETTINGS)
        on_exit.pop_all()
    return connection


def _move_aside(path: Path, number: int) -> None:
    for ending in ("", *_SIDES):
        with suppress(FileNotFoundError):
            Path(f"{path}{ending}").replace(f"{path}.damaged-{number}{ending}")


def _list_damaged(path: Path) -> list[int]:
    """Return the numbers of the files that were set aside."""
    names = (re.fullmatch(rf"{re.escape(path.name)}\.damaged-(\d+)(-wal)?", one.name) for one in path.parent.iterdir())
    return [int(name[1]) for name in names if name]


def _build_file(path: Path, notify: Notify) -> None:
    """Build a journal and put it in place complete, with the readable rows of the file that was set aside last."""
    last = max(_list_damaged(path), default=0)
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:  # its file is gone: lost, or set aside by a process that was then killed
        last += not last or Path(f"{path}.damaged-{last}-wal").exists()
        _move_aside(path, last)
    new, source = Path(f"{path}.new"), Path(f"{path}.damaged-{last}")
    for stale in (new, log, Path(f"{path}-shm")):
        stale.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
        if source.exists():
            with connection:
                connection.execute("BEGIN")
                _copy_rows(source, connection)
        (kept,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        connection.execute("PRAGMA journal_mode = WAL")
    with new.open("rb+") as stream:
        os.fsync(stream.fileno())
    new.replace(path)
    if last:
        notify(
            f"the journal of LLM answers, {path}, was damaged: {kept} {'answer' if kept == 1 else 'answers'} could be "
            f"copied into a new one, the damaged file is now {source.name}, and only requests whose answers are in "
            "neither the new journal nor DVC's cache will be sent again"
        )


def _copy_rows(source: Path, connection: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as old:
        old.text_factory = _DECODE
        models: dict[int, str] = dict(_iterate_rows(old, "id, model", "setups"))
        _add_rows(connection, models, filter(_is_whole, _iterate_rows(old, ANSWER, "answers")))
        batches = filter(_is_whole, _iterate_rows(old, "name, remote, keys, checksum", "batches"))
        connection.executemany("INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?)", batches)
        for row in _iterate_rows(old, "usd", "spending"):
            connection.execute("UPDATE spending SET usd = max(usd, ?)", row)


def _iterate_rows(old: sqlite3.Connection, columns: str, table: str) -> Iterator[Row]:
    """Yield the rows that SQL can read: up to the damage, then backwards from the end to the damage."""
    query = f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY rowid"
    try:
        yield from old.execute(query)
    except (sqlite3.Error, ValueError):
        with suppress(sqlite3.Error, ValueError):
            yield from old.execute(f"{query} DESC")


def _add_rows(connection: sqlite3.Connection, models: Models, answers: Iterable[Row]) -> int:
    connection.executemany("INSERT OR IGNORE INTO setups VALUES (?, ?, '{}')", models.items())
    query = f"INSERT OR IGNORE INTO answers ({ANSWER}) VALUES ({','.join('?' * (CHECKSUM + 1))})"
    new, spent = 0, 0.0
    for row in answers:
        if connection.execute(query, row).rowcount:
            new += 1
            spent += 0.0 if row[_SEEDED] else row[_COST] or 0.0
    connection.execute("UPDATE spending SET usd = usd + ?", [spent])
    return new


def seal(values: Sequence[object]) -> int:
    """Return the checksum of a row's other columns."""
    texts = [value.hex() if isinstance(value, bytes) else str(value) for value in values]
    return zlib.crc32("\0".join(texts).encode())


@lru_cache(maxsize=64)
def number_model(model: str) -> int:
    """Return the number of a model: 48 bits of a hash, which SQLite stores in six bytes."""
    return int.from_bytes(hashlib.sha256(json.dumps([model, "{}"]).encode()).digest()[:6], "big")


def _is_whole(row: Sequence[object]) -> bool:
    return row[-1] == seal(row[:-1])


def _identify(path: Path) -> tuple[int, int]:
    """Return what distinguishes a file from another file that replaces it."""
    with suppress(FileNotFoundError):
        return (found := path.stat()).st_dev, found.st_ino
    return 0, 0
