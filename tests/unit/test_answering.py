from collections.abc import Iterator
from pathlib import Path

import pytest

from amalgam.errors import EndpointError
from amalgam.llm.answering import Answering, answer_requests, estimate_context
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request
from amalgam.params import Llm
from tests.pipeline.server import Fault, StubServer


def make_request(label: str, sample: int) -> Request:
    content = f"Write one comment that is {label}: it says so."
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 9, "seed": sample}
    return Request(f"{label}-{sample}", "m", body, sample)


@pytest.fixture
def server() -> Iterator[StubServer]:
    server = StubServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def answering(server: StubServer, tmp_path: Path) -> Answering:
    llm = Llm(endpoint=server.url, model="served", concurrency=3, timeout=5.0, retries=0)
    return Answering(llm, tmp_path / "llm", tmp_path / "journal.sqlite", api_key=" sk-secret\n")


def test_only_what_has_no_answer_is_sent(server: StubServer, answering: Answering) -> None:
    requests = [make_request(label, sample) for sample in range(3) for label in ("praise", "complaint")]
    first = answer_requests(requests[:2], answering, "few")
    everything = answer_requests(requests[::-1], answering, "all")[::-1]
    assert server.log.synthesis == len(requests)
    assert everything[:2] == first
    assert answer_requests(requests, answering, "again") == everything
    assert server.log.synthesis == len(requests)
    assert len({answer.text for answer in everything}) == len(requests)
    assert {received.authorization for received in server.log.answered} == {"Bearer sk-secret"}


def test_equal_requests_are_sent_once_but_samples_apart(server: StubServer, answering: Answering) -> None:
    request = make_request("praise", 0)
    answer_requests([request, request, Request("other", "m", request.body, 1)], answering, "twins")
    assert server.log.synthesis == 2


def test_what_came_before_a_failure_is_not_paid_again(server: StubServer, answering: Answering) -> None:
    requests = [make_request("praise", sample) for sample in range(6)]
    server.fault = Fault(status=500, after=2, times=1)
    with pytest.raises(EndpointError, match="the server has a bad day"):
        answer_requests(requests, answering, "first")
    answer_requests(requests, answering, "second")
    assert server.log.synthesis == len(requests)


def test_with_all_answers_known_no_endpoint_is_needed(answering: Answering) -> None:
    answer = Answer("fine", "stop", 1, 1)
    with open_journal(answering.journal) as journal:
        journal.record(make_request("praise", 0), answer)
    embedded = answering.llm.model_copy(update={"endpoint": "embedded"})  # whose model is not there
    known = Answering(embedded, answering.folder, answering.journal, api_key=None)
    assert answer_requests([make_request("praise", 0)], known, "known") == [answer]
    assert answer_requests([], known, "none") == []


def test_the_context_holds_the_longest_request_and_its_answer() -> None:
    short, long = make_request("praise", 0), make_request("x" * 500, 0)
    assert estimate_context([short, long]) == estimate_context([long]) >= 250 + long.body["max_tokens"]
