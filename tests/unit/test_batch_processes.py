"""Batches of processes that are killed, run at once, or left to the next run."""

import os
import signal
from pathlib import Path

import pytest

from amalgam.errors import EndpointError
from amalgam.llm.answering import answer_requests
from amalgam.llm.journal import lock_sending
from amalgam.llm.request import Endpoint, Price
from tests.pipeline.batch_server import BatchServer, Pause
from tests.unit.batches import COST, KEY, Run, Sender, leave_behind, list_texts, make_requests
from tests.unit.helpers import make_answering

# In the order in which a process passes them; `after look` is the second.
POINTS = ["before upload", "after upload", "after create", "after look", "within content", "after content"]


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed_is_taken_up_by_the_next(point: str, run: Run, tmp_path: Path) -> None:
    run.server.ending = "expired"  # so that there is an error file, and a second batch
    pause = run.server.pause = Pause(point, after=point == "after look")
    with Sender(run, tmp_path, 1200) as sender:
        assert pause.reached.wait(20)
        assert sender.process.is_alive()
    assert sender.process.exitcode == -signal.SIGKILL
    run.server.pause, run.server.ending = None, "completed"
    pause.release.set()
    run.send(1200)
    assert run.find(1200) == list_texts(1200)
    assert set(run.server.paid.values()) == {1}
    assert run.journal.read_spending() == pytest.approx(1200 * COST)
    assert run.journal.list_batches() == []


def test_processes_at_once_pay_once(run: Run, tmp_path: Path) -> None:
    run.server.looks = 5
    with Sender(run, tmp_path, 30) as first, Sender(run, tmp_path, 50) as second:
        for sender in (first, second):
            sender.process.join(30)
            assert sender.process.exitcode == 0
    assert run.find(50) == list_texts(50)
    assert run.server.paid.total() == 50


def test_an_interrupted_run_says_that_the_batch_goes_on(run: Run, tmp_path: Path) -> None:
    run.server.looks = 10**9
    pause = run.server.pause = Pause("before look", after=2)
    with Sender(run, tmp_path, 3) as sender:
        assert pause.reached.wait(20)
        with lock_sending(tmp_path / "journal.sqlite", pytest.fail):  # it is free while the sender waits
            pass
        assert sender.process.pid
        pause.release.set()
        os.kill(sender.process.pid, signal.SIGINT)
        sender.process.join(20)
    assert sender.process.exitcode == 0
    last = sender.said.read_text().splitlines()[-1]
    assert last == "interrupted: 1 batch is still running at the endpoint, and the next run collects the answers"
    run.server.pause = None
    run.server.end("batch_0")
    run.send(3)
    assert (run.find(3), run.server.calls["create"]) == (list_texts(3), 1)


def test_a_batch_of_other_requests_is_collected_but_not_waited_for(run: Run, tmp_path: Path) -> None:
    leave_behind(run, tmp_path, 3)
    run.send(5, start=3)
    assert run.find(5) == ["", "", "", *list_texts(5)[3:]]
    run.server.end("batch_0")
    run.send(5, start=3)
    assert run.find(5) == list_texts(5)
    assert set(run.server.paid.values()) == {1}


def test_a_batch_for_another_model_is_left_to_a_run_with_that_model(run: Run, tmp_path: Path) -> None:
    leave_behind(run, tmp_path, 3)
    run.server.end("batch_0")
    other = Endpoint(run.server.url, "dear", KEY)
    run.send(5, start=3, endpoint=other, price=Price(1e6, 1e6), retries=0)
    assert run.find(3) == ["", "", ""]
    spent = run.journal.read_spending()
    run.send(3)
    assert run.find(3) == list_texts(3)
    assert run.journal.read_spending() - spent == pytest.approx(3 * COST, rel=1e-3)
    assert run.server.paid.total() == 5


def test_a_batch_that_the_endpoint_does_not_show_is_neither_waited_for_nor_paid_again(run: Run, tmp_path: Path) -> None:
    leave_behind(run, tmp_path, 3)
    with BatchServer() as other:
        elsewhere = Run(other, run.journal)
        elsewhere.send(5, start=3)
        with pytest.raises(EndpointError, match=r"are in the batch [-0-9a-f]+, which this endpoint does not show"):
            elsewhere.send(5)
        assert other.paid.total() == 2
    run.server.jobs.clear()
    with pytest.raises(EndpointError, match=r"set `llm\.endpoint` and the key to those that the batch was made with"):
        run.send(3)
    run.journal.close_batch(run.journal.list_batches()[0].name)
    run.send(3)
    assert run.find(5) == list_texts(5)


def test_a_batch_is_found_among_many(run: Run, tmp_path: Path) -> None:
    pause = run.server.pause = Pause("after create")
    with Sender(run, tmp_path, 3):
        assert pause.reached.wait(20)
    run.server.pause = None
    pause.release.set()
    for number in range(250):
        file = run.server.take_file(f"other-{number}", b"")["id"]
        run.server.create({"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"})
    run.send(3)
    assert (run.find(3), run.server.paid.total()) == (list_texts(3), 3)
    assert run.server.calls["list"] == 3


def test_answering_sends_batches_where_params_say_so(run: Run, tmp_path: Path) -> None:
    run.server.looks = 0
    answering = make_answering(tmp_path, run.server.url, batch=True, model="served")
    assert [answer.text for answer in answer_requests(make_requests(3), answering, "test")] == list_texts(3)
    assert run.server.paid.total() == 3
    leave_behind(run, tmp_path, 5)
    with pytest.raises(EndpointError, match=r"2 of the requests are in a batch at the endpoint, .* `llm\.batch: true`"):
        answer_requests(make_requests(5), make_answering(tmp_path, run.server.url), "test")
