"""The way to an endpoint: clients, and what can be in it (proxies, certificates, names) in one sentence each."""

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from amalgam.errors import EndpointError
from amalgam.llm.endpoint import Endpoint, is_local, locate_azure, shorten

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Client = TypeVar("Client")

_RENEW = "have it renewed, or check the clock of this machine"
_RENAME = "put the name that it is for into `llm.endpoint`"
_CERTIFICATES = {9: _RENEW, 10: _RENEW, 62: _RENAME, 64: _RENAME}  # by OpenSSL's number of the trouble
_PROXIES = ("http", "https", "all")  # `HTTP_PROXY` and so on, as httpx reads them


@dataclass(frozen=True, slots=True)
class Silence:
    """Why nothing came back: a sentence, whether trying again can help, whether the request may have been charged."""

    sentence: str
    can_pass: bool = True
    may_cost: bool = False


def open_client(endpoint: Endpoint) -> "AsyncOpenAI":
    """Return a client to be used in `async with`; it neither sends again nor gives up by itself.

    Raises:
        EndpointError: the key holds what cannot be sent, or the environment names a proxy or certificates of no use.
    """
    from httpx2 import Limits as Connections
    from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient

    connections = Connections(max_connections=None, max_keepalive_connections=None)
    http_client = open_http(DefaultAsyncHttpxClient, endpoint, limits=connections)
    settings: dict[str, Any] = {"api_key": endpoint.api_key, "timeout": None, "max_retries": 0}
    if endpoint.api_version:
        address = locate_azure(endpoint)
        return AsyncAzureOpenAI(
            azure_endpoint=address, api_version=endpoint.api_version, http_client=http_client, **settings
        )
    return AsyncOpenAI(base_url=endpoint.url, http_client=http_client, **settings)


def open_http(kind: Callable[..., Client], endpoint: Endpoint, **settings: Any) -> Client:
    """Make an HTTP client of a kind, which asks servers on this machine directly and others by the environment's proxy.

    Raises:
        EndpointError: the key holds what cannot be sent, or the environment names a proxy or certificates of no use.
    """
    from httpx2 import URL, InvalidURL, create_ssl_context

    if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
        raise EndpointError(f"the key in {endpoint.key_name} holds a character that no key has: set it again")
    try:
        URL(endpoint.url)
    except InvalidURL as error:
        raise EndpointError(f"`llm.endpoint: {endpoint.url}` is no URL ({error}): correct it") from error
    # A server of one's own without TLS, as the embedded one, has nothing to do with the environment.
    is_own = is_local(endpoint)
    try:
        context = True if is_own and endpoint.url.startswith("http:") else create_ssl_context()
    except OSError as error:
        raise EndpointError(
            f"the file of certificates that SSL_CERT_FILE names in the environment cannot be read ({error}): correct "
            "or unset it"
        ) from error
    try:
        return kind(trust_env=not is_own, verify=context, **settings)
    except (ValueError, ImportError, InvalidURL) as error:
        name = next((scheme for scheme in _PROXIES if not _is_usable(scheme)), "no").upper()
        missing = isinstance(error, ImportError)
        reason = "a SOCKS proxy needs the package `socksio`" if missing else shorten(str(error), endpoint)
        remedy = "`pip install socksio`, or" if missing else "correct it, or"
        raise EndpointError(f"{name}_PROXY in the environment is of no use ({reason}): {remedy} unset it") from error


def explain_silence(error: BaseException, endpoint: Endpoint) -> Silence:
    """Explain an exception of a client that got no reply."""
    from httpx2 import ConnectError, ProxyError, TooManyRedirects, UnsupportedProtocol

    causes = list(_iterate_causes(error))
    reason = shorten(next((text for cause in causes[1:] if (text := str(cause))), str(error)), endpoint)
    host = urlsplit(endpoint.url).hostname

    def find(*kinds: type[BaseException]) -> Any:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if certificate := find(ssl.SSLCertVerificationError):
        trust = "set SSL_CERT_FILE in the environment to a file with that of its authority, if you trust it"
        advice = _CERTIFICATES.get(certificate.verify_code, trust)
        said = f"the certificate of {host} is not trusted ({certificate.verify_message})"
        return Silence(f"{said}: {advice}", can_pass=False)
    silent = f"the LLM endpoint {endpoint.url} does not answer ({reason})"
    if find(ssl.SSLError) and find(ConnectError):
        return Silence(f"{silent}: check whether `llm.endpoint` begins with https:// or http://", can_pass=False)
    if find(TooManyRedirects, UnsupportedProtocol):
        return Silence(f"{silent}: check `llm.endpoint`", can_pass=False)
    never_arrived = bool(find(ConnectError, ProxyError))
    if proxy := _find_proxy(endpoint):
        advice = f"check {proxy} in the environment, or put {host} into NO_PROXY"
        return Silence(f"{silent} through the proxy: {advice}", not find(ProxyError), may_cost=not never_arrived)
    if find(socket.gaierror):
        return Silence(
            f"{silent}: check the name {host} in `llm.endpoint` and the network; behind a proxy, set HTTPS_PROXY"
        )
    return Silence(f"{silent}: check `llm.endpoint` and that the server runs", may_cost=not never_arrived)


def _iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _find_proxy(endpoint: Endpoint) -> str:
    """Say which variable leads to which proxy, on the way to an endpoint; "" where there is none."""
    parts, proxies = urlsplit(endpoint.url), getproxies()
    scheme = parts.scheme if proxies.get(parts.scheme) else "all"
    if is_local(endpoint) or not proxies.get(scheme) or proxy_bypass(parts.hostname or ""):
        return ""
    address = proxies[scheme].rpartition("@")[2].rpartition("://")[2]  # without a password
    return f"{scheme.upper()}_PROXY={address}"


def _is_usable(scheme: str) -> bool:
    from httpx2 import HTTPTransport, InvalidURL

    url = getproxies().get(scheme)
    try:
        if url:
            HTTPTransport(proxy=url if "://" in url else f"http://{url}")
    except (ValueError, ImportError, InvalidURL):
        return False
    return True
