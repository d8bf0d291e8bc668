"""A small server of OpenAI's Batch API: real HTTP, real files, and a count of what is paid."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from threading import Event, Lock
from typing import Any

from tests.pipeline.local import JsonHandler, LocalServer, build_reply

Complete = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


def complete_plainly(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Answer a chat request with "re " and its last message; 10 prompt and 2 completion tokens."""
    message = {"role": "assistant", "content": f"re {body['messages'][-1]['content']}"}
    return 200, build_reply(body, [{"index": 0, "message": message, "finish_reason": "stop"}], 10, 2)


@dataclass
class Job:
    """A batch at the server: what clients see of it, its requests, and after how many looks it ends."""

    view: dict[str, Any]
    lines: list[dict[str, Any]]
    looks_needed: int
    looks: int = 0


@dataclass
class Pause:
    """A point at which the server stops: `reached` is set once it did, `release` lets it continue."""

    point: str
    after: int = 0  # times that the point is passed first
    reached: Event = field(default_factory=Event)
    release: Event = field(default_factory=Event)


class BatchServer(LocalServer):
    """Serves files and batches; a kind of call is `upload`, `create`, `look`, `list` or `content`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.complete: Complete = complete_plainly  # answers one request with the status and the body
        self.looks = 1  # looks at a batch that is made now before it ends
        self.ending = "completed"  # or `expired` or `cancelled`; then only every second request is answered
        self.queue = 10**9  # requests that all running batches may hold; a batch beyond that fails as OpenAI's do
        self.invalid = ""  # why batches fail as a whole
        # By kind of call, the status of the next replies; 0 and 1 drop the connection: before the reply, though the
        # work is done, or in the middle of it.
        self.faults: dict[str, list[int]] = {}
        # Where to stop, so that a client can be killed there: `before`, `after` (the work) or `within` (the reply).
        self.pause: Pause | None = None
        self.paid: Counter[str] = Counter()  # by `custom_id`
        self.calls: Counter[str] = Counter()  # by kind
        self.uploads: dict[str, bytes] = {}
        self.keys: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.lock = Lock()
        self.start()

    def reach(self, point: str) -> None:
        """Stop here if this is the point to stop at."""
        pause = self.pause
        if pause and pause.point == point:
            if pause.after:
                pause.after -= 1
                return
            pause.reached.set()
            pause.release.wait(30)

    def take_file(self, name: str, content: bytes) -> dict[str, Any]:
        file = f"file-{len(self.files)}"
        self.files[file] = self.uploads[name] = content
        return self.describe_file(file)

    def describe_file(self, file: str) -> dict[str, Any]:
        known = {"object": "file", "created_at": 1, "purpose": "batch", "filename": "x.jsonl", "status": "processed"}
        return known | {"id": file, "bytes": len(self.files[file])}

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Make a batch of an uploaded file, or a failed one if the queue does not allow it."""
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        running = sum(len(job.lines) for job in self.jobs.values() if job.view["status"] == "in_progress")
        view = {
            **{name: asked[name] for name in ("input_file_id", "endpoint", "completion_window")},
            "id": f"batch_{len(self.jobs)}",
            "object": "batch",
            "created_at": 1,
            "status": "in_progress",
            "metadata": asked.get("metadata"),
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }
        self.jobs[view["id"]] = Job(view, lines, self.looks)
        assert all(line["url"] == asked["endpoint"] for line in lines)
        if self.invalid or running + len(lines) > self.queue:
            code = "invalid" if self.invalid else "token_limit_exceeded"
            message = self.invalid or f"Enqueued token limit reached. Limit: {self.queue}."
            fault = {"code": code, "message": message, "line": None, "param": None}
            view |= {"status": "failed", "errors": {"object": "list", "data": [fault]}}
        return view

    def look(self, name: str) -> dict[str, Any]:
        job = self.jobs[name]
        job.looks += 1
        if job.view["status"] == "in_progress":
            done = min(job.looks - 1, job.looks_needed)
            job.view["request_counts"]["completed"] = len(job.lines) * done // max(job.looks_needed, 1)
            if done == job.looks_needed:
                self.end(name)
        return job.view

    def end(self, name: str) -> None:
        """Answer a batch's requests, all or every second one, and write its files."""
        job, good, bad = self.jobs[name], [], []
        job.view["status"] = self.ending
        for number, line in enumerate(job.lines):
            head = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "response": None, "error": None}
            if self.ending != "completed" and number % 2:
                bad.append(head | {"error": {"code": f"batch_{self.ending}", "message": f"It was {self.ending}."}})
                continue
            status, body = self.complete(line["body"])
            if status == 200:
                self.paid[line["custom_id"]] += 1
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            (good if status == 200 else bad).append(head | {"response": response})
        # The answers are not in the order of the requests.
        for field_name, part in (("output_file_id", good[::-1]), ("error_file_id", bad)):
            if part:
                file = job.view[field_name] = f"file-{len(self.files)}"
                self.files[file] = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in part).encode()
        job.view["request_counts"] |= {"completed": len(good), "failed": len(bad)}

    def list_page(self, after: str = "", limit: str = "20") -> dict[str, Any]:
        """Return a page of the batches, the newest first."""
        names = list(self.jobs)[::-1]
        start = names.index(after) + 1 if after else 0
        end = start + int(limit)
        views = [self.jobs[name].view for name in names[start:end]]
        return {"object": "list", "data": views, "has_more": end < len(names)}


