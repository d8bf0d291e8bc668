"""Sending through faults, to a real server: rows are right, each is paid for once, none is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import EndpointError
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.request import Endpoint
from tests.pipeline.server import BROKEN_JSON, Fault, Received, StubServer
from tests.unit.sending import check_rows, count_missing, make_groups, make_request, send, send_groups

ROOT = Path(__file__).parents[2]
# Sends 40 requests in another process, which can be killed.
SENDER = """
import sys
from pathlib import Path
from amalgam.errors import AmalgamError
from amalgam.llm.request import Endpoint
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Price
from tests.unit.sending import make_groups, say, send_groups

url, path = sys.argv[1:]
try:
    with open_journal(Path(path), say) as journal:
        price = Price(1000.0, 10_000.0)
        send_groups(make_groups(40), Endpoint(url, "served", "k"), journal, concurrency=4, price=price, timeout=60)
except AmalgamError as error:
    say(str(error))
    sys.exit(error.exit_code)
"""


def start_sender(server: StubServer, path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SENDER, server.url, str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(server: StubServer, count: int) -> None:
    """Wait until that many requests are at the server."""
    deadline = time.monotonic() + 60  # a sender on a busy machine starts slowly
    while server.log.most_at_once < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429),
        Fault(408),
        Fault(409),
        Fault(500),
        Fault(0),
        Fault(200, is_cut=True),
        Fault(200, body=BROKEN_JSON),
        Fault(200, body=json.dumps({"choices": None, "error": {"message": "busy", "code": 429}}).encode()),
    ],
    ids=["429", "408", "409", "500", "dropped", "cut", "broken JSON", "429 in 200"],
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
        (Fault(429, "insufficient_quota"), "status 429 (insufficient_quota): add credit there"),
        (Fault(429, "tomorrow", retry_after=86400), "(tomorrow; it asks to wait 86400 s)"),
        (Fault(200, body=b'{"error": {"code": 402, "message": "no"}}'), "status 402 (no): add credit there"),
    ],
)
def test_what_does_not_pass_ends_the_run_at_once_and_what_is_in_flight_is_kept(
    fault: Fault, words: str, server: StubServer, journal: Journal
) -> None:
    fault.after, fault.times = 6, 1
    server.fault, server.delay = fault, 0.05
    with pytest.raises(EndpointError) as caught:
        send(40, server, journal, concurrency=4, retries=100)
    kept = len(server.log.answered)
    assert words in str(caught.value)
    assert str(caught.value).endswith(f"; {kept} answers of this run are kept, {40 - kept} are left")
    # One failed; three others were in flight with it, and some may have had successors before that was known.
    assert 7 <= kept <= 12
    assert count_missing(40, journal) == 40 - kept
    server.delay = 0
    send(40, server, journal)
    check_rows(40, server, journal)


def test_an_endpoint_that_dies_is_told_and_ends_the_run_with_what_it_answered(
    server: StubServer, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = Fault(0, after=7)
    with pytest.raises(EndpointError, match=r"does not answer \(.+\): .+; 7 answers of this run are kept, 13 are left"):
        send(20, server, journal, retries=2)
    assert re.fullmatch(r"trying again: the LLM endpoint .+ does not answer .+\n", capsys.readouterr().err)
    server.fault = None
    assert len(send(20, server, journal)) == 13
    check_rows(20, server, journal)


class PickyServer(StubServer):
    """Fails the request with the sampling seed 0 a few times."""

    times = 2

    def take(self, request: Received, *, has_room: bool = True) -> Fault | None:
        if request.body["seed"] == 0 and self.times:
            self.times -= 1
            self.log.failed.append(request)
            return Fault(500)
        return super().take(request, has_room=has_room)


def test_a_failure_counts_only_while_nothing_else_is_answered(journal: Journal) -> None:
    with PickyServer() as server:
        server.delay = 0.03
        send(60, server, journal, concurrency=3, retries=1)
        assert len(server.log.failed) == 2
        check_rows(60, server, journal)


@pytest.mark.parametrize(("concurrency", "least", "most"), [(5, 5, 5), (None, 17, 64)])
def test_no_more_are_in_flight_than_allowed_and_without_a_limit_the_number_is_found_out(
    concurrency: int | None, least: int, most: int, server: StubServer, journal: Journal
) -> None:
    count = 20 if concurrency else 200
    server.delay = 0.3  # long enough for a busy machine to send them all
    send(count, server, journal, concurrency=concurrency)
    assert least <= server.log.most_at_once <= most
    check_rows(count, server, journal)


def test_the_number_in_flight_falls_to_what_the_endpoint_takes(server: StubServer, journal: Journal) -> None:
    server.delay, server.capacity = 0.03, 5
    send(150, server, journal, concurrency=16)
    last = server.log.arrived[len(server.log.arrived) // 2 :]
    refused = sum(request in server.log.failed for request in last)
    # It is halved once at the start, and then raised again one by one.
    assert refused < len(last) / 4
    check_rows(150, server, journal)


def test_a_wait_that_the_endpoint_wants_stops_every_worker(server: StubServer, journal: Journal) -> None:
    server.fault = Fault(429, after=8, times=1, retry_after=1.5)
    send(30, server, journal)
    refused = server.log.failed[0].time
    later = [request.time - refused for request in server.log.arrived if request.time > refused + 1.0]
    assert len(later) > 10  # the others were in flight, which takes a while on a busy machine
    assert min(later) >= 1.5
    check_rows(30, server, journal)


@pytest.mark.parametrize("end", ["", "/openai/"])
def test_azure_is_asked_at_its_own_path_with_its_own_header(end: str, server: StubServer, journal: Journal) -> None:
    url = server.url.removesuffix("/v1") + end
    endpoint = Endpoint(url, "my-deployment", "sk-azure", "2024-10-21", "AZURE_OPENAI_API_KEY")
    send_groups(make_groups(3), endpoint, journal)
    assert {request.path for request in server.log.answered} == {
        "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    }
    assert {request.authorization for request in server.log.answered} == {"sk-azure"}
    server.fault = Fault(401, "wrong key sk-azure")
    with pytest.raises(EndpointError, match=r"wrong key \*\*\*\): set AZURE_OPENAI_API_KEY in the environment"):
        send_groups([[make_request(3)]], endpoint, journal)


class StrictServer(StubServer):
    """Requires the previous answer in the journal when it gets the next request of a group of four."""

    journal: Journal

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        number = body["seed"]
        assert not number % 4 or self.journal.find([make_request(number - 1).key])
        return super().complete(body)


@pytest.mark.parametrize("slots", [None, 3])
def test_a_group_keeps_its_slot_and_goes_on_when_its_answer_is_durable(
    slots: int | None, journal: Journal, tmp_path: Path
) -> None:
    with StrictServer() as server, open_journal(tmp_path / "journal.sqlite", print) as server.journal:
        server.delay = 0.1
        came = send_groups(make_groups(40, 4), Endpoint(server.url, "served", "k", slots=slots), journal, retries=0)
        check_rows(40, server, journal)
    assert len(came) == 40
    assert 3 <= server.log.most_at_once <= (slots or 8)
    groups = [request.body["seed"] // 4 for request in server.log.arrived]
    for number in range(10 if slots else 0):  # at any time, three groups are under way
        own = [place for place, group in enumerate(groups) if group == number]
        assert own[-1] - own[0] <= 4 * 3


def test_sending_works_off_the_main_thread_and_puts_handlers_back(server: StubServer, journal: Journal) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    send(3, server, journal)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    thread = threading.Thread(target=send, args=(5, server, journal))
    thread.start()
    thread.join(10)
    check_rows(5, server, journal)


@pytest.mark.parametrize(
    ("number", "is_sent_twice"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_a_signal_ends_the_run_after_what_is_in_flight_and_a_second_one_at_once(
    number: signal.Signals, is_sent_twice: bool, server: StubServer, tmp_path: Path
) -> None:
    server.delay = 60 if is_sent_twice else 1
    sender = start_sender(server, tmp_path / "journal.sqlite")
    assert sender.stderr
    wait_for(server, 4)
    sender.send_signal(number)
    assert sender.stderr.readline() == (
        f"{number.name}: nothing more is sent; 4 requests in flight are awaited; a second signal ends the run at once\n"
    )
    if is_sent_twice:
        sender.send_signal(number)
        sender.communicate(timeout=15)
        assert sender.returncode == -number
        return
    _, told = sender.communicate(timeout=20)
    assert sender.returncode == 130
    assert told == "interrupted: run again to continue; 4 answers of this run are kept, 36 are left\n"
    assert len(server.log.arrived) == 4
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        server.delay = 0
        assert len(send(40, server, journal)) == 36
        check_rows(40, server, journal)


def test_a_run_that_is_killed_has_counted_what_was_on_its_way(server: StubServer, tmp_path: Path) -> None:
    server.delay = 60
    with start_sender(server, tmp_path / "journal.sqlite") as sender:
        wait_for(server, 4)
        sender.kill()
    with open_journal(tmp_path / "journal.sqlite", pytest.fail) as journal:
        assert 4 * 0.109 <= journal.read_spending() < 8 * 0.112
