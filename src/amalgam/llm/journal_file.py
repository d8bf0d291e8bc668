"""The journal's file: opened, changed in durable transactions, set aside and replaced when it is damaged.

A repair moves the damaged file aside (`….repairing`), copies what SQL still reads into a new one, and gives the damaged
one its name for good (`….damaged-1`). The next process finishes a repair that was killed.
"""

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from amalgam.errors import DataError

_APPLICATION, _VERSION = 0x416D6C67, 2  # what marks a file as a journal, and as one of this form
# A setup is a model and its sampling settings; `folders` holds hashes of files of answers that were read in.
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
# Full synchronisation makes answers survive a power failure, for which macOS wants to be asked twice.
_SETTINGS = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536;
"""
ANSWER = "key, setup, sample, seeded, text, finish_reason, prompt_tokens, completion_tokens, cost_usd, checksum"
CHECKSUM = 9  # where it is in the row of an answer
_SEEDED, _COST = 3, 8
_DECODE = partial(str, encoding="utf-8", errors="replace")  # the checksum shows what is damaged
_SIDES = ("-wal", "-shm")  # what SQLite keeps beside a database
_OPENING_WAIT, _WAIT = 600.0, 60.0  # seconds to wait for a process that repairs the journal, and for one that writes
_TROUBLE = {
    **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), "another program has locked it: close that program"),
    **dict.fromkeys((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR), "the disk is full or fails: free some space"),
    sqlite3.SQLITE_READONLY: "it may not be written to: allow writing to it and to its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: allow reading and writing of it and of its folder",
}

Notify = Callable[[str], None]
Result = TypeVar("Result")
Row = tuple[Any, ...]


class JournalFile:
    """An open journal; one thread at a time has it."""

    def __init__(self, path: Path, notify: Notify) -> None:
        """Open the file; make it where there is none, repair it where it is damaged."""
        self._path, self._notify, self._lock, self._identity = path.absolute(), notify, RLock(), (0, 0)
        self._connection: sqlite3.Connection | None = None
        self.read("SELECT usd FROM spending")

    def close(self) -> None:
        """Close the file."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def read(self, query: str, *values: object, check: bool = False) -> list[Row]:
        """Return the rows of a query; `check` the checksums of answers, which their first columns are."""

        def select(connection: sqlite3.Connection) -> list[Row]:
            rows = connection.execute(query, values).fetchall()
            if check and not all(_is_whole(row[: CHECKSUM + 1]) for row in rows):
                raise ValueError("a row is not as it was written")
            return rows

        return self._run(select)

    def change(self, query: str, *values: object) -> None:
        """Make one durable change."""
        self._run(lambda connection: connection.execute(query, values), changing=True)

    def add(self, setups: Mapping[int, tuple[str, str]], answers: Sequence[Row]) -> int:
        """Add what is new, and to the spending what answers cost that were not read in; return how many are new."""
        return self._run(lambda connection: _add_rows(connection, setups, answers), changing=True)

    def _run(self, work: Callable[[sqlite3.Connection], Result], *, changing: bool = False) -> Result:
        """Return `work(connection)`, in one durable transaction if it changes something; repair what is damaged."""
        with self._lock:
            damaged = False
            for _ in range(3):  # no repair helps where the disk damages the file again and again
                try:
                    connection = self._connect(damaged)
                    if not changing:
                        return work(connection)
                    with connection:
                        connection.execute("BEGIN IMMEDIATE")
                        result = work(connection)
                    if self._is_in_place():
                        return result
                    damaged = False  # another process has set the file aside meanwhile: again in the new one
                except (sqlite3.Error, ValueError) as error:
                    damaged = _is_damage(error)
                    if not damaged and (not self._connection or self._is_in_place()):
                        raise self._fail(_TROUBLE.get(_get_code(error), str(error))) from error
                except OSError as error:
                    raise self._fail(f"{error.strerror or error}: mend that") from error
            raise self._fail("it is damaged again and again: check the disk")

    def _fail(self, trouble: str) -> DataError:
        name = f"the journal of LLM answers, {self._path}, cannot be used"
        return DataError(f"{name}, since {trouble}, and run again; the answers recorded before are kept")

    def _connect(self, damaged: bool) -> sqlite3.Connection:
        if self._connection and not damaged and self._is_in_place():
            return self._connection
        from filelock import FileLock

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock", timeout=_OPENING_WAIT):
            if damaged and self._connection and self._is_in_place():
                _set_aside(self._path)
            self.close()
            for _ in range(2):
                _prepare_file(self._path, self._notify)
                if connection := _open_file(self._path):
                    self._connection, self._identity = connection, _identify(self._path)
                    return connection
            raise OSError("what is written there is damaged at once")

    def _is_in_place(self) -> bool:
        return _identify(self._path) == self._identity


