"""Sending requests through OpenAI's Batch API: at half the price, and answered within a day.

The journal knows of every batch before it is made, so that the next process takes up what one that is gone has left:
a batch that the endpoint has is waited for, one that it has not is given up, and no request is paid for twice.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from amalgam.errors import BudgetError, EndpointError, Interrupted
from amalgam.llm.batch.api import BatchApi, EndpointGoneError, State, open_api
from amalgam.llm.batch.collect import Collector
from amalgam.llm.batch.submit import HeldRequests, Make, Notify, Submitter
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.journal import Journal
from amalgam.llm.sending import Advance
from amalgam.llm.sending.spending import Spending
from amalgam.llm.survey import iterate_missing

Lock = Callable[[], AbstractContextManager[None]]

_GROWTH = 1.5  # of the wait, from one look to the next


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait, in seconds.

    Attributes:
        first: before the first look at a batch; later waits grow,
        most: up to this.
        report: between two sentences on how far the batches are.
        settle: until the endpoint surely lists a batch that was made.
    """

    first: float = 2.0
    most: float = 60.0
    report: float = 300.0
    settle: float = 5.0


_PACE = Pace()


def send_batches(
    make: Make,
    endpoint: Endpoint,
    journal: Journal,
    advance: Advance,
    *,
    limits: Limits,
    notify: Notify,
    lock: Lock,
    pace: Pace = _PACE,
) -> None:
    """Send every request that has no answer in batches, wait for them, and record the answers in the journal.

    First it takes up the batches that are open at the endpoint, whoever made them. What comes back unanswered
    because the batch expired, or by a fault that passes, is sent again.

    Args:
        make: yields the requests, the same at each call.
        endpoint: a server with a Batch API.
        journal: where answers are kept, and which batches are open.
        advance: called with each answer that is recorded.
        limits: timeout, retries, budget, requests at most, and the price.
        notify: gets a sentence when a batch is made, and now and then on the way.
        lock: entered to submit and to collect, so that one process of a clone does so at a time; left while waiting,
            so that another experiment can send meanwhile.
        pace: how often to look.

    Raises:
        EndpointError: the endpoint failed, or refused a request for good; what it answered is recorded.
        BudgetError: the next batch might pass `llm.budget_usd` or `llm.max_requests`, so it was not made.
        Interrupted: by the user; open batches go on, and the next call collects them.
    """
    Spending(limits, journal)  # refuses a budget without a price
    with open_api(endpoint, limits, pace.settle) as api:
        collector = Collector(api, endpoint, journal, advance, limits)
        submitter = Submitter(make, endpoint, journal, limits, notify, api)
        try:
            while True:
                with lock():
                    collector.collect()
                    waited = submitter.submit(collector)
                if not waited:
                    return
                _wait(waited, collector, api, limits, notify, lock, pace)
        except (BudgetError, EndpointError) as error:
            if collector.open:
                raise type(error)(f"{error}; {_phrase_open(len(collector.open))}") from error
            raise
        except KeyboardInterrupt as error:
            # Perhaps in the middle of making one, so the journal knows better than what was seen last.
            count = sum(batch.name.startswith(collector.prefix) for batch in journal.list_batches())
            raise Interrupted(f"interrupted: {_phrase_open(count)}") from error


def check_no_batches(make: Make, journal: Journal) -> None:
    """Make sure that no missing request is in an open batch, where it is paid for already.

    Raises:
        EndpointError: some are.
    """
    held = HeldRequests(journal)
    count = sum(bool(held.find(request.key)) for request in iterate_missing(make(), journal)) if held else 0
    if count:
        raise EndpointError(
            f"{count} of the requests are in a batch at the endpoint, where they are paid for: set `llm.batch: true` "
            "to collect it"
        )


def _wait(
    waited: set[str], collector: Collector, api: BatchApi, limits: Limits, notify: Notify, lock: Lock, pace: Pace
) -> None:
    """Look at the batches until all have ended, and collect each when it has."""
    pause, failures, reported = pace.first, 0, time.monotonic()
    while waited:
        time.sleep(pause)
        pause = min(pause * _GROWTH, pace.most)
        try:
            states = [api.look(collector.open[name].remote) for name in sorted(waited)]
            if any(state is None or state.has_ended for state in states):
                with lock():
                    collector.collect()
        except EndpointGoneError:
            # The batch goes on whether it can be seen or not, and a day is long.
            failures += 1
            if failures > limits.retries:
                raise
        else:
            failures = 0
            waited = waited & collector.open.keys()
            if waited and time.monotonic() - reported >= pace.report:
                reported = time.monotonic()
                notify(_phrase_progress(states))


def _phrase_progress(states: list[State | None]) -> str:
    seen = [state for state in states if state]
    done, total = sum(state.done for state in seen), sum(state.total for state in seen)
    return f"the endpoint has answered {done} of {total} requests of its batches"


def _phrase_open(count: int) -> str:
    if not count:
        return "nothing is under way at the endpoint"
    batches = "1 batch goes" if count == 1 else f"{count} batches go"
    return f"{batches} on at the endpoint, and the next run collects what it answers"
