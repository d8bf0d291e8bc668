"""Batches against a real server of the Batch API, with real processes that are killed."""

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import AmalgamError, BudgetError, EndpointError
from amalgam.llm.answering import answer_requests, iterate_answers
from amalgam.llm.batch import Pace, check_no_batches, send_batches
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.journal import Journal, lock_sending, open_journal
from amalgam.llm.prices import Price
from amalgam.llm.request import Answer, Request
from tests.pipeline.batch_server import BatchServer, Pause, complete_plainly
from tests.unit.helpers import make_answering

KEY = "sk-very-secret"
PRICE = Price(prompt=1.0, completion=10.0)  # a request of 10 and 2 tokens costs 15 millionths of a dollar in a batch
COST = 15e-6
PACE = Pace(first=0.01, most=0.02, report=0.0, settle=0.05)
PROCESSES = multiprocessing.get_context("forkserver")  # starts a process fast, and without this one's threads
PROCESSES.set_forkserver_preload(["openai", "httpx2", "filelock", "amalgam.llm.batch"])


def make_request(number: int) -> Request:
    body = {"messages": [{"role": "user", "content": f"Grüße\u2028 {number}"}], "max_tokens": 5}
    return Request(f"r{number}", "served", body, 0)


def make_requests(count: int, start: int = 0) -> Iterator[Request]:
    return (make_request(number) for number in range(start, count))


@pytest.fixture
def server() -> Iterator[BatchServer]:
    server = BatchServer()
    yield server
    if server.pause:
        server.pause.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        yield journal


class Run:
    """Sends, and keeps what it was told."""

    def __init__(self, server: BatchServer, journal: Journal) -> None:
        self.server, self.journal = server, journal
        self.came: list[Answer] = []
        self.said: list[str] = []

    def send(self, count: int, start: int = 0, **limits: Any) -> None:
        send_batches(
            partial(make_requests, count, start),
            Endpoint(self.server.url, "served", KEY),
            self.journal,
            self.came.append,
            limits=Limits(**{"retries": 2, "timeout": 5.0, "price": PRICE} | limits),
            notify=self.said.append,
            lock=nullcontext,
            pace=PACE,
        )

    def find(self, count: int) -> list[str]:
        """Return the texts of the answers to the requests, "" where there is none."""
        keys = [request.key for request in make_requests(count)]
        found = self.journal.find(keys)
        return [found[key].text if key in found else "" for key in keys]


def send_apart(journal: Path, url: str, count: int, said: Path) -> None:
    """Send requests 0 to `count` - 1, in a process of its own; what is said goes to the file `said`."""
    with said.open("a", encoding="utf-8", buffering=1) as stream, open_journal(journal) as opened:
        notify = partial(print, file=stream)
        try:
            send_batches(
                partial(make_requests, count),
                Endpoint(url, "served", KEY),
                opened,
                lambda _answer: None,
                limits=Limits(retries=2, price=PRICE),
                notify=notify,
                lock=partial(lock_sending, journal, notify),
                pace=PACE,
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


@pytest.fixture
def run(server: BatchServer, journal: Journal) -> Run:
    return Run(server, journal)


def list_texts(count: int) -> list[str]:
    return [f"re Grüße\u2028 {number}" for number in range(count)]


def test_answers_are_recorded_at_the_price_of_a_batch(run: Run) -> None:
    run.send(7)
    assert run.find(7) == list_texts(7)
    assert len(run.came) == 7
    assert run.came[0].cost_usd == pytest.approx(COST)
    assert run.journal.read_spending() == pytest.approx(7 * COST)
    assert run.journal.list_batches() == []
    assert run.server.keys == {f"Bearer {KEY}"}
    assert set(run.server.paid.values()) == {1}
    assert "a batch of 7 requests is at the endpoint (batch_0)" in run.said[0]


def test_a_line_is_a_request_as_the_api_wants_it(run: Run) -> None:
    run.send(2)
    (name, content), *others = run.server.uploads.items()
    assert not others
    assert name.startswith("amalgam-")
    assert [json.loads(line) for line in content.decode().split("\n")[:-1]] == [
        {
            "custom_id": request.key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "served", **request.body},
        }
        for request in make_requests(2)
    ]
    assert KEY.encode() not in content


