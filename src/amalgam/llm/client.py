"""Sending requests: as many in flight as wanted, each answer kept the moment it arrives."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from amalgam.errors import EndpointError
from amalgam.llm.embedded import Endpoint
from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Advance = Callable[[Answer], None]


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
    from openai import AsyncOpenAI

    waiting = deque(groups)
    failures: list[EndpointError] = []
    async with AsyncOpenAI(
        base_url=endpoint.url, api_key=endpoint.api_key, timeout=timeout, max_retries=retries
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
    from openai import APIConnectionError, APIStatusError, OpenAIError

    try:
        completion = await client.chat.completions.create(model=endpoint.model, **request.body)
    except APIStatusError as error:
        raise EndpointError(_describe_refusal(error.status_code, _hide_key(error.message, endpoint))) from error
    except APIConnectionError as error:
        raise EndpointError(
            f"the LLM endpoint {endpoint.url} does not answer ({error.__cause__ or error}): check `llm.endpoint` and "
            "that the server runs; the answers that came are kept"
        ) from error
    except (OpenAIError, ValueError) as error:
        raise EndpointError(f"the LLM endpoint's answer cannot be read: {_hide_key(str(error), endpoint)}") from error
    if not completion.choices:
        return Answer("", "error", 0, 0)
    choice, usage = completion.choices[0], completion.usage
    refusal = choice.message.refusal
    return Answer(
        text=refusal or choice.message.content or "",
        finish_reason="refusal" if refusal else choice.finish_reason,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
    )


def _describe_refusal(status: int, message: str) -> str:
    advice = {
        401: "set OPENAI_API_KEY in the environment",
        403: "check what the key in OPENAI_API_KEY may do",
        404: "check `llm.endpoint` and `llm.model`",
        429: "wait, or lower `llm.concurrency`",
    }.get(status, "the answers that came are kept; run again when it is mended")
    return f"the LLM endpoint answered with status {status} ({message}): {advice}"


def _hide_key(message: str, endpoint: Endpoint) -> str:
    return " ".join(message.replace(endpoint.api_key, "***").split())
