"""The calls of OpenAI's Batch API: a file goes up, a batch is made of it once, and its files come down."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amalgam.errors import EndpointError
from amalgam.llm.batch.lines import BatchFile, name_url
from amalgam.llm.connection import explain_silence, open_http
from amalgam.llm.endpoint import Endpoint, Limits, locate_azure, shorten
from amalgam.llm.faults import can_pass, read_fault

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

_NAME, _WORST = "amalgam", "amalgam_worst_usd"  # keys of a batch's metadata
_ENDED = ("completed", "expired", "cancelled", "failed")
_UPLOAD_TIMEOUT = 1800.0  # seconds; a file may hold 200 MB


@dataclass(frozen=True, slots=True)
class State:
    """How a batch stands at the endpoint.

    Attributes:
        remote: its id there.
        name: its id here, "" for a batch of someone else.
        status: what the endpoint calls it.
        done: requests that are answered, or have failed for good.
        total: requests in it; 0 while the endpoint has not counted them.
        worst_usd: what it costs at most.
        files: ids of the files with answers and with faults.
        faults: why a batch failed as a whole, by code and message.
    """

    remote: str
    name: str
    status: str
    done: int
    total: int
    worst_usd: float
    files: tuple[str, ...]
    faults: tuple[tuple[str, str], ...]

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to the batch any more."""
        return self.status in _ENDED


class EndpointGoneError(EndpointError):
    """The endpoint does not answer, or not now; what it was asked may be asked again."""


@contextmanager
def open_api(endpoint: Endpoint, limits: Limits, settle: float) -> Iterator["BatchApi"]:
    """Open a client of the endpoint's Batch API; it sends again by itself what may be sent again.

    Args:
        endpoint: where it leads.
        limits: timeout and retries.
        settle: seconds after which the endpoint surely lists a batch that was made.

    Raises:
        EndpointError: the key holds what cannot be sent.
    """
    from openai import AzureOpenAI, DefaultHttpxClient, OpenAI

    http_client = open_http(DefaultHttpxClient, endpoint)
    settings: dict[str, Any] = {"api_key": endpoint.api_key, "timeout": limits.timeout, "max_retries": limits.retries}
    client: OpenAI
    if endpoint.api_version:
        address = locate_azure(endpoint)
        client = AzureOpenAI(
            azure_endpoint=address, api_version=endpoint.api_version, http_client=http_client, **settings
        )
    else:
        client = OpenAI(base_url=endpoint.url, http_client=http_client, **settings)
    with client:
        yield BatchApi(client, endpoint, limits.retries, settle)


class BatchApi:
    """Batches at an endpoint; every failure is an EndpointError with the endpoint's own message."""

    def __init__(self, client: "OpenAI", endpoint: Endpoint, retries: int, settle: float) -> None:
        """Work through an open client; `open_api` makes one."""
        self._client, self._endpoint, self._retries, self._settle = client, endpoint, retries, settle

    def upload(self, name: str, file: BatchFile) -> str:
        """Upload the requests of a batch; return the file's id there. Nothing is paid for yet."""
        file.stream.seek(0)
        with self._wrap_errors():
            uploaded = self._client.files.create(
                file=(f"amalgam-{name}.jsonl", file.stream), purpose="batch", timeout=_UPLOAD_TIMEOUT
            )
            if self._endpoint.api_version:  # Azure makes no batch of a file that it has not looked through
                self._client.files.wait_for_processing(uploaded.id)
        return uploaded.id

    def create(self, name: str, file: BatchFile, uploaded: str) -> State:
        """Make a batch of an uploaded file, once.

        Where no answer comes, the batch may have been made all the same: it is looked for before it is tried again,
        since a second one would be paid for as well.
        """
        from openai import APIConnectionError, APIStatusError

        url = name_url(self._endpoint)
        metadata = {_NAME: name, _WORST: f"{file.worst_usd:.6f}"}
        once = self._client.with_options(max_retries=0)
        for left in range(self._retries, -1, -1):
            with self._wrap_errors():
                try:
                    batch = once.batches.create(
                        input_file_id=uploaded,
                        endpoint=url,  # type: ignore[arg-type]  # Azure's has another name
                        completion_window="24h",
                        metadata=metadata,
                    )
                except (APIConnectionError, APIStatusError) as error:
                    if isinstance(error, APIStatusError) and not can_pass(error.status_code):
                        raise
                    if found := self.find([name]).get(name):
                        return found
                    if not left:
                        raise
                else:
                    return _read_state(batch)
        raise AssertionError

    def find(self, names: Collection[str]) -> dict[str, State]:
        """Return those of the named batches that exist at the endpoint."""
        found: dict[str, State] = {}
        for wait in (0.0, self._settle):
            time.sleep(wait)
            with self._wrap_errors():
                for batch in self._client.batches.list(limit=100):
                    state = _read_state(batch)
                    if state.name in names:
                        found[state.name] = state
                    if len(found) == len(names):
                        return found
        return found

    def look(self, remote: str) -> State | None:
        """See how a batch stands; None where the endpoint has no such batch for the owner of the key."""
        from openai import NotFoundError

        with self._wrap_errors():
            try:
                return _read_state(self._client.batches.retrieve(remote))
            except NotFoundError:
                return None

    def iterate_lines(self, file: str) -> Iterator[bytes]:
        """Yield the lines of a file there as they arrive; a failure on the way says so, and what came is right."""
        from httpx2 import HTTPError

        rest = b""
        with self._wrap_errors():
            try:
                with self._client.files.with_streaming_response.content(file) as response:
                    # Not by the client's lines: it also cuts at characters that may stand inside JSON.
                    for part in response.iter_bytes():
                        *lines, rest = (rest + part).split(b"\n")
                        yield from filter(None, lines)
            except HTTPError as error:
                raise EndpointGoneError(
                    f"the LLM endpoint {self._endpoint.url} broke off while it sent the answers of a batch "
                    f"({shorten(str(error), self._endpoint)}): run again; they are still there"
                ) from error
        if rest:
            yield rest

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        from openai import APIError, APIStatusError

        url = self._endpoint.url
        try:
            yield
        except APIStatusError as error:
            fault = read_fault(error.response.content, error.status_code)
            said = shorten(fault.message if fault else "", self._endpoint)
            kind = EndpointGoneError if can_pass(error.status_code) else EndpointError
            raise kind(
                f"the Batch API of {url} answered with status {error.status_code} ({said}): check `llm.endpoint`, "
                f"{self._endpoint.key_name}, and whether the endpoint has a Batch API (else set `llm.batch: false`)"
            ) from error
        except APIError as error:
            silence = explain_silence(error, self._endpoint)
            kind = EndpointGoneError if silence.can_pass else EndpointError
            raise kind(f"{silence.sentence}, and run again; what was sent is not lost") from error


def _read_state(batch: "Batch") -> State:
    metadata, counts = batch.metadata or {}, batch.request_counts
    faults = batch.errors.data if batch.errors else None
    return State(
        remote=batch.id,
        name=metadata.get(_NAME, ""),
        status=batch.status,
        done=counts.completed + counts.failed if counts else 0,
        total=counts.total if counts else 0,
        worst_usd=float(metadata.get(_WORST, 0.0)),
        files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
        faults=tuple((fault.code or "", fault.message or "no message") for fault in faults or ()),
    )
