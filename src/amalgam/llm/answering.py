"""Getting answers: from the journal where they are there, from shared outputs, and from the model where not."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from amalgam.errors import DataError, EndpointError
from amalgam.llm.batch import check_no_batches, send_batches
from amalgam.llm.embedded import choose_slots, serve_model
from amalgam.llm.endpoint import NO_KEY, Endpoint, Limits
from amalgam.llm.forms import Forms
from amalgam.llm.journal import Journal, lock_sending, open_journal
from amalgam.llm.prices import FREE, load_prices
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending import send_requests
from amalgam.llm.survey import Survey, iterate_missing, survey_requests
from amalgam.machine import notify, show_progress
from amalgam.params import Llm

_CHUNK = 500  # answers read at once
_WINDOW = 4000  # requests among which those of one group are looked for

Make = Callable[[], Iterable[Request]]  # yields the same requests at each call
ReadSeeds = Callable[[Callable[[str], bool]], Iterator[tuple[str, Iterator[dict[str, Any]]]]]


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers, and where answers are kept.

    Attributes:
        llm: the section `llm` of params.yaml.
        folder: base model of the LLM, with `model.gguf` for the embedded endpoint.
        journal: the journal's file.
        prices: the file of prices.
        api_key: key of the endpoint; None where it needs none.
        read_seeds: yields the answers that DVC shares, by the hash of their folder; called with a function that says
            of a hash whether it has been read already.
        forms: in which form the endpoint takes JSON; found out on the way, and kept for the run.
    """

    llm: Llm
    folder: Path
    journal: Path
    prices: Path
    api_key: str | None
    read_seeds: ReadSeeds
    forms: Forms = field(default_factory=Forms)

    def deduct(self, sent: int) -> "Answering":
        """Leave `sent` requests fewer to what one run of a stage may send."""
        most = self.llm.max_requests
        if most is None:
            return self
        return replace(self, llm=self.llm.model_copy(update={"max_requests": max(most - sent, 0)}))


def answer_requests(make: Make, answering: Answering, title: str) -> int:
    """Make sure that the journal holds an answer to every request; only those that it lacks are sent.

    Before anything is sent, the journal takes in what colleagues share through DVC.

    Args:
        make: yields the requests; called several times, so that no list of them is held.
        answering: who answers.
        title: what the work is called in progress and errors.

    Returns:
        How many requests were sent one by one, tries included.

    Raises:
        EndpointError: the endpoint failed for good, a limit is reached, or `llm.offline` forbids to send; every
            answer that came is in the journal.
    """
    with open_journal(answering.journal, notify) as journal:
        survey = survey_requests(make(), journal)
        if survey.missing and seed_journal(journal, answering.read_seeds):
            survey = survey_requests(make(), journal)
        if not survey.missing:
            _report_nothing_to_do(title, survey)
            return 0
        if answering.llm.offline:
            raise EndpointError(
                f"{survey.missing} of {survey.requests} requests have no answer and `llm.offline` is true: "
                "run `dvc pull` if a colleague has the answers, or set it to false"
            )
        if answering.llm.batch:
            _send_batches(make, answering, title, journal, survey)
            return 0
        with lock_sending(answering.journal, notify):
            check_no_batches(make, journal)
            # Another run may have been sending meanwhile.
            survey = survey_requests(make(), journal)
            if survey.missing:
                return _send(make, answering, title, journal, survey)
            _report_nothing_to_do(title, survey)
            return 0


def iterate_answers(requests: Iterable[Request], answering: Answering) -> Iterator[tuple[Request, Answer]]:
    """Yield each request with its answer from the journal, in order, streaming; `answer_requests` comes before.

    Raises:
        DataError: an answer is not there.
    """
    stream = iter(requests)
    with open_journal(answering.journal, notify) as journal:
        while chunk := list(islice(stream, _CHUNK)):
            found = journal.find([request.key for request in chunk])
            if any(request.key not in found for request in chunk):
                raise DataError(f"{answering.journal} has lost answers meanwhile: run again to get them")
            yield from ((request, found[request.key]) for request in chunk)


