"""The client against a real HTTP server."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import EndpointError
from amalgam.llm.endpoint import NO_KEY, Endpoint, Limits
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.request import Answer, Request
from amalgam.llm.sending import send_requests

Behaviour = Callable[["Handler", str], None]
KEY = "sk-very-secret"
SLOW = 0.05  # seconds


class Server(ThreadingHTTPServer):
    """Answers on loopback as a test tells it to; logs what came, in order, and how many requests at once."""

    daemon_threads = True
    block_on_close = False
    behave: Behaviour

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.busy = self.most_busy = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def sent(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where the client went away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.add(self.headers["Authorization"])
            self.server.busy += 1
            self.server.most_busy = max(self.server.busy, self.server.most_busy)
        try:
            self.server.behave(self, body["messages"][0]["content"])
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def reply(self, status: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the output clean."""


def build_reply(text: Any = "fine", **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    head = {"id": "1", "object": "chat.completion", "created": 0, "model": "served"}
    return {**head, "choices": [choice], "usage": usage, **changes}


def make_request(content: str, sample: int = 0) -> Request:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 5, "seed": sample}
    return Request(f"{content}-{sample}", "m", body, sample)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.behave = lambda handler, content: handler.reply(200, build_reply(f"re {content}"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        yield journal


def send(groups: Iterable[list[Request]], server: Server, journal: Journal, **settings: Any) -> list[Answer]:
    """Send the groups; return the answers in the order in which they came."""
    came: list[Answer] = []
    endpoint = Endpoint(server.url, "served", settings.pop("key", KEY), slots=settings.pop("slots", None))
    total = settings.pop("total", None)
    limits = Limits(**{"concurrency": 4, "max_concurrency": 4, "timeout": 5.0, "retries": 0} | settings)
    send_requests(groups, endpoint, journal, came.append, limits=limits, notify=print, total=total)
    return came


def find_answer(request: Request, journal: Journal) -> Answer | None:
    return journal.find([request.key]).get(request.key)


def fail_to_send(server: Server, journal: Journal, **settings: Any) -> str:
    """Send one request, which must fail without an answer kept; return the message."""
    request = make_request("a")
    with pytest.raises(EndpointError) as caught:
        send([[request]], server, journal, **settings)
    assert find_answer(request, journal) is None
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_answer_is_kept_as_it_came(server: Server, journal: Journal) -> None:
    request = make_request("a")
    assert send([[request]], server, journal) == [Answer("re a", "stop", 3, 2)]
    assert find_answer(request, journal) == Answer("re a", "stop", 3, 2)
    assert server.bodies == [{"model": "served", **request.body}]
    assert server.keys == {f"Bearer {KEY}"}


def test_no_more_requests_are_in_flight_than_wanted(server: Server, journal: Journal) -> None:
    three = threading.Barrier(3, timeout=5)

    def answer_slowly(handler: Handler, content: str) -> None:
        three.wait()
        time.sleep(SLOW)
        handler.reply(200, build_reply())

    server.behave = answer_slowly
    send([[make_request(str(number))] for number in range(9)], server, journal, concurrency=3, max_concurrency=3)
    assert server.most_busy == 3
    assert sorted(server.sent) == sorted(map(str, range(9)))


def test_the_requests_of_a_group_go_one_after_the_other(server: Server, journal: Journal) -> None:
    def answer_slowly(handler: Handler, content: str) -> None:
        time.sleep(SLOW / 2)
        handler.reply(200, build_reply())

    server.behave = answer_slowly
    send([[make_request(name, sample) for sample in range(4)] for name in "abc"], server, journal, max_concurrency=8)
    assert server.most_busy == 3
    for name in "abc":
        assert [body["seed"] for body in server.bodies if body["messages"][0]["content"] == name] == [0, 1, 2, 3]


@pytest.mark.parametrize("status", [429, 500])
def test_a_request_is_sent_again_after_a_while(status: int, server: Server, journal: Journal) -> None:
    def fail_once(handler: Handler, content: str) -> None:
        first = len(server.bodies) == 1
        handler.reply(
            *((status, {"error": {"message": "slow down"}}) if first else (200, build_reply())), Retry_After="0.3"
        )

    server.behave = fail_once
    start = time.monotonic()
    assert send([[make_request("a")]], server, journal, retries=1) == [Answer("fine", "stop", 3, 2)]
    assert time.monotonic() - start >= 0.3
    assert server.sent == ["a", "a"]


def test_a_dropped_connection_is_tried_again_then_told(server: Server, journal: Journal) -> None:
    def drop(handler: Handler, content: str) -> None:
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.behave = drop
    message = fail_to_send(server, journal, retries=1)
    assert message.startswith(f"the LLM endpoint {server.url} does not answer (Server disconnected")
    assert server.sent == ["a", "a"]


def test_an_endpoint_that_is_not_there_is_told(journal: Journal) -> None:
    server = Server()
    server.shutdown()
    server.server_close()
    assert "does not answer (All connection attempts failed): check `llm.endpoint`" in fail_to_send(server, journal)


def test_an_answer_that_takes_too_long_is_told(server: Server, journal: Journal) -> None:
    server.behave = lambda handler, content: time.sleep(0.5)
    assert "does not answer (no answer within 0.1 s)" in fail_to_send(server, journal, timeout=0.1)


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (401, {"error": {"message": f"wrong key\n{KEY}"}}, "status 401 (wrong key ***): set OPENAI_API_KEY"),
        (403, {"error": {"message": "no"}}, "status 403 (no): check what the key in OPENAI_API_KEY may do"),
        (404, {"error": {"message": "no model x"}}, "status 404 (no model x): check `llm.endpoint` and `llm.model`"),
        (400, {"error": {"message": "too long"}}, "status 400 (too long): leave out what it names by `llm.body`"),
        (400, {"detail": "bad seed"}, "status 400 (bad seed): set `llm.body: {seed: null}`"),
        (400, b"plain text", "status 400 (plain text)"),
        (429, {"error": {"message": "slow"}}, "status 429 (slow): wait, or set `llm.requests_per_minute`"),
        (500, b"", "status 500 (no message): run again later; 0 answers of this run are kept"),
        (502, b"<html>" + b"x" * 9999, f"status 502 (<html>{'x' * 294}):"),
    ],
)
def test_a_refusal_says_what_the_endpoint_says(
    status: int, content: Any, words: str, server: Server, journal: Journal
) -> None:
    server.behave = lambda handler, _: handler.reply(status, content)
    message = fail_to_send(server, journal)
    did = "rejected the request a-0" if status == 400 else "answered"
    assert message.startswith(f"the LLM endpoint {server.url} {did} with {words}")


