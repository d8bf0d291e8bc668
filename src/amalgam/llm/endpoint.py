"""An LLM endpoint: where it is, how it is asked, and how much it may be asked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from amalgam.errors import EndpointError
from amalgam.llm.prices import Price

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "none"  # stands for the key where there is none: servers that need no key still want the header
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SHOWN = 300  # characters of an endpoint's message that an error shows


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests are sent.

    Attributes:
        url: the base URL; for Azure, of the resource.
        model: the name of the model there; for Azure, of the deployment.
        api_key: the key, or NO_KEY.
        api_version: Azure's API version; "" for every other endpoint.
        key_name: the environment variable that the key is of.
        slots: requests that it answers at once, where that is known: then neither more nor fewer are in flight.
    """

    url: str
    model: str
    api_key: str
    api_version: str = ""
    key_name: str = "OPENAI_API_KEY"
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast an endpoint is asked, how patiently, and what that may cost.

    Attributes:
        concurrency: requests in flight at first.
        max_concurrency: requests in flight at most.
        requests_per_minute: None is no limit; requests are then spaced evenly.
        tokens_per_minute: the same for tokens of prompts and answers together.
        timeout: seconds until one request is given up.
        retries: times that a request is sent again while no other gets an answer either.
        budget_usd: US dollars that all answers of the journal may cost.
        max_requests: requests that may be sent, each try counted.
        price: of the model; None where it is not known.
    """

    concurrency: int = 4
    max_concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 120.0
    retries: int = 5
    budget_usd: float | None = None
    max_requests: int | None = None
    price: Price | None = None


def open_client(endpoint: Endpoint) -> "AsyncOpenAI":
    """Return a client to be used in `async with`; it neither sends again nor gives up by itself.

    Raises:
        EndpointError: the key holds what cannot be sent.
    """
    from httpx2 import Limits as Connections
    from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient

    check_key(endpoint)
    connections = Connections(max_connections=None, max_keepalive_connections=None)
    http_client = DefaultAsyncHttpxClient(trust_env=not is_local(endpoint), limits=connections)
    settings: dict[str, Any] = {"api_key": endpoint.api_key, "timeout": None, "max_retries": 0}
    if endpoint.api_version:
        address = locate_azure(endpoint)
        return AsyncAzureOpenAI(
            azure_endpoint=address, api_version=endpoint.api_version, http_client=http_client, **settings
        )
    return AsyncOpenAI(base_url=endpoint.url, http_client=http_client, **settings)


def check_key(endpoint: Endpoint) -> None:
    """Raise an EndpointError if the key holds what cannot be sent."""
    if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
        raise EndpointError(f"the key in {endpoint.key_name} holds a character that no key has: set it again")


def is_local(endpoint: Endpoint) -> bool:
    """Say whether an endpoint is on this machine, where a proxy of the environment, the way to the world, is wrong."""
    return urlsplit(endpoint.url).hostname in _LOOPBACK


def locate_azure(endpoint: Endpoint) -> str:
    """Return the address to which Azure's client adds its own paths."""
    return endpoint.url.rstrip("/").removesuffix("/openai")


def shorten(message: str, endpoint: Endpoint) -> str:
    """Put a message on one line of bounded length, without the key."""
    shown = message if endpoint.api_key == NO_KEY else message.replace(endpoint.api_key, "***")
    return " ".join(shown.split())[:_SHOWN] or "no message"
