"""Send requests through OpenAI's Batch API: at half the price, with the answers within a day.

The journal records every batch before it is made, so that the next process can continue the work of an earlier one: it
waits for a batch that exists at the endpoint, gives up a batch that does not, and pays for no request twice.
"""

import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from amalgam.errors import BudgetError, EndpointError, Interrupted
from amalgam.llm.client import NAME, BatchApi, GoneError
from amalgam.llm.faults import Fault, advise, read_answer
from amalgam.llm.journal import Journal
from amalgam.llm.journal_file import Notify
from amalgam.llm.request import Answer, Endpoint, Limits, Request
from amalgam.llm.sending import Advance, Spending

if TYPE_CHECKING:
    from openai.types import Batch

Lock = Callable[[], AbstractContextManager[None]]

# The limits of OpenAI's Batch API: https://platform.openai.com/docs/api-reference/batch/create
_MOST_REQUESTS, _MOST_BYTES = 50_000, 200_000_000
_ENDED = ("completed", "expired", "cancelled", "failed")
_QUEUE_IS_FULL = "token_limit_exceeded"  # code of OpenAI and Azure for a batch that does not fit into their queue
_NEVER_TRIED = ("batch_expired", "batch_cancelled")  # error codes of requests
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 2.0, 60.0, 1.5  # seconds between two polls, and their growth factor
_REPORT = 300.0  # seconds between two progress reports


def send_batches(
    missing: Mapping[str, Request],
    endpoint: Endpoint,
    journal: Journal,
    advance: Advance,
    *,
    limits: Limits,
    notify: Notify,
    lock: Lock,
) -> int:
    """Send requests, given by key, in batches and record their answers; return how many this run has sent.

    First collect the batches that are open at the endpoint, whoever made them. Resend requests that expired or failed
    temporarily. `lock` is held while submitting and collecting, and released while waiting. After an EndpointError, a
    BudgetError (the next batch might exceed a limit) or an interruption, open batches keep running.
    """
    Spending(limits, journal)  # rejects a budget without a price
    api = BatchApi(endpoint, limits)
    with api.client:
        sender = _BatchSender(api, dict(missing), endpoint, journal, advance, limits, notify)
        try:
            sender.run(lock)
        except (BudgetError, EndpointError) as error:
            raise type(error)(f"{error}; {_phrase_open(len(sender.open))}" if sender.open else str(error)) from error
        except KeyboardInterrupt as error:
            count = sum(batch.name.startswith(sender.prefix) for batch in journal.list_batches())
            raise Interrupted(f"interrupted: {_phrase_open(count)}") from error
        return limits.sent + sum(sender.made.values())


def check_no_batches(missing: Collection[str], journal: Journal) -> None:
    """Raise an EndpointError if a missing request is in an open batch, where it is already paid for."""
    if count := len(missing & _read_held(journal).keys()):
        raise EndpointError(
            f"{count} of the requests are in a batch at the endpoint, where they are already paid for: set "
            "`llm.batch: true` to collect it"
        )