def test_where_there_is_no_key_no_word_is_hidden(server: Server, journal: Journal) -> None:
    server.behave = lambda handler, content: handler.reply(404, {"error": {"message": "none of these"}})
    assert "(none of these)" in fail_to_send(server, journal, key=NO_KEY)


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secrét"])
def test_a_key_that_cannot_be_sent_is_told_but_not_shown(key: str, server: Server, journal: Journal) -> None:
    assert "OPENAI_API_KEY holds a character that no key has" in fail_to_send(server, journal, key=key)
    assert not server.bodies


@pytest.mark.parametrize(
    "content",
    [
        b"<html>a page</html>",
        b"",
        b'{"choices": [',
        b"\xff",
        [],
        None,
        "text",
        build_reply(choices=[None]),
        build_reply(choices=[{"index": 0, "finish_reason": "stop"}]),
        build_reply(choices=[{"index": 0, "message": {"content": [{"type": "text"}]}, "finish_reason": "stop"}]),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_what_is_no_completion_is_told(content: Any, kind: str, server: Server, journal: Journal) -> None:
    server.behave = lambda handler, _: handler.reply(200, content, Content_Type=kind)
    assert "something other than a chat completion (" in fail_to_send(server, journal)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (build_reply(choices=[]), Answer("", "error", 3, 2)),
        (build_reply(None), Answer("", "stop", 3, 2)),
        (build_reply([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]), Answer("fine", "stop", 3, 2)),
        (build_reply([{"type": "thinking", "thinking": [{"text": "hm"}]}, "fine"]), Answer("fine", "stop", 3, 2)),
        (build_reply(usage=None), Answer("fine", "stop", 0, 0)),
        (build_reply(usage={}), Answer("fine", "stop", 0, 0)),
        ({"choices": [{"message": {"content": "short"}}]}, Answer("short", "", 0, 0)),
        (
            build_reply(choices=[{"message": {"content": None, "refusal": "I won't"}, "finish_reason": "stop"}]),
            Answer("I won't", "refusal", 3, 2),
        ),
        (build_reply("half \ud83d, whole 😀, zero \x00"), Answer("half ?, whole 😀, zero \x00", "stop", 3, 2)),
    ],
)
def test_answers_of_every_form_are_kept(reply: Any, answer: Answer, server: Server, journal: Journal) -> None:
    server.behave = lambda handler, content: handler.reply(200, reply)
    request = make_request("a")
    assert send([[request]], server, journal) == [answer]
    assert find_answer(request, journal) == answer


def test_after_a_failure_what_is_in_flight_is_kept_and_nothing_more_is_sent(server: Server, journal: Journal) -> None:
    def fail_early_answer_late(handler: Handler, content: str) -> None:
        if content == "bad":
            handler.reply(400, {"error": {"message": "no"}})
        else:
            time.sleep(4 * SLOW)
            handler.reply(200, build_reply(f"re {content}"))

    server.behave = fail_early_answer_late
    slow = [make_request("slow"), make_request("slow", 1)]
    later = [[make_request(f"later {number}")] for number in range(5)]
    with pytest.raises(EndpointError, match=r"status 400 \(no\)"):
        send([slow, [make_request("bad")], *later], server, journal, max_concurrency=2)
    assert sorted(server.sent) == ["bad", "slow"]
    assert find_answer(slow[0], journal) == Answer("re slow", "stop", 3, 2)
    assert find_answer(slow[1], journal) is None
