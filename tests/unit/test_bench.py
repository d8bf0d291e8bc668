import json
from array import array
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

import numpy as np
import pytest

from amalgam.evaluation.bootstrap import Estimate, find_interval, find_p_value, subtract
from bench.differences import measure_gain
from bench.stub_endpoint import measure_rate, run_stub

LATENCY = 0.05
STEADY = [1.0 + number / 100 for number in range(401)]
BURSTS = [burst * 0.3 for burst in range(50) for _ in range(64)]


@pytest.mark.parametrize(
    ("times", "trim", "rate"),
    [
        ([0.0, 0.5, 0.9, *STEADY, 5.5, 6.0], 1.0, 100),  # start and end are left out
        *((BURSTS, trim, 64 / 0.3) for trim in (1.0, 1.2)),  # it does not matter where the window ends
        *((times, 1.0, 0) for times in ([], [0.0, 1.2, 1.3, 2.5])),  # too short
    ],
)
def test_a_rate_is_that_of_the_middle(times: list[float], trim: float, rate: float):
    assert measure_rate(array("d", times), trim) == pytest.approx(rate)


def ask(url: str, messages: list[dict[str, str]]) -> dict:
    body = json.dumps({"model": "stub", "messages": messages}).encode()
    with urlopen(Request(f"{url}/chat/completions", body)) as response:
        return json.load(response)


def test_stub_answers_by_the_request_alone_and_counts():
    hello, bye = ([{"role": "user", "content": text}] for text in ("hello", "bye"))
    with run_stub(LATENCY) as stub:
        first, again, other = (ask(stub.url, messages) for messages in (hello, hello, bye))
        assert first == again
        assert first["choices"][0]["message"]["content"] != other["choices"][0]["message"]["content"]
        assert (stub.report()["answered"], stub.report()["most_in_flight"]) == (3, 1)
        stub.reset()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, [stub.url] * 8, [hello] * 8))
        report = stub.report()
        assert (report["answered"], report["most_in_flight"] > 1) == (8, True)
        assert LATENCY <= report["seconds"] < 8 * LATENCY


def make_estimate(points: list[float], rows: float = 0.01) -> Estimate:
    """Make the AUC of some seeds, each of which follows the same test rows over the resamples."""
    drawn = np.random.default_rng(0).normal(0, rows, (400, 1))
    return Estimate(np.array(points), np.array(points) + drawn, 500, (0.0, 1.0))


@pytest.mark.parametrize("other", [[0.80, 0.83, 0.79], [0.81]])
def test_a_gain_is_paired_by_seed_where_it_can_be(other: list[float]):
    first, second = make_estimate([0.85, 0.86, 0.84], 0.02), make_estimate(other)
    change, gain = subtract(first, second), measure_gain(first, second, 0.95)
    found = (gain.value, gain.low, gain.high, gain.p)
    assert found == (change.value, *find_interval(change, 0.95), find_p_value(change))


def test_a_gain_over_another_number_of_seeds_is_welchs():
    from scipy.stats import ttest_ind

    own, other = [0.85, 0.86, 0.84], [0.79, 0.80]
    gain = measure_gain(make_estimate(own), make_estimate(other), 0.95)  # rows that affect both alike cancel out
    welch = ttest_ind(own, other, equal_var=False)
    assert gain.p == pytest.approx(welch.pvalue)
    assert (gain.low, gain.high) == pytest.approx(tuple(welch.confidence_interval(0.95)))
    wider = measure_gain(make_estimate(own, 0.03), make_estimate(other), 0.95)
    assert wider.high - wider.low > gain.high - gain.low
