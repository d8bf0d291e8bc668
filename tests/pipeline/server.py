"""A small OpenAI-compatible server: real HTTP, answers that depend only on the request, faults on demand."""

import hashlib
import json
import random
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from tests.pipeline.local import JsonHandler, LocalServer, build_reply
from tests.pipeline.toy import LABELS, guess_label, write_comment

BROKEN_JSON = b'{"id": "chatcmpl-0", "choices": [{"index": 0, "mess'
_PATH = re.compile(r"/v1/chat/completions|/openai/deployments/[^/?]+/chat/completions\?api-version=[^&]+")


@dataclass(frozen=True)
class Received:
    """A request as received; `authorization` is its key, from either header, and `time` a clock time in seconds."""

    body: dict[str, Any]
    authorization: str
    path: str = "/v1/chat/completions"
    time: float = 0.0

    @property
    def kind(self) -> str:
        if "label" in _list_properties(self.body):
            return "grading"
        return "labelling" if wants_letter(self.body) else "synthesis"

    @property
    def text(self) -> str:
        """The whole request, as canonical JSON."""
        return json.dumps(self.body, sort_keys=True)


@dataclass
class Fault:
    """What the server does instead of answering."""

    status: int  # 0 drops the connection without a reply
    message: str = "the server has a bad day"
    after: int = 0  # requests that are answered first
    times: int = 10**9  # requests that fail then
    retry_after: float | None = None  # seconds, in the header; None asks for almost no wait
    body: bytes | None = None  # instead of the error
    is_cut: bool = False  # the reply is an answer whose second half never arrives


@dataclass
class Log:
    """What happened since the last reset; `most_at_once` counts requests that were neither answered nor failed."""

    answered: list[Received] = field(default_factory=list)
    failed: list[Received] = field(default_factory=list)
    most_at_once: int = 0

    def count(self, kind: str) -> int:
        return sum(request.kind == kind for request in self.answered)

    synthesis = property(lambda self: self.count("synthesis"))
    grading = property(lambda self: self.count("grading"))
    labelling = property(lambda self: self.count("labelling"))

    @property
    def arrived(self) -> list[Received]:
        return sorted(self.answered + self.failed, key=lambda request: request.time)

    @property
    def answered_twice(self) -> int:
        """How many requests were answered again though nothing in them had changed."""
        return sum(count - 1 for count in Counter(request.text for request in self.answered).values())


class StubServer(LocalServer):
    """Serves chat completions, at OpenAI's paths and at Azure's."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = Lock()
        self._at_once = 0
        self.reset()
        self.start()

    def reset(self) -> None:
        """Forget all requests, and answer everything from now on."""
        self.log = Log()
        self.fault: Fault | None = None
        # By sampling seed, how the synthesis requests with this seed end: `length`, `empty`, `refusal`, `filter` (a
        # finish_reason) or `no_choice`.
        self.spoilt: dict[int, str] = {}
        self.delay = 0.0  # seconds that an answer takes
        self.capacity = 10**9  # requests at once; those beyond it get status 429

    def enter(self) -> bool:
        """Count a request in; return whether there is room for it."""
        with self._lock:
            self._at_once += 1
            self.log.most_at_once = max(self.log.most_at_once, self._at_once)
            return self._at_once <= self.capacity

    def leave(self) -> None:
        """Count a request out."""
        with self._lock:
            self._at_once -= 1

    def take(self, request: Received, *, has_room: bool = True) -> Fault | None:
        """Log a request; return the fault that it meets, or None if it is to be answered."""
        with self._lock:
            fault = self.fault
            if not has_room:
                fault = Fault(429, "too many requests at once")
            elif not (fault and fault.times and len(self.log.answered) >= fault.after):
                fault = None
            if fault:
                fault.times -= 1
            (self.log.failed if fault else self.log.answered).append(request)
            return fault

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a request; a server that does more may override it."""
        return complete_chat(body, self.spoilt.get(body.get("seed", -1), ""))


class _Handler(JsonHandler):
    server: StubServer

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.read())
        request = Received(body, self.key, self.path, time.monotonic())
        has_room = self.server.enter()
        try:
            if not _PATH.fullmatch(self.path):
                self._reply(404, {"error": {"message": f"there is no {self.path}"}})
                return
            if has_room:
                time.sleep(self.server.delay)
            fault = self.server.take(request, has_room=has_room)
            if not fault:
                self._reply(200, self.server.complete(body))
            elif fault.status:
                content = complete_chat(body, "") if fault.is_cut else {"error": {"message": fault.message}}
                self._reply(fault.status, fault.body or content, retry_after=fault.retry_after, is_cut=fault.is_cut)
            else:
                self._drop()
        finally:
            self.server.leave()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _reply(self, status: int, content: Any, *, retry_after: float | None = None, is_cut: bool = False) -> None:
        data = self.begin_reply(status, content, retry_after)
        self.wfile.write(data[: len(data) // 2] if is_cut else data)
        if is_cut:
            self.wfile.flush()
            self._drop()


def complete_chat(body: dict[str, Any], fault: str) -> dict[str, Any]:
    """Build a chat completion whose content depends only on the request; `fault` is one of a server's `spoilt`."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    properties = _list_properties(body)
    if "label" in properties:
        message["content"] = json.dumps(dict.fromkeys(properties, "It says so.") | {"label": _grade(body)})
    elif wants_letter(body):
        message["content"] = "AB"[LABELS.index(guess_label(body["messages"][-1]["content"]))]
    elif fault == "refusal":
        message |= {"content": None, "refusal": "I will not write this."}
    elif fault != "empty":
        message["content"] = _write(body, random.Random(json.dumps(body, sort_keys=True)))
    reason = {"length": "length", "filter": "content_filter"}.get(fault, "stop")
    choices = [{"index": 0, "message": message, "finish_reason": reason}]
    if body.get("logprobs"):
        likely = [
            {"token": token, "logprob": -0.3 if token.strip() == message["content"] else -1.6} for token in ("A", " B")
        ]
        choices[0]["logprobs"] = {"content": [{"token": message["content"], "logprob": -0.3, "top_logprobs": likely}]}
    tokens = sum(len(turn["content"].split()) for turn in body["messages"])
    return build_reply(body, [] if fault == "no_choice" else choices, tokens, 9)


def wants_letter(body: dict[str, Any]) -> bool:
    """Return whether the request asks for a label by its letter."""
    return str(body["messages"][0]["content"]).endswith("Answer with the letter of the label and nothing else.")


def _list_properties(body: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    properties: dict[str, Any] = schema.get("properties", {})
    return properties


def _write(body: dict[str, Any], draw: random.Random) -> str:
    """Write comments in the requested form: as many lines as the last turn asks for, or what the schema requires."""
    turns = [turn["content"] for turn in body["messages"] if turn["role"] == "user"]
    match = re.search(r'(?:that is |labelled ")(\w+)[:."]', turns[0])
    assert match, turns[0]
    label = match[1]
    if properties := _list_properties(body):
        return json.dumps({name: write_comment(label, draw) for name in properties})
    wanted = re.search(r"(?:Write|Draft) (\d+)", turns[-1])
    return "\n".join(write_comment(label, draw) for _ in range(int(wanted[1]) if wanted else 1))


def _grade(body: dict[str, Any]) -> str:
    labels: list[str] = _list_properties(body)["label"]["enum"]
    text = body["messages"][-1]["content"]
    # Wrong now and then, like a grader.
    wrong = hashlib.sha256(text.encode()).digest()[0] % 8 == 0
    return labels[(labels.index(guess_label(text)) + wrong) % len(labels)]
