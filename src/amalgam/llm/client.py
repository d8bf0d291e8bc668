"""Sending requests: as many in flight as wanted, each answer kept the moment it arrives."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel

from amalgam.errors import EndpointError
from amalgam.llm.embedded import Endpoint
from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Advance = Callable[[Answer], None]

NO_KEY = "none"  # stands for the key where there is none: servers that need no key still want the header
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SHOWN = 300  # characters of an endpoint's message that an error shows


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(BaseModel):
    """What is read of a reply; endpoints differ in all the rest."""

    choices: list[_Choice]
    usage: _Usage | None = None


def send_requests(
    groups: list[list[Request]],
    endpoint: Endpoint,
    journal: Journal,
    advance: Advance,
    *,
    concurrency: int,
    timeout: float,
    retries: int,
) -> None:
    """Send every request and record its answer in the journal.

    Groups run side by side, the requests of one group one after the other.

    Raises:
        EndpointError: the endpoint refused a request, or kept failing. What was in flight then is still recorded.
    """
    asyncio.run(_send_all(groups, endpoint, journal, advance, concurrency, timeout, retries))


async def _send_all(
    groups: list[list[Request]],
    endpoint: Endpoint,
    journal: Journal,
    advance: Advance,
    concurrency: int,
    timeout: float,
    retries: int,
) -> None:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
        raise EndpointError("the key in OPENAI_API_KEY holds a character that no key has: set it again")
    waiting = deque(groups)
    failures: list[EndpointError] = []
    # A proxy of the environment leads to the world outside, not to this machine.
    http_client = DefaultAsyncHttpxClient(trust_env=urlsplit(endpoint.url).hostname not in _LOOPBACK)
    async with AsyncOpenAI(
        base_url=endpoint.url, api_key=endpoint.api_key, timeout=timeout, max_retries=retries, http_client=http_client
    ) as client:
        lanes = min(concurrency, len(groups))
        await asyncio.gather(*(_run_lane(client, endpoint, waiting, failures, journal, advance) for _ in range(lanes)))
    if failures:
        raise failures[0]


async def _run_lane(
    client: "AsyncOpenAI",
    endpoint: Endpoint,
    waiting: deque[list[Request]],
    failures: list[EndpointError],
    journal: Journal,
    advance: Advance,
) -> None:
    while waiting and not failures:
        for request in waiting.popleft():
            try:
                answer = await _send(client, endpoint, request)
            except EndpointError as error:
                failures.append(error)
            else:
                journal.record(request, answer)
                advance(answer)
            if failures:
                return


async def _send(client: "AsyncOpenAI", endpoint: Endpoint, request: Request) -> Answer:
    from openai import APIConnectionError, APIStatusError

    try:
        response = await client.chat.completions.with_raw_response.create(model=endpoint.model, **request.body)
    except APIStatusError as error:
        message = _read_message(error.body) or error.response.text
        raise EndpointError(_describe_refusal(error.status_code, _shorten(message, endpoint))) from error
    except APIConnectionError as error:
        reason = _shorten(str(error.__cause__ or "") or error.message, endpoint)
        raise EndpointError(
            f"the LLM endpoint {endpoint.url} does not answer ({reason}): check `llm.endpoint` and that the server "
            "runs; the answers that came are kept"
        ) from error
    try:
        return _read_answer(response.content)
    except ValueError as error:
        raise EndpointError(
            f"the LLM endpoint {endpoint.url} answers with something other than a chat completion "
            f"({_shorten(response.text, endpoint)}): check `llm.endpoint`"
        ) from error


def _read_answer(content: bytes) -> Answer:
    # A text that ends inside an emoji may hold half a surrogate pair, which is no Unicode and cannot be kept.
    valid = json.dumps(json.loads(content), ensure_ascii=False).encode("utf-8", "replace")
    reply = _Reply.model_validate_json(valid)
    usage = reply.usage or _Usage()
    tokens = {"prompt_tokens": usage.prompt_tokens or 0, "completion_tokens": usage.completion_tokens or 0}
    if not reply.choices:
        return Answer("", "error", **tokens)
    choice = reply.choices[0]
    refusal = choice.message.refusal
    text = refusal or choice.message.content or ""
    return Answer(text, "refusal" if refusal else choice.finish_reason or "", **tokens)


def _describe_refusal(status: int, message: str) -> str:
    advice = {
        401: "set OPENAI_API_KEY in the environment",
        403: "check what the key in OPENAI_API_KEY may do",
        404: "check `llm.endpoint` and `llm.model`",
        429: "wait, or lower `llm.concurrency`",
    }.get(status, "the answers that came are kept; run again when it is mended")
    return f"the LLM endpoint answered with status {status} ({message}): {advice}"


def _read_message(body: object) -> str:
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) else ""


def _shorten(message: str, endpoint: Endpoint) -> str:
    """Put a message on one line of bounded length, without the key."""
    shown = message if endpoint.api_key == NO_KEY else message.replace(endpoint.api_key, "***")
    return " ".join(shown.split())[:_SHOWN] or "no message"
