"""An OpenAI-compatible endpoint with a fixed latency and almost no work of its own, in its own process.

Run `python bench/stub_endpoint.py --latency 0.3`: it prints its base URL and serves until it is stopped. It answers
`POST …/chat/completions` from the bytes of the request only, so equal requests get equal answers. It counts its
answers: `GET …/report` returns the counts as JSON, and `POST …/reset` resets them.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import linear_regression
from urllib.request import Request, urlopen

_TRIM = 1.0  # seconds at the start and at the end that are not steady state
_PHRASES = (
    "I bought this phone, My camera came, The player was a present, We ordered two of them, It replaced an older one, "
    "My brother has the same model, I read many reviews first, It took a while to arrive",
    "last spring, a month ago, for a long trip, before the holidays, on a whim, at full price, for my work, as a spare",
    "and the battery lasts two days, and the screen scratches at once, and the menus are easy to learn, "
    "and the buttons feel cheap, and the pictures are sharp, and the sound is thin, and the manual says nothing, "
    "and the case is solid",
    "so I would buy it again, so it goes back to the shop, which nobody told me before, as everybody at home says, "
    "although the price is fair, after the second week of use, and the service was no help, which is all that I need",
)
_CHOICES = tuple(tuple(phrase.split(", ")) for phrase in _PHRASES)


@dataclass
class Log:
    """When requests arrived and were answered since the last reset, in seconds of a clock."""

    arrived: "array[float]" = field(default_factory=lambda: array("d"))
    answered: "array[float]" = field(default_factory=lambda: array("d"))
    in_flight: int = 0
    most_in_flight: int = 0

    def reset(self) -> None:
        """Forget everything except the requests in flight."""
        self.arrived, self.answered, self.most_in_flight = array("d"), array("d"), self.in_flight

    def summarise(self) -> dict[str, float]:
        """Return the counts, and requests a second in steady state and over the whole run."""
        seconds = self.answered[-1] - self.arrived[0] if self.answered else 0.0
        return {
            "answered": len(self.answered),
            "seconds": seconds,
            "rate": len(self.answered) / seconds if seconds else 0.0,
            "steady_rate": measure_rate(self.answered, _TRIM),
            "most_in_flight": self.most_in_flight,
        }


@dataclass(frozen=True)
class Stub:
    """A running stub endpoint."""

    url: str

    def reset(self) -> None:
        """Reset the counts."""
        with urlopen(Request(f"{self.url}/reset", method="POST")) as response:
            response.read()

    def report(self) -> dict[str, float]:
        """Return the counts since the last reset."""
        with urlopen(f"{self.url}/report") as response:
            report: dict[str, float] = json.load(response)
            return report


def measure_rate(times: "array[float]", trim: float) -> float:
    """Return events a second, without the first and the last `trim` seconds; 0 where less than `trim` is left.

    It is the slope of the count over time. Requests that start together are answered together, in bursts; the count
    in a window would then depend on whether one more burst falls into it.
    """
    kept = [moment for moment in times if times[0] + trim <= moment <= times[-1] - trim]
    return linear_regression(kept, range(len(kept))).slope if kept and kept[-1] - kept[0] > trim else 0.0


def write_answer(body: bytes) -> bytes:
    """Write the HTTP response to a chat request: a sentence chosen by its bytes, and plausible usage."""
    draw = zlib.crc32(body)
    text = " ".join(choices[draw >> (3 * place) & 7] for place, choices in enumerate(_CHOICES))
    prompt, completion = len(body) // 4, len(text) // 4
    content = (
        f'{{"id":"chatcmpl-{draw:08x}","object":"chat.completion","created":0,"model":"stub","choices":[{{"index":0,'
        f'"message":{{"role":"assistant","content":"{text} ({draw:08x}).","refusal":null}},"logprobs":null,'
        f'"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},'
        f'"total_tokens":{prompt + completion}}}}}'
    )
    return _frame(content.encode())


@contextmanager
def run_stub(latency: float) -> Iterator[Stub]:
    """Serve in a separate process until the block ends."""
    command = [sys.executable, __file__, "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Stub(process.stdout.readline().strip())
        finally:
            process.terminate()


class _Connection(asyncio.Protocol):
    """One kept-alive connection: HTTP/1.1 as far as clients of an API use it."""

    def __init__(self, log: Log, latency: float) -> None:
        self._log, self._latency, self._buffer = log, latency, b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, _, length = head.partition(b"\r\ncontent-length:")
            stop = end + 4 + int(length.split(b"\r\n", 1)[0] or 0)
            if len(self._buffer) < stop:
                return
            body, self._buffer = self._buffer[end + 4 : stop], self._buffer[stop:]
            self._handle(head.split(b" ", 2)[1], body)

    def _handle(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/chat/completions"):
            self._take(body)
        elif path.endswith(b"/report"):
            self._transport.write(_frame(json.dumps(self._log.summarise()).encode()))
        elif path.endswith(b"/reset"):
            self._log.reset()
            self._transport.write(_frame(b"{}"))
        else:
            self._transport.write(_frame(b'{"error":{"message":"there is no such path"}}', b"404 Not Found"))

    def _take(self, body: bytes) -> None:
        if b'"messages":[]' in body or b'"messages": []' in body:  # what some clients send to read the headers
            self._transport.write(_frame(b'{"error":{"message":"messages is empty"}}', b"400 Bad Request"))
            return
        self._log.arrived.append(time.monotonic())
        self._log.in_flight += 1
        self._log.most_in_flight = max(self._log.most_in_flight, self._log.in_flight)
        asyncio.get_running_loop().call_later(self._latency, self._answer, body)

    def _answer(self, body: bytes) -> None:
        self._log.in_flight -= 1
        self._log.answered.append(time.monotonic())
        self._transport.write(write_answer(body))


def _frame(content: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(content))
    return head + content


async def _serve(latency: float) -> None:
    log = Log()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(log, latency), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds from a request to its answer")
    asyncio.run(_serve(parser.parse_args().latency))
