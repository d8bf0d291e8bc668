"""The way to an LLM endpoint: where it is, clients for it, one exchange, and what can be between (proxies, TLS)."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from amalgam.errors import EndpointError
from amalgam.llm.faults import Fault, RefusedError, advise, read_answer, read_wait
from amalgam.llm.request import Answer, Price, Request, shape_body, wants_schema

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import AsyncOpenAI, OpenAI

Client = TypeVar("Client")

NO_KEY = "none"  # stands for the key where there is none: servers that need no key still want the header
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SHOWN, _SECRET = 300, 8  # characters of a message that an error shows; shorter keys, such as "x", are no secret
_CERTIFICATES = {  # by OpenSSL's number of the trouble
    **dict.fromkeys((9, 10), "have it renewed, or check the clock of this machine"),
    **dict.fromkeys((62, 64), "put the name that it is for into `llm.endpoint`"),
}
_PUSH_BACK = (408, 429, 503, 504, 529)
_LONGEST_WAIT = 600.0  # seconds; an endpoint that wants more is better asked another day
_FORMS = (
    "it is asked for a JSON object instead, whose keys are said in the prompt",
    "it is asked for JSON in words alone",
)


@dataclass(slots=True)
class Form:
    """In which form an endpoint takes JSON, see `shape_body`; found out on the way."""

    level: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests are sent."""

    url: str  # the base URL; for Azure, of the resource
    model: str  # its name there; for Azure, of the deployment
    api_key: str  # or NO_KEY
    api_version: str = ""  # Azure's; "" for every other endpoint
    key_name: str = "OPENAI_API_KEY"  # the environment variable that the key is of
    slots: int | None = None  # requests that it answers at once, if known: then neither more nor fewer are in flight
    form: Form = field(default_factory=Form, compare=False)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, where a proxy of the environment is wrong."""
        return urlsplit(self.url).hostname in _LOOPBACK

    def shorten(self, message: str) -> str:
        """Put a message on one line of bounded length, without the key."""
        shown = message.replace(self.api_key, "***") if len(self.api_key) >= _SECRET else message
        return " ".join(shown.split())[:_SHOWN] or "no message"


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard an endpoint is driven, and what that may cost."""

    concurrency: int | None = None  # requests in flight at most; None finds out
    timeout: float = 120.0  # seconds until one request is given up
    retries: int = 5  # times that a request is sent again while no other gets an answer either
    budget_usd: float | None = None  # that all answers of the journal may cost
    max_requests: int | None = None  # that may be sent, each try counted
    price: Price | None = None  # of the model; None where it is not known


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - most failures are no error, only a reason to try again
    """A request that got no answer."""

    sentence: str  # what to tell the user if it was the last try
    can_pass: bool = True  # whether trying again can help
    is_push_back: bool = False  # whether the endpoint had too much to do
    wait: float = 0.0  # seconds that the endpoint wants to be left alone
    may_cost: bool = False  # whether it may have been charged for
    is_misfit: bool = False  # whether it is to be sent again at once, in another form
    notice: str = ""  # what to tell the user meanwhile


def check_url(value: str) -> str:
    """Return what `llm.endpoint` may be; raise a ValueError that says so about anything else."""
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and value.split() == [value]
    except ValueError:  # of a port that is none, or of half an IPv6 address
        is_url = False
    if value != "embedded" and not is_url:
        raise ValueError("be `embedded` or a URL that begins with http:// or https://, with a host")
    if value.rstrip("/").endswith("/completions"):
        raise ValueError("be the base URL of the API, which ends before /chat/completions")
    return value


def open_client(endpoint: Endpoint) -> "AsyncOpenAI":
    """Return a client to be used in `async with`; it neither sends again nor gives up by itself.

    An EndpointError says that the key cannot be sent, or that the environment names a proxy or certificates of no use.
    """
    from httpx2 import Limits as Connections
    from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient

    connections = Connections(max_connections=None, max_keepalive_connections=None)
    http_client = _open_http(DefaultAsyncHttpxClient, endpoint, limits=connections)
    return _open(AsyncOpenAI, AsyncAzureOpenAI, endpoint, http_client=http_client, timeout=None, max_retries=0)


def open_sync_client(endpoint: Endpoint, limits: Limits) -> "OpenAI":
    """Return a client to be used in `with`, which sends again by itself; errors as above."""
    from openai import AzureOpenAI, DefaultHttpxClient, OpenAI

    limited = {"timeout": limits.timeout, "max_retries": limits.retries}
    return _open(OpenAI, AzureOpenAI, endpoint, http_client=_open_http(DefaultHttpxClient, endpoint), **limited)


def _open(plain: Callable[..., Client], azure: Callable[..., Client], endpoint: Endpoint, **settings: Any) -> Client:
    if endpoint.api_version:
        address = endpoint.url.rstrip("/").removesuffix("/openai")  # to which the client adds its own paths
        settings |= {"azure_endpoint": address, "api_version": endpoint.api_version}
        return azure(api_key=endpoint.api_key, **settings)
    return plain(api_key=endpoint.api_key, base_url=endpoint.url, **settings)


