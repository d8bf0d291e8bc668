"""What tests of sending share: requests that the stub server can answer, and checks of the results."""

import sys
from typing import Any

from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Endpoint, Limits, Request
from amalgam.llm.sending import send_requests
from tests.pipeline.server import StubServer, complete_chat


def say(sentence: str) -> None:
    """Print to stderr at once."""
    print(sentence, file=sys.stderr, flush=True)


def make_request(number: int) -> Request:
    label = ("complaint", "praise")[number % 2]
    turns = [{"role": "user", "content": f"Write a comment that is {label}: number {number}"}]
    return Request(f"{label}-{number}", "m", {"messages": turns, "max_tokens": 5, "seed": number}, number)


def make_groups(count: int, size: int = 1) -> list[list[Request]]:
    requests = [make_request(number) for number in range(count)]
    return [requests[start : start + size] for start in range(0, count, size)]


def send(count: int, server: StubServer, journal: Journal, *, size: int = 1, **settings: Any) -> list[Answer]:
    """Send the missing ones of that many requests; return the answers in order of arrival."""
    groups = [[one for one in group if not journal.find([one.key])] for group in make_groups(count, size)]
    return send_groups(groups, Endpoint(server.url, "served", "sk-secret"), journal, **settings)


def send_groups(groups: list[list[Request]], endpoint: Endpoint, journal: Journal, **settings: Any) -> list[Answer]:
    came: list[Answer] = []
    limits = Limits(**{"concurrency": 8, "timeout": 5.0, "retries": 3} | settings)
    total = sum(map(len, groups))
    send_requests(groups, endpoint, journal, came.append, limits=limits, notify=say, total=total)
    return came


def count_missing(count: int, journal: Journal) -> int:
    return count - len(journal.find([make_request(number).key for number in range(count)]))


def check_rows(count: int, server: StubServer, journal: Journal) -> None:
    """Check that each request has its own answer, and that none was answered twice."""
    requests = [make_request(number) for number in range(count)]
    found = journal.find([request.key for request in requests])
    for request in requests:
        whole = complete_chat({"model": "served", **request.body}, "")
        assert found[request.key].text == whole["choices"][0]["message"]["content"]
    assert (len(server.log.answered), server.log.answered_twice) == (count, 0)