def seed_journal(journal: Journal, read_seeds: ReadSeeds) -> int:
    """Take in the answers that DVC shares and the journal has not read yet; return how many were new."""
    new = 0
    for source, lines in read_seeds(journal.is_seeded):
        new += journal.seed(lines)
        journal.mark_seeded(source)
    if new:
        notify(f"{new} answers were taken over from what DVC shares")
    return new


def cut_groups(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """Yield requests in groups that share a prefix, in the order of their first one, streaming."""
    stream = iter(requests)
    while window := list(islice(stream, _WINDOW)):
        groups: dict[str, list[Request]] = {}
        for request in window:
            groups.setdefault(request.group or request.key, []).append(request)
        yield from groups.values()


def build_limits(answering: Answering) -> Limits:
    """Put together how hard the endpoint may be driven, and what it costs.

    Raises:
        EndpointError: the Batch API is wanted of the embedded LLM.
    """
    llm = answering.llm
    embedded = llm.endpoint == "embedded"
    if embedded and llm.batch:
        raise EndpointError("`llm.batch` is true, but the embedded LLM has no Batch API: set it to false")
    return Limits(
        concurrency=min(llm.concurrency, llm.max_concurrency),
        max_concurrency=llm.max_concurrency,
        requests_per_minute=llm.requests_per_minute,
        tokens_per_minute=llm.tokens_per_minute,
        timeout=llm.timeout,
        retries=llm.retries,
        budget_usd=llm.budget_usd,
        max_requests=llm.max_requests,
        price=FREE if embedded else load_prices(answering.prices).find(llm.model),
    )


def _send(make: Make, answering: Answering, title: str, journal: Journal, survey: Survey) -> int:
    limits = build_limits(answering)
    notify(f"{title}: {_phrase_estimate(survey, limits)}")
    missing = iterate_missing(make(), journal)
    with _open_endpoint(answering, survey) as endpoint, _show(title, survey) as advance:
        # A server of one's own keeps the prefix of a slot's last request; elsewhere requests need not wait for each
        # other.
        groups = cut_groups(missing) if endpoint.slots else ([request] for request in missing)
        return send_requests(groups, endpoint, journal, advance, limits=limits, notify=notify, total=survey.missing)


def _send_batches(make: Make, answering: Answering, title: str, journal: Journal, survey: Survey) -> None:
    limits = build_limits(answering)
    notify(f"{title}: {_phrase_estimate(survey, limits, batch=True)}")
    lock = partial(lock_sending, answering.journal, notify)
    with _open_endpoint(answering, survey) as endpoint, _show(title, survey) as advance:
        send_batches(make, endpoint, journal, advance, limits=limits, notify=notify, lock=lock)


@contextmanager
def _open_endpoint(answering: Answering, survey: Survey) -> Iterator[Endpoint]:
    llm = answering.llm
    if llm.endpoint == "embedded":
        slots = min(llm.slots or choose_slots(), survey.missing)
        context = llm.context or survey.longest
        gguf = answering.folder / "model.gguf"
        with serve_model(gguf, context=context, slots=slots, threads=llm.threads) as endpoint:
            yield endpoint
    else:
        key = (answering.api_key or "").strip() or NO_KEY
        version = llm.api_version or ""
        name = "AZURE_OPENAI_API_KEY" if version else "OPENAI_API_KEY"
        yield Endpoint(llm.endpoint, llm.model, key, api_version=version, key_name=name, forms=answering.forms)


def _phrase_estimate(survey: Survey, limits: Limits, *, batch: bool = False) -> str:
    tokens = (
        f"{survey.missing} requests to send, about {survey.prompt_tokens} prompt tokens and at most "
        f"{survey.completion_tokens} completion tokens"
    )
    if limits.price is None:
        return f"{tokens}; no price of the model is known"
    if limits.price == FREE:
        return tokens
    most = limits.price.cost(survey.prompt_tokens, survey.completion_tokens, batch)
    return f"{tokens}, at most about {most:.4f} USD"


def _show(title: str, survey: Survey) -> AbstractContextManager[Callable[[object], None]]:
    return show_progress(title, total=survey.missing, done_before=survey.requests - survey.missing)


def _report_nothing_to_do(title: str, survey: Survey) -> None:
    with _show(title, survey):
        pass
