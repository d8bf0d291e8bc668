"""Sending through faults, to a real server: rows are right, each is paid once, none is lost."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import EndpointError
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending import send_requests
from tests.pipeline.server import BROKEN_JSON, Fault, Received, StubServer
from tests.unit.sending import check_rows, make_groups, make_request, send


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        yield journal


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429),
        Fault(429, retry_after=0.1),
        Fault(408),
        Fault(409),
        Fault(500),
        Fault(503),
        Fault(0),
        Fault(200, is_cut=True),
        Fault(200, body=BROKEN_JSON),
        Fault(200, body=b"<html>a proxy's page</html>"),
    ],
    ids=["429", "429 with a wait", "408", "409", "500", "503", "dropped", "cut", "broken JSON", "a page"],
)
def test_what_passes_is_sent_again(fault: Fault, server: StubServer, journal: Journal) -> None:
    fault.after, fault.times = 5, 3
    server.fault = fault
    assert len(send(20, server, journal, size=2)) == 20
    assert len(server.log.failed) == 3
    check_rows(20, server, journal)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(400, "bad seed"), "status 400 (bad seed): set `llm.body: {seed: null}`"),
        (Fault(401, "wrong key"), "status 401 (wrong key): set OPENAI_API_KEY"),
        (Fault(403, "no"), "status 403 (no)"),
        (Fault(404, "no model"), "status 404 (no model)"),
        (Fault(422, "bad"), "status 422 (bad)"),
        (Fault(429, "pay first", code="insufficient_quota"), "status 429 (pay first): pay for more there"),
        (Fault(429, "tomorrow", retry_after=86400), "(tomorrow; it asks to wait 86400 s)"),
    ],
)
def test_what_does_not_pass_ends_the_run_at_once_and_what_is_in_flight_is_kept(
    fault: Fault, words: str, server: StubServer, journal: Journal
) -> None:
    fault.after, fault.times = 6, 1
    server.fault, server.delay = fault, 0.05
    with pytest.raises(EndpointError) as caught:
        send(40, server, journal, max_concurrency=4, retries=100)
    kept = len(server.log.answered)
    assert words in str(caught.value)
    assert str(caught.value).endswith(f"; {kept} answers of this run are kept, {40 - kept} are left")
    # One failed; with it, three others were in flight, and some may have been followed up before it was known.
    assert 7 <= kept <= 12
    assert journal.count_missing([make_request(number).key for number in range(40)]) == 40 - kept
    server.delay = 0
    send(40, server, journal)
    check_rows(40, server, journal)


def test_an_endpoint_that_dies_ends_the_run_with_what_it_answered(server: StubServer, journal: Journal) -> None:
    server.dies_after = 7
    with pytest.raises(EndpointError, match=r"does not answer \(.+\): .+; 7 answers of this run are kept, 13 are left"):
        send(20, server, journal, retries=1)
    first = server.log
    again = StubServer(server.server_address[1])
    try:
        assert len(send(20, again, journal)) == 13
        again.log.answered += first.answered
        check_rows(20, again, journal)
    finally:
        again.shutdown()
        again.server_close()


class PickyServer(StubServer):
    """Fails the request with the sampling seed 0 some times."""

    times = 2

    def take(self, request: Received, *, has_room: bool = True) -> Fault | None:
        if request.body["seed"] == 0 and self.times:
            self.times -= 1
            self.log.failed.append(request)
            return Fault(500)
        return super().take(request, has_room=has_room)


def test_a_failure_counts_only_while_nothing_else_is_answered(journal: Journal) -> None:
    server = PickyServer()
    try:
        server.delay = 0.03
        send(60, server, journal, concurrency=3, max_concurrency=3, retries=1)
        assert len(server.log.failed) == 2
        check_rows(60, server, journal)
        server.times = 2
        with pytest.raises(EndpointError, match="status 500"):
            send_requests(
                [[dataclasses.replace(make_request(0), model="other")]],
                Endpoint(server.url, "served", "k"),
                journal,
                print,
                limits=Limits(retries=1),
                notify=print,
            )
        assert server.times == 0
    finally:
        server.shutdown()
        server.server_close()


def test_answers_that_take_too_long_are_given_up_and_asked_for_again(server: StubServer, journal: Journal) -> None:
    server.delay = 0.6
    timer = threading.Timer(0.3, server.reset)
    timer.start()
    send(3, server, journal, timeout=0.2)
    timer.join()
    assert journal.count_missing([make_request(number).key for number in range(3)]) == 0


def test_the_number_in_flight_grows_above_that_at_the_start(server: StubServer, journal: Journal) -> None:
    server.delay = 0.2  # long enough that a busy machine gets to send them all
    send(120, server, journal, concurrency=2, max_concurrency=16)
    assert server.log.most_at_once == 16
    check_rows(120, server, journal)


def test_the_number_in_flight_falls_to_what_the_endpoint_takes(server: StubServer, journal: Journal) -> None:
    server.delay, server.capacity = 0.03, 5
    send(150, server, journal, concurrency=16, max_concurrency=16)
    last = server.log.arrived[len(server.log.arrived) // 2 :]
    refused = sum(request in server.log.failed for request in last)
    # It is halved once at the start, and then tried again one by one.
    assert refused < len(last) / 4
    check_rows(150, server, journal)


def test_a_wait_that_the_endpoint_wants_stops_every_lane(server: StubServer, journal: Journal) -> None:
    server.fault = Fault(429, after=8, times=1, retry_after=0.4)
    send(30, server, journal)
    refused = server.log.failed[0].time
    later = [request.time - refused for request in server.log.arrived if request.time > refused + 0.1]
    assert len(later) > 10
    assert min(later) >= 0.4
    check_rows(30, server, journal)


def test_requests_are_spaced_by_the_minute(server: StubServer, journal: Journal) -> None:
    send(9, server, journal, requests_per_minute=60 / 0.05)
    times = [request.time for request in server.log.arrived]
    assert 8 * 0.05 - 0.03 < times[-1] - times[0] < 2


def test_tokens_are_spaced_by_the_minute_as_they_were_used(server: StubServer, journal: Journal) -> None:
    # A request takes 17 tokens: 8 words and an answer of 9.
    send(9, server, journal, concurrency=1, max_concurrency=1, tokens_per_minute=60 * 17 / 0.05)
    times = [request.time for request in server.log.arrived]
    assert 8 * 0.05 - 0.03 < times[-1] - times[0] < 2


@pytest.mark.parametrize("end", ["", "/", "/openai/"])
def test_azure_is_asked_at_its_own_path_with_its_own_header(end: str, server: StubServer, journal: Journal) -> None:
    endpoint = Endpoint(server.azure_url + end, "my-deployment", "sk-azure", "2024-10-21", "AZURE_OPENAI_API_KEY")
    send_requests(make_groups(3), endpoint, journal, print, limits=Limits(), notify=print)
    assert {request.path for request in server.log.answered} == {
        "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    }
    assert {request.authorization for request in server.log.answered} == {"sk-azure"}
    check = [request.body["seed"] for request in server.log.arrived]
    assert sorted(check) == [0, 1, 2]
    server.fault = Fault(401, "wrong key sk-azure")
    with pytest.raises(EndpointError, match=r"wrong key \*\*\*\): set AZURE_OPENAI_API_KEY in the environment"):
        send_requests([[make_request(3)]], endpoint, journal, print, limits=Limits(), notify=print)


def test_a_server_with_slots_gets_as_many_requests_as_it_has(server: StubServer, journal: Journal) -> None:
    server.delay = 0.03
    endpoint = Endpoint(server.url, "served", "k", slots=3)
    limits = Limits(concurrency=1, max_concurrency=64)
    send_requests(make_groups(24, 4), endpoint, journal, print, limits=limits, notify=print)
    assert server.log.most_at_once == 3
    # A lane keeps its slot: at any time, three groups are under way.
    groups = [request.body["seed"] // 4 for request in server.log.arrived]
    for number in range(6):
        own = [place for place, group in enumerate(groups) if group == number]
        assert own[-1] - own[0] <= 4 * 3
    check_rows(24, server, journal)


def test_groups_are_read_as_they_are_needed(server: StubServer, journal: Journal) -> None:
    read: list[int] = []
    ahead: list[int] = []

    def count_ahead(answer: Answer) -> None:
        ahead.append(len(read) - len(ahead))

    groups = ([read.append(number) or make_request(number)] for number in range(300))
    endpoint = Endpoint(server.url, "served", "k")
    limits = Limits(concurrency=4, max_concurrency=4)
    send_requests(groups, endpoint, journal, count_ahead, limits=limits, notify=print)
    assert len(ahead) == 300
    assert max(ahead) <= 20


def test_a_failure_of_the_groups_comes_out_as_it_is(server: StubServer, journal: Journal) -> None:
    def yield_one_and_fail() -> Iterator[list[Request]]:
        yield [make_request(0)]
        raise ZeroDivisionError

    endpoint = Endpoint(server.url, "served", "k")
    with pytest.raises(ZeroDivisionError):
        send_requests(yield_one_and_fail(), endpoint, journal, print, limits=Limits(), notify=print)


class StrictServer(StubServer):
    """Wants the answer before it in the journal when it gets the next request of a group of four."""

    journal: Journal
    lock = threading.Lock()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        number = body["seed"]
        if number % 4:
            with self.lock:
                assert self.journal.find([make_request(number - 1).key])
        return super().complete(body)


@pytest.mark.parametrize("slots", [None, 3])
def test_a_lane_goes_on_when_its_answer_is_durable(slots: int | None, journal: Journal, tmp_path: Path) -> None:
    server = StrictServer()
    came: list[Answer] = []
    with open_journal(tmp_path / "journal.sqlite", print) as server.journal:
        endpoint = Endpoint(server.url, "served", "k", slots=slots)
        limits = Limits(concurrency=8, retries=0)
        send_requests(make_groups(40, 4), endpoint, journal, came.append, limits=limits, notify=print)
        check_rows(40, server, journal)
    assert len(came) == 40
    server.shutdown()
    server.server_close()


def test_no_error_shows_the_key_or_a_prompt(server: StubServer, journal: Journal) -> None:
    server.fault = Fault(400, json.dumps({"you sent": "sk-secret"}))
    with pytest.raises(EndpointError) as caught:
        send(1, server, journal)
    assert "secret" not in str(caught.value)
    assert "comment" not in str(caught.value)
