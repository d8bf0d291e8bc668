"""A request to a chat model, and the key under which its answer is kept."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

# Names under which endpoints take the most tokens of an answer.
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")

NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent.

    `model` is the model's identity (for a GGUF the hash of its file, for an endpoint the served name), so that
    an answer is never taken for another model's. `body` holds what else is sent: messages and sampling params.
    `sample` tells apart equal requests, of which several answers are wanted. Requests of one `group` begin with
    the same long prefix, which a server that is asked for them one after the other reads only once. `rows` are the ids
    of the rows that it shows.
    """

    id: str
    model: str
    body: dict[str, Any]
    sample: int
    group: str = ""
    rows: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of what is sent; neither code nor the order of keys changes it."""
        sent = {"model": self.model, "body": self.body, "sample": self.sample}
        return hashlib.sha256(json.dumps(sent, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def find_longest(self) -> tuple[str, int] | None:
        """Return the id of the longest of its rows and its characters; None where these are not turns of their own."""
        for role in (
            "assistant",
            "user",
        ):  # examples are turns of the model where it writes, of the user where it grades
            texts = [turn["content"] for turn in self.body["messages"] if turn["role"] == role]
            if texts and len(texts) == len(self.rows):
                length, row = max((len(text), row) for text, row in zip(texts, self.rows, strict=True))
                return row, length
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came: the text unparsed, why the model stopped, the tokens, and what it cost.

    `cost_usd` is None where no price is known of the model.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None


def override_bodies(requests: Iterable[Request], fields: Mapping[str, Any]) -> Iterator[Request]:
    """Put fields into the bodies of requests, streaming; None takes a field out.

    Endpoints differ in what they want: newer models of OpenAI take no `max_tokens`, vLLM knows more ways to sample.
    """
    for request in requests:
        if fields:
            body = {name: value for name, value in {**request.body, **fields}.items() if value is not None}
            yield replace(request, body=body)
        else:
            yield request


def check_fields(value: dict[str, Any]) -> dict[str, Any]:
    """Return what `llm.body` may be; raise a ValueError that says so about anything else."""
    if taken := sorted({"messages", "model", "n", "response_format", "stream"} & value.keys()):
        raise ValueError(f"leave `{taken[0]}` alone: it is set elsewhere")
    if value.get("seed") is not None:
        raise ValueError("leave `seed` alone, which each request has its own of; null leaves it out")
    limits = [value[name] for name in TOKEN_LIMITS if value.get(name) is not None]
    if any(type(limit) is not int or limit < 1 for limit in limits) or (not limits and "max_tokens" in value):
        raise ValueError("hold a number of tokens as `max_completion_tokens` where it leaves `max_tokens` out")
    return value
