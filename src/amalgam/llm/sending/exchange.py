"""One request and what comes of it: an answer, or a failure that says whether trying again can help."""

import asyncio
import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amalgam.llm.endpoint import Endpoint, Limits, shorten
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending.reply import read_answer

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI

_PASSING = (408, 409, 425, 429)  # and all from 500 up
_PUSH_BACK = (408, 429, 503, 504, 529)  # 529 is Anthropic's word for 503
_LONGEST_WAIT = 600.0  # seconds; an endpoint that wants more is better asked another day


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - most failures are no error, only a reason to try again
    """A request that got no answer.

    Attributes:
        sentence: what to tell the user if it was the last try.
        can_pass: whether trying again can help.
        is_push_back: whether the endpoint had too much to do.
        wait: seconds that the endpoint wants to be left alone; 0 where it does not say.
        may_cost: whether it may have been charged for.
    """

    sentence: str
    can_pass: bool = True
    is_push_back: bool = False
    wait: float = 0.0
    may_cost: bool = False


async def exchange(client: "AsyncOpenAI", endpoint: Endpoint, request: Request, limits: Limits) -> Answer:
    """Send a request once and read its answer.

    Raises:
        Failure: there is no answer.
    """
    from httpx2 import Response
    from openai import APIConnectionError, APIStatusError

    try:
        # The client's typed methods do the same at three times the cost.
        async with asyncio.timeout(limits.timeout):
            response = await client.post(
                "/chat/completions", cast_to=Response, body={"model": endpoint.model, **request.body}
            )
    except APIStatusError as error:
        raise _explain_status(error, endpoint, request) from error
    except APIConnectionError as error:
        raise _explain_silence(error, endpoint) from error
    except TimeoutError as error:
        sentence = _phrase_silence(f"no answer within {limits.timeout:g} s", endpoint)
        raise Failure(sentence, is_push_back=True, may_cost=True) from error
    try:
        return read_answer(response.content, limits.price)
    except ValueError as error:
        raise Failure(
            f"the LLM endpoint {endpoint.url} answers with something other than a chat completion "
            f"({shorten(response.text, endpoint)}): check `llm.endpoint`",
            may_cost=True,
        ) from error


def read_wait(headers: Mapping[str, str], now: float) -> float:
    """Return the seconds that the headers of a reply ask to wait, 0 where they do not.

    Args:
        headers: with lower-case names. `Retry-After` holds seconds or a date (RFC 9110, 10.2.3).
        now: seconds since 1970.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return max(0.0, float(value) * unit)  # 0 for what is no number
        except ValueError:
            pass
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
        except (ValueError, OverflowError):
            pass
    return 0.0


def _explain_status(error: "APIStatusError", endpoint: Endpoint, request: Request) -> Failure:
    status, code = error.status_code, error.code or ""
    message = shorten(_read_message(error.body) or error.response.text, endpoint)
    can_pass = (status in _PASSING or status >= 500) and code != "insufficient_quota"
    wait = read_wait(error.response.headers, time.time()) if can_pass else 0.0
    if wait > _LONGEST_WAIT:
        message, can_pass = f"{message}; it asks to wait {wait:.0f} s", False
    advice = {
        401: f"set {endpoint.key_name} in the environment",
        403: f"check what the key in {endpoint.key_name} may do",
        404: "check `llm.endpoint` and `llm.model`",
        429: "wait, or set `llm.requests_per_minute` to what the endpoint allows",
    }.get(status, "run again later" if can_pass else f"the request {request.id} is not to its liking")
    if code == "insufficient_quota":
        advice = "pay for more there, or name another `llm.endpoint`"
    elif code == "content_filter":
        advice = f"change what the request {request.id} says, or name another `llm.model`"
    sentence = f"the LLM endpoint answered with status {status} ({message}): {advice}"
    return Failure(sentence, can_pass, is_push_back=wait > 0 or status in _PUSH_BACK, wait=wait)


def _explain_silence(error: "APIConnectionError", endpoint: Endpoint) -> Failure:
    from httpx2 import ConnectError

    reason = shorten(str(error.__cause__ or "") or error.message, endpoint)
    never_arrived = isinstance(error.__cause__, ConnectError)
    return Failure(_phrase_silence(reason, endpoint), is_push_back=True, may_cost=not never_arrived)


def _phrase_silence(reason: str, endpoint: Endpoint) -> str:
    return f"the LLM endpoint {endpoint.url} does not answer ({reason}): check `llm.endpoint` and that the server runs"


def _read_message(body: object) -> str:
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) else ""
