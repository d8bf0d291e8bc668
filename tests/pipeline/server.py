"""A small OpenAI-compatible server: real HTTP, answers that depend on the request alone, faults on demand."""

import hashlib
import json
import random
import re
import socket
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from tests.pipeline.toy import guess_label, write_comment


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    body: dict[str, Any]
    authorization: str

    @property
    def is_grading(self) -> bool:
        return "response_format" in self.body


@dataclass
class Fault:
    """What the server does instead of answering: a status with a message, or (status 0) it drops the connection."""

    status: int
    message: str = "the server has a bad day"
    after: int = 0  # requests that are answered first
    times: int = 10**9  # requests that fail then


@dataclass
class Log:
    """What happened since the last reset."""

    answered: list[Received] = field(default_factory=list)
    failed: list[Received] = field(default_factory=list)

    @property
    def synthesis(self) -> int:
        return sum(not request.is_grading for request in self.answered)

    @property
    def grading(self) -> int:
        return sum(request.is_grading for request in self.answered)


class StubServer(ThreadingHTTPServer):
    """Serves `POST /v1/chat/completions` in threads of its own, until it is closed.

    Attributes:
        log: the requests since the last reset.
        fault: what goes wrong, if anything.
        spoilt: by sampling seed, how the synthesis requests with this seed end: `length`, `empty` or `refusal`.
    """

    request_queue_size = 64
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = Lock()
        self.reset()
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def reset(self) -> None:
        """Forget what came, and answer everything from now on."""
        self.log = Log()
        self.fault: Fault | None = None
        self.spoilt: dict[int, str] = {}

    def take(self, request: Received) -> Fault | None:
        """Count a request; return the fault that it meets, or None if it is to be answered."""
        with self._lock:
            fault = self.fault
            if fault and fault.times and len(self.log.answered) >= fault.after:
                fault.times -= 1
                self.log.failed.append(request)
                return fault
            self.log.answered.append(request)
            return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a client goes away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    server: StubServer
    protocol_version = "HTTP/1.1"
    # One packet an answer: header and body apart would wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Received(body, self.headers.get("Authorization", ""))
        if self.path != "/v1/chat/completions":
            self._reply(404, {"error": {"message": f"there is no {self.path}"}})
        elif fault := self.server.take(request):
            if fault.status:
                self._reply(fault.status, {"error": {"message": fault.message}})
            else:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self._reply(200, _complete(body, self.server.spoilt))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After-Ms", "1")
        self.end_headers()
        self.wfile.write(data)


def _complete(body: dict[str, Any], spoilt: dict[int, str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    reason = "stop"
    if "response_format" in body:
        message["content"] = json.dumps({"label": _grade(body)})
    else:
        fault = spoilt.get(body["seed"], "")
        reason = "length" if fault == "length" else "stop"
        if fault == "refusal":
            message |= {"content": None, "refusal": "I will not write this."}
        elif fault != "empty":
            message["content"] = _write(body)
    tokens = [len(turn["content"].split()) for turn in body["messages"]]
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": sum(tokens), "completion_tokens": 9, "total_tokens": sum(tokens) + 9},
    }


def _write(body: dict[str, Any]) -> str:
    asked = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
    match = re.search(r"that is (\w+):", asked)
    assert match, asked
    return write_comment(match[1], random.Random(json.dumps(body, sort_keys=True)))


def _grade(body: dict[str, Any]) -> str:
    labels: list[str] = body["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"]
    text = body["messages"][-1]["content"]
    # Wrong now and then, as a grader is.
    wrong = hashlib.sha256(text.encode()).digest()[0] % 8 == 0
    return labels[(labels.index(guess_label(text)) + wrong) % len(labels)]
