"""The files of a batch, one JSON object a line: requests on their way out, answers and faults on their way back."""

import json
from dataclasses import dataclass, field
from typing import IO

from pydantic import BaseModel

from amalgam.llm.endpoint import Endpoint
from amalgam.llm.faults import Fault
from amalgam.llm.prices import Price
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending.reply import RefusedError, read_answer
from amalgam.llm.tokens import bound_tokens

# The limits of OpenAI's Batch API: https://platform.openai.com/docs/api-reference/batch/create
MOST_REQUESTS = 50_000
_MOST_BYTES = 200_000_000
_PASSING = ("batch_expired", "batch_cancelled")  # codes of requests that were never tried


@dataclass
class BatchFile:
    """Requests that go out together.

    Attributes:
        stream: the file, which is open and empty at first.
        keys: of its requests, in order.
        worst_usd: what they cost at most; 0 where no price is known.
    """

    stream: IO[bytes]
    keys: list[str] = field(default_factory=list)
    worst_usd: float = 0.0

    def add(self, request: Request, endpoint: Endpoint, price: Price | None, most: int) -> bool:
        """Append a request; False where the file has no room for it, but one always fits."""
        line = _build_line(request, endpoint)
        if self.keys and (len(self.keys) >= most or self.stream.tell() + len(line) > _MOST_BYTES):
            return False
        self.stream.write(line)
        self.keys.append(request.key)
        if price is not None:
            self.worst_usd += price.cost(*bound_tokens(request), batch=True)
        return True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: its answer, or else what the endpoint says, and whether trying again may help.

    `fault` is None where the request was never tried.
    """

    key: str
    answer: Answer | None
    said: str = ""
    passing: bool = False
    fault: Fault | None = None


class _Error(BaseModel):
    code: str | None = None
    message: str | None = None


class _Response(BaseModel):
    status_code: int
    body: object = None


class _Line(BaseModel):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


def name_url(endpoint: Endpoint) -> str:
    """Name the place of chat completions as lines and batches must both say it."""
    return "/chat/completions" if endpoint.api_version else "/v1/chat/completions"


def read_outcome(line: bytes, price: Price | None) -> Outcome:
    """Read a line of an output or error file.

    Raises:
        ValueError: it is no such line.
    """
    # Half a surrogate pair is valid JSON, but no valid text: `read_answer` knows what to do with it.
    read = _Line.model_validate(json.loads(line))
    if read.response is None:
        error = read.error or _Error()
        return Outcome(read.custom_id, None, error.message or error.code or "no message", error.code in _PASSING)
    content = json.dumps(read.response.body).encode()
    try:
        return Outcome(read.custom_id, read_answer(content, price, batch=True, status=read.response.status_code))
    except RefusedError as refused:
        fault = refused.fault
        return Outcome(read.custom_id, None, f"status {fault.status}: {fault.message}", fault.can_pass, fault)


def _build_line(request: Request, endpoint: Endpoint) -> bytes:
    line = {
        "custom_id": request.key,
        "method": "POST",
        "url": name_url(endpoint),
        "body": {"model": endpoint.model, **request.body},
    }
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