@dataclass(eq=False)
class _BatchSender:
    api: BatchApi
    missing: dict[str, Request]
    endpoint: Endpoint
    journal: Journal
    advance: Advance
    limits: Limits
    notify: Notify
    open: dict[str, "Batch"] = field(default_factory=dict)  # batches still running, as last seen, by name
    made: dict[str, int] = field(default_factory=dict)  # requests in the batches made by this run, by name
    refused: dict[str, str] = field(default_factory=dict)  # by key: why the endpoint refused a request for good
    odd: str = ""  # the last line of the last batch that was not a chat completion
    fault: str = "no message"  # its last message about a request that may succeed later
    in_vain: int = 0  # batches in a row that returned no answer
    is_crowded: bool = False  # whether the endpoint's queue was full: then batches are sent one after the other

    def __post_init__(self) -> None:
        self.most = _MOST_REQUESTS  # requests per batch
        names = (self.endpoint.url, self.endpoint.model)  # another model has another price
        self.prefix = "".join(f"{hashlib.sha256(name.encode()).hexdigest()[:8]}-" for name in names)  # of batch names

    def run(self, lock: Lock) -> None:
        """Collect and submit until nothing is missing."""
        pause, failures, reported = _FIRST_PAUSE, 0, time.monotonic()
        waited: set[str] | None = None
        while True:
            try:
                if waited is None or self._has_news():
                    with lock():
                        self._collect()
                        waited = self._submit()
                if not waited:
                    return
                failures = 0
            except GoneError:  # a batch keeps running even if it cannot be seen
                failures, waited = failures + 1, None
                if failures > self.limits.retries or not self.open:
                    raise
            if time.monotonic() - reported >= _REPORT:
                reported = time.monotonic()
                counts = [state.request_counts for state in self.open.values() if state.request_counts]
                done, total = sum(one.completed + one.failed for one in counts), sum(one.total for one in counts)
                self.notify(f"the endpoint has answered {done} of {total} requests in its batches")
            time.sleep(pause)
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def _has_news(self) -> bool:
        """Poll the open batches; return whether one has ended, or another process has collected one."""
        names = {batch.name for batch in self.journal.list_batches()}
        states = {name: self.api.look(state.id) for name, state in self.open.items()}
        self.open |= {name: state for name, state in states.items() if state}
        ended = any(state is None or state.status in _ENDED for state in states.values())
        return ended or not states.keys() <= names

    def _collect(self) -> None:
        """Update every open batch for this endpoint and model, and record the answers of those that have ended.

        A batch without an id there was being made when its process ended: look for it, and give it up if it is missing.
        """
        batches = [batch for batch in self.journal.list_batches() if batch.name.startswith(self.prefix)]
        nameless = {batch.name for batch in batches if not batch.remote}
        found, going = self.api.find(nameless) if nameless else {}, {}
        for batch in batches:
            name, state = batch.name, self.api.look(batch.remote) if batch.remote else found.get(batch.name)
            if state and not batch.remote:
                self.journal.add_batch(name, self.journal.read_batch_keys(name), state.id)
            elif not batch.remote:
                self.journal.close_batch(name)
            # One that is not visible, or another's, stays open; `_submit` reports it to a run that needs it.
            if state and (state.metadata or {}).get(NAME, "") in (name, ""):
                if state.status in _ENDED:
                    self._read_batch(name, state)
                else:
                    going[name] = state
        self.open = going

    def _submit(self) -> set[str]:
        """Make batches of the missing requests; return the names of the open batches that hold any of them."""
        for key in self.journal.find(list(self.missing)):  # another process may have collected some
            del self.missing[key]
        for key in self.missing.keys() & self.refused.keys():
            raise EndpointError(self.refused[key])
        held = _read_held(self.journal)
        waited = {held[key] for key in self.missing if key in held}
        for name in waited - self.open.keys():
            raise EndpointError(
                f"some of the requests are in the batch {name}, which this endpoint does not show: set `llm.endpoint` "
                f"and the key to those that the batch was made with, or give it up with `amalgam journal forget {name}`"
            )
        free = [request for key, request in self.missing.items() if key not in held]
        if free and self.in_vain > self.limits.retries:
            raise EndpointError(
                f"{self.in_vain} batches in a row returned no answer ({self.fault}), and {len(free)} requests still "
                "have none: run again when the endpoint works"
            )
        while free and not (self.is_crowded and self.open):  # one at a time if there is little room
            name, count = self._make_batch(free)
            waited.add(name)
            free = free[count:]
        return waited or (set(self.open) if free else set())

    def _make_batch(self, requests: list[Request]) -> tuple[str, int]:
        """Make a batch of as many requests as fit into it; return its name and their number."""
        spending = Spending(self.limits, self.journal, sum(self.made.values()))  # other processes spend, too
        keys, worst = list[str](), 0.0
        # An unnamed file disappears with its process, even if that is killed.
        with TemporaryFile() as stream:
            for request in requests[: self.most]:
                body = {"model": self.endpoint.model, **request.body}
                line = {"custom_id": request.key, "method": "POST", "url": self.api.url, "body": body}
                text = json.dumps(line, ensure_ascii=False).encode() + b"\n"
                if keys and stream.tell() + len(text) > _MOST_BYTES:
                    break
                stream.write(text)
                keys.append(request.key)
                worst += spending.bound_cost(request, batch=True)
            if obstacle := spending.find_obstacle(worst, len(keys)):
                raise BudgetError(obstacle)
            name = f"{self.prefix}{secrets.token_hex(8)}-{math.ceil(worst * 1e6)}"  # see `Batch.worst_usd`
            uploaded = self.api.upload(f"amalgam-{name}.jsonl", stream)
        self.journal.add_batch(name, keys)
        state = self.api.create(uploaded, {NAME: name})
        self.journal.add_batch(name, keys, state.id)
        self.open[name] = state
        self.made[name] = len(keys)
        self.notify(
            f"a batch of {len(keys)} requests is at the endpoint ({state.id}): it is answered within a day, and if "
            "this run ends, the next one collects it"
        )
        return name, len(keys)

    def _read_batch(self, name: str, state: "Batch") -> None:
        keys, answers, self.odd = self.journal.read_batch_keys(name), 0, ""
        for file in filter(None, (state.output_file_id, state.error_file_id)):
            answers += self._record_lines(self.api.download(file, name))
        if self.odd and not answers:  # not one request more is worth paying for
            raise EndpointError(
                f"the LLM endpoint {self.endpoint.url} answers a batch with something other than chat completions "
                f"({self.odd}): check `llm.endpoint`, or give the batch up with `amalgam journal forget {name}`"
            )
        faults = (state.errors.data if state.errors else None) or []
        self.in_vain = 0 if answers else self.in_vain + 1
        if state.status == "failed" and len(keys) > 1 and any(fault.code == _QUEUE_IS_FULL for fault in faults):
            self.most, self.is_crowded, self.in_vain = max(len(keys) // 2, 1), True, 0
            self.made.pop(name, None)
            self.notify(f"the endpoint's queue has no room for {len(keys)} requests now: they will be sent later")
        elif state.status == "failed":
            said = "; ".join(fault.message or "no message" for fault in faults)
            self.refused |= dict.fromkeys(keys, self._phrase_refusal(said, "run again when this is fixed"))
        elif state.status == "cancelled":
            sentence = f"the batch {state.id} was cancelled at the endpoint: run again to send the rest of it"
            self.refused = dict.fromkeys(keys, sentence) | self.refused
        self.journal.close_batch(name)

    def _record_lines(self, lines: list[bytes]) -> int:
        """Record the answers in a file, and remember the errors in its other lines; return the number of answers."""
        answers: dict[str, Answer] = {}
        for text in lines:
            try:
                line = json.loads(text)
                key, response, error = line["custom_id"], line.get("response"), line.get("error") or {}
                if response:
                    body, status = json.dumps(response["body"]).encode(), response["status_code"]
                    answers[key] = read_answer(body, self.limits.price, batch=True, status=status)
                    continue
                passes, advice = error.get("code") in _NEVER_TRIED, "run again when this is fixed"
                said = error.get("message") or error.get("code") or "no message"
            except Fault as fault:
                said, passes = f"status {fault.status}: {fault.message}", fault.can_pass
                advice = advise(fault, self.endpoint.key_name)
            except (ValueError, KeyError, TypeError, AttributeError):  # its request is still missing, and sent again
                said = self.odd = self.endpoint.shorten(text.decode(errors="replace"))
                passes, advice = True, ""
            if passes:
                self.fault = said
            else:
                self.refused[key] = self._phrase_refusal(said, advice)
        new = {key: answers[key] for key in sorted(answers.keys() - self.journal.find(list(answers)).keys())}
        self.journal.record_keys(self.endpoint.model, new.items())
        for key, answer in new.items():
            self.missing.pop(key, None)
            self.advance(answer)
        return len(answers)

    def _phrase_refusal(self, said: str, advice: str) -> str:
        shown = self.endpoint.shorten(said)
        return f"the LLM endpoint refused a request of a batch ({shown}): {advice}; the answers received are kept"


def _read_held(journal: Journal) -> dict[str, str]:
    """Map the key of each request in an open batch to the name of the batch."""
    return {key: batch.name for batch in journal.list_batches() for key in journal.read_batch_keys(batch.name)}


def _phrase_open(count: int) -> str:
    batches = "1 batch is" if count == 1 else f"{count} batches are"
    going = f"{batches} still running at the endpoint, and the next run collects the answers"
    return going if count else "no batch is running at the endpoint"
