"""An LLM endpoint: where it is, how it is asked, and how much it may be asked."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from amalgam.llm.forms import Forms
from amalgam.llm.prices import Price

NO_KEY = "none"  # stands for the key where there is none: servers that need no key still want the header
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SHOWN = 300  # characters of an endpoint's message that an error shows
_SECRET = 8  # characters; what is shorter, such as "x" for a server that wants no key, is none


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
        forms: in which form it is asked for JSON; found out on the way.
    """

    url: str
    model: str
    api_key: str
    api_version: str = ""
    key_name: str = "OPENAI_API_KEY"
    slots: int | None = None
    forms: Forms = field(default_factory=Forms, compare=False)


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


def is_local(endpoint: Endpoint) -> bool:
    """Say whether an endpoint is on this machine, where a proxy of the environment, the way to the world, is wrong."""
    return urlsplit(endpoint.url).hostname in _LOOPBACK


def locate_azure(endpoint: Endpoint) -> str:
    """Return the address to which Azure's client adds its own paths."""
    return endpoint.url.rstrip("/").removesuffix("/openai")


def shorten(message: str, endpoint: Endpoint) -> str:
    """Put a message on one line of bounded length, without the key."""
    shown = message.replace(endpoint.api_key, "***") if len(endpoint.api_key) >= _SECRET else message
    return " ".join(shown.split())[:_SHOWN] or "no message"
