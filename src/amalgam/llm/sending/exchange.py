"""One request and what comes of it: an answer, or a failure that says whether trying again can help."""

import asyncio
import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amalgam.llm.connection import explain_silence
from amalgam.llm.endpoint import Endpoint, Limits, shorten
from amalgam.llm.faults import Fault, advise
from amalgam.llm.forms import shape_body, wants_schema
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending.reply import RefusedError, read_answer

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import AsyncOpenAI

_PUSH_BACK = (408, 429, 503, 504, 529)
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
        is_misfit: whether it is to be sent again at once, in another form.
        notice: what to tell the user meanwhile.
    """

    sentence: str
    can_pass: bool = True
    is_push_back: bool = False
    wait: float = 0.0
    may_cost: bool = False
    is_misfit: bool = False
    notice: str = ""


async def exchange(client: "AsyncOpenAI", endpoint: Endpoint, request: Request, limits: Limits) -> Answer:
    """Send a request once, in the form that the endpoint takes, and read its answer.

    Raises:
        Failure: there is no answer.
    """
    from httpx2 import Response
    from openai import APIStatusError

    form = endpoint.forms.level
    try:
        # The client's typed methods do the same at three times the cost.
        async with asyncio.timeout(limits.timeout):
            body = {"model": endpoint.model, **shape_body(request.body, form)}
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
        silence = explain_silence(error, endpoint)
        raise Failure(
            silence.sentence, silence.can_pass, is_push_back=silence.can_pass, may_cost=silence.may_cost
        ) from error
    try:
        return read_answer(response.content, limits.price, status=response.status_code)
    except RefusedError as error:
        raise _explain_fault(error.fault, endpoint, request, form, response) from error
    except ValueError as error:
        raise Failure(
            f"the LLM endpoint {endpoint.url} answers with something other than a chat completion "
            f"({shorten(response.text, endpoint)}): {_advise_on_redirect(response) or 'check `llm.endpoint`'}",
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


def _explain_fault(fault: Fault, endpoint: Endpoint, request: Request, form: int, response: "Response") -> Failure:
    message, can_pass = shorten(fault.message, endpoint), fault.can_pass
    notice = None
    if wants_schema(request.body) and fault.refuses_schema(request.body):
        notice = endpoint.forms.leave(form)
    if notice:
        notice = f"the LLM endpoint {endpoint.url} takes no JSON schema ({message}): {notice}"
    wait = read_wait(response.headers, time.time()) if can_pass else 0.0
    if wait > _LONGEST_WAIT:
        message, can_pass = f"{message}; it asks to wait {wait:.0f} s", False
    did = f"rejected the request {request.id} with" if fault.is_rejection else "answered with"
    advice = _advise_on_redirect(response) or advise(fault, endpoint, request)
    return Failure(
        f"the LLM endpoint {endpoint.url} {did} status {fault.status} ({message}): {advice}",
        can_pass,
        is_push_back=wait > 0 or fault.status in _PUSH_BACK,
        wait=wait,
        may_cost=fault.may_cost,
        is_misfit=notice is not None,
        notice=notice or "",
    )


def _advise_on_redirect(response: "Response") -> str:
    """Name the address that a request was led on to, where it got no answer; "" where it was not led on."""
    address = str(response.url).removesuffix("/chat/completions")
    return f"the endpoint redirects to {address}: set `llm.endpoint` to that" if response.history else ""