def _open_http(kind: Callable[..., Client], endpoint: Endpoint, **settings: Any) -> Client:
    """Make an HTTP client that asks servers on this machine directly, and others by the environment's proxy."""
    from httpx2 import URL, InvalidURL, create_ssl_context

    if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
        raise EndpointError(f"the key in {endpoint.key_name} holds a character that no key has: set it again")
    try:
        URL(endpoint.url)
    except InvalidURL as error:
        raise EndpointError(f"`llm.endpoint: {endpoint.url}` is no URL ({error}): correct it") from error
    try:
        # A server of one's own without TLS, as the embedded one, has nothing to do with the environment.
        context = True if endpoint.is_local and endpoint.url.startswith("http:") else create_ssl_context()
    except OSError as error:
        raise EndpointError(
            f"the file of certificates that SSL_CERT_FILE names in the environment cannot be read ({error}): correct "
            "or unset it"
        ) from error
    try:
        return kind(trust_env=not endpoint.is_local, verify=context, **settings)
    except (ValueError, ImportError, InvalidURL) as error:
        names = [f"{scheme.upper()}_PROXY" for scheme in ("http", "https", "all") if getproxies().get(scheme)]
        missing = isinstance(error, ImportError)
        reason = "a SOCKS proxy needs the package `socksio`" if missing else endpoint.shorten(str(error))
        remedy = "`pip install socksio`, or" if missing else "correct it, or"
        raise EndpointError(
            f"{' or '.join(names)} in the environment is of no use ({reason}): {remedy} unset it"
        ) from error


async def exchange(client: "AsyncOpenAI", endpoint: Endpoint, request: Request, limits: Limits) -> Answer:
    """Send a request once, in the form that the endpoint takes, and read its answer; a Failure says why not."""
    from httpx2 import Response
    from openai import APIStatusError

    level = endpoint.form.level
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
            "`llm.endpoint` and that the server runs, or raise `llm.timeout`"
        )
        raise Failure(sentence, is_push_back=True, may_cost=True) from error
    except Exception as error:  # whatever the client and what it stands on raise
        raise explain_silence(error, endpoint) from error
    address = str(response.url).removesuffix("/chat/completions")
    redirect = f"the endpoint redirects to {address}: set `llm.endpoint` to that" if response.history else ""
    try:
        return read_answer(response.content, limits.price, status=response.status_code)
    except RefusedError as error:
        raise _explain_fault(error.fault, endpoint, request, level, response, redirect) from error
    except ValueError as error:
        raise Failure(
            f"the LLM endpoint {endpoint.url} answers with something other than a chat completion "
            f"({endpoint.shorten(response.text)}): {redirect or 'check `llm.endpoint`'}",
            may_cost=True,
        ) from error


def _explain_fault(
    fault: Fault, endpoint: Endpoint, request: Request, level: int, response: "Response", redirect: str
) -> Failure:
    message, can_pass = endpoint.shorten(fault.message), fault.can_pass
    if wants_schema(request.body) and fault.refuses_schema(request.body) and level < len(_FORMS):
        notice = ""
        if endpoint.form.level == level:  # else another request has found that out
            endpoint.form.level += 1
            notice = f"the LLM endpoint {endpoint.url} takes no JSON schema ({message}): {_FORMS[level]}"
        return Failure(message, is_misfit=True, notice=notice, may_cost=fault.may_cost)
    wait = read_wait(response.headers, time.time()) if can_pass else 0.0
    if wait > _LONGEST_WAIT:
        message, can_pass = f"{message}; it asks to wait {wait:.0f} s", False
    did = f"rejected the request {request.id} with" if fault.kind not in ("", "unpaid") else "answered with"
    advice = redirect or advise(fault, endpoint.key_name, request)
    return Failure(
        f"the LLM endpoint {endpoint.url} {did} status {fault.status} ({message}): {advice}",
        can_pass,
        is_push_back=wait > 0 or fault.status in _PUSH_BACK,
        wait=wait,
        may_cost=fault.may_cost,
    )


def explain_silence(error: BaseException, endpoint: Endpoint) -> Failure:
    """Explain an exception of a client that got no reply."""
    from httpx2 import ConnectError, ProxyError, TooManyRedirects, UnsupportedProtocol

    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    reason = endpoint.shorten(next((text for cause in causes[1:] if (text := str(cause))), str(error)))
    host, proxy = urlsplit(endpoint.url).hostname, _find_proxy(endpoint)
    silent = f"the LLM endpoint {endpoint.url} does not answer ({reason})"

    def find(*kinds: type[BaseException]) -> Any:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if certificate := find(ssl.SSLCertVerificationError):
        trust = "set SSL_CERT_FILE in the environment to a file with that of its authority, if you trust it"
        advice = _CERTIFICATES.get(certificate.verify_code, trust)
        said = f"the certificate of {host} is not trusted ({certificate.verify_message})"
        return Failure(f"{said}: {advice}", can_pass=False)
    if find(ssl.SSLError) and find(ConnectError):
        return Failure(f"{silent}: check whether `llm.endpoint` begins with https:// or http://", can_pass=False)
    if find(TooManyRedirects, UnsupportedProtocol):
        return Failure(f"{silent}: check `llm.endpoint`", can_pass=False)
    can_pass, may_cost = not (proxy and find(ProxyError)), not find(ConnectError, ProxyError)
    if proxy:
        advice = f"check {proxy} in the environment, or put {host} into NO_PROXY"
        silent = f"{silent} through the proxy"
    elif find(socket.gaierror):
        advice = f"check the name {host} in `llm.endpoint` and the network; behind a proxy, set HTTPS_PROXY"
    else:
        advice = "check `llm.endpoint` and that the server runs"
    return Failure(f"{silent}: {advice}", can_pass, is_push_back=can_pass, may_cost=may_cost)


def _find_proxy(endpoint: Endpoint) -> str:
    """Say which variable leads to which proxy, on the way to an endpoint; "" where there is none."""
    parts, proxies = urlsplit(endpoint.url), getproxies()
    scheme = parts.scheme if proxies.get(parts.scheme) else "all"
    if endpoint.is_local or not proxies.get(scheme) or proxy_bypass(parts.hostname or ""):
        return ""
    address = proxies[scheme].rpartition("@")[2].rpartition("://")[2]  # without a password
    return f"{scheme.upper()}_PROXY={address}"