class _Handler(JsonHandler):
    """Answers as OpenAI does below /v1, and as Azure does below /openai."""

    server: BatchServer

    def do_GET(self) -> None:  # noqa: N802
        server, (kind, *names), asked = self.server, *self._split_path()
        if kind == "batches" and names:
            self._answer("look", lambda: server.look(names[0]))
        elif kind == "batches":
            self._answer("list", lambda: server.list_page(**asked))
        elif names[1:] == ["content"]:
            self._answer("content", lambda: server.files[names[0]])
        else:
            self._answer("file", lambda: server.describe_file(names[0]))

    def do_POST(self) -> None:  # noqa: N802
        content = self.read()
        if self._split_path()[0] == ["batches"]:
            self._answer("create", lambda: self.server.create(json.loads(content)))
            return
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message: Any = BytesParser(policy=HTTP).parsebytes(head + content)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        assert parts["purpose"].get_payload(decode=True) == b"batch"
        file = parts["file"]
        self._answer("upload", lambda: self.server.take_file(file.get_filename(), file.get_payload(decode=True)))

    def _split_path(self) -> tuple[list[str], dict[str, str]]:
        path, _, query = self.path.partition("?")
        asked = dict(part.split("=") for part in query.split("&") if part)
        assert bool(asked.pop("api-version", "")) == path.startswith("/openai/")
        return path.split("/")[2:], asked

    def _answer(self, what: str, work: Callable[[], Any]) -> None:
        server = self.server
        server.keys.add(self.key)
        server.calls[what] += 1
        server.reach(f"before {what}")
        fault = server.faults[what].pop(0) if server.faults.get(what) else 200
        if fault >= 400:
            self._reply(fault, {"error": {"message": f"no {what} today"}})
            return
        try:
            with server.lock:
                done = work()
        except KeyError as error:
            self._reply(404, {"error": {"message": f"there is no {error.args[0]}"}})
            return
        server.reach(f"after {what}")
        if fault:
            self._reply(200, done, what, whole=fault == 200)
        else:
            self.close_connection = True

    def _reply(self, status: int, content: Any, what: str = "", *, whole: bool = True) -> None:
        data = self.begin_reply(status, content)
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        self.server.reach(f"within {what}")
        if whole:
            self.wfile.write(data[half:])
        else:
            self.close_connection = True
