"""All calls to an LLM endpoint: single chat requests, the Batch API, and connection problems (proxies, TLS)."""

import asyncio
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from urllib.request import getproxies

from amalgam.errors import EndpointError
from amalgam.llm.faults import Fault, advise, can_pass, read_answer, read_fault, read_wait
from amalgam.llm.request import Answer, Endpoint, Limits, Request, shape_body, wants_schema

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from openai.types import Batch

NAME = "amalgam"  # the key in a batch's metadata for its name here
_PUSH_BACK = (408, 429, 503, 504, 529)
_LONGEST_WAIT = 600.0  # seconds; if an endpoint asks for more, it is better to run again another day
_UPLOAD_TIMEOUT = 1800.0  # seconds; a file may hold 200 MB
_SETTLE = 5.0  # seconds after which the endpoint surely lists a new batch
_FORMS = ("a JSON object instead, with the keys named in the prompt", "JSON only in the prompt")  # after a schema


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - most failures are not errors, only reasons to try again
    """A request that got no answer."""

    sentence: str  # shown to the user if it was the last try
    can_pass: bool = True  # whether trying again can help
    is_push_back: bool = False  # whether the endpoint was overloaded
    wait: float = 0.0  # seconds that the endpoint asks to wait
    may_cost: bool = False  # whether it may have been charged for
    is_misfit: bool = False  # whether it is to be sent again at once, in another form
    notice: str = ""  # shown to the user at once


class GoneError(EndpointError):
    """The Batch API does not answer, or not now; the same call may be tried again."""


def open_client(endpoint: Endpoint) -> "AsyncOpenAI":
    """Return a client for use in `async with`; it neither retries nor times out by itself."""
    from httpx2 import Limits as Connections

    connections = Connections(max_connections=None, max_keepalive_connections=None)
    client: AsyncOpenAI = _open("Async", endpoint, {"limits": connections}, {"timeout": None, "max_retries": 0})
    return client


