"""A request to a chat model, and the key under which its answer is kept."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent.

    `model` is the model's identity (for a GGUF the hash of its file, for an endpoint the served name), so that
    an answer is never taken for another model's. `body` holds what else is sent: messages and sampling params.
    `sample` tells apart equal requests, of which several answers are wanted. Requests of one `group` begin with
    the same long prefix, which a server that is asked for them one after the other reads only once.
    """

    id: str
    model: str
    body: dict[str, Any]
    sample: int
    group: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of what is sent; neither code nor the order of keys changes it."""
        sent = {"model": self.model, "body": self.body, "sample": self.sample}
        return hashlib.sha256(json.dumps(sent, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
