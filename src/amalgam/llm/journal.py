"""The journal: every answer of an LLM, kept the moment it arrives, so that no request is paid for twice.

It is one SQLite file with a write-ahead log, which several processes may use at once; a killed process loses nothing
that it had recorded. Messages are not kept: they are long, hold human-coded responses, and can be rebuilt.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

from amalgam.errors import DataError
from amalgam.llm.journal_file import ANSWER, CHECKSUM, JournalFile, Notify, number_model, seal
from amalgam.llm.request import Answer, Request
from amalgam.machine import notify as show_notice

_TEXT = 4  # its index in the row of an answer
_LOOKUP, _SEED = 500, 5000  # keys per query, answers per transaction


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What the journal holds from a model."""

    model: str  # "" for answers from files, which do not name it
    answers: int
    seeded: int  # of them, read from files
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float  # of the answers with a known cost
    unpriced: int  # the others


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that were given to the Batch API together."""

    name: str
    remote: str  # its name there, "" until it is known
    keys: int  # how many

    @property
    def worst_usd(self) -> float:
        """The most that it may cost: the fourth part of its name, in millionths of a US dollar."""
        return sum(int(part) / 1e6 for part in self.name.split("-")[3:4])


class Journal(JournalFile):
    """Answers by the key of their request, and open batches; usable from several threads."""

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Return the recorded answers to these requests, by key."""
        found = {}
        for start in range(0, len(keys), _LOOKUP):
            part = [bytes.fromhex(key) for key in keys[start : start + _LOOKUP]]
            query = f"SELECT {ANSWER} FROM answers WHERE key IN ({','.join('?' * len(part))})"
            for row in self.read(query, *part, check=True):
                found[row[0].hex()] = Answer(*row[_TEXT:CHECKSUM])
        return found

    def record(self, entries: Iterable[tuple[Request, Answer]]) -> None:
        """Record answers, which are on disk when this returns, and add their costs to the spending.

        The first answer to a request is never replaced.
        """
        self._add_answers((request.key, request.model, answer) for request, answer in entries)

    def record_keys(self, model: str, entries: Iterable[tuple[str, Answer]]) -> None:
        """Do the same for answers of one model, given only the keys of their requests."""
        self._add_answers((key, model, answer) for key, answer in entries)

    def _add_answers(self, entries: Iterable[tuple[str, str, Answer]], *, seeded: bool = False) -> int:
        """Add answers, each with its key and model, in one transaction; return how many were new."""
        rows, models = [], dict[int, str]()
        for key, model, answer in entries:
            number = number_model(model) if model else None
            models |= {number: model} if number else {}
            *parts, cost = astuple(answer)
            # SQLite returns a cost as a float, and never as -0.0.
            row = (bytes.fromhex(key), number, None, int(seeded), *parts, None if cost is None else cost + 0.0)
            rows.append((*row, seal(row)))
        return self.add(models, rows)

    def seed(self, entries: Iterable[tuple[str, Answer]]) -> int:
        """Add answers, by key, that were paid for elsewhere or earlier; return how many were new."""
        new, stream = 0, iter(entries)
        while part := [*islice(stream, _SEED)]:
            new += self._add_answers(((key, "", answer) for key, answer in part), seeded=True)
        return new

    def read_spending(self, *, batches: bool = False) -> float:
        """Return the US dollars that requests sent from here have cost, or may have cost if they failed.

        With `batches`, the most that the open batches may cost is added.
        """
        open_usd = sum(batch.worst_usd for batch in self.list_batches()) if batches else 0.0
        return float(self.read("SELECT usd FROM spending")[0][0]) + open_usd

    def add_spending(self, usd: float) -> None:
        """Add US dollars that no answer accounts for; a negative amount takes back what turned out not to be spent."""
        self.change("UPDATE spending SET usd = max(usd + ?, 0.0)", usd)

    def summarise(self) -> list[ModelSummary]:
        """Summarise the answers by model, in the order of the models' names."""
        query = """
            SELECT coalesce(model, '') AS name, count(*), sum(seeded != 0), cast(total(prompt_tokens) AS INTEGER),
                cast(total(completion_tokens) AS INTEGER), total(cost_usd), sum(cost_usd IS NULL)
            FROM answers LEFT JOIN setups ON setups.id = setup GROUP BY name ORDER BY name
        """
        return [ModelSummary(*row) for row in self.read(query)]

    def is_seeded(self, source: str) -> bool:
        """Return whether the file with this hash has been read."""
        return bool(self.read("SELECT 1 FROM folders WHERE source = ?", source))

    def mark_seeded(self, source: str) -> None:
        """Record that the file with this hash has been read; a repair of the journal forgets this."""
        self.change("INSERT OR IGNORE INTO folders VALUES (?)", source)

    def add_batch(self, name: str, keys: Sequence[str], remote: str = "") -> None:
        """Record a batch before it is submitted, and again when the endpoint has named it."""
        values = name, remote, b"".join(map(bytes.fromhex, keys))
        self.change("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", *values, seal(values))

    def list_batches(self) -> list[Batch]:
        """List the batches that are not closed, by name."""
        rows = self.read("SELECT name, remote, length(keys) / 32 FROM batches ORDER BY name")
        return [Batch(*row) for row in rows]

    def read_batch_keys(self, name: str) -> list[str]:
        """Return the keys of a batch's requests as they were given; none if the batch is not known."""
        keys = b"".join(row[0] for row in self.read("SELECT keys FROM batches WHERE name = ?", name))
        return [keys[start : start + 32].hex() for start in range(0, len(keys), 32)]

    def close_batch(self, name: str) -> None:
        """Forget a batch whose answers are recorded, or that was given up."""
        self.change("DELETE FROM batches WHERE name = ?", name)


@contextmanager
def open_journal(path: Path, notify: Notify = show_notice) -> Iterator[Journal]:
    """Open the journal; `notify` is told if the file was damaged, and what was done about it."""
    with closing(Journal(path, notify)) as journal:
        yield journal


@contextmanager
def lock_sending(path: Path, notify: Notify = show_notice) -> Iterator[None]:
    """Let only one of the processes that share a journal send requests at a time, so that none is sent twice.

    The system releases the lock when its process ends, however it ends. A folder that is not writable is a DataError.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.sending")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            notify("waiting for another run in this clone that is sending requests: its answers are used here")
            lock.acquire(poll_interval=0.2)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{lock.lock_file} cannot be locked ({reason}): allow writing to its folder") from error
    try:
        yield
    finally:
        lock.release()
