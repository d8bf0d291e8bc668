"""What an endpoint replies, read as an answer."""

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from amalgam.llm.faults import Fault, read_fault
from amalgam.llm.prices import Price
from amalgam.llm.request import Answer

_FILTERED = "content_filter"


class RefusedError(Exception):
    """A reply that is an error."""

    def __init__(self, fault: Fault) -> None:
        """Keep what the endpoint said."""
        super().__init__(fault.message)
        self.fault = fault


class _Message(BaseModel):
    content: str | dict[str, Any] | list[str | dict[str, Any]] | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    finish_reason: str | None = None
    error: Any = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(BaseModel):
    """What is read of a reply; endpoints differ in all the rest."""

    choices: list[_Choice]
    usage: _Usage | None = None
    error: Any = None


def read_answer(content: bytes, price: Price | None, *, batch: bool = False, status: int = 200) -> Answer:
    """Read the body of a reply.

    A reply without a choice is an answer with the reason `error`, a refusal one with the reason `refusal`; one that a
    filter holds back, whether it came as an error or not, has the reason `content_filter`. The cost is None where there
    is no price, or where the endpoint does not count tokens.

    Args:
        content: the body.
        price: of the model, where it is known.
        batch: whether the Batch API's price is paid.
        status: of the reply.

    Raises:
        RefusedError: it is an error.
        ValueError: it is no chat completion.
    """
    try:
        reply = _read_reply(content) if status == 200 else None
    except ValueError:
        if not read_fault(content):
            raise
        reply = None
    choice = reply.choices[0] if reply and reply.choices else None
    if not reply or reply.error or (choice and (choice.error or choice.finish_reason == "error")):
        fault = read_fault(content, status)
        assert fault
        if fault.is_filtered:
            return Answer("", _FILTERED, 0, 0, None if price is None else 0.0)
        raise RefusedError(fault)
    usage = reply.usage or _Usage()
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    is_counted = usage.prompt_tokens is not None and usage.completion_tokens is not None
    cost = price.cost(prompt, completion, batch) if price and (is_counted or not price.cost(1, 1)) else None
    if not choice:
        return Answer("", "error", prompt, completion, cost)
    if not choice.message and choice.finish_reason != _FILTERED:
        raise ValueError("a choice has no message")
    message = choice.message or _Message()
    text, refusal = _join_parts(message.content), message.refusal
    return Answer(refusal or text, "refusal" if refusal else choice.finish_reason or "", prompt, completion, cost)


def _read_reply(content: bytes) -> _Reply:
    try:
        return _Reply.model_validate_json(content)
    except ValidationError:
        # A text that ends inside an emoji may hold half a surrogate pair, which is no Unicode and cannot be kept.
        valid = json.dumps(json.loads(content), ensure_ascii=False).encode("utf-8", "replace")
        return _Reply.model_validate_json(valid)


def _join_parts(content: str | dict[str, Any] | list[str | dict[str, Any]] | None) -> str:
    """Join the parts of a text; what the model thought before it answered, and whatever is no text, is left out."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [
        part if isinstance(part, str) else part.get("text")
        for part in (content if isinstance(content, list) else [content])
        if isinstance(part, str) or part.get("type", "text") in ("text", "output_text")
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a part of the text has no text")
    return "".join(map(str, texts))
