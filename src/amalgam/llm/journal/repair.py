"""Making the journal's file, and saving what is in a damaged one.

A repair moves the damaged file aside (`….repairing`), reads it page by page into a new one, puts that in place and
gives the damaged one its name for good (`….damaged-1`). A process that is killed on the way leaves a state from which
the next one goes on. Whoever calls holds the opening lock, so that no two repair at once.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from amalgam.llm.journal.pages import PAGE, PageRow, Value, has_broken_log, locate_log, read_log_rows, read_rows
from amalgam.llm.journal.queries import add_answers, add_batch, add_setups, open_transaction
from amalgam.llm.journal.rows import COST, SCHEMA, Row, Setup, convert_first_form, is_setup, is_whole

Notify = Callable[[str], None]

_SIDES = ("-wal", "-shm")  # what SQLite keeps beside a database
# Columns of what is saved. Setups and the first form both have three; folders are left, so that they are read anew.
_ANSWER, _SETUP, _BATCH = 11, 3, 4


def prepare_file(path: Path, notify: Notify) -> None:
    """Make a journal where there is none; where one was set aside, save into it what that one holds.

    Raises:
        OSError: there is no room for the file, or the disk fails; the one that was set aside is kept.
        sqlite3.Error: the same.
    """
    log = locate_log(path)
    if not path.exists() and log.exists() and log.stat().st_size:
        path.touch()  # the file is lost, but its last answers are in the log
        set_aside(path)
    if _name_aside(path).exists():
        _repair_file(path, notify)
    elif not path.exists():
        _discard(path, _SIDES)
        _build_file(path, None)


def set_aside(path: Path) -> None:
    """Move a damaged journal out of its place.

    A connection to it should still be open: closed in its place, it would put the log into the damaged file and
    delete it. A process that works on it finds that it is gone, see `JournalFile`.
    """
    path.replace(_name_aside(path))
    _move(path, _name_aside(path), _SIDES)


def save_from_log(connection: sqlite3.Connection, path: Path, notify: Notify) -> None:
    """Take in answers that are in the write-ahead log but behind a torn place, where SQLite reads no further.

    A killed process leaves a log that ends anywhere, and nothing is lost by that; a failing disk may tear it earlier.
    """
    if not locate_log(path).exists() or not _is_log_torn(connection, path):
        return
    with open_transaction(connection):
        # Look again: without the lock, what another process is just writing looks the same.
        if not _is_log_torn(connection, path):
            return
        setups, answers = _select_new(connection, path)
        copy = locate_log(_name_damaged(path))
        shutil.copyfile(locate_log(path), copy)
        add_setups(connection, setups)
        saved = add_answers(connection, answers)
        connection.execute("UPDATE spending SET usd = usd")  # SQLite begins the log anew only to write something
    notify(
        f"the log of the journal of LLM answers, {path}, was torn: {_count(saved)} could be saved from behind the "
        f"tear, a copy of the log is now {copy.name}, and only what is missing will be asked again"
    )


def _repair_file(path: Path, notify: Notify) -> None:
    aside = _name_aside(path)
    if not path.exists():
        _move(path, aside, _SIDES)
        _build_file(path, aside)
    damaged = _name_damaged(path)
    _move(aside, damaged, (*_SIDES, ""))
    with closing(sqlite3.connect(path)) as connection:
        (saved,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    notify(
        f"the journal of LLM answers, {path}, was damaged: {_count(saved)} could be saved into a new one, "
        f"the damaged file is now {damaged.name}, and only what is missing will be asked again"
    )


def _build_file(path: Path, source: Path | None) -> None:
    """Make a journal and put it in place whole, with the rows that are left in `source`."""
    new = path.with_name(path.name + ".new")
    _discard(new, (*_SIDES, "-journal", ""))
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        # Nothing of a half-made file is ever used, so it needs no journal of its own.
        connection.executescript(f"PRAGMA page_size={PAGE}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {SCHEMA}")
        if source:
            with open_transaction(connection):
                _add_rows(connection, read_rows(source, frozenset({_ANSWER, _SETUP, _BATCH})))
        connection.execute("PRAGMA journal_mode=WAL")
    with new.open("rb+") as stream:
        os.fsync(stream.fileno())
    new.replace(path)


def _add_rows(connection: sqlite3.Connection, rows: Iterable[PageRow]) -> None:
    for number, values in rows:
        if row := _read_answer(values):
            add_answers(connection, [row])
        elif setup := _read_setup(number, values):
            add_setups(connection, [setup])
        elif len(values) == _BATCH and is_whole(values):
            add_batch(connection, tuple(values))
        elif len(values) == _SETUP and (converted := convert_first_form(*values)):
            add_setups(connection, [converted[0]])
            add_answers(connection, [converted[1]])


def _is_log_torn(connection: sqlite3.Connection, path: Path) -> bool:
    return has_broken_log(path) or bool(_select_new(connection, path)[1])


def _select_new(connection: sqlite3.Connection, path: Path) -> tuple[set[Setup], list[Row]]:
    """Return the answers in the log that the journal lacks, and all setups."""
    setups, answers = set(), {}
    for number, values in read_log_rows(path, frozenset({_ANSWER, _SETUP})):
        if setup := _read_setup(number, values):
            setups.add(setup)
        elif (row := _read_answer(values)) and row[0] not in answers:
            known = connection.execute("SELECT 1 FROM answers WHERE key = ?", row[:1]).fetchone()
            answers[row[0]] = None if known else row
    return setups, [row for row in answers.values() if row]


def _read_answer(values: list[Value]) -> Row | None:
    if len(values) != _ANSWER:
        return None
    # The first column is the row's number. A whole amount of dollars is kept as an integer.
    cost = values[COST + 1]
    row = (*values[1 : COST + 1], float(cost) if isinstance(cost, int) else cost, values[-1])
    return row if is_whole(row) else None


def _read_setup(number: int, values: list[Value]) -> Setup | None:
    if len(values) != _SETUP or not is_setup(number, *values[1:]):
        return None
    return number, str(values[1]), str(values[2])


def _name_aside(path: Path) -> Path:
    return path.with_name(path.name + ".repairing")


def _name_damaged(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    return next(name for name in names if not name.exists() and not locate_log(name).exists())


def _move(source: Path, target: Path, endings: tuple[str, ...]) -> None:
    for ending in endings:
        with suppress(FileNotFoundError):
            source.with_name(source.name + ending).replace(target.with_name(target.name + ending))


def _discard(path: Path, endings: tuple[str, ...]) -> None:
    for ending in endings:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _count(answers: int) -> str:
    return "1 answer" if answers == 1 else f"{answers} answers"
