"""Getting answers: from the journal where they are there, from the model where not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from amalgam.llm.client import NO_KEY, send_requests
from amalgam.llm.embedded import Endpoint, serve_model
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request, group_by_prompt
from amalgam.params import Llm
from amalgam.progress import show_progress

_CHARACTERS_A_TOKEN = 2.0  # below what any real text has, so that an estimate of tokens errs to the long side
_TURN_TOKENS = 16  # what a chat template adds to a message


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers, and where answers are kept.

    Attributes:
        llm: the section `llm` of params.yaml.
        folder: base model of the LLM, with `model.gguf` for the embedded endpoint.
        journal: the journal's file.
        api_key: key of the endpoint; None where it needs none.
    """

    llm: Llm
    folder: Path
    journal: Path
    api_key: str | None


def answer_requests(requests: list[Request], answering: Answering, title: str) -> list[Answer]:
    """Return the answers in the order of the requests; only those that the journal lacks are sent.

    Raises:
        EndpointError: the endpoint failed for good; every answer that came is in the journal.
    """
    keys = [request.key for request in requests]
    with open_journal(answering.journal) as journal:
        found = journal.find(keys)
        missing = list({request.key: request for request in requests if request.key not in found}.values())
        with show_progress(title, total=len(missing), done_before=len(requests) - len(missing)) as advance:
            if missing:
                with _open_endpoint(missing, answering) as endpoint:
                    send_requests(
                        group_by_prompt(missing),
                        endpoint,
                        journal,
                        advance,
                        concurrency=answering.llm.concurrency,
                        timeout=answering.llm.timeout,
                        retries=answering.llm.retries,
                    )
        found |= journal.find([request.key for request in missing])
    return [found[key] for key in keys]


def estimate_context(requests: list[Request]) -> int:
    """Estimate the tokens, prompt and answer together, of the longest request; never too few."""
    return max(
        sum(int(len(message["content"]) / _CHARACTERS_A_TOKEN) + _TURN_TOKENS for message in request.body["messages"])
        + int(request.body["max_tokens"])
        for request in requests
    )


@contextmanager
def _open_endpoint(requests: list[Request], answering: Answering) -> Iterator[Endpoint]:
    if answering.llm.endpoint == "embedded":
        gguf = answering.folder / "model.gguf"
        slots = min(answering.llm.concurrency, len(requests))
        with serve_model(gguf, slots=slots, context=estimate_context(requests)) as endpoint:
            yield endpoint
    else:
        key = (answering.api_key or "").strip() or NO_KEY
        yield Endpoint(answering.llm.endpoint, answering.llm.model, key)
