"""The journal: every answer of an LLM, kept the moment it arrives, so that no request is paid for twice.

It is one SQLite file with a write-ahead log. Several processes may use it at once, a killed one loses nothing that it
had recorded, and what a failing disk leaves of the file is saved (see `repair`).
"""

import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from amalgam.errors import DataError
from amalgam.llm.journal import queries
from amalgam.llm.journal.file import JournalFile
from amalgam.llm.journal.rows import (
    Row,
    Setup,
    build_batch,
    build_line,
    build_row,
    build_setup,
    describe_request,
    is_whole,
    parse_stored,
    read_answer,
)
from amalgam.llm.request import Answer, Request

_LOOKUP = 500  # keys a query; more are no faster
_PAGE = 1000  # answers that are read at once while all are iterated
_SEED = 5000  # answers a transaction while a file is read in
_KEY = 32  # bytes
_WAIT = 60.0  # seconds to wait for another process that is writing
_WATCH = 0.2  # seconds between two looks whether another run has stopped sending


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What the journal holds of one model.

    Attributes:
        model: its identity; empty for answers that were read in from files that do not name it.
        answers: how many.
        seeded: how many of them were read in from files, not sent from here.
        prompt_tokens: tokens of all their prompts.
        completion_tokens: tokens of all their texts.
        cost_usd: US dollars of those whose price is known, whoever paid.
        unpriced: answers whose price is not known.
    """

    model: str
    answers: int
    seeded: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    unpriced: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that were given to the Batch API together; `remote` is empty until it has said what it calls them."""

    name: str
    remote: str
    keys: int


def write_notice(text: str) -> None:
    """Show a notice on the terminal or in the log."""
    print(text, file=sys.stderr, flush=True)


