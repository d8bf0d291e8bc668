"""The one thread that uses the journal while requests are sent: it keeps the answers and reads what comes next."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import TracebackType

from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Request


class Recorder:
    """Records answers from an event loop, without holding it up.

    All answers that arrive while a transaction is being written go into the next one, so that a slow disk makes
    transactions larger and not fewer answers a second.
    """

    def __init__(self, journal: Journal, groups: Iterable[list[Request]]) -> None:
        """Use the journal, and iterate the groups, in a thread that lives until `__exit__`."""
        self._journal = journal
        self._groups = iter(groups)
        self._thread = ThreadPoolExecutor(1, "journal")
        self._next: list[tuple[Request, Answer]] = []
        self._write: asyncio.Task[None] | None = None

    def __enter__(self) -> "Recorder":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is being written."""
        self._thread.shutdown()

    async def read_groups(self, count: int) -> list[list[Request]]:
        """Return the next groups, fewer than `count` at the end."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: list(islice(self._groups, count)))

    async def record(self, request: Request, answer: Answer) -> None:
        """Keep an answer; it is durable when this returns."""
        if not self._next:
            self._write = asyncio.create_task(self._write_next(self._write))
        self._next.append((request, answer))
        assert self._write
        await self._write

    async def _write_next(self, previous: asyncio.Task[None] | None) -> None:
        if previous:
            await asyncio.wait([previous])
        entries, self._next = self._next, []
        await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.record, entries)