def _open_file(path: Path) -> sqlite3.Connection | None:
    """Open the file; if it is no journal, or damaged as far as one sees at once, set it aside and return None."""
    uri = f"{path.as_uri()}?mode=rw"  # never makes a file
    with ExitStack() as on_exit:
        connection = sqlite3.connect(uri, _WAIT, isolation_level=None, check_same_thread=False, uri=True)
        on_exit.callback(connection.close)
        connection.text_factory = _DECODE
        try:
            is_journal = _check_form(connection, path)
        except (sqlite3.Error, ValueError) as error:
            if not _is_damage(error) and _get_code(error) != sqlite3.SQLITE_ERROR:  # all that it says of a schema
                raise
            is_journal = False
        if is_journal:
            on_exit.pop_all()
            return connection
        _set_aside(path)
    return None


def _check_form(connection: sqlite3.Connection, path: Path) -> bool:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (form,) = connection.execute("PRAGMA user_version").fetchone()
    if application == _APPLICATION and form > _VERSION:
        raise DataError(
            f"the journal of LLM answers, {path}, was written by a newer Amalgam: update this one, or move the file "
            "away and pay for its answers again"
        )
    if (application, form) != (_APPLICATION, _VERSION):
        return False
    connection.executescript(_SETTINGS)
    return bool(connection.execute("SELECT usd FROM spending").fetchone())


def _prepare_file(path: Path, notify: Notify) -> None:
    """Make a journal where there is none; where one was set aside, copy into it what that one holds."""
    aside, log = Path(f"{path}.repairing"), Path(f"{path}-wal")
    if not path.exists() and not aside.exists() and log.exists() and log.stat().st_size:
        path.touch()  # the file is lost, and its log alone cannot be read
        _set_aside(path)
    if aside.exists():
        if not path.exists():
            _move(path, aside, _SIDES)  # a process was killed between these moves
            _build_file(path, aside)
        damaged = next(name for number in count(1) if not (name := Path(f"{path}.damaged-{number}")).exists())
        _move(aside, damaged, (*_SIDES, ""))
        with closing(sqlite3.connect(path)) as connection:
            kept = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        notify(
            f"the journal of LLM answers, {path}, was damaged: {kept} {'answer' if kept == 1 else 'answers'} could be "
            f"read into a new one, the damaged file is now {damaged.name}, and only what neither that nor DVC's cache "
            "holds will be asked again"
        )
    elif not path.exists():
        _build_file(path, None)


def _set_aside(path: Path) -> None:
    """Move a damaged file, while it is open: closed in its place, it would put its log into itself."""
    _move(path, Path(f"{path}.repairing"), ("", *_SIDES))


def _move(source: Path, target: Path, endings: Sequence[str]) -> None:
    for ending in endings:
        with suppress(FileNotFoundError):
            Path(f"{source}{ending}").replace(f"{target}{ending}")


def _build_file(path: Path, source: Path | None) -> None:
    """Make a journal, with what can be read of `source`, and put it in place whole."""
    new = Path(f"{path}.new")
    for stale in (f"{path}.new", *(f"{path}{side}" for side in _SIDES)):
        Path(stale).unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
        if source and source.stat().st_size:
            with connection:
                connection.execute("BEGIN")
                _copy_rows(source, connection)
        connection.execute("PRAGMA journal_mode = WAL")
    with new.open("rb+") as stream:
        os.fsync(stream.fileno())
    new.replace(path)


def _copy_rows(source: Path, connection: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as old:
        old.text_factory = _DECODE
        setups = {
            row[0]: row[1:] for row in _iterate_rows(old, "id, CAST(model AS TEXT), CAST(settings AS TEXT)", "setups")
        }
        setups = {number: setup for number, setup in setups.items() if number == number_setup(*setup)}
        _add_rows(connection, setups, filter(_is_whole, _iterate_rows(old, ANSWER, "answers")))
        batches = filter(_is_whole, _iterate_rows(old, "name, remote, keys, checksum", "batches"))
        connection.executemany("INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?)", batches)
        for row in _iterate_rows(old, "usd", "spending"):
            connection.execute("UPDATE spending SET usd = max(usd, ?)", row)


def _iterate_rows(old: sqlite3.Connection, columns: str, table: str) -> Iterator[Row]:
    """Yield the rows that SQL can read: up to the damage, then backwards from the end to it."""
    query = f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY rowid"
    try:
        yield from old.execute(query)
    except (sqlite3.Error, ValueError):
        with suppress(sqlite3.Error, ValueError):
            yield from old.execute(f"{query} DESC")


def _add_rows(connection: sqlite3.Connection, setups: Mapping[int, Sequence[str]], answers: Iterable[Row]) -> int:
    connection.executemany("INSERT OR IGNORE INTO setups VALUES (?, ?, ?)", [(key, *setups[key]) for key in setups])
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
def number_setup(model: str, settings: str) -> int:
    """Return the number of a setup, 48 bits of a hash, which SQLite keeps in six bytes."""
    return int.from_bytes(hashlib.sha256(json.dumps([model, settings]).encode()).digest()[:6], "big")


def _is_whole(row: Sequence[object]) -> bool:
    return row[-1] == seal(row[:-1])


def _identify(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one that takes its place."""
    with suppress(FileNotFoundError):
        return (found := path.stat()).st_dev, found.st_ino
    return 0, 0


def _is_damage(error: Exception) -> bool:
    return isinstance(error, ValueError) or _get_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _get_code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
