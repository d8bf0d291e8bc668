"""Ctrl-C and SIGTERM while requests are in flight: the first is a wish, the second an order."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def catch_signals(react: Callable[[str], None]) -> Iterator[None]:
    """Call `react` in the running event loop with the name of the first signal; a second one ends the process.

    Off the main thread, where Python handles no signals, and for signals that the parent process has turned off,
    nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    handler = partial(_handle, asyncio.get_running_loop(), react, caught)
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def _handle(
    loop: asyncio.AbstractEventLoop,
    react: Callable[[str], None],
    caught: Iterable[int],
    number: int,
    _: FrameType | None,
) -> None:
    for each in caught:
        signal.signal(each, signal.SIG_DFL)
    loop.call_soon_threadsafe(react, signal.Signals(number).name)
