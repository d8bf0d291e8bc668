"""Batches against a real server of the Batch API."""

import json
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import BudgetError, EndpointError
from amalgam.llm.request import Endpoint, Limits
from amalgam.llm.sending import Spending
from tests.pipeline.batch_server import complete_plainly
from tests.unit.batches import COST, KEY, PRICE, Run, leave_behind, list_texts, make_requests


def test_lines_are_requests_as_the_api_wants_them_and_answers_are_recorded_at_the_price_of_a_batch(run: Run) -> None:
    run.send(7)
    assert run.find(7) == list_texts(7)
    assert [answer.cost_usd for answer in run.came] == [pytest.approx(COST)] * 7
    assert run.journal.read_spending() == pytest.approx(7 * COST)
    assert run.journal.list_batches() == []
    assert run.server.keys == {f"Bearer {KEY}"}
    assert set(run.server.paid.values()) == {1}
    assert "a batch of 7 requests is at the endpoint (batch_0)" in run.said[0]
    ((name, content),) = run.server.uploads.items()
    assert name.startswith("amalgam-")
    head = {"method": "POST", "url": "/v1/chat/completions"}
    assert [json.loads(line) for line in content.decode().split("\n")[:-1]] == [
        {"custom_id": request.key, **head, "body": {"model": "served", **request.body}} for request in make_requests(7)
    ]
    assert KEY.encode() not in content


def test_azure_is_asked_in_its_own_way(run: Run) -> None:
    url = run.server.url.removesuffix("/v1")
    endpoint = Endpoint(url, "deployment", KEY, api_version="2024-10-21", key_name="AZURE_OPENAI_API_KEY")
    run.send(3, endpoint=endpoint)
    assert run.find(3) == list_texts(3)
    (content,) = run.server.uploads.values()
    line = json.loads(content.splitlines()[0])
    assert (line["url"], line["body"]["model"]) == ("/chat/completions", "deployment")
    assert run.server.keys == {KEY}


@pytest.mark.parametrize(
    ("name", "most", "made", "faults"),
    [
        ("_MOST_REQUESTS", 4, [4, 3], [200, 500, 500, 500]),  # the endpoint is gone while the first batch is open
        ("_MOST_BYTES", 600, [2, 2, 2, 1], []),
    ],
)
def test_more_than_one_file_holds_go_out_in_several(
    name: str, most: int, made: list[int], faults: list[int], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"amalgam.llm.batch.{name}", most)
    run.server.looks, run.server.faults = 4, {"upload": faults}
    run.send(7)
    assert [content.count(b"\n") for content in run.server.uploads.values()] == made
    assert max(map(len, run.server.uploads.values())) <= (600 if name == "_MOST_BYTES" else 1200)
    assert run.find(7) == list_texts(7)
    assert set(run.server.paid.values()) == {1}
    assert any(sentence.startswith("the endpoint has answered ") for sentence in run.said)


def test_what_expired_is_sent_again(run: Run) -> None:
    run.server.ending = "expired"
    run.send(8)  # half of the rest at a time
    assert run.find(8) == list_texts(8)
    assert [content.count(b"\n") for content in run.server.uploads.values()] == [8, 4, 2, 1]
    assert set(run.server.paid.values()) == {1}


def test_a_batch_that_was_cancelled_ends_the_run(run: Run) -> None:
    run.server.ending = "cancelled"
    with pytest.raises(EndpointError, match="batch_0 was cancelled at the endpoint: run again to send the rest of it"):
        run.send(4)
    assert run.find(4) == ["re Grüße\u2028 0", "", "re Grüße\u2028 2", ""]
    run.server.ending = "completed"
    run.send(4)
    assert set(run.server.paid.values()) == {1}


@pytest.mark.parametrize(("status", "message"), [(400, "no such seed"), (401, f"wrong key {KEY}")])
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
        EndpointError, match=r"3 batches in a row returned no answer \(status 500: always busy\), and 1 req"
    ):
        run.send(4)


