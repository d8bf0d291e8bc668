"""Sending batches to a real server of the Batch API, from this process and from others that are killed."""

import multiprocessing
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from amalgam.errors import AmalgamError
from amalgam.llm import batch, client
from amalgam.llm.batch import send_batches
from amalgam.llm.journal import Journal, lock_sending, open_journal
from amalgam.llm.request import Answer, Endpoint, Limits, Price, Request
from tests.pipeline.batch_server import BatchServer, Pause

KEY = "sk-very-secret"
PRICE = Price(prompt=1.0, completion=10.0)  # a request of 10 and 2 tokens costs 15 millionths of a dollar in a batch
COST = 15e-6
PROCESSES = multiprocessing.get_context("forkserver")  # starts a process fast, and without this one's threads
PROCESSES.set_forkserver_preload(["openai", "httpx2", "filelock", "amalgam.llm.batch"])


def hurry() -> None:
    """Poll batches often, in this process."""
    batch._FIRST_PAUSE, batch._LONGEST_PAUSE, batch._REPORT, client._SETTLE = 0.01, 0.02, 0.0, 0.05


def make_request(number: int) -> Request:
    body = {"messages": [{"role": "user", "content": f"Grüße\u2028 {number}"}], "max_tokens": 5}
    return Request(f"r{number}", "served", body, 0)


def make_requests(count: int, start: int = 0) -> list[Request]:
    return [make_request(number) for number in range(start, count)]


def index_missing(requests: list[Request], journal: Journal) -> dict[str, Request]:
    found = journal.find([request.key for request in requests])
    return {request.key: request for request in requests if request.key not in found}


class Run:
    """Sends, and keeps the answers and notices that it gets."""

    def __init__(self, server: BatchServer, journal: Journal) -> None:
        self.server, self.journal = server, journal
        self.came: list[Answer] = []
        self.said: list[str] = []

    def send(self, count: int, start: int = 0, *, endpoint: Endpoint | None = None, **limits: Any) -> None:
        send_batches(
            index_missing(make_requests(count, start), self.journal),
            endpoint or Endpoint(self.server.url, "served", KEY),
            self.journal,
            self.came.append,
            limits=Limits(**{"retries": 2, "timeout": 5.0, "price": PRICE} | limits),
            notify=self.said.append,
            lock=nullcontext,
        )

    def find(self, count: int) -> list[str]:
        """Return the texts of the answers to the requests, "" where there is none."""
        keys = [request.key for request in make_requests(count)]
        found = self.journal.find(keys)
        return [found[key].text if key in found else "" for key in keys]


def send_apart(journal: Path, url: str, count: int, said: Path) -> None:
    """Send requests 0 to `count` - 1, in a separate process; notices go to the file `said`."""
    hurry()
    with said.open("a", encoding="utf-8", buffering=1) as stream, open_journal(journal) as opened:
        notify = partial(print, file=stream)
        try:
            send_batches(
                index_missing(make_requests(count), opened),
                Endpoint(url, "served", KEY),
                opened,
                lambda _answer: None,
                limits=Limits(retries=2, price=PRICE),
                notify=notify,
                lock=partial(lock_sending, journal, notify),
            )
        except AmalgamError as error:
            notify(error)


class Sender:
    """A process that sends; leaving the block kills it."""

    def __init__(self, run: Run, folder: Path, count: int) -> None:
        self.said = folder / "said"
        arguments = (folder / "journal.sqlite", run.server.url, count, self.said)
        self.process = PROCESSES.Process(target=send_apart, args=arguments)

    def __enter__(self) -> "Sender":
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()


def list_texts(count: int) -> list[str]:
    return [f"re Grüße\u2028 {number}" for number in range(count)]


def leave_behind(run: Run, folder: Path, count: int) -> None:
    """Let a process make a batch of requests 0 to `count` - 1, and kill it while it waits."""
    run.server.looks = 10**9
    pause = run.server.pause = Pause("before look", after=2)
    with Sender(run, folder, count):
        assert pause.reached.wait(20)
    run.server.pause, run.server.looks = None, 1
    pause.release.set()
