"""What the servers of the tests share: an address on this machine, threads, and replies in JSON."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


def build_reply(
    body: dict[str, Any], choices: list[dict[str, Any]], prompt_tokens: int, completion_tokens: int
) -> dict[str, Any]:
    """Build a chat endpoint's reply to a request."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    usage["total_tokens"] = prompt_tokens + completion_tokens
    known = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": body["model"]}
    return known | {"choices": choices, "usage": usage}


class LocalServer(ThreadingHTTPServer):
    """Serves in its own threads, from `start` until it is closed, which `with` does."""

    request_queue_size = 1024
    daemon_threads = True
    block_on_close = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def start(self) -> None:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def server_close(self) -> None:
        self.shutdown()
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a client disconnects midway."""


class JsonHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet an answer: header and body in two would wait for each other's acknowledgement. It leaves when
    # `do_POST` has returned, so that a request is counted out before its client can send the next one.
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def key(self) -> str:
        return self.headers.get("Authorization") or self.headers.get("api-key") or ""

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def begin_reply(self, status: int, content: Any, retry_after: float | None = None) -> bytes:
        """Send the head of a reply; return its body, which is still to be written."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        name, wait = ("Retry-After-Ms", 1.0) if retry_after is None else ("Retry-After", retry_after)
        self.send_header(name, f"{wait:g}")
        self.end_headers()
        return data
