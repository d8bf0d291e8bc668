"""Collecting batches: those that are open are taken up, looked at, and their answers recorded as they are read."""

import hashlib
from itertools import islice

from amalgam.errors import EndpointError
from amalgam.llm.batch.api import BatchApi, EndpointGoneError, State
from amalgam.llm.batch.lines import Outcome, read_outcome
from amalgam.llm.endpoint import Endpoint, Limits, shorten
from amalgam.llm.faults import Fault, advise
from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer
from amalgam.llm.sending import Advance

_CHUNK = 500  # answers a transaction
_QUEUE_IS_FULL = "token_limit_exceeded"  # what OpenAI and Azure say of a batch that their queue has no room for


class Collector:
    """The batches of the journal that are open at an endpoint.

    Attributes:
        prefix: what names of batches begin with that were made for this model at this endpoint.
        open: by name, those of them that go on, as last seen.
        bound_usd: what all batches that are not collected yet may cost, those for other models too.
        refused: by key, what the endpoint said of a request when it refused it for good.
        fault: what it said last of one that it may take another time.
        recorded: answers that were recorded.
        crowded: requests in the batches for which the endpoint's queue had no room, by name; for the reader to empty.
    """

    def __init__(self, api: BatchApi, endpoint: Endpoint, journal: Journal, advance: Advance, limits: Limits) -> None:
        """Look at nothing yet."""
        self._api, self._endpoint, self._journal, self._advance, self._limits = api, endpoint, journal, advance, limits
        self._site = f"{_shorten_hash(endpoint.url)}-"
        self.prefix = f"{self._site}{_shorten_hash(endpoint.model)}-"
        self.open: dict[str, State] = {}
        self.bound_usd = 0.0
        self.refused: dict[str, str] = {}
        self.fault = ""
        self.recorded = 0
        self.crowded: dict[str, int] = {}

    def collect(self) -> None:
        """Take up every open batch of this endpoint, and record what those hold that have ended.

        A batch whose id there is not known was being made when its process ended: it is looked for. One that the
        endpoint has not is given up, so that its requests are free again. One for another model has another price,
        and is left to a run with that model.
        """
        # The id of a batch says nothing at another endpoint.
        batches = [batch for batch in self._journal.list_batches() if batch.name.startswith(self._site)]
        nameless = {batch.name for batch in batches if not batch.remote}
        found = self._api.find(nameless) if nameless else {}
        going: dict[str, State] = {}
        bound = 0.0
        for batch in batches:
            if not batch.remote and batch.name not in found:
                self._journal.close_batch(batch.name)
                continue
            if not batch.remote:
                self._journal.set_batch_remote(batch.name, found[batch.name].remote)
            state = found.get(batch.name) or self._api.look(batch.remote)
            if state is None or state.name not in (batch.name, ""):
                continue  # not shown, or the id of another's batch: it stays open, and who needs its requests is told
            is_ours = batch.name.startswith(self.prefix)
            if is_ours and state.has_ended:
                self._read(batch.name, state)
                continue
            bound += state.worst_usd
            if is_ours:
                going[batch.name] = state
        self.open, self.bound_usd = going, bound

    def add(self, name: str, state: State) -> None:
        """Take note of a batch that was just made."""
        self.open[name] = state
        self.bound_usd += state.worst_usd

    def _read(self, name: str, state: State) -> None:
        for file in state.files:
            for left in range(self._limits.retries, -1, -1):
                try:
                    self._read_file(file)
                    break
                except EndpointGoneError:
                    if not left:
                        raise
        if state.status == "failed":
            self._read_failure(name, state)
        elif state.status == "cancelled":
            sentence = f"the batch {state.remote} was cancelled at the endpoint: run again to send what it left"
            keys = self._journal.read_batch_keys(name)
            missing = set(keys) - self._journal.find(keys).keys()
            self.refused = dict.fromkeys(missing, sentence) | self.refused
        self._journal.close_batch(name)

    def _read_file(self, file: str) -> None:
        lines = self._api.iterate_lines(file)
        while chunk := list(islice(lines, _CHUNK)):
            outcomes = [self._read_line(line) for line in chunk]
            answers = {outcome.key: outcome.answer for outcome in outcomes if outcome.answer is not None}
            self._record(answers)
            for outcome in outcomes:
                if outcome.passing:
                    self.fault = outcome.said
                elif outcome.answer is None:
                    self.refused[outcome.key] = self._phrase_refusal(outcome.said, outcome.fault)

    def _read_line(self, line: bytes) -> Outcome:
        try:
            return read_outcome(line, self._limits.price)
        except ValueError as error:
            raise EndpointError(
                f"the LLM endpoint {self._endpoint.url} answers a batch with something other than chat completions "
                f"({shorten(line.decode(errors='replace'), self._endpoint)}): check `llm.endpoint`"
            ) from error

    def _record(self, answers: dict[str, Answer]) -> None:
        # Another process may have recorded some of them, or this one before a download broke off.
        new = {key: answers[key] for key in sorted(answers.keys() - self._journal.find(list(answers)).keys())}
        self._journal.record_keys(self._endpoint.model, list(new.items()))
        self.recorded += len(new)
        for answer in new.values():
            self._advance(answer)

    def _read_failure(self, name: str, state: State) -> None:
        keys = self._journal.read_batch_keys(name)
        if any(code == _QUEUE_IS_FULL for code, _ in state.faults) and len(keys) > 1:
            self.crowded[name] = len(keys)
            return
        said = "; ".join(message for _, message in state.faults) or "no message"
        self.refused |= dict.fromkeys(keys, self._phrase_refusal(said))

    def _phrase_refusal(self, said: str, fault: Fault | None = None) -> str:
        advice = advise(fault, self._endpoint) if fault else "run again when it is mended"
        return (
            f"the LLM endpoint refused a request of a batch ({shorten(said, self._endpoint)}): {advice}; the answers "
            "that came are kept"
        )


def _shorten_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
