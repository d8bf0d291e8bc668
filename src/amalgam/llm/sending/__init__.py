"""Sending requests: as many in flight as the endpoint takes, each answer kept the moment it arrives."""

import asyncio
from collections.abc import Callable, Iterable

from amalgam.errors import BudgetError, EndpointError, Interrupted
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending.dispatching import Dispatcher
from amalgam.llm.sending.recording import Recorder
from amalgam.llm.sending.spending import Spending

Advance = Callable[[Answer], None]


def send_requests(
    groups: Iterable[list[Request]],
    endpoint: Endpoint,
    journal: Journal,
    advance: Advance,
    *,
    limits: Limits,
    notify: Callable[[str], None],
    total: int | None = None,
) -> int:
    """Send every request and record its answer in the journal; return how many were sent, each try counted.

    Groups run side by side, the requests of one group one after the other, each when the answer before it is durable.
    What can pass is tried again; what cannot ends the run, once what is in flight has been awaited and recorded. So
    do a limit that is reached, and SIGINT or SIGTERM.

    Args:
        groups: read as they are needed, in the thread that also records, so that it may use the journal.
        endpoint: who is asked.
        journal: nobody else may use this object meanwhile.
        advance: called with each answer when it is durable.
        limits: how fast and how dear.
        notify: called with a sentence for the person at the terminal.
        total: how many requests the groups hold, so that an error can say how many are left.

    Raises:
        EndpointError: the endpoint refused a request, or kept failing.
        BudgetError: a limit in dollars or requests is reached, or the budget has no price to count with.
        Interrupted: a signal came.
    """
    spending = Spending(limits, journal)
    with Recorder(journal, groups) as recorder:
        dispatcher = Dispatcher(endpoint, limits, spending, recorder, advance, notify)
        try:
            asyncio.run(dispatcher.run())
        except (EndpointError, BudgetError, Interrupted) as error:
            raise type(error)(f"{error}; {_count(dispatcher.saved, total)}") from error.__cause__
        finally:
            spending.close()
    return spending.sent


def _count(saved: int, total: int | None) -> str:
    kept = "1 answer of this run is kept" if saved == 1 else f"{saved} answers of this run are kept"
    if total is None:
        return kept
    left = total - saved
    return f"{kept}, {left} {'is' if left == 1 else 'are'} left"
