"""Send requests: as many in flight as the endpoint can handle, each answer recorded the moment it arrives."""

import asyncio
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from amalgam.errors import BudgetError, EndpointError, Interrupted
from amalgam.llm.client import Failure, exchange, open_client
from amalgam.llm.journal import Journal
from amalgam.llm.journal_file import Notify
from amalgam.llm.request import Answer, Endpoint, Limits, Request, bound_tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Advance = Callable[[Answer], None]

_START, _MOST = 4, 64  # requests in flight if `llm.concurrency` is not set: at first, and at most
_FIRST_REST, _LONGEST_REST = 0.5, 30.0  # seconds before a request is sent again; doubled each time
_WORTH_TELLING = 10.0  # seconds of a pause that is reported
_ROUNDING = 1e-9  # US dollars by which a sum of many costs may be off
_AHEAD = 1.5  # times what is needed is set aside in the journal, so that it is rarely written to


def send_requests(
    groups: Iterable[list[Request]],
    endpoint: Endpoint,
    journal: Journal,
    advance: Advance,
    *,
    limits: Limits,
    notify: Notify,
    total: int,
) -> int:
    """Send every request and record its answer in the journal; return how many were sent, each try counted.

    Groups run in parallel. Within a group, each request is sent when the answer before it is durable. Temporary
    failures are tried again. Permanent failures (EndpointError), a limit (BudgetError), SIGINT and SIGTERM
    (Interrupted) end the run, once everything in flight is recorded. `advance` gets each answer when it is durable;
    `total` counts the requests of all groups, for errors.
    """
    sender = _Sender(endpoint, limits, journal, advance, notify)
    try:
        asyncio.run(sender.run(iter(groups)))
    except (EndpointError, BudgetError, Interrupted) as error:
        kept = f"{sender.saved} answers of this run are kept, {total - sender.saved} are left"
        raise type(error)(f"{error}; {kept}") from error.__cause__
    finally:
        sender.spending.close()
    return sender.spending.sent


