"""How many tokens a request takes: about, from the length of its texts, and at most."""

import json

from amalgam.llm.request import TOKEN_LIMITS, Request

BYTES_A_TOKEN = 4  # of English text, about
_LEAST_BYTES_A_TOKEN = 2  # less than any text has that people write
_TURN_TOKENS = 16  # at most, of what a chat template adds to a message


def guess_prompt_tokens(request: Request) -> float:
    """Return about how many tokens the prompt has."""
    return _count_bytes(request) / BYTES_A_TOKEN


def bound_answer(request: Request) -> int:
    """Return the most tokens that the answer can have, by whichever name the endpoint wants that."""
    return max(int(request.body[name]) for name in TOKEN_LIMITS if name in request.body)


def bound_tokens(request: Request) -> tuple[int, int]:
    """Return the most tokens that a request's prompt, and its answer, can be billed for.

    Tokenizers of LLMs make at most one token of a byte.
    """
    schema = json.dumps(request.body["response_format"]) if "response_format" in request.body else ""
    return _count_bytes(request) + len(schema) + _count_turn_tokens(request), bound_answer(request)


def bound_context(request: Request) -> int:
    """Return the context, prompt and answer together, that a request needs; enough for any text of people."""
    prompt = _count_bytes(request) // _LEAST_BYTES_A_TOKEN
    return prompt + _count_turn_tokens(request) + bound_answer(request)


def _count_bytes(request: Request) -> int:
    return sum(len(message["content"].encode()) for message in request.body["messages"])


def _count_turn_tokens(request: Request) -> int:
    return _TURN_TOKENS * len(request.body["messages"])
