"""Runs that end early: by a signal, or for want of room on the disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from amalgam.llm.journal import Journal, open_journal
from tests.pipeline.server import StubServer
from tests.unit.sending import check_rows, make_request, send

REPOSITORY = Path(__file__).parents[2]
# Sends 40 requests in another process: it can be sent signals, and its files can be kept small.
SENDER = """
import resource
import sys
from pathlib import Path
from amalgam.errors import AmalgamError
from amalgam.llm.sending import send_requests
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.journal import open_journal
from tests.unit.sending import make_groups, say

url, path, most_bytes = sys.argv[1:]
try:
    with open_journal(Path(path), say) as journal:
        if most_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), int(most_bytes)))
        send_requests(
            make_groups(40), Endpoint(url, "served", "k"), journal, lambda answer: None,
            limits=Limits(concurrency=4, max_concurrency=4), notify=say, total=40,
        )
except AmalgamError as error:
    say(str(error))
    sys.exit(error.exit_code)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        yield journal


def start_sender(server: StubServer, path: Path, most_bytes: str = "") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SENDER, server.url, str(path), most_bytes],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(server: StubServer, count: int) -> None:
    """Wait until so many requests are at the server."""
    deadline = time.monotonic() + 60  # a sender on a busy machine starts slowly
    while server.log.most_at_once < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_what_is_in_flight(
    number: signal.Signals, server: StubServer, tmp_path: Path
) -> None:
    server.delay = 0.3
    sender = start_sender(server, tmp_path / "journal.sqlite")
    wait_for(server, 4)
    sender.send_signal(number)
    _, told = sender.communicate(timeout=20)
    assert sender.returncode == 130
    assert told.splitlines() == [
        f"{number.name}: no more is sent; 4 requests are in flight and awaited, a second signal ends at once",
        "interrupted: run again to go on; 4 answers of this run are kept, 36 are left",
    ]
    assert len(server.log.arrived) == 4
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        server.delay = 0
        assert len(send(40, server, journal)) == 36
        check_rows(40, server, journal)


def test_a_second_signal_ends_the_run_at_once(server: StubServer, tmp_path: Path) -> None:
    server.delay = 60
    sender = start_sender(server, tmp_path / "journal.sqlite")
    assert sender.stderr
    wait_for(server, 4)
    sender.send_signal(signal.SIGINT)
    assert "4 requests are in flight" in sender.stderr.readline()
    start = time.monotonic()
    sender.send_signal(signal.SIGINT)
    sender.communicate(timeout=20)
    assert sender.returncode == -signal.SIGINT
    assert time.monotonic() - start < 15


def test_handlers_of_signals_are_put_back(server: StubServer, journal: Journal) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    send(3, server, journal)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_sending_works_off_the_main_thread(server: StubServer, journal: Journal) -> None:
    thread = threading.Thread(target=send, args=(5, server, journal))
    thread.start()
    thread.join(10)
    check_rows(5, server, journal)


def test_a_disk_that_is_full_ends_the_run(server: StubServer, tmp_path: Path) -> None:
    sender = start_sender(server, tmp_path / "journal.sqlite", "100000")
    _, told = sender.communicate(timeout=20)
    assert sender.returncode == 2, told
    print(told)
    assert "Traceback" not in told
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        missing = journal.count_missing([make_request(number).key for number in range(40)])
        assert 0 < missing < 40
        send(40, server, journal)
        assert journal.count_missing([make_request(number).key for number in range(40)]) == 0
    assert server.log.answered_twice <= 8