def _open(prefix: str, endpoint: Endpoint, connections: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Open a client that reaches servers on this machine directly, and others through the environment's proxy."""
    import openai
    from httpx2 import URL, InvalidURL, create_ssl_context

    if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
        raise EndpointError(f"the key in {endpoint.key_name} contains an invalid character: set it again")
    try:
        # A local server without TLS, such as the embedded one, does not depend on the environment.
        context = True if URL(endpoint.url).scheme == "http" and endpoint.is_local else create_ssl_context()
        http = getattr(openai, f"Default{prefix}HttpxClient")
        settings |= {"http_client": http(trust_env=not endpoint.is_local, verify=context, **connections)}
    except (OSError, ValueError, ImportError, InvalidURL) as error:
        names = [f"{scheme.upper()}_PROXY" for scheme in getproxies() if scheme in ("http", "https", "all")]
        raise EndpointError(
            f"no connection to {endpoint.url} can be opened ({endpoint.shorten(str(error))}): correct `llm.endpoint`, "
            f"or correct or unset {' and '.join(['SSL_CERT_FILE', *names])} in the environment"
        ) from error
    if endpoint.api_version:
        address = endpoint.url.rstrip("/").removesuffix("/openai")  # to which the client adds its own paths
        settings |= {"azure_endpoint": address, "api_version": endpoint.api_version}
        return getattr(openai, f"{prefix}AzureOpenAI")(api_key=endpoint.api_key, **settings)
    return getattr(openai, f"{prefix}OpenAI")(api_key=endpoint.api_key, base_url=endpoint.url, **settings)


async def exchange(client: "AsyncOpenAI", endpoint: Endpoint, request: Request, limits: Limits) -> Answer:
    """Send a request once, in the form that the endpoint accepts; return its answer, or raise a Failure."""
    from httpx2 import Response
    from openai import APIStatusError

    level = endpoint.level
    try:
        # The client's typed methods do the same at three times the cost.
        async with asyncio.timeout(limits.timeout):
            body = {"model": endpoint.model, **shape_body(request.body, level)}
            response = await client.post("/chat/completions", cast_to=Response, body=body)
    except APIStatusError as error:
        response = error.response
    except TimeoutError as error:
        sentence = (
            f"the LLM endpoint {endpoint.url} does not answer (no answer within {limits.timeout:g} s): check "
            "`llm.endpoint` and that the server is running, or raise `llm.timeout`"
        )
        raise Failure(sentence, is_push_back=True, may_cost=True) from error
    except Exception as error:  # anything that the client and its libraries raise
        raise _explain_silence(error, endpoint) from error
    new = f"set `llm.endpoint` to {str(response.url).removesuffix('/chat/completions')}, to which it redirects"
    moved = new if response.history else ""
    try:
        return read_answer(response.content, limits.price, status=response.status_code)
    except Fault as fault:
        raise _explain_fault(fault, endpoint, request, level, response.headers, moved) from fault
    except ValueError as error:
        said = f"something other than a chat completion ({endpoint.shorten(response.text)})"
        advice = moved or "check `llm.endpoint`"
        raise Failure(f"the LLM endpoint {endpoint.url} answers with {said}: {advice}", may_cost=True) from error


def _explain_fault(
    fault: Fault, endpoint: Endpoint, request: Request, level: int, headers: Mapping[str, str], moved: str
) -> Failure:
    message, passes = endpoint.shorten(fault.message), fault.can_pass
    if wants_schema(request.body) and fault.refuses_schema(request.body) and level < len(_FORMS):
        notice = ""
        if endpoint.level == level:  # otherwise another request has already found that out
            endpoint.level += 1
            refusal = f"the LLM endpoint {endpoint.url} does not accept a JSON schema ({message})"
            notice = f"{refusal}: it is asked for {_FORMS[level]}"
        return Failure(message, is_misfit=True, notice=notice, may_cost=fault.may_cost)
    wait = read_wait(headers, time.time(), fault.text) if passes else 0.0
    if wait > _LONGEST_WAIT:
        message, passes = f"{message}; it asks to wait {wait:.0f} s", False
    did = f"rejected the request {request.id} with" if fault.kind not in ("", "unpaid") else "answered with"
    # A redirect can turn POST into GET, and leave out the key.
    advice = moved if moved and not (passes or fault.kind) else advise(fault, endpoint.key_name, request)
    return Failure(
        f"the LLM endpoint {endpoint.url} {did} status {fault.status} ({message}): {advice}",
        passes,
        is_push_back=wait > 0 or fault.status in _PUSH_BACK,
        wait=wait,
        may_cost=fault.may_cost,
    )


def _explain_silence(error: BaseException, endpoint: Endpoint) -> Failure:
    """Return a Failure that explains the exception of a client that got no reply."""
    from httpx2 import ConnectError, ProxyError, TooManyRedirects, UnsupportedProtocol

    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    reason = endpoint.shorten(next((text for cause in causes[1:] if (text := str(cause))), str(error)))

    def is_due_to(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    lasts = is_due_to(ProxyError, TooManyRedirects, UnsupportedProtocol)
    lasts = lasts or (is_due_to(ssl.SSLError) and is_due_to(ConnectError))
    advice = "check `llm.endpoint` and that the server is running"
    if is_due_to(ssl.SSLCertVerificationError):
        advice = (
            "check its name and the clock of this machine, or set SSL_CERT_FILE in the environment to a file with its "
            "authority's certificate, if you trust it"
        )
    elif is_due_to(ssl.SSLError):
        advice = "check whether `llm.endpoint` begins with https:// or http://"
    elif getproxies() and not endpoint.is_local:
        advice = "check `llm.endpoint`, and HTTPS_PROXY and NO_PROXY in the environment"
    sentence = f"the LLM endpoint {endpoint.url} does not answer ({reason}): {advice}"
    return Failure(sentence, not lasts, is_push_back=not lasts, may_cost=not (lasts or is_due_to(ConnectError)))


class BatchApi:
    """Batches at an endpoint; every failure is an EndpointError with the endpoint's own message."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        """Open a client that retries by itself what may be retried; the caller closes `client`."""
        self.client: OpenAI = _open("", endpoint, {}, {"timeout": limits.timeout, "max_retries": limits.retries})
        self.url = "/chat/completions" if endpoint.api_version else "/v1/chat/completions"
        self._endpoint, self._retries = endpoint, limits.retries

    def upload(self, name: str, stream: IO[bytes]) -> str:
        """Upload the requests of a batch; return the file's id there. This costs nothing yet."""
        stream.seek(0)
        with self._wrap_errors():
            uploaded = self.client.files.create(file=(name, stream), purpose="batch", timeout=_UPLOAD_TIMEOUT)
            if self._endpoint.api_version:  # Azure makes no batch of a file before it has processed it
                self.client.files.wait_for_processing(uploaded.id)
        return uploaded.id

    def download(self, file: str, batch: str) -> list[bytes]:
        """Return the non-empty lines of a file of a batch."""
        from openai import NotFoundError

        with self._wrap_errors():
            try:
                # The client's own iterator over lines also splits at characters that may occur inside JSON.
                return [*filter(None, self.client.files.content(file).content.split(b"\n"))]
            except NotFoundError as error:  # OpenAI deletes the files of a batch after 30 days
                raise EndpointError(
                    f"{self._endpoint.url} no longer holds the answers of the batch {batch}: give it up with "
                    f"`amalgam journal forget {batch}`, and its requests are sent again"
                ) from error

    def create(self, uploaded: str, metadata: dict[str, str]) -> "Batch":
        """Make a batch once: if no reply comes, look for the batch before trying again."""
        once, name, left = self.client.with_options(max_retries=0), metadata[NAME], self._retries
        while True:
            try:
                with self._wrap_errors():
                    return once.batches.create(
                        input_file_id=uploaded,
                        endpoint=self.url,  # type: ignore[arg-type]  # Azure's path differs
                        completion_window="24h",
                        metadata=metadata,
                    )
            except GoneError:
                if found := self.find({name}).get(name):
                    return found
                if not left:
                    raise
                left -= 1

    def find(self, names: Collection[str]) -> dict[str, "Batch"]:
        """Return the named batches that exist at the endpoint, by name."""
        found: dict[str, Batch] = {}
        for wait in (0.0, _SETTLE):
            time.sleep(wait)
            with self._wrap_errors():
                for batch in self.client.batches.list(limit=100):
                    if (name := (batch.metadata or {}).get(NAME, "")) in names:
                        found[name] = batch
                    if len(found) == len(names):
                        return found
        return found

    def look(self, remote: str) -> "Batch | None":
        """Return the current state of a batch; None if the endpoint has no such batch for the owner of the key."""
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
            silence = _explain_silence(error, endpoint)
            kind = GoneError if silence.can_pass else EndpointError
            raise kind(f"{silence.sentence}, and run again; nothing that was sent is lost") from error
