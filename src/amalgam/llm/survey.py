"""What a run would have to send: which of its requests have no answer yet, and about how many tokens those are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from amalgam.llm.journal import Journal
from amalgam.llm.request import Request
from amalgam.llm.tokens import bound_answer, bound_context, guess_prompt_tokens

_CHUNK = 500  # requests a look-up


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts over distinct requests; tokens are those of the missing ones.

    Attributes:
        requests: all of them.
        missing: those without an answer.
        prompt_tokens: about; by the length of the texts.
        completion_tokens: at most.
        longest: tokens, prompt and answer together, of the longest missing request; never too few.
    """

    requests: int = 0
    missing: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    longest: int = 0


def survey_requests(requests: Iterable[Request], journal: Journal) -> Survey:
    """Count requests and what is missing, streaming."""
    total, missing, prompt, completion, longest = 0, 0, 0.0, 0, 0
    for request, found in _look_up(requests, journal):
        total += 1
        if not found:
            missing += 1
            prompt += guess_prompt_tokens(request)
            completion += bound_answer(request)
            longest = max(longest, bound_context(request))
    return Survey(total, missing, round(prompt), completion, longest)


def iterate_missing(requests: Iterable[Request], journal: Journal) -> Iterator[Request]:
    """Yield each request without an answer once, in order, streaming."""
    return (request for request, found in _look_up(requests, journal) if not found)


def _look_up(requests: Iterable[Request], journal: Journal) -> Iterator[tuple[Request, bool]]:
    """Yield distinct requests, and whether the journal holds their answer."""
    # 16 bytes of a key tell as many requests apart as there will ever be, and a million of them need 100 MB.
    seen: set[bytes] = set()
    stream = iter(requests)
    while chunk := list(islice(stream, _CHUNK)):
        fresh: dict[str, Request] = {}
        for request in chunk:
            key = request.key
            short = bytes.fromhex(key[:32])
            if short not in seen:
                seen.add(short)
                fresh[key] = request
        found = journal.find(list(fresh))
        for key, request in fresh.items():
            yield request, key in found
