"""The calls of OpenAI's Batch API: a file goes up, a batch is made of it once, and its files come down."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from amalgam.errors import EndpointError
from amalgam.llm.client import Endpoint, Limits, explain_silence, open_sync_client
from amalgam.llm.faults import can_pass, read_fault

if TYPE_CHECKING:
    from openai.types import Batch

NAME = "amalgam"  # the key of a batch's metadata that holds its name here
_UPLOAD_TIMEOUT = 1800.0  # seconds; a file may hold 200 MB
_SETTLE = 5.0  # seconds until the endpoint surely lists a batch that was made


class GoneError(EndpointError):
    """The endpoint does not answer, or not now; what it was asked may be asked again."""


class BatchApi:
    """Batches at an endpoint; every failure is an EndpointError with the endpoint's own message."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        """Open a client, which sends again by itself what may be sent again; `client` is to be closed."""
        self.client = open_sync_client(endpoint, limits)
        self.url = "/chat/completions" if endpoint.api_version else "/v1/chat/completions"
        self._endpoint, self._retries = endpoint, limits.retries

    def upload(self, name: str, stream: IO[bytes]) -> str:
        """Upload the requests of a batch; return the file's id there. Nothing is paid for yet."""
        stream.seek(0)
        with self._wrap_errors():
            uploaded = self.client.files.create(file=(name, stream), purpose="batch", timeout=_UPLOAD_TIMEOUT)
            if self._endpoint.api_version:  # Azure makes no batch of a file that it has not looked through
                self.client.files.wait_for_processing(uploaded.id)
        return uploaded.id

    def download(self, file: str) -> list[bytes]:
        """Return the lines of a file that are not empty."""
        with self._wrap_errors():
            # Not by the client's lines: it also cuts at characters that may stand inside JSON.
            return [*filter(None, self.client.files.content(file).content.split(b"\n"))]

    def create(self, uploaded: str, metadata: dict[str, str]) -> "Batch":
        """Make a batch once: where no answer comes, it is looked for before it is tried again."""
        once, name = self.client.with_options(max_retries=0), metadata[NAME]
        for left in range(self._retries, -1, -1):
            try:
                with self._wrap_errors():
                    return once.batches.create(
                        input_file_id=uploaded,
                        endpoint=self.url,  # type: ignore[arg-type]  # Azure's has another name
                        completion_window="24h",
                        metadata=metadata,
                    )
            except GoneError:
                if found := self.find({name}).get(name):
                    return found
                if not left:
                    raise
        raise AssertionError

    def find(self, names: Collection[str]) -> dict[str, "Batch"]:
        """Return those of the named batches that exist at the endpoint."""
        found: dict[str, Batch] = {}
        for wait in (0.0, _SETTLE):
            time.sleep(wait)
            with self._wrap_errors():
                for batch in self.client.batches.list(limit=100):
                    if (name := read_metadata(batch, NAME)) in names:
                        found[name] = batch
                    if len(found) == len(names):
                        return found
        return found

    def look(self, remote: str) -> "Batch | None":
        """See how a batch stands; None where the endpoint has no such batch for the owner of the key."""
        from openai import NotFoundError

        with self._wrap_errors():
            try:
                return self.client.batches.retrieve(remote)
            except NotFoundError:
                return None

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        from openai import APIError, APIStatusError

        endpoint = self._endpoint
        try:
            yield
        except APIStatusError as error:
            fault = read_fault(error.response.content, error.status_code)
            said = endpoint.shorten(fault.message if fault else "")
            kind = GoneError if can_pass(error.status_code) else EndpointError
            raise kind(
                f"the Batch API of {endpoint.url} answered with status {error.status_code} ({said}): check "
                f"`llm.endpoint`, {endpoint.key_name}, and whether the endpoint has a Batch API (else set "
                "`llm.batch: false`)"
            ) from error
        except APIError as error:
            silence = explain_silence(error, endpoint)
            kind = GoneError if silence.can_pass else EndpointError
            raise kind(f"{silence.sentence}, and run again; what was sent is not lost") from error


def read_metadata(batch: "Batch", name: str) -> str:
    """Return what was written down with a batch when it was made."""
    return (batch.metadata or {}).get(name, "")
