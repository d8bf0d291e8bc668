import json
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from bench.stub_endpoint import measure_rate, run_stub

LATENCY = 0.05


def ask(url: str, messages: list[dict[str, str]]) -> dict:
    body = json.dumps({"model": "stub", "messages": messages}).encode()
    with urlopen(Request(f"{url}/chat/completions", body)) as response:
        return json.load(response)


def test_rate_of_a_steady_stream():
    assert measure_rate(array("d", [number / 50 for number in range(500)]), 1.0) == pytest.approx(50)


@pytest.mark.parametrize("trim", [1.0, 1.1, 1.2, 1.3])
def test_rate_of_bursts_does_not_depend_on_where_the_window_ends(trim: float):
    times = array("d", [burst * 0.3 for burst in range(50) for _ in range(64)])
    assert measure_rate(times, trim) == pytest.approx(64 / 0.3)


def test_rate_leaves_out_start_and_end():
    slow = [0.0, 0.5, 0.9]
    steady = [1.0 + number / 100 for number in range(401)]
    assert measure_rate(array("d", [*slow, *steady, 5.5, 6.0]), 1.0) == pytest.approx(100)


@pytest.mark.parametrize("times", [[], [1.0], [0.0, 0.1, 0.2], [0.0, 1.2, 1.3, 2.5]])
def test_no_rate_of_a_run_that_is_too_short(times: list[float]):
    assert measure_rate(array("d", times), 1.0) == 0.0


def test_stub_answers_by_the_request_alone_and_counts():
    hello, bye = ([{"role": "user", "content": text}] for text in ("hello", "bye"))
    with run_stub(LATENCY) as stub:
        start = time.monotonic()
        first, again, other = (ask(stub.url, messages) for messages in (hello, hello, bye))
        assert time.monotonic() - start >= 3 * LATENCY
        assert first == again
        assert first["choices"][0]["message"]["content"] != other["choices"][0]["message"]["content"]
        assert first["choices"][0]["finish_reason"] == "stop"
        usage = first["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > usage["prompt_tokens"] > 0
        assert stub.report()["answered"] == 3
        assert stub.report()["most_in_flight"] == 1

        stub.reset()
        with pytest.raises(HTTPError, match="400"):
            ask(stub.url, [])
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, [stub.url] * 8, [hello] * 8))
        report = stub.report()
        assert report["answered"] == 8
        assert report["most_in_flight"] > 1
        assert LATENCY <= report["seconds"] < 8 * LATENCY
