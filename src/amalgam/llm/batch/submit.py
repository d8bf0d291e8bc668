"""Submitting batches: what is missing, and in no batch yet, goes out in as few files as the API allows."""

import secrets
from collections.abc import Callable, Iterable, Iterator
from tempfile import TemporaryFile

from amalgam.errors import BudgetError, EndpointError
from amalgam.llm.batch.api import BatchApi
from amalgam.llm.batch.collect import Collector
from amalgam.llm.batch.lines import MOST_REQUESTS, BatchFile
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.journal import Journal
from amalgam.llm.request import Request
from amalgam.llm.survey import iterate_missing

Make = Callable[[], Iterable[Request]]  # yields the same requests at each call
Notify = Callable[[str], None]


class HeldRequests:
    """The requests that are in open batches, by 16 bytes of their key: enough to tell them apart."""

    def __init__(self, journal: Journal) -> None:
        """Read them from the journal."""
        self._names: dict[bytes, str] = {}
        for batch in journal.list_batches():
            keys = journal.read_batch_keys(batch.name)
            self._names |= dict.fromkeys((bytes.fromhex(key[:32]) for key in keys), batch.name)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._names)

    def find(self, key: str) -> str:
        """Return the name of the batch that holds a request, or ""."""
        return self._names.get(bytes.fromhex(key[:32]), "")


class Submitter:
    """Makes the batches of one call of `send_batches`."""

    def __init__(
        self, make: Make, endpoint: Endpoint, journal: Journal, limits: Limits, notify: Notify, api: BatchApi
    ) -> None:
        """Send nothing yet."""
        self._make, self._endpoint, self._journal = make, endpoint, journal
        self._limits, self._notify, self._api = limits, notify, api
        self._made: dict[str, int] = {}  # by name: requests in the batches that were made
        self._most = MOST_REQUESTS  # requests that go into one batch
        self._alone = ""  # the batch that was made when no other was open
        self._one_by_one = False  # the endpoint's queue was full: each batch waits for the one before
        self._recorded = self._in_vain = 0  # answers at the last call; calls in a row that saw no new one

    def submit(self, collector: Collector) -> set[str]:
        """Make batches of what is missing, after `collector` has looked at those that there are.

        Returns:
            The names of the open batches that hold something that is missing; none where nothing is.
        """
        self._learn(collector)
        self._check_refused(collector)
        if self._one_by_one and collector.open and any(iterate_missing(self._make(), self._journal)):
            return set(collector.open)
        held = HeldRequests(self._journal)
        waited: set[str] = set()
        for file in self._fill(self._iterate_free(held, waited, collector)):
            waited.add(self._send(file, collector))
            if self._one_by_one:
                break
        return waited

    def _iterate_free(self, held: HeldRequests, waited: set[str], collector: Collector) -> Iterator[Request]:
        """Yield what is missing and in no batch; add to `waited` the names of the batches that hold the rest."""
        for request in iterate_missing(self._make(), self._journal):
            if name := held.find(request.key):
                if name not in collector.open:
                    raise EndpointError(
                        f"some of the requests are in the batch {name}, which this endpoint does not show: set "
                        "`llm.endpoint` and the key to those that it was made with, or give it up with "
                        f"`amalgam journal forget {name}`"
                    )
                waited.add(name)
            else:
                yield request

    def _fill(self, requests: Iterator[Request]) -> Iterator[BatchFile]:
        request = next(requests, None)
        while request is not None:
            # A file without a name goes with the process, even with one that is killed.
            with TemporaryFile() as stream:
                file = BatchFile(stream)
                while request is not None and file.add(request, self._endpoint, self._limits.price, self._most):
                    request = next(requests, None)
                yield file

    def _learn(self, collector: Collector) -> None:
        """Draw the lesson from the batches that ended since the last call."""
        crowded, collector.crowded = collector.crowded, {}
        progress = crowded or not self._made or collector.recorded > self._recorded
        self._in_vain = 0 if progress else self._in_vain + 1
        self._recorded = collector.recorded
        for name, size in crowded.items():
            self._one_by_one = True
            self._made.pop(name, None)
            if name == self._alone:
                self._most = size // 2
            self._notify(f"the endpoint's queue has no room for a batch of {size} requests now: they will go later")

    def _check_refused(self, collector: Collector) -> None:
        if collector.refused:
            for request in iterate_missing(self._make(), self._journal):
                if request.key in collector.refused:
                    raise EndpointError(collector.refused[request.key])

    def _send(self, file: BatchFile, collector: Collector) -> str:
        self._check_limits(file, collector)
        name = f"{collector.prefix}{secrets.token_hex(8)}"
        uploaded = self._api.upload(name, file)
        self._journal.add_batch(name, file.keys)
        self._alone = "" if collector.open else name
        state = self._api.create(name, file, uploaded)
        self._journal.set_batch_remote(name, state.remote)
        collector.add(name, state)
        self._made[name] = len(file.keys)
        self._notify(
            f"a batch of {len(file.keys)} requests is at the endpoint ({state.remote}): it answers within a day, and "
            "if this run ends the next one collects it"
        )
        return name

    def _check_limits(self, file: BatchFile, collector: Collector) -> None:
        count, limits = len(file.keys), self._limits
        if self._in_vain > limits.retries:
            raise EndpointError(
                f"{self._in_vain} batches in a row brought no answer ({collector.fault or 'no message'}), and requests "
                f"without one are left ({count} in the next batch): run again when the endpoint works"
            )
        made = sum(self._made.values())
        if limits.max_requests is not None and made + count > limits.max_requests:
            raise BudgetError(
                f"a batch of {count} requests, after {made} that were sent, would pass `llm.max_requests: "
                f"{limits.max_requests}`, so it was not sent: raise the limit, or lower `synthesis.rows`"
            )
        if limits.budget_usd is not None:
            spent = self._journal.read_spending()
            bound = collector.bound_usd
            if spent + bound + file.worst_usd > limits.budget_usd:
                raise BudgetError(
                    f"a batch of {count} requests may cost {file.worst_usd:.4f} USD, and with {spent:.4f} spent and "
                    f"{bound:.4f} in open batches would pass `llm.budget_usd: {limits.budget_usd}`, so it was not "
                    "sent: raise the budget, or lower `synthesis.rows`"
                )
