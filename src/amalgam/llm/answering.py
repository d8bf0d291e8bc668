"""Get answers to requests: from the journal, from the answers that DVC shares, or else from the model.

The model runs at an endpoint, or a llama.cpp server inside this process serves it from a file.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from amalgam.errors import DataError, EndpointError, ModelError
from amalgam.llm.batch import check_no_batches, send_batches
from amalgam.llm.journal import Journal, lock_sending, open_journal
from amalgam.llm.request import (
    BYTES_A_TOKEN,
    FREE,
    NO_KEY,
    Answer,
    Endpoint,
    Limits,
    Request,
    bound_answer,
    bound_context,
    count_bytes,
    load_prices,
)
from amalgam.llm.sending import send_requests
from amalgam.machine import count_cores, notify, show_progress
from amalgam.params import Llm

_WINDOW = 4000  # consecutive requests that are sorted into groups together
_MOST_SLOTS = 16  # more slots would share the same cores, and each needs memory for its context

ReadSeeds = Callable[[Callable[[str], bool]], Iterator[tuple[str, Iterator[tuple[str, Answer]]]]]


@dataclass(slots=True)
class Answering:
    """The LLM that answers the requests of one run of a stage, and where its answers are kept."""

    llm: Llm
    folder: Path  # of the LLM's base model, with `model.gguf` for the embedded endpoint
    journal: Path
    prices: Path
    api_key: str | None  # None if the endpoint needs none
    # Yields the answers that DVC shares, by the hash of their file; takes a predicate, true for hashes read before.
    read_seeds: ReadSeeds
    sent: int = 0  # requests so far, counting each try; limited by `llm.max_requests`
    level: int = 0  # the form in which the endpoint accepts JSON requests, as far as known


def answer_requests(requests: Sequence[Request], answering: Answering, task: str) -> list[Answer]:
    """Return the answers to requests, in order; send only those that neither the journal nor DVC's shared answers hold.

    Equal requests get one answer. `task` is the name of the work in progress lines. After an EndpointError (it failed
    for good, or `llm.offline` forbids sending) or a BudgetError (a limit is reached), answers received are kept.
    """
    keys = [request.key for request in requests]  # requests may be built on each access, so keep none
    missing = {key: place for place, key in enumerate(keys)}
    total = len(missing)
    answers: dict[str, Answer] = {}
    with open_journal(answering.journal, notify) as journal:

        def look_up() -> int:
            answers.update(journal.find(list(missing)))
            for key in answers.keys() & missing.keys():
                del missing[key]
            return len(missing)

        if look_up() and seed_journal(journal, answering.read_seeds):
            look_up()
        if missing and answering.llm.offline:
            raise EndpointError(
                f"{len(missing)} of {total} requests have no answer and `llm.offline` is true: run `dvc pull` if a "
                "colleague has the answers, or set it to false"
            )
        if missing and answering.llm.batch:
            _send(requests, missing, total, answering, task, journal)
        elif missing:
            with lock_sending(answering.journal, notify):
                check_no_batches(missing.keys(), journal)
                if look_up():  # another run may have sent some in the meantime
                    _send(requests, missing, total, answering, task, journal)
        else:
            with show_progress(task, total=0, done_before=total):
                pass
        if look_up():
            raise DataError(f"{answering.journal} has lost answers during this run: run again to get them")
    return [answers[key] for key in keys]


class Survey(NamedTuple):
    """The size of requests."""

    requests: int
    prompt_tokens: int  # estimated
    completion_tokens: int  # at most
    longest: int  # tokens of the longest context


def measure_requests(requests: Iterable[Request]) -> Survey:
    """Count requests and their tokens."""
    count = prompt = completion = longest = 0
    for request in requests:
        count += 1
        prompt += count_bytes(request)
        completion += bound_answer(request)
        longest = max(longest, bound_context(request))
    return Survey(count, round(prompt / BYTES_A_TOKEN), completion, longest)


def seed_journal(journal: Journal, read_seeds: ReadSeeds) -> int:
    """Add the answers that DVC shares and the journal has not read yet; return how many were new."""
    new = 0
    for source, entries in read_seeds(journal.is_seeded):
        new += journal.seed(entries)
        journal.mark_seeded(source)
    if new:
        notify(f"{new} answers were taken over from those that DVC shares")
    return new


def cut_groups(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """Yield requests in groups that share a prefix, ordered by the first request of each group."""
    stream = iter(requests)
    while window := list(islice(stream, _WINDOW)):
        groups: dict[str, list[Request]] = {}
        for request in window:
            groups.setdefault(request.group or request.key, []).append(request)
        yield from groups.values()


def _send(
    requests: Sequence[Request],
    missing: Mapping[str, int],
    total: int,
    answering: Answering,
    task: str,
    journal: Journal,
) -> None:
    """Send the missing requests; `missing` maps the key of each to its place in `requests`."""
    llm = answering.llm
    is_embedded = llm.endpoint == "embedded"
    if is_embedded and llm.batch:
        raise EndpointError("`llm.batch` is true, but the embedded LLM has no Batch API: set it to false")
    limits = Limits(
        concurrency=llm.concurrency,
        timeout=llm.timeout,
        budget_usd=llm.budget_usd,
        max_requests=llm.max_requests,
        sent=answering.sent,
        price=FREE if is_embedded else load_prices(answering.prices).find(llm.model),
    )
    survey = measure_requests(requests[place] for place in missing.values())
    cost, price = "; the price of the model is not known", limits.price
    if price:
        most = price.cost(survey.prompt_tokens, survey.completion_tokens, llm.batch)
        cost = "" if price == FREE else f", at most about {most:.4f} USD"
    notify(
        f"{task}: {survey.requests} requests to send, about {survey.prompt_tokens} prompt tokens and at most "
        f"{survey.completion_tokens} completion tokens{cost}"
    )
    progress = show_progress(task, total=len(missing), done_before=total - len(missing))
    with _open_endpoint(answering, survey) as endpoint, progress as advance:
        if llm.batch:
            asked = {key: requests[place] for key, place in missing.items()}
            lock = partial(lock_sending, answering.journal, notify)
            sent = send_batches(asked, endpoint, journal, advance, limits=limits, notify=notify, lock=lock)
        else:
            # A server with slots keeps the prefix of each slot's last request; elsewhere no request waits for another.
            stream = (requests[place] for place in missing.values())
            groups = cut_groups(stream) if endpoint.slots else ([request] for request in stream)
            sent = send_requests(groups, endpoint, journal, advance, limits=limits, notify=notify, total=len(missing))
    answering.sent = sent


@contextmanager
def _open_endpoint(answering: Answering, survey: Survey) -> Iterator[Endpoint]:
    llm = answering.llm
    if llm.endpoint == "embedded":
        slots = min(llm.concurrency or choose_slots(), survey.requests)
        with serve_model(answering.folder / "model.gguf", context=survey.longest, slots=slots) as endpoint:
            yield endpoint
        return
    name = "AZURE_OPENAI_API_KEY" if llm.api_version else "OPENAI_API_KEY"
    key = (answering.api_key or "").strip() or NO_KEY
    endpoint = Endpoint(llm.endpoint, llm.model, key, llm.api_version or "", name, level=answering.level)
    yield endpoint
    answering.level = endpoint.level


def choose_slots() -> int:
    """Return how many requests this machine should answer at once: two per core, which reads weights once for both.

    On two cores, 4 slots were faster than 1, 2, 8 and 32.
    """
    return min(2 * count_cores(), _MOST_SLOTS)


@contextmanager
def serve_model(path: Path, *, context: int, slots: int) -> Iterator[Endpoint]:
    """Serve a GGUF file over loopback, on a free port and with a random API key, until the block or the process ends.

    `context` is the most tokens of a request with its answer, `slots` the number of requests answered at once.
    """
    try:
        import xllamacpp
    except ImportError as error:  # the only system library that it needs is OpenMP's runtime
        raise ModelError(
            f"the embedded LLM server cannot be loaded ({error}): run `apt-get install libgomp1` (Debian and "
            "Ubuntu), or set `llm.endpoint` to a server"
        ) from error

    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.model_alias = {path.stem}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.ui = False
    api_key = secrets.token_urlsafe(32)
    settings.api_keys = [api_key]
    settings.n_parallel = slots
    settings.n_ctx = slots * (context + -context % 256)  # llama.cpp pads a slot's context to a multiple of 256 anyway
    # Equal shares: one long request cannot take the cache of the others.
    settings.kv_unified = False
    # A slot keeps its last prompt, and no other prompt is ever reused; copies of others would fill the memory.
    settings.cache_ram_mib = 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = count_cores()
    settings.verbosity = -1
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise ModelError(
            f"the LLM file {path} cannot be served ({error}): delete it and run `dvc repro models`"
        ) from error
    try:
        yield Endpoint(f"{server.listening_address}/v1", path.stem, api_key, slots=slots)
    finally:
        # The server has no stop method: it stops when its last reference is gone.
        del server
