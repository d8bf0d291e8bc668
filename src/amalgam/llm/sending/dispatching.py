"""Which request is sent when."""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from amalgam.errors import BudgetError, EndpointError, Interrupted
from amalgam.llm.connection import open_client
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending.exchange import Failure, exchange
from amalgam.llm.sending.interrupts import catch_signals
from amalgam.llm.sending.pacing import AdaptiveLimit, Pace
from amalgam.llm.sending.recording import Recorder
from amalgam.llm.sending.spending import Spending
from amalgam.llm.tokens import bound_answer, guess_prompt_tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_FIRST_REST, _LONGEST_REST = 0.5, 30.0  # seconds before a request is sent again; doubled each time
_WORTH_TELLING = 10.0  # seconds of a pause


@dataclass(slots=True)
class _Lane:
    """A group on its way.

    Attributes:
        requests: those that have no answer yet; the first one is sent next.
        tries: times that the first one has failed.
        failures: how many of these since any other request was last answered.
        saved: answers of the run at the last failure.
    """

    requests: deque[Request]
    tries: int = 0
    failures: int = 0
    saved: int = 0


class Dispatcher:
    """Sends requests, as many at once as it may.

    One loop decides: it sends the next request as soon as the number in flight, a pause that the endpoint wants, the
    limits a minute and the budget all allow it. Lanes whose request has failed most often go first, so that an endpoint
    that is gone is soon found out; then those that are under way, then new ones.

    Attributes:
        saved: answers that are durable.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        spending: Spending,
        recorder: Recorder,
        advance: Callable[[Answer], None],
        notify: Callable[[str], None],
    ) -> None:
        """Send nothing yet."""
        self.saved = 0
        self._endpoint, self._limits, self._spending = endpoint, limits, spending
        self._recorder, self._advance, self._notify = recorder, advance, notify
        self._in_flight = AdaptiveLimit(endpoint.slots or limits.concurrency, endpoint.slots or limits.max_concurrency)
        self._pace = Pace(limits.requests_per_minute, limits.tokens_per_minute)
        self._paused_until = float("-inf")
        self._groups: deque[list[Request]] = deque()
        self._is_reading = self._are_all_read = False
        self._ready: list[tuple[int, int, _Lane]] = []  # a heap
        self._order = count()
        self._resting = 0  # lanes whose request is to be sent again in a while
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._fault: BaseException | None = None

    async def run(self) -> None:
        """Send everything; after a fault send nothing more, wait for what is in flight, and raise it."""
        with catch_signals(self._interrupt):
            async with open_client(self._endpoint) as client:
                while not self._fault and not self._is_done():
                    self._changed.clear()
                    self._read_more()
                    delay = self._send_what_may_go(client)
                    if not self._fault:
                        await self._wait(delay)
                while self._tasks:
                    await asyncio.wait(self._tasks)
        if self._fault:
            raise self._fault

    def _is_done(self) -> bool:
        return self._are_all_read and not (self._groups or self._ready or self._resting or self._tasks)

    async def _wait(self, delay: float | None) -> None:
        """Wait until something has changed, or for so many seconds."""
        timer = None if delay is None else asyncio.get_running_loop().call_later(delay, self._changed.set)
        await self._changed.wait()
        if timer:
            timer.cancel()

    def _read_more(self) -> None:
        if not self._are_all_read and not self._is_reading and len(self._groups) < self._in_flight.current:
            self._is_reading = True
            self._run(self._read_groups(2 * self._in_flight.current))

    async def _read_groups(self, number: int) -> None:
        groups = await self._recorder.read_groups(number)
        self._groups.extend(filter(None, groups))
        self._are_all_read = len(groups) < number
        self._is_reading = False

    def _send_what_may_go(self, client: "AsyncOpenAI") -> float | None:
        """Send what may be sent now; return the seconds after which there may be more, None if that depends."""
        while self._has_room() and (self._ready or self._groups):
            if not self._ready:
                self._queue(_Lane(deque(self._groups.popleft())))
            now = asyncio.get_running_loop().time()
            delay = max(self._paused_until - now, self._pace.find_delay(now))
            if delay > 0:
                return delay
            if obstacle := self._spending.find_obstacle(self._ready[0][2].requests[0]):
                # Answers in flight may turn out cheaper than what is set aside for them.
                if not self._in_flight.in_flight:
                    self._stop(BudgetError(obstacle))
                return None
            lane = heapq.heappop(self._ready)[2]
            request = lane.requests[0]
            tokens = guess_prompt_tokens(request) + bound_answer(request) if self._pace.counts_tokens else 0.0
            self._pace.spend(now, tokens)
            reserved = self._spending.reserve(request)
            self._run(self._send(client, lane, self._in_flight.start(), reserved, tokens))
        return None

    def _has_room(self) -> bool:
        # Answers that are not durable yet are tasks as well: a disk that is too slow holds up the sending.
        return self._in_flight.has_room and len(self._tasks) < 2 * self._in_flight.current

    async def _send(self, client: "AsyncOpenAI", lane: _Lane, mark: int, reserved: float, tokens: float) -> None:
        request = lane.requests[0]
        try:
            self._spending.secure()
            answer = await exchange(client, self._endpoint, request, self._limits)
        except Failure as failure:
            self._spending.settle(reserved, None if failure.may_cost else 0.0)
            self._try_again(lane, mark, failure)
            self._in_flight.end()
            return
        self._in_flight.grow(mark)
        self._spending.settle(reserved, answer.cost_usd)
        if used := answer.prompt_tokens + answer.completion_tokens:
            self._pace.correct(used - tokens)
        # A slot of a server of one's own is kept for the lane, so that it finds the prefix that it left there.
        if not self._endpoint.slots:
            self._in_flight.end()
            self._changed.set()
        await self._recorder.record(request, answer)
        if self._endpoint.slots:
            self._in_flight.end()
        self.saved += 1
        lane.requests.popleft()
        lane.tries = lane.failures = 0
        if lane.requests:
            self._queue(lane)
        self._advance(answer)

    def _try_again(self, lane: _Lane, mark: int, failure: Failure) -> None:
        if failure.notice:
            self._notify(failure.notice)
        if failure.is_misfit:
            self._queue(lane)
            return
        if failure.is_push_back:
            self._in_flight.cut(mark)
        lane.failures = lane.failures + 1 if lane.saved == self.saved else 1
        lane.saved = self.saved
        lane.tries += 1
        if not failure.can_pass or lane.failures > self._limits.retries:
            error = EndpointError(failure.sentence)
            error.__cause__ = failure
            self._stop(error)
            return
        loop = asyncio.get_running_loop()
        if failure.wait:
            until = loop.time() + failure.wait
            if until - max(self._paused_until, loop.time()) > _WORTH_TELLING:
                self._notify(f"the LLM endpoint asks to wait {failure.wait:.0f} s")
            self._paused_until = max(self._paused_until, until)
        # Requests that failed together must not come back together, and one that fails alone must let others go first.
        rest = min(_FIRST_REST * 2 ** (lane.tries - 1), _LONGEST_REST)
        loop.call_later(failure.wait + random.uniform(rest / 2, rest), self._wake, lane)
        self._resting += 1

    def _wake(self, lane: _Lane) -> None:
        self._resting -= 1
        self._queue(lane)
        self._changed.set()

    def _queue(self, lane: _Lane) -> None:
        heapq.heappush(self._ready, (-lane.failures, next(self._order), lane))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._stop(error)
        self._changed.set()

    def _stop(self, fault: BaseException) -> None:
        self._fault = self._fault or fault
        self._changed.set()

    def _interrupt(self, name: str) -> None:
        self._notify(
            f"{name}: no more is sent; {self._in_flight.in_flight} requests are in flight and awaited, a second "
            "signal ends at once"
        )
        self._stop(Interrupted("interrupted: run again to go on"))
