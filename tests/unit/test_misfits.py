"""Requests that an endpoint takes in another form only, or not at all, to a real server."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import BudgetError, EndpointError
from amalgam.llm.batch.lines import read_outcome
from amalgam.llm.endpoint import Endpoint, Limits
from amalgam.llm.forms import shape_body
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.prices import Price
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending import send_requests
from amalgam.synthesis.asking import build_response_format
from tests.pipeline.server import Fault, Received, StubServer
from tests.unit.sending import make_request, send

SCHEMA = {"type": "object", "properties": {"label": {"type": "string", "enum": ["a", "grün"]}}}
GRADE = {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": SCHEMA}}
WORDS = 'Answer with a JSON object and nothing else. Its keys: "label" (one of "a", "grün").'


class PlainServer(StubServer):
    """Refuses some forms of JSON."""

    refused: tuple[str, ...] = ()
    message = "This response_format type is unavailable now"

    def take(self, request: Received, *, has_room: bool = True) -> Fault | None:
        if request.body.get("response_format", {}).get("type", "text") in self.refused:
            self.log.failed.append(request)
            return Fault(400, self.message)
        return super().take(request, has_room=has_room)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        return super().complete({name: part for name, part in body.items() if name != "response_format"})


@pytest.fixture
def plain() -> Iterator[PlainServer]:
    server = PlainServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        yield journal


def ask(numbers: range, server: StubServer, journal: Journal, endpoint: Endpoint, **limits: Any) -> list[str]:
    """Ask for JSON; return what was said."""
    said: list[str] = []
    asked = [make_request(number) for number in numbers]
    requests = [dataclasses.replace(one, body=one.body | {"response_format": GRADE}) for one in asked]
    settings = Limits(**{"concurrency": 2, "max_concurrency": 4, "retries": 0} | limits)
    send_requests([[one] for one in requests], endpoint, journal, print, limits=settings, notify=said.append)
    assert journal.count_missing([request.key for request in requests]) == 0  # under the keys as they were asked
    return said


@pytest.mark.parametrize(
    ("refused", "left", "notices"),
    [
        (("json_schema",), {"json_object"}, ["a JSON object instead"]),
        (("json_schema", "json_object"), {"text"}, ["a JSON object instead", "JSON in words alone"]),
    ],
)
@pytest.mark.parametrize("message", [PlainServer.message, "Unprocessable"])
def test_where_a_schema_is_refused_words_say_what_is_wanted(
    refused: tuple[str, ...], left: set[str], notices: list[str], message: str, plain: PlainServer, journal: Journal
) -> None:
    plain.refused, plain.message = refused, message
    endpoint = Endpoint(plain.url, "served", "k")
    said = ask(range(12), plain, journal, endpoint)
    assert len(said) == len(notices)
    for sentence, words in zip(said, notices, strict=True):
        assert f"takes no JSON schema ({message}): it is asked for {words}" in sentence
    assert {one.body.get("response_format", {}).get("type", "text") for one in plain.log.answered} == left
    assert all(one.body["messages"][-1]["content"].endswith(f"\n\n{WORDS}") for one in plain.log.answered)
    # Only those that were on their way when it was found out; the next call knows from the start.
    failed = len(plain.log.failed)
    assert failed <= 4 * len(notices)
    assert ask(range(12, 20), plain, journal, endpoint) == []
    assert len(plain.log.failed) == failed


def test_another_form_is_a_request_that_counts(plain: PlainServer, journal: Journal) -> None:
    plain.refused = ("json_schema",)
    with pytest.raises(BudgetError, match=r"`llm.max_requests: 1` is reached"):
        ask(range(3), plain, journal, Endpoint(plain.url, "served", "k"), concurrency=1, max_requests=1)
    assert len(plain.log.arrived) == 1


def test_where_every_form_is_refused_the_run_ends(plain: PlainServer, journal: Journal) -> None:
    plain.refused = ("json_schema", "json_object", "text")
    with pytest.raises(EndpointError, match=r"rejected the request .+ with status 400 \(This response_format"):
        ask(range(3), plain, journal, Endpoint(plain.url, "served", "k"))


def test_the_words_stand_with_the_task() -> None:
    turns = [{"role": "system", "content": "Rubric"}, {"role": "user", "content": "Text"}]
    body = {"messages": turns, "response_format": build_response_format(2), "seed": 1}
    words = 'Answer with a JSON object and nothing else. Its keys: "response_1" (a text), "response_2" (a text).'
    shaped = {"messages": [{"role": "system", "content": f"Rubric\n\n{words}"}, turns[1]], "seed": 1}
    assert shape_body(body, 0) is body
    assert shape_body(body, 1) == shaped | {"response_format": {"type": "json_object"}}
    assert shape_body(body, 2) == shaped
    assert body["messages"] is turns
    assert turns[0]["content"] == "Rubric"
    assert shape_body({"messages": turns}, 2) == {"messages": turns}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(400, "filtered", code="content_filter"),
        Fault(403, "your input was flagged"),
        Fault(200, body=json.dumps({"error": {"code": 400, "message": "content_filter"}}).encode()),
        Fault(200, body=b'{"choices": [{"index": 0, "finish_reason": "content_filter"}]}'),
    ],
    ids=["400", "403", "an error in 200", "no message"],
)
def test_a_filter_is_an_answer_without_a_text(fault: Fault, server: StubServer, journal: Journal) -> None:
    fault.after, fault.times = 3, 1
    server.fault = fault
    came = send(9, server, journal, concurrency=1, max_concurrency=1)
    assert len(came) == 9
    assert [answer for answer in came if not answer.text] == [Answer("", "content_filter", 0, 0)]
    assert journal.find([make_request(3).key])[make_request(3).key].finish_reason == "content_filter"
    assert send(9, server, journal) == []


def test_a_filter_is_an_answer_in_a_batch_too() -> None:
    response = {"status_code": 400, "body": {"error": {"code": "content_filter", "message": "no"}}}
    outcome = read_outcome(json.dumps({"custom_id": "k", "response": response}).encode(), Price(1.0, 1.0))
    assert outcome.answer == Answer("", "content_filter", 0, 0, 0.0)


@pytest.mark.parametrize(("code", "words"), [(401, "set OPENAI_API_KEY"), (402, "pay for more there")])
def test_an_error_inside_an_answer_ends_the_run_as_its_status(
    code: int, words: str, server: StubServer, journal: Journal
) -> None:
    server.fault = Fault(200, body=json.dumps({"error": {"code": code, "message": "no"}}).encode())
    with pytest.raises(EndpointError, match=rf"answered with status {code} \(no\): {words}"):
        send(1, server, journal, retries=9)
    assert len(server.log.failed) == 1


def test_an_error_inside_an_answer_that_passes_is_sent_again(server: StubServer, journal: Journal) -> None:
    error = {"message": "Provider returned error", "code": 429}
    server.fault = Fault(200, body=json.dumps({"choices": None, "error": error}).encode(), after=2, times=2)
    assert len(send(6, server, journal)) == 6
    assert len(server.log.failed) == 2


@pytest.mark.parametrize("role", ["assistant", "user"])
def test_a_context_that_is_too_small_names_the_longest_row(role: str, server: StubServer, journal: Journal) -> None:
    server.fault = Fault(400, "This model's maximum context length is 4096 tokens")
    turns = [{"role": role, "content": text} for text in ("short", "long" * 9, "middle")]
    turns = [{"role": "system", "content": "x" * 99}, *turns]
    group, param = ("g", "prompts.shots") if role == "assistant" else ("", "judge.shots")
    request = Request("r1", "m", {"messages": turns, "max_tokens": 5}, 0, group, ("c1", "c2", "c3"))
    with pytest.raises(EndpointError, match=rf"lower `{param}`, or shorten the row c2, the longest in it \(36 char"):
        send_requests(
            [[request]], Endpoint(server.url, "m", "k"), journal, print, limits=Limits(retries=0), notify=print
        )
    bare = dataclasses.replace(request, rows=("c1", "c2"))
    with pytest.raises(EndpointError, match=r"or shorten the longest of its rows \(c1, c2\)"):
        send_requests([[bare]], Endpoint(server.url, "m", "k"), journal, print, limits=Limits(retries=0), notify=print)