def test_one_odd_line_loses_no_other_answer(run: Run) -> None:
    odd = [(200, {"choices": [{"index": 0, "finish_reason": "stop"}]})]

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return odd.pop() if odd and body["messages"][0]["content"].endswith("1") else complete_plainly(body)

    run.server.complete = answer
    run.send(4)
    assert run.find(4) == list_texts(4)
    assert [content.count(b"\n") for content in run.server.uploads.values()] == [4, 1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("complete", lambda _body: (200, {"detail": "hello"}), "something other than chat completions"),
        ("invalid", "The model has no Batch API.", r"refused .* \(The model has no Batch API"),
        ("queue", 0, r"refused .* \(Enqueued token limit reached"),
    ],
)
def test_a_batch_that_brings_nothing_ends_the_run_and_says_why(name: str, value: Any, words: str, run: Run) -> None:
    setattr(run.server, name, value)
    with pytest.raises(EndpointError, match=words):
        run.send(2)


def test_a_full_queue_is_given_smaller_batches_one_after_the_other(run: Run) -> None:
    run.server.queue = 3
    run.send(10)
    assert run.find(10) == list_texts(10)
    made = [content.count(b"\n") for content in run.server.uploads.values()]
    assert made == [10, 5, 2, 2, 2, 2, 2]
    assert set(run.server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("what", "faults"),
    [
        ("upload", [500]),
        ("look", [503, 429]),
        ("content", [1]),  # half of it, then the connection is dropped
        *(("create", [fault, fault]) for fault in (0, 500)),  # 0: it was made, then the connection dropped
    ],
)
def test_calls_that_fail_are_tried_again_and_a_batch_is_made_once(what: str, faults: list[int], run: Run) -> None:
    run.server.faults = {what: faults}
    run.send(30)
    assert run.find(30) == list_texts(30)
    assert (len(run.server.jobs), run.server.paid.total()) == (1, 30)
    assert run.journal.read_spending() == pytest.approx(30 * COST)


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("upload", 401, "status 401 (no upload today): check `llm.endpoint`, OPENAI_API_KEY"),
        ("create", 400, "set `llm.batch: false`"),
        ("look", 401, "1 batch is still running at the endpoint"),
        ("content", 404, "no longer holds the answers of the batch "),
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
    run.server.server_close()
    with pytest.raises(EndpointError, match=r"the LLM endpoint http.* does not answer"):
        run.send(1, retries=0)


def test_a_batch_that_would_pass_the_requests_allowed_is_not_sent(run: Run) -> None:
    with pytest.raises(BudgetError, match=r"max_requests: 4` is reached: 0 were sent .* next batch of 5 requests"):
        run.send(5, max_requests=4)
    assert not run.server.calls["create"]
    run.server.ending = "expired"
    with pytest.raises(BudgetError, match="5 were sent in this run, and the next batch of 2 requests"):
        run.send(4, max_requests=6, sent=1)  # requests that are sent again count too


def test_a_batch_that_might_pass_the_budget_is_not_sent(run: Run) -> None:
    with pytest.raises(BudgetError, match="no price"):
        run.send(5, price=None, budget_usd=5.0)
    with pytest.raises(
        BudgetError, match=r"0\.000000 US dollars are spent .* batch of 5 requests may cost 0\.000[0-9]+"
    ):
        run.send(5, budget_usd=0.0001)
    assert not run.server.calls["upload"]
    run.send(5, budget_usd=1.0)
    with pytest.raises(BudgetError, match=r"0\.000075 US dollars are spent"):
        run.send(6, budget_usd=0.0001)


def test_a_batch_of_another_run_counts_against_the_budget(run: Run, tmp_path: Path) -> None:
    leave_behind(run, tmp_path, 200)
    with pytest.raises(BudgetError, match=r"0.00[0-9]+ US dollars are .* set aside, .*; 1 batch is still running"):
        run.send(210, start=200, budget_usd=0.005)
    spending = Spending(Limits(price=PRICE, budget_usd=0.005), run.journal)  # of a run without the Batch API
    assert "spent or set aside" in spending.find_obstacle(0.001)
