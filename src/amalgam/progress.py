"""What the person at the terminal is told: sentences, and the progress of long work."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG_EVERY = 15.0  # seconds between two lines in a log


def notify(sentence: str) -> None:
    """Say something to the person at the terminal."""
    print(sentence, file=sys.stderr, flush=True)


@contextmanager
def show_progress(title: str, *, total: int, done_before: int = 0) -> Iterator[Callable[[object], None]]:
    """Yield a function to call once for each finished item; what it is called with does not matter.

    `done_before` items, which cost nothing now, are only mentioned. Progress is a bar on a terminal, else a
    plain line now and then.
    """
    known = f" ({done_before} known already)" if done_before else ""
    if total and sys.stderr.isatty():
        with _show_bar(title + known, total) as advance:
            yield advance
    else:
        log = _Log(title, total)
        print(f"{title}: {total} to do{known}", file=sys.stderr, flush=True)
        yield log.advance
        log.close()


@contextmanager
def _show_bar(title: str, total: int) -> Iterator[Callable[[object], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=60) as progress:
        task = progress.add_task(title, total=total)
        yield lambda _item: progress.advance(task)


class _Log:
    """Counts items and writes a line when enough time has passed."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._start = self._written = time.monotonic()

    def advance(self, _item: object) -> None:
        self._done += 1
        if time.monotonic() - self._written >= _LOG_EVERY:
            self._write()

    def close(self) -> None:
        if self._done:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        rate = self._done / max(self._written - self._start, 1e-9)
        left = (self._total - self._done) / rate
        print(
            f"{self._title}: {self._done} of {self._total}, {rate:.1f}/s, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
