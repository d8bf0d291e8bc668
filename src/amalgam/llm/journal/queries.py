"""What is asked of the journal's file, in SQL. Each function takes an open connection first."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from amalgam.llm.journal.rows import COST, SEEDED, Row, Setup, is_setup, is_whole

_COLUMNS = "key, setup, sample, seeded, text, finish_reason, prompt_tokens, completion_tokens, cost_usd, checksum"
_ADD_ANSWER = f"INSERT OR IGNORE INTO answers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class DamagedIndexError(sqlite3.DatabaseError):
    """The index of the answers' keys does not fit the answers, which SQLite itself does not look at."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


@contextmanager
def open_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Keep all changes of the block, durably, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself where the disk is full
            connection.execute("ROLLBACK")
        raise


def add_answers(connection: sqlite3.Connection, rows: Iterable[Row]) -> int:
    """Add the answers whose keys are new, and to the spending what those of an endpoint cost; return how many."""
    new, spent = 0, 0.0
    for row in rows:
        if connection.execute(_ADD_ANSWER, row).rowcount:
            new += 1
            spent += 0.0 if row[SEEDED] else row[COST] or 0.0
    if spent:
        add_spending(connection, spent)
    return new


def add_spending(connection: sqlite3.Connection, usd: float) -> None:
    """Add to the running total in US dollars; what is taken back was added before, but for rounding."""
    connection.execute("UPDATE spending SET usd = max(usd + ?, 0.0)", [usd])


def add_setups(connection: sqlite3.Connection, setups: Iterable[Setup]) -> None:
    """Add the setups that are new."""
    connection.executemany("INSERT OR IGNORE INTO setups VALUES (?, ?, ?)", setups)


def select_answers(connection: sqlite3.Connection, keys: Sequence[bytes]) -> list[Row]:
    """Return the answers with these keys, each with the number of its row before it."""
    marks = ",".join("?" * len(keys))
    return connection.execute(f"SELECT id, {_COLUMNS} FROM answers WHERE key IN ({marks})", keys).fetchall()


def select_page(connection: sqlite3.Connection, last: bytes, size: int) -> list[Row]:
    """Return the next answers in the order of the keys, each with the number of its row before it."""
    query = f"SELECT id, {_COLUMNS} FROM answers WHERE key > ? ORDER BY key LIMIT ?"
    return connection.execute(query, (last, size)).fetchall()


def count_answers(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """Count the keys that have an answer; the index is enough for that."""
    marks = ",".join("?" * len(keys))
    found: int = connection.execute(f"SELECT count(*) FROM answers WHERE key IN ({marks})", keys).fetchone()[0]
    return found


def delete_damaged(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Delete damaged answers, and have all folders read in anew, since they may hold them.

    Args:
        connection: to the file.
        rows: with their numbers, as they were selected by their keys.

    Raises:
        DamagedIndexError: an answer is whole when it is read by its number, so the index of the keys is damaged.
    """
    for number, key, *_ in rows:
        row = connection.execute(f"SELECT {_COLUMNS} FROM answers WHERE id = ?", [number]).fetchone()
        if row and not is_whole(row):
            connection.execute("DELETE FROM answers WHERE id = ?", [number])
        elif row:
            # Either the index does not lead to this row by its own key, or it still leads to it by another one.
            found = connection.execute("SELECT id FROM answers WHERE key = ?", row[:1]).fetchone()
            if found != (number,) or not all(is_whole(row[1:]) for row in select_answers(connection, [key])):
                raise DamagedIndexError
    connection.execute("DELETE FROM folders")


def select_setups(connection: sqlite3.Connection, numbers: Iterable[int | None]) -> dict[int | None, tuple[str, str]]:
    """Return model and settings by number, where they are known and whole."""
    found = {}
    for number in numbers:
        row = connection.execute("SELECT model, settings FROM setups WHERE id = ?", [number]).fetchone()
        if row and is_setup(number, *row):
            found[number] = row
    return found


def sum_up(connection: sqlite3.Connection) -> list[Row]:
    """Return by setup: its number, answers, those read in, tokens of prompts, of texts, cost, those without a price."""
    query = """
        SELECT setup, count(*), sum(seeded != 0), cast(total(prompt_tokens) AS INTEGER),
            cast(total(completion_tokens) AS INTEGER), total(cost_usd), sum(cost_usd IS NULL)
        FROM answers GROUP BY setup ORDER BY setup
    """
    return connection.execute(query).fetchall()


def read_spending(connection: sqlite3.Connection) -> float:
    """Return the running total in US dollars."""
    spent: float = connection.execute("SELECT usd FROM spending").fetchone()[0]
    return spent


def has_folder(connection: sqlite3.Connection, source: str) -> bool:
    """Say whether a folder has been read in."""
    return connection.execute("SELECT 1 FROM folders WHERE source = ?", [source]).fetchone() is not None


def add_folder(connection: sqlite3.Connection, source: str) -> None:
    """Remember that a folder has been read in."""
    connection.execute("INSERT OR IGNORE INTO folders VALUES (?)", [source])


def add_batch(connection: sqlite3.Connection, row: Row) -> None:
    """Remember a batch."""
    connection.execute("INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?)", row)


def select_batches(connection: sqlite3.Connection) -> list[Row]:
    """Return name, remote name and number of keys of the batches, by name."""
    return connection.execute("SELECT name, remote, length(keys) / 32 FROM batches ORDER BY name").fetchall()


def select_batch(connection: sqlite3.Connection, name: str) -> Row | None:
    """Return name, remote name and keys of a batch; None where there is none."""
    row: Row | None = connection.execute("SELECT name, remote, keys FROM batches WHERE name = ?", [name]).fetchone()
    return row


def replace_batch(connection: sqlite3.Connection, row: Row) -> None:
    """Put another row in the place of a batch's."""
    connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", row)


def delete_batch(connection: sqlite3.Connection, name: str) -> None:
    """Forget a batch."""
    connection.execute("DELETE FROM batches WHERE name = ?", [name])
