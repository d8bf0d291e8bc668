"""The journal's file as an open connection, which opens itself again when the file was repaired meanwhile."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from amalgam.errors import DataError
from amalgam.llm.journal.queries import add_answers, add_setups, open_transaction, read_spending
from amalgam.llm.journal.repair import Notify, prepare_file, save_from_log, set_aside
from amalgam.llm.journal.rows import APPLICATION, FIRST_FORM, SCHEMA, VERSION, convert_first_form

Result = TypeVar("Result")

_OPENING_WAIT = 600.0  # seconds to wait for another process that repairs the journal or takes over an old one
_ATTEMPTS = 3  # no repair helps where the disk damages the file again and again
# The log is put into the file when it has 4000 pages, so that many answers share that work. Full synchronisation makes
# answers survive a power failure, for which macOS wants to be asked twice.
_SETTINGS = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = {64 * 2**20};
PRAGMA secure_delete = OFF;
PRAGMA cache_size = -{64 * 2**10};
"""
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TROUBLE = {
    sqlite3.SQLITE_BUSY: "another program has locked it: close that program",
    sqlite3.SQLITE_LOCKED: "another program has locked it: close that program",
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk is full or fails: free some space, or check the disk",
    sqlite3.SQLITE_NOMEM: "there is no memory left: close other programs",
    sqlite3.SQLITE_PERM: "it may not be written to: allow writing to it and to its folder",
    sqlite3.SQLITE_READONLY: "it may not be written to: allow writing to it and to its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: allow reading and writing of it and of its folder",
}


class JournalFile:
    """An open journal, which several threads may use: each has it for itself while it reads or changes."""

    def __init__(self, path: Path, notify: Notify, wait: float) -> None:
        """Open the journal; make it where there is none, repair it where it is damaged.

        Args:
            path: the file.
            notify: is told in one sentence what was wrong with the file, and what was done.
            wait: seconds to wait for another process that is writing.

        Raises:
            DataError: the file cannot be used.
        """
        self.path, self.notify = path.absolute(), notify
        self._wait = wait
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self.read(read_spending)

    def read(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Return `work(connection, *arguments)`, which is tried again where the file had to be repaired.

        Raises:
            DataError: the file cannot be used.
        """
        with self._lock:
            return self._try(work, arguments, changing=False)

    def change(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do the same in one transaction, which is durable when this returns.

        Raises:
            DataError: the file cannot be used, and nothing of the change is in it.
        """
        with self._lock:
            return self._try(work, arguments, changing=True)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None

    def _try(self, work: Callable[..., Result], arguments: tuple[Any, ...], *, changing: bool) -> Result:
        damaged = False
        for _ in range(_ATTEMPTS):
            try:
                connection = self._connect(damaged)
                if not changing:
                    return work(connection, *arguments)
                with open_transaction(connection):
                    result = work(connection, *arguments)
                # Another process may have moved the file aside to repair it. What was written before that moment, it
                # has found there; what was written later must be written again.
                if self._is_in_place():
                    return result
                damaged = False
            except (sqlite3.Error, UnicodeDecodeError) as error:
                damaged = _is_damage(error)
                if not damaged and (not self._connection or self._is_in_place()):
                    raise DataError(self._describe(_TROUBLE.get(_get_code(error), str(error)))) from error
            except OSError as error:
                raise DataError(self._describe(f"{error.strerror or error}: mend that")) from error
        raise DataError(self._describe("it is damaged again and again: check the disk"))

    def _describe(self, trouble: str) -> str:
        return (
            f"the journal of LLM answers, {self.path}, cannot be used, since {trouble}, and run again; "
            "the answers recorded before are kept"
        )

    def _connect(self, damaged: bool) -> sqlite3.Connection:
        if damaged or not self._connection or not self._is_in_place():
            self._open(damaged)
        assert self._connection
        return self._connection

    def _is_in_place(self) -> bool:
        return _identify(self.path) == self._identity

    def _open(self, damaged: bool) -> None:
        from filelock import FileLock, Timeout

        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(self.path.name + ".lock"), timeout=_OPENING_WAIT)
        try:
            with lock:
                # Another process may have repaired it meanwhile.
                if damaged and self._connection and self._is_in_place():
                    set_aside(self.path)
                self.close()
                prepare_file(self.path, self.notify)
                if not self._open_file():
                    prepare_file(self.path, self.notify)
                    if not self._open_file():
                        raise OSError("what is written there is damaged at once")
        except Timeout as error:
            raise TimeoutError(f"another process has been opening it for {_OPENING_WAIT:g} s") from error

    def _open_file(self) -> bool:
        """Open the file; one that is no journal or is damaged, as far as one sees at once, is set aside instead."""
        address = f"{self.path.as_uri()}?mode=rw"  # never makes a file
        connection = sqlite3.connect(address, self._wait, isolation_level=None, check_same_thread=False, uri=True)
        try:
            if self._prepare_connection(connection):
                self._connection, self._identity = connection, _identify(self.path)
                return True
            set_aside(self.path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # Of a damaged header or schema, SQLite only says that something is wrong.
            if not _is_damage(error) and _get_code(error) != sqlite3.SQLITE_ERROR:
                raise
            set_aside(self.path)
        finally:
            if self._connection is not connection:
                connection.close()
        return False

    def _prepare_connection(self, connection: sqlite3.Connection) -> bool:
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")  # the checksum shows what is damaged
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application == APPLICATION and version > VERSION:
            raise DataError(
                f"the journal of LLM answers, {self.path}, was written by a newer Amalgam: update this one, or move "
                "the file away and pay for its answers again"
            )
        tables = _read_tables(connection)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(answers)")]
        first_form = tables.keys() == {"answers"} and columns == FIRST_FORM
        if not first_form and tables != _make_tables():
            return False
        connection.executescript(_SETTINGS)
        if first_form:
            _take_over_first_form(connection, self.path, self.notify)
        else:
            save_from_log(connection, self.path, self.notify)
        return True


def _read_tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the tables, and how each was made."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))


@cache
def _make_tables() -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _read_tables(connection)


def _take_over_first_form(connection: sqlite3.Connection, path: Path, notify: Notify) -> None:
    lost = 0
    with open_transaction(connection):
        connection.execute("ALTER TABLE answers RENAME TO first_form")
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        for row in connection.execute(f"SELECT {', '.join(FIRST_FORM)} FROM first_form"):
            converted = convert_first_form(*row)
            if converted:
                add_setups(connection, [converted[0]])
                add_answers(connection, [converted[1]])
            lost += converted is None
        connection.execute("DROP TABLE first_form")
    if lost:
        notify(f"answers in the journal, {path}, are damaged: {lost} of them will be asked again")


def _identify(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one that takes its place."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino


def _is_damage(error: Exception) -> bool:
    # SQLite quotes a damaged schema in its message, which then may be no text.
    return isinstance(error, UnicodeDecodeError) or _get_code(error) in _DAMAGE


def _get_code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