class Journal:
    """Answers by the key of their request; open it with `open_journal`.

    Every method may raise a DataError: the file is locked by another program, its disk is full, it may not be written.
    What was recorded before is kept then. A damaged answer counts as missing.
    """

    def __init__(self, file: JournalFile) -> None:
        """Take over an open file."""
        self._file = file
        self._damage_is_said = False

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Return the answers that are there, by key."""
        found: dict[str, Answer] = {}
        for part in _cut(keys):
            rows = self._keep_whole(self._file.read(queries.select_answers, part))
            found.update((row[0].hex(), read_answer(row)) for row in rows)
        return found

    def count_missing(self, keys: Sequence[str]) -> int:
        """Count the different keys that have no answer. Answers are not read, so damaged ones count as there."""
        wanted = set(keys)
        return len(wanted) - sum(self._file.read(queries.count_answers, part) for part in _cut(sorted(wanted)))

    def record(self, entries: Sequence[tuple[Request, Answer]]) -> None:
        """Keep answers in one transaction; they are on the disk when this returns. A first answer is never replaced.

        What they cost is added to the spending, but for those that were there before.
        """
        setups = [describe_request(request) for request, _ in entries]
        rows = [
            build_row(request.key, setup[0], request.sample, answer, seeded=False)
            for (request, answer), setup in zip(entries, setups, strict=True)
        ]
        self._file.change(_add, set(setups), rows)

    def record_keys(self, model: str, entries: Sequence[tuple[str, Answer]]) -> None:
        """Do the same for answers of one model of whose requests only the keys are at hand."""
        setup = build_setup(model, {})
        rows = [build_row(key, setup[0], None, answer, seeded=False) for key, answer in entries]
        self._file.change(_add, {setup}, rows)

    def seed(self, lines: Iterable[dict[str, Any]]) -> int:
        """Read in answers that were paid for elsewhere or before, and return how many were new.

        Args:
            lines: each holds `key` and the fields of `Answer`, an export also `model` and `request`; more is ignored.
                They are read as a stream and kept in transactions of some thousand.

        Raises:
            DataError: a line is no such answer; those of earlier transactions are kept.
        """
        new = 0
        remaining = map(parse_stored, lines)
        while part := list(islice(remaining, _SEED)):
            setups = [line.setup for line in part]
            rows = [
                build_row(line.key, setup and setup[0], line.sample, line.answer, seeded=True)
                for line, setup in zip(part, setups, strict=True)
            ]
            new += self._file.change(_add, {setup for setup in setups if setup}, rows)
        return new

    def read_spending(self) -> float:
        """Return the US dollars spent so far: what answers recorded here, not read in from files, have cost, and more.

        What failed, or was on its way when its process was killed, may have cost something too, and counts at its most.
        """
        return self._file.read(queries.read_spending)

    def add_spending(self, usd: float) -> None:
        """Count US dollars that no answer accounts for; negative ones take back what turned out not to be spent."""
        self._file.change(queries.add_spending, usd)

    def summarise(self) -> list[ModelSummary]:
        """Sum up the answers by model, in the order of the models' names."""
        rows = self._file.read(queries.sum_up)
        setups = self._file.read(queries.select_setups, [row[0] for row in rows])
        sums: dict[str, list[Any]] = {}
        for setup, *numbers in rows:
            model = setups[setup][0] if setup in setups else ""
            sums[model] = [a + b for a, b in zip(sums.get(model, [0] * len(numbers)), numbers, strict=True)]
        return [ModelSummary(model, *numbers) for model, numbers in sorted(sums.items())]

    def iterate(self) -> Iterator[dict[str, Any]]:
        """Yield all answers in the order of their keys, as `seed` takes them, and hold only some at a time.

        `model` is empty and `request` (its sample and its sampling settings) is missing where they are not known.
        """
        last = b""
        while rows := self._file.read(queries.select_page, last, _PAGE):
            whole = self._keep_whole(rows)
            if len(whole) < len(rows):  # a repair may have saved more
                rows = self._file.read(queries.select_page, last, _PAGE)
                whole = self._keep_whole(rows)
            last = max(row[1] for row in rows) if rows else last
            setups = self._file.read(queries.select_setups, {row[1] for row in whole})
            for row in whole:
                yield build_line(row, *setups.get(row[1], ("", None)))

    def is_seeded(self, source: str) -> bool:
        """Say whether the folder with this hash has been read in."""
        return self._file.read(queries.has_folder, source)

    def mark_seeded(self, source: str) -> None:
        """Remember that the folder with this hash has been read in. Forgotten where damage may have cost answers."""
        self._file.change(queries.add_folder, source)

    def add_batch(self, name: str, keys: Sequence[str]) -> None:
        """Remember a batch before it is submitted."""
        self._file.change(queries.add_batch, build_batch(name, "", b"".join(map(bytes.fromhex, keys))))

    def set_batch_remote(self, name: str, remote: str) -> None:
        """Remember what the endpoint calls a batch."""
        self._file.change(_set_remote, name, remote)

    def list_batches(self) -> list[Batch]:
        """List the batches that are not closed, by name."""
        return [Batch(*row) for row in self._file.read(queries.select_batches)]

    def read_batch_keys(self, name: str) -> list[str]:
        """Return the keys of a batch's requests as they were given; none where the batch is not known."""
        batch = self._file.read(queries.select_batch, name)
        keys: bytes = batch[2] if batch else b""
        return [keys[start : start + _KEY].hex() for start in range(0, len(keys), _KEY)]

    def close_batch(self, name: str) -> None:
        """Forget a batch whose answers are recorded, or which came to nothing."""
        self._file.change(queries.delete_batch, name)

    def _keep_whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, less their number, that are whole; the others are removed, so that they are asked again."""
        damaged = [row for row in rows if not is_whole(row[1:])]
        if damaged:
            self._file.change(queries.delete_damaged, damaged)
            if not self._damage_is_said:
                self._damage_is_said = True
                self._file.notify(
                    f"some answers in the journal of LLM answers, {self._file.path}, are damaged: "
                    "they count as missing and will be asked again; check the disk"
                )
        return [row[1:] for row in rows if row not in damaged]


@contextmanager
def open_journal(path: Path, notify: Callable[[str], None] = write_notice, *, wait: float = _WAIT) -> Iterator[Journal]:
    """Open the journal, making it where there is none and saving what can be read where it is damaged.

    Args:
        path: the file.
        notify: is told in one sentence what was wrong with the file, and what was done.
        wait: seconds to wait for another process that is writing.

    Raises:
        DataError: the file cannot be used.
    """
    file = JournalFile(path, notify, wait)
    try:
        yield Journal(file)
    finally:
        file.close()


@contextmanager
def lock_sending(path: Path, notify: Callable[[str], None] = write_notice) -> Iterator[None]:
    """Let one process of all that share a journal send requests at a time, so that none is sent by two.

    The lock is a file beside the journal, which the system frees when its process ends in whatever way.

    Raises:
        DataError: the lock cannot be had, since the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(path.name + ".sending"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            notify("waiting for another run in this clone that is sending requests: what it gets answered is used here")
            lock.acquire(poll_interval=_WATCH)
    except OSError as error:
        raise DataError(
            f"{lock.lock_file} cannot be locked ({error.strerror or error}): allow writing to its folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _cut(keys: Sequence[str]) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), _LOOKUP):
        yield [bytes.fromhex(key) for key in keys[start : start + _LOOKUP]]


def _add(connection: sqlite3.Connection, setups: set[Setup], rows: list[Row]) -> int:
    queries.add_setups(connection, setups)
    return queries.add_answers(connection, rows)


def _set_remote(connection: sqlite3.Connection, name: str, remote: str) -> None:
    batch = queries.select_batch(connection, name)
    if batch:
        queries.replace_batch(connection, build_batch(name, remote, batch[2]))
