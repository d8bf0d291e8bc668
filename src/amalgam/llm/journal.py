"""The journal: every answer of a language model, durable the moment it arrives.

One SQLite file serves all experiments and queue workers of a clone. It holds answers by the key of their
request, never an API key. Deleting it is safe and costs whatever the endpoint asks for the answers again.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from amalgam.errors import DataError
from amalgam.llm.request import Answer, Request

_LOOKUP = 500  # keys a query; SQLite allows at least 999 variables
_WAIT = 60.0  # seconds to wait for another process that is writing


class Journal:
    """Answers by request key; open it with `open_journal`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take over an open connection."""
        self._connection = connection

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Return the answers that are there, by key."""
        found: dict[str, Answer] = {}
        for start in range(0, len(keys), _LOOKUP):
            part = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, answer FROM answers WHERE key IN ({marks})"
            for key, answer in self._connection.execute(query, part):
                found[key] = Answer(**json.loads(answer))
        return found

    def record(self, request: Request, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns. A first answer is never replaced."""
        sent = json.dumps({"model": request.model, "body": request.body, "sample": request.sample}, ensure_ascii=False)
        kept = json.dumps(asdict(answer), ensure_ascii=False)
        with self._connection:
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (request.key, sent, kept))


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open the journal, making it where there is none.

    Raises:
        DataError: the file is not a journal, or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=_WAIT)
        _turn_on_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL)"
                " WITHOUT ROWID"
            )
        yield Journal(connection)
    except sqlite3.Error as error:
        raise DataError(
            f"the journal of LLM answers, {path}, cannot be used ({error}): free its disk, or move the file away"
        ) from error
    finally:
        if connection is not None:
            connection.close()


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    # For this lock SQLite does not always wait, so two processes that open a new journal at once would collide.
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