def test_azure_is_asked_in_its_own_way(run: Run) -> None:
    url = run.server.url.removesuffix("/v1")
    endpoint = Endpoint(url, "deployment", KEY, api_version="2024-10-21", key_name="AZURE_OPENAI_API_KEY")
    make = partial(make_requests, 3)
    send_batches(make, endpoint, run.journal, run.came.append, limits=Limits(), notify=str, lock=nullcontext, pace=PACE)
    assert run.find(3) == list_texts(3)
    (content,) = run.server.uploads.values()
    line = json.loads(content.splitlines()[0])
    assert (line["url"], line["body"]["model"]) == ("/chat/completions", "deployment")
    assert run.server.keys == {KEY}


def test_only_what_is_missing_is_sent(run: Run) -> None:
    run.send(3)
    run.send(5)
    run.send(5)
    assert run.find(5) == list_texts(5)
    assert (run.server.calls["create"], run.server.paid.total()) == (2, 5)


def test_equal_requests_are_sent_once(run: Run) -> None:
    make = lambda: [make_request(0), make_request(1), make_request(0)]  # noqa: E731
    endpoint = Endpoint(run.server.url, "served", KEY)
    send_batches(make, endpoint, run.journal, run.came.append, limits=Limits(), notify=str, lock=nullcontext, pace=PACE)
    assert (run.server.paid.total(), len(run.came)) == (2, 2)


