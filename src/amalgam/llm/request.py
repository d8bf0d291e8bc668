"""A request to a chat model, and the key under which its answer is kept."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent.

    `model` is the model's identity (for a GGUF the hash of its file, for an endpoint the served name), so that
    an answer is never taken for another model's. `body` holds what else is sent: messages and sampling params.
    `sample` tells apart equal requests, of which several answers are wanted.
    """

    id: str
    model: str
    body: dict[str, Any]
    sample: int

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of what is sent; neither code nor the order of keys changes it."""
        sent = {"model": self.model, "body": self.body, "sample": self.sample}
        return hashlib.sha256(json.dumps(sent, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came: the text unparsed, why the model stopped, and the tokens that were paid for."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def group_by_prompt(requests: list[Request]) -> list[list[Request]]:
    """Group requests that share all of their messages, in the order of their first one.

    A group is sent one after the other, so that a server that caches prefixes reads the prompt only once.
    """
    groups: dict[str, list[Request]] = {}
    for request in requests:
        groups.setdefault(json.dumps(request.body["messages"]), []).append(request)
    return list(groups.values())