class Spending:
    """The account of a run; `sent` counts requests, each try separately.

    The most that a request may cost is set aside when it is sent, in the journal too. So neither all requests in flight
    together nor a killed run can exceed the budget. The real cost replaces that amount if it is known.
    """

    def __init__(self, limits: Limits, journal: Journal, sent: int = 0) -> None:
        """Start with what is spent and what open batches may cost; raise a BudgetError for a budget without a price."""
        if limits.budget_usd is not None and limits.price is None:
            raise BudgetError(
                "`llm.budget_usd` is set, but no price for `llm.model` is known: add it to data/prices.yaml, or "
                "set `llm.budget_usd: null`"
            )
        self._limits, self._journal = limits, journal
        self._spent = journal.read_spending(batches=True)
        self._aside = self._noted = 0.0  # US dollars set aside, and how many of them the journal counts
        self.sent = limits.sent + sent

    def bound_cost(self, request: Request, *, batch: bool = False) -> float:
        """Return the most US dollars that a request may cost, 0 without a price."""
        return self._limits.price.cost(*bound_tokens(request), batch) if self._limits.price else 0.0

    def find_obstacle(self, most: float, count: int = 1) -> str:
        """Return why requests that may cost that many US dollars may not be sent now, or "" if they may."""
        limits, spent = self._limits, self._spent + self._aside
        what = "the next request" if count == 1 else f"the next batch of {count} requests"
        if limits.max_requests is not None and self.sent + count > limits.max_requests:
            return (
                f"`llm.max_requests: {limits.max_requests}` is reached: {self.sent} were sent in this run, and {what} "
                "would follow; raise it, or run again for more"
            )
        if limits.budget_usd is not None and spent + most > limits.budget_usd + _ROUNDING:
            return (
                f"`llm.budget_usd: {limits.budget_usd:g}` is reached: {spent:.6f} US dollars are spent or set aside, "
                f"and {what} may cost {most:.6f}; raise it to continue"
            )
        return ""

    def reserve(self, request: Request) -> float:
        """Count a request that is sent; return the US dollars set aside for it, which the journal counts too."""
        self.sent += 1
        most = self.bound_cost(request)
        self._aside += most
        if self._aside > self._noted:
            self._note(_AHEAD * self._aside)
        return most

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace what was set aside for a request by its cost; if the cost is not known, keep the money set aside."""
        if cost is not None:
            self._aside -= reserved
            self._spent += cost

    def close(self) -> None:
        """Make the journal count only what is still set aside at the end."""
        self._note(self._aside)

    def _note(self, usd: float) -> None:
        if usd != self._noted:
            self._journal.add_spending(usd - self._noted)
        self._noted = usd


class _Sender:
    """Workers that each send one group after another, and a bound on the requests in flight.

    The bound grows by one per answer until the endpoint pushes back. That halves it; then it grows by one per round
    trip (RFC 5681). Requests in flight when it was halved do not change it. A server with slots has a worker per slot.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits, journal: Journal, advance: Advance, notify: Notify) -> None:
        self._endpoint, self._limits, self._journal = endpoint, limits, journal
        self._advance, self._notify = advance, notify
        self.spending = Spending(limits, journal)
        self._most = endpoint.slots or limits.concurrency or _MOST
        self._bound = endpoint.slots or limits.concurrency or _START
        self._in_flight = self._cuts = self._answers = self.saved = 0
        self._waiting: deque[asyncio.Future[None]] = deque()  # workers that wait for room
        self._paused_until = 0.0
        self._has_told = False  # that the endpoint fails again and again
        self._fault: BaseException | None = None
        self._stopped = asyncio.Event()
        self._unsaved: list[tuple[Request, Answer]] = []
        self._write: asyncio.Task[None] | None = None

    async def run(self, groups: Iterator[list[Request]]) -> None:
        """Send everything; after a fault, send nothing more, wait for what is in flight, and raise the fault."""
        # While an answer is written to disk, another worker sends.
        workers = self._most if self._endpoint.slots else 2 * self._most
        with _catch_signals(self._interrupt):
            async with open_client(self._endpoint) as client:
                await asyncio.gather(*(self._work(client, groups) for _ in range(workers)))
        if self._fault:
            raise self._fault

    async def _work(self, client: "AsyncOpenAI", groups: Iterator[list[Request]]) -> None:
        try:
            for group in groups:
                for request in group:
                    if not (answer := await self._get_answer(client, request)):
                        return
                    await self._record(request, answer)
                    self.saved += 1
                    self._advance(answer)
        except BaseException as error:  # of the endpoint, the budget or the journal, or a bug
            self._stop(error)

    async def _get_answer(self, client: "AsyncOpenAI", request: Request) -> Answer | None:
        """Send a request until it is answered; return None if the run ends first."""
        tries = failures = 0
        saved = self.saved
        while await self._enter(request, is_urgent=tries > 0):
            cuts, reserved = self._cuts, self.spending.reserve(request)
            try:
                answer = await exchange(client, self._endpoint, request, self._limits)
            except Failure as failure:
                self.spending.settle(reserved, None if failure.may_cost else 0.0)
                self._leave(cuts, is_push_back=failure.is_push_back)
                if failure.notice:
                    self._notify(failure.notice)
                if failure.is_misfit:
                    continue
                # A failure counts only while nothing else is answered.
                failures, saved = failures + 1 if saved == self.saved else 1, self.saved
                tries += 1
                if not failure.can_pass or failures > self._limits.retries:
                    raise EndpointError(failure.sentence) from failure
                if failures > 1 and not self._has_told:  # all tries together may take many times `llm.timeout`
                    self._has_told = True
                    self._notify(f"trying again: {failure.sentence}")
                until = time.monotonic() + failure.wait
                if until - max(self._paused_until, time.monotonic()) > _WORTH_TELLING:
                    self._notify(f"the LLM endpoint asks to wait {failure.wait:.0f} s")
                self._paused_until = max(self._paused_until, until)
                # Requests that failed together must not be sent again together.
                rest = min(_FIRST_REST * 2 ** (tries - 1), _LONGEST_REST)
                await self._rest(failure.wait + random.uniform(rest / 2, rest))
            else:
                self.spending.settle(reserved, answer.cost_usd)
                self._leave(cuts, is_push_back=False)
                return answer
        return None

    async def _enter(self, request: Request, *, is_urgent: bool) -> bool:
        """Wait until a request may be sent, and count it as in flight; return False if the run ends first."""
        while not self._fault:
            pause, is_full = self._paused_until - time.monotonic(), self._in_flight >= self._bound
            obstacle = "" if is_full else self.spending.find_obstacle(self.spending.bound_cost(request))
            if is_full or (obstacle and self._in_flight):
                # Answers in flight may turn out cheaper than what is set aside for them.
                turn = asyncio.get_running_loop().create_future()
                # A request that has failed goes first, so that a dead endpoint is soon noticed.
                (self._waiting.appendleft if is_urgent else self._waiting.append)(turn)
                await turn
            elif obstacle:
                raise BudgetError(obstacle)
            elif pause > 0:
                await self._rest(pause)
            else:
                self._in_flight += 1
                return True
        return False

    def _leave(self, cuts: int, *, is_push_back: bool) -> None:
        """Count a request as done, and adapt the bound unless it was cut while the request was in flight."""
        if cuts == self._cuts and is_push_back:
            self._bound, self._answers = max(min(self._bound, self._in_flight) // 2, 1), 0
            self._cuts += 1
        # A bound that is not used has not been tested, so answers do not show that it could be higher.
        elif cuts == self._cuts and 2 * self._in_flight >= self._bound:
            self._answers += 1
            if not self._cuts or self._answers >= self._bound:
                self._bound, self._answers = min(self._bound + 1, self._most), 0
        self._in_flight -= 1
        self._wake(max(self._bound - self._in_flight, 1))

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            self._waiting.popleft().set_result(None)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _record(self, request: Request, answer: Answer) -> None:
        """Record an answer; it is durable when this returns. What arrives during a transaction goes into the next."""
        if not self._unsaved:
            self._write = asyncio.create_task(self._write_next(self._write))
        self._unsaved.append((request, answer))
        assert self._write
        await self._write

    async def _write_next(self, previous: asyncio.Task[None] | None) -> None:
        if previous:
            await asyncio.wait([previous])
        entries, self._unsaved = self._unsaved, []
        await asyncio.to_thread(self._journal.record, entries)

    def _stop(self, fault: BaseException) -> None:
        self._fault = self._fault or fault
        self._stopped.set()
        self._wake(len(self._waiting))

    def _interrupt(self, name: str) -> None:
        self._notify(
            f"{name}: nothing more is sent; {self._in_flight} requests in flight are awaited; "
            "a second signal ends the run at once"
        )
        self._stop(Interrupted("interrupted: run again to continue"))


@contextmanager
def _catch_signals(react: Callable[[str], None]) -> Iterator[None]:
    """Call `react` in the event loop with the name of the first SIGINT or SIGTERM; a second one ends the process."""
    loop, before = asyncio.get_running_loop(), dict[int, Any]()

    def handle(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        loop.call_soon_threadsafe(react, signal.Signals(number).name)

    with suppress(ValueError):  # off the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            # Signals that the parent process has turned off stay off.
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None):
                signal.signal(number, handle)
                before[number] = handler
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