def test_more_than_one_file_holds_go_out_in_several(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amalgam.llm.batch.submit.MOST_REQUESTS", 4)
    run.send(10)
    assert [content.count(b"\n") for content in run.server.uploads.values()] == [4, 4, 2]
    assert run.find(10) == list_texts(10)


def test_files_are_cut_by_their_size_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amalgam.llm.batch.lines._MOST_BYTES", 600)
    run.send(5)
    assert [content.count(b"\n") for content in run.server.uploads.values()] == [2, 2, 1]
    assert max(map(len, run.server.uploads.values())) <= 600


def test_a_long_wait_says_how_far_it_is(run: Run) -> None:
    run.server.looks = 4
    run.send(8)
    assert "the endpoint has answered 2 of 8 requests of its batches" in run.said


def test_what_expired_is_sent_again(run: Run) -> None:
    run.server.ending = "expired"
    run.send(8)  # half of the rest at a time
    assert run.find(8) == list_texts(8)
    assert [content.count(b"\n") for content in run.server.uploads.values()] == [8, 4, 2, 1]
    assert set(run.server.paid.values()) == {1}


def test_a_batch_that_was_cancelled_ends_the_run(run: Run) -> None:
    run.server.ending = "cancelled"
    with pytest.raises(EndpointError, match="batch_0 was cancelled at the endpoint: run again to send what it left"):
        run.send(4)
    assert run.find(4) == ["re Grüße\u2028 0", "", "re Grüße\u2028 2", ""]
    run.server.ending = "completed"
    run.send(4)
    assert set(run.server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("status", "message"), [(400, "no such seed"), (401, f"wrong key {KEY}"), (400, "content filter")]
)
def test_a_refused_request_ends_the_run_with_what_the_endpoint_said(status: int, message: str, run: Run) -> None:
    def refuse_two(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["messages"][0]["content"].endswith("2"):
            return status, {"error": {"message": message}}
        return complete_plainly(body)

    run.server.complete = refuse_two
    with pytest.raises(EndpointError) as caught:
        run.send(4)
    assert f"refused a request of a batch (status {status}: {message.replace(KEY, '***')})" in str(caught.value)
    assert run.find(4) == ["re Grüße\u2028 0", "re Grüße\u2028 1", "", "re Grüße\u2028 3"]
    assert run.journal.list_batches() == []


def test_a_fault_that_passes_is_tried_again_but_not_for_ever(run: Run) -> None:
    faults = [429, 500, 503, 200]

    def fail_at_first(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status = faults.pop(0) if body["messages"][0]["content"].endswith("1") else 200
        return (status, {"error": {"message": "busy"}}) if status != 200 else complete_plainly(body)

    run.server.complete = fail_at_first
    run.send(3)
    assert run.find(3) == list_texts(3)
    run.server.complete = lambda _body: (500, {"error": {"message": "always busy"}})
    with pytest.raises(
        EndpointError, match=r"3 batches in a row brought no answer \(status 500: always busy\), .* \(1 in the next"
    ):
        run.send(4)


def test_an_answer_without_a_text_is_kept_as_it_came(run: Run) -> None:
    run.server.complete = lambda body: (200, {**complete_plainly(body)[1], "choices": []})
    run.send(1)
    assert run.came == [Answer("", "error", 10, 2, pytest.approx(COST))]


def test_half_a_surrogate_pair_is_no_failure(run: Run) -> None:
    def cut(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, reply = complete_plainly(body)
        reply["choices"][0]["message"]["content"] = "\ud83d"
        return status, reply

    run.server.complete = cut
    run.server.ascii = True
    run.send(1)
    assert run.came[0].text == "?"


def test_a_reply_that_is_no_completion_ends_the_run(run: Run) -> None:
    run.server.complete = lambda _body: (200, {"detail": "hello"})
    with pytest.raises(EndpointError, match="something other than chat completions"):
        run.send(1)


def test_a_batch_that_fails_as_a_whole_says_why(run: Run) -> None:
    run.server.invalid = "The model has no Batch API."
    with pytest.raises(EndpointError, match=r"refused .* \(The model has no Batch API"):
        run.send(3)
    assert run.journal.list_batches() == []


def test_a_full_queue_is_given_smaller_batches_one_after_the_other(run: Run) -> None:
    run.server.queue = 3
    run.send(10)
    assert run.find(10) == list_texts(10)
    made = [content.count(b"\n") for content in run.server.uploads.values()]
    assert made == [10, 5, 2, 2, 2, 2, 2]
    assert set(run.server.paid.values()) == {1}


def test_a_queue_that_a_batch_of_one_s_own_fills_is_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amalgam.llm.batch.submit.MOST_REQUESTS", 4)
    run.server.queue = 5
    run.send(8)
    assert [content.count(b"\n") for content in run.server.uploads.values()] == [4, 4, 4]
    assert set(run.server.paid.values()) == {1}


def test_a_queue_without_any_room_ends_the_run(run: Run) -> None:
    run.server.queue = 0
    with pytest.raises(EndpointError, match=r"Enqueued token limit reached"):
        run.send(2)


@pytest.mark.parametrize(
    ("what", "faults"), [("upload", [500]), ("look", [503, 429]), ("content", [500]), ("list", [])]
)
def test_calls_that_fail_are_tried_again(what: str, faults: list[int], run: Run) -> None:
    run.server.faults = {what: faults}
    run.send(3)
    assert run.find(3) == list_texts(3)
    assert run.server.paid.total() == 3


@pytest.mark.parametrize("fault", [0, 500, 429])
def test_a_batch_whose_making_got_no_answer_is_made_once(fault: int, run: Run) -> None:
    run.server.faults = {"create": [fault, fault]}  # 0: it was made, and the connection dropped
    run.send(3)
    assert run.find(3) == list_texts(3)
    assert set(run.server.paid.values()) == {1}
    assert len(run.server.jobs) == 1


def test_a_download_that_breaks_off_loses_nothing(run: Run) -> None:
    run.server.faults = {"content": [1]}  # half of it, then the connection is dropped
    run.send(3000)
    assert run.find(3000) == list_texts(3000)
    assert len(run.came) == 3000
    assert run.journal.read_spending() == pytest.approx(3000 * COST)
    assert run.server.calls["content"] == 2


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("upload", 401, "status 401 (no upload today): check `llm.endpoint`, OPENAI_API_KEY"),
        ("upload", 404, "set `llm.batch: false`"),
        ("create", 400, "status 400 (no create today)"),
        ("look", 401, "status 401 (no look today)"),
    ],
)
def test_an_endpoint_that_refuses_says_so(what: str, status: int, words: str, run: Run) -> None:
    run.server.faults = {what: [status] * 9}
    with pytest.raises(EndpointError) as caught:
        run.send(3)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    run.server.faults = {}
    run.send(3)
    assert set(run.server.paid.values()) == {1}
    assert run.find(3) == list_texts(3)


def test_an_endpoint_that_is_not_there_is_told(run: Run) -> None:
    run.server.shutdown()
    run.server.server_close()
    with pytest.raises(EndpointError, match=r"the Batch API of http.* does not answer"):
        run.send(1, retries=0)


def test_a_batch_that_would_pass_the_requests_allowed_is_not_sent(run: Run) -> None:
    with pytest.raises(BudgetError, match=r"a batch of 5 requests, after 0 .* would pass `llm.max_requests: 4`"):
        run.send(5, max_requests=4)
    assert not run.server.calls["create"]
    run.send(4, max_requests=4)
    assert run.server.paid.total() == 4


def test_what_is_sent_again_counts_too(run: Run) -> None:
    run.server.ending = "expired"
    with pytest.raises(BudgetError, match="a batch of 2 requests, after 4 that were sent, would pass"):
        run.send(4, max_requests=5)


def test_a_batch_that_might_pass_the_budget_is_not_sent(run: Run) -> None:
    with pytest.raises(BudgetError, match=r"a batch of 5 requests may cost 0\.000[0-9]+ USD, and with 0\.0000 spent"):
        run.send(5, budget_usd=0.0001)
    assert not run.server.calls["upload"]
    run.send(5, budget_usd=1.0)
    with pytest.raises(BudgetError, match=r"with 0\.0001 spent"):
        run.send(6, budget_usd=0.0001)


def test_a_batch_of_another_run_counts_against_the_budget(run: Run, tmp_path: Path) -> None:
    leave_behind(run, tmp_path, 200)
    with pytest.raises(BudgetError, match=r"0.0000 spent and 0.00[0-9]+ in open batches .*; 1 batch goes on"):
        run.send(210, start=200, budget_usd=0.005)


def test_a_budget_needs_a_price(run: Run) -> None:
    with pytest.raises(BudgetError, match="no price"):
        run.send(1, price=None, budget_usd=5.0)
    run.send(1, price=None)
    assert run.came[0].cost_usd is None


def leave_behind(run: Run, folder: Path, count: int) -> None:
    """Let a process make a batch of requests 0 to `count` - 1, and kill it while it waits."""
    run.server.looks = 10**9
    pause = run.server.pause = Pause("before look", after=2)
    with Sender(run, folder, count):
        assert pause.reached.wait(20)
    run.server.pause, run.server.looks = None, 1
    pause.release.set()


@pytest.mark.parametrize(
    ("point", "after"),
    [
        ("before upload", 0),
        ("after upload", 0),
        ("before create", 0),
        ("after create", 0),
        ("before look", 0),
        ("after look", 1),
        ("before content", 0),
        ("within content", 0),
        ("after content", 0),
    ],
)
def test_a_process_that_is_killed_is_taken_up_by_the_next(point: str, after: int, run: Run, tmp_path: Path) -> None:
    run.server.ending = "expired"  # so that there is an error file, and a second batch
    pause = run.server.pause = Pause(point, after)
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


def test_processes_that_are_killed_again_and_again_pay_once(run: Run, tmp_path: Path) -> None:
    run.server.looks = 3
    draw = random.Random(7)
    kills = 0
    while "" in run.find(40):
        with Sender(run, tmp_path, 40) as sender:
            sender.process.join(0.05 + 0.25 * draw.random() if kills < 12 else 30)
            kills += sender.process.exitcode is None
    assert kills >= 3
    assert run.find(40) == list_texts(40)
    assert set(run.server.paid.values()) == {1}


def test_processes_at_once_pay_once(run: Run, tmp_path: Path) -> None:
    run.server.looks = 5
    with Sender(run, tmp_path, 30) as first, Sender(run, tmp_path, 50) as second:
        for sender in (first, second):
            sender.process.join(30)
            assert sender.process.exitcode == 0
    assert run.find(50) == list_texts(50)
    assert run.server.paid.total() == 50


def test_the_lock_is_free_while_a_batch_is_waited_for(run: Run, tmp_path: Path) -> None:
    run.server.looks = 10**9
    pause = run.server.pause = Pause("before look", after=3)
    with Sender(run, tmp_path, 3):
        assert pause.reached.wait(20)
        with lock_sending(tmp_path / "journal.sqlite", pytest.fail):
            pass


def test_an_interrupted_run_says_that_the_batch_goes_on(run: Run, tmp_path: Path) -> None:
    run.server.looks = 10**9
    pause = run.server.pause = Pause("before look", after=2)
    with Sender(run, tmp_path, 3) as sender:
        assert pause.reached.wait(20)
        assert sender.process.pid
        pause.release.set()
        os.kill(sender.process.pid, signal.SIGINT)
        sender.process.join(20)
    assert sender.process.exitcode == 0
    last = sender.said.read_text().splitlines()[-1]
    assert last == "interrupted: 1 batch goes on at the endpoint, and the next run collects what it answers"
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
    limits = Limits(price=Price(1e6, 1e6), retries=0)
    make = partial(make_requests, 5, 3)
    send_batches(make, other, run.journal, str, limits=limits, notify=str, lock=nullcontext, pace=PACE)
    assert run.find(3) == ["", "", ""]
    spent = run.journal.read_spending()
    run.send(3)
    assert run.find(3) == list_texts(3)
    assert run.journal.read_spending() - spent == pytest.approx(3 * COST, rel=1e-3)
    assert run.server.paid.total() == 5


def test_a_batch_at_another_endpoint_is_neither_waited_for_nor_paid_again(run: Run, tmp_path: Path) -> None:
    leave_behind(run, tmp_path, 3)
    other = BatchServer()
    elsewhere = Run(other, run.journal)
    elsewhere.send(5, start=3)
    with pytest.raises(EndpointError, match=r"are in the batch [-0-9a-f]+, which this endpoint does not show"):
        elsewhere.send(5)
    assert other.paid.total() == 2
    other.shutdown()
    other.server_close()


def test_a_batch_that_the_endpoint_no_longer_knows_is_told(run: Run, tmp_path: Path) -> None:
    leave_behind(run, tmp_path, 3)
    run.server.jobs.clear()
    run.send(5, start=3)
    with pytest.raises(EndpointError, match=r"set `llm\.endpoint` and the key to those that it was made with"):
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
    answer_requests(partial(make_requests, 3), answering, "test")
    assert [answer.text for _, answer in iterate_answers(make_requests(3), answering)] == list_texts(3)
    assert run.server.paid.total() == 3
    leave_behind(run, tmp_path, 5)
    with pytest.raises(EndpointError, match=r"2 of the requests are in a batch at the endpoint, .* `llm\.batch: true`"):
        answer_requests(partial(make_requests, 5), make_answering(tmp_path, run.server.url), "test")


def test_requests_in_a_batch_are_not_sent_live(run: Run, tmp_path: Path) -> None:
    check_no_batches(partial(make_requests, 3), run.journal)
    leave_behind(run, tmp_path, 3)
    check_no_batches(partial(make_requests, 5, 3), run.journal)
    with pytest.raises(EndpointError, match="2 of the requests are in a batch at the endpoint"):
        check_no_batches(partial(make_requests, 5, 1), run.journal)


def test_nothing_is_left_on_the_disk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    during: list[str] = []

    def look(name: str, content: bytes) -> dict[str, Any]:
        during.extend(path.name for path in folder.iterdir())
        return BatchServer.take_file(run.server, name, content)

    monkeypatch.setattr(run.server, "take_file", look)
    run.send(3)
    assert during == list(folder.iterdir()) == []
