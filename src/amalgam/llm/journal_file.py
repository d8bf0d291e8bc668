"""Open the journal's file, change it in durable transactions, set it aside and replace it when it is damaged.

A damaged file is renamed for good (`….damaged-1`), and the rows that SQL can still read are copied into a new file.
"""

import hashlib
import json
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
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
_OPENING_WAIT, _WAIT = 600.0, 60.0  # seconds to wait for a process that repairs the journal, and for one that writes
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last if a table is missing

Notify = Callable[[str], None]
Result = TypeVar("Result")
Row = tuple[Any, ...]


class JournalFile:
    """An open journal, used by one thread at a time.

    Every method may raise a DataError: another program has locked the file, or it cannot be written. Earlier records
    are kept in that case.
    """

    def __init__(self, path: Path, notify: Notify) -> None:
        """Open the file; create it if it is missing, replace it if it is damaged."""
        self._path, self._notify, self._lock, self._identity = path.absolute(), notify, Lock(), (0, 0)
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

    def add(self, models: Mapping[int, str], answers: Sequence[Row]) -> int:
        """Add answers, and to the spending the costs of those that are not seeded; return how many are new."""
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
                except (sqlite3.Error, ValueError, OSError) as error:
                    if isinstance(error, ValueError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                        self._set_aside()
                    elif not self._connection or self._is_in_place():
                        raise self._fail(error) from error
            raise self._fail("it was damaged again and again")

    def _fail(self, trouble: object) -> DataError:
        return DataError(
            f"the journal of LLM answers, {self._path}, cannot be used ({trouble}): close programs that lock it, free "
            "some space, or allow writing to its folder, and run again; the answers already recorded are kept"
        )

    def _connect(self) -> sqlite3.Connection:
        if not (self._connection and self._is_in_place()):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock_opening():
                self.close()
                if not self._path.exists():
                    _build_file(self._path, self._notify)
                self._identity = _identify(self._path)
                self._connection = _open_file(self._path)
        return self._connection

    def _set_aside(self) -> None:
        """Move the file away while it is open: closing it in its place would merge its log into it."""
        with self._lock_opening():
            if self._is_in_place():
                _move_aside(self._path, _count_damaged(self._path) + 1)
            self.close()

    def _lock_opening(self) -> AbstractContextManager[object]:
        from filelock import FileLock

        return FileLock(f"{self._path}.lock", timeout=_OPENING_WAIT)

    def _is_in_place(self) -> bool:
        return _identify(self._path) == self._identity


def _open_file(path: Path) -> sqlite3.Connection:
    """Open a journal; raise a ValueError or an SQLite error if the file is not a journal."""
    with ExitStack() as on_error:
        uri = f"{path.as_uri()}?mode=rw"  # never creates a file
        connection = sqlite3.connect(uri, _WAIT, isolation_level=None, check_same_thread=False, uri=True)
        on_error.callback(connection.close)
        connection.text_factory = _DECODE
        marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if marks[0] == _APPLICATION and marks[1] > _VERSION:
            raise DataError(f"the journal of LLM answers, {path}, was written by a newer Amalgam: update this one")
        if marks != [_APPLICATION, _VERSION]:
            raise ValueError("it is not a journal")
        connection.executescript(_SETTINGS)
        on_error.pop_all()
    return connection


def _move_aside(path: Path, number: int) -> None:
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{ending}").replace(f"{path}.damaged-{number}{ending}")


def _count_damaged(path: Path) -> int:
    """Return the number of the file that was set aside last, or 0."""
    names = (re.fullmatch(rf"{re.escape(path.name)}\.damaged-(\d+)", one.name) for one in path.parent.iterdir())
    return max((int(name[1]) for name in names if name), default=0)


def _build_file(path: Path, notify: Notify) -> None:
    """Build a journal and put it in place complete, with the readable rows of the file that was set aside last."""
    last = _count_damaged(path)
    new, source = Path(f"{path}.new"), Path(f"{path}.damaged-{last}")
    new.unlink(missing_ok=True)
    _move_aside(path, last)  # the log, if a process was killed while it set the file aside
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA journal_mode = OFF; BEGIN; {_SCHEMA}")
        if last:
            _copy_rows(source, connection)
        (kept,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        connection.execute("COMMIT")
    new.replace(path)
    if last:
        notify(
            f"the journal of LLM answers, {path}, was damaged: its readable answers ({kept}) are now in a new one, the "
            f"damaged file is {source.name}, and requests whose answers DVC's cache lacks too will be sent again"
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


def _add_rows(connection: sqlite3.Connection, models: Mapping[int, str], answers: Iterable[Row]) -> int:
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
