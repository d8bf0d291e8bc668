"""What an endpoint replies, read as an answer."""

import json

from pydantic import BaseModel, ValidationError

from amalgam.llm.prices import Price
from amalgam.llm.request import Answer


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


def read_answer(content: bytes, price: Price | None, batch: bool = False) -> Answer:
    """Read the body of a reply.

    A reply without a choice is an answer with the reason `error`, a refusal one with the reason `refusal`. The cost is
    None where there is no price, or where the endpoint does not count tokens.

    Args:
        content: the body.
        price: of the model, where it is known.
        batch: whether the Batch API's price is paid.

    Raises:
        ValueError: it is no chat completion.
    """
    reply = _read_reply(content)
    usage = reply.usage or _Usage()
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    is_counted = usage.prompt_tokens is not None and usage.completion_tokens is not None
    cost = price.cost(prompt, completion, batch) if price and (is_counted or not price.cost(1, 1)) else None
    if not reply.choices:
        return Answer("", "error", prompt, completion, cost)
    choice = reply.choices[0]
    refusal = choice.message.refusal
    text = refusal or choice.message.content or ""
    return Answer(text, "refusal" if refusal else choice.finish_reason or "", prompt, completion, cost)


def _read_reply(content: bytes) -> _Reply:
    try:
        return _Reply.model_validate_json(content)
    except ValidationError:
        # A text that ends inside an emoji may hold half a surrogate pair, which is no Unicode and cannot be kept.
        valid = json.dumps(json.loads(content), ensure_ascii=False).encode("utf-8", "replace")
        return _Reply.model_validate_json(valid)
