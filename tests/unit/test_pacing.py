"""How many requests may be in flight, and when the next one may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam.llm.sending.pacing import AdaptiveLimit, Pace

# What happens next: a request is sent, or one of those in flight is answered, pushed back, or fails otherwise.
EVENTS = st.lists(st.tuples(st.sampled_from(["send", "send", "answer", "push back", "fail"]), st.integers(0, 99)))


def run_round_trip(limit: AdaptiveLimit) -> int:
    """Send as much as there is room for, get it all answered; return how much that was."""
    marks = fill(limit)
    for mark in marks:
        limit.grow(mark)
    for _ in marks:
        limit.end()
    return len(marks)


def fill(limit: AdaptiveLimit) -> list[int]:
    marks = []
    while limit.has_room:
        marks.append(limit.start())
    return marks


@given(start=st.integers(-3, 200), most=st.integers(-3, 100), events=EVENTS)
def test_the_limit_stays_between_one_and_the_most(start: int, most: int, events: list[tuple[str, int]]) -> None:
    limit = AdaptiveLimit(start, most)
    marks: list[int] = []
    for event, place in events:
        if event == "send":
            if limit.has_room:
                marks.append(limit.start())
        elif marks:
            mark = marks.pop(place % len(marks))
            before = limit.current
            if event == "answer":
                limit.grow(mark)
                assert before <= limit.current <= before + 1
            elif event == "push back":
                limit.cut(mark)
                assert limit.current <= before
            limit.end()
        assert 1 <= limit.current <= max(most, 1)
        assert limit.in_flight == len(marks)
        assert limit.has_room == (limit.in_flight < limit.current)


@given(st.integers(1, 50), st.integers(1, 200))
def test_it_doubles_with_each_round_trip_at_first(start: int, most: int) -> None:
    limit = AdaptiveLimit(start, most)
    expected = min(start, most)
    for _ in range(9):
        assert run_round_trip(limit) == expected
        expected = min(2 * expected, most)


@given(st.integers(2, 100))
def test_it_is_halved_once_a_burst_and_grows_by_one_a_round_trip_then(start: int) -> None:
    limit = AdaptiveLimit(start, 1000)
    for mark in fill(limit):
        limit.cut(mark)
        limit.end()
    assert limit.current == start // 2
    for trip in range(8):
        assert run_round_trip(limit) == start // 2 + trip


@given(st.integers(1, 100))
def test_what_was_sent_before_a_cut_neither_cuts_nor_grows_it_again(start: int) -> None:
    limit = AdaptiveLimit(start, 1000)
    old = fill(limit)
    limit.cut(old[0])
    after = limit.current
    for number, mark in enumerate(old[1:]):
        (limit.grow if number % 2 else limit.cut)(mark)
        assert limit.current == after


def test_push_backs_one_after_the_other_halve_it_down_to_one() -> None:
    limit = AdaptiveLimit(64, 64)
    seen = []
    for _ in range(8):
        seen.append(limit.current)
        for mark in fill(limit):
            limit.cut(mark)
            limit.end()
    assert seen == [64, 32, 16, 8, 4, 2, 1, 1]


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    limit = AdaptiveLimit(10, 100)
    for _ in range(50):
        limit.grow(limit.start())
        limit.end()
    assert limit.current == 10


def test_a_cut_counts_from_what_was_really_in_flight() -> None:
    limit = AdaptiveLimit(64, 64)
    marks = [limit.start() for _ in range(10)]
    limit.cut(marks[0])
    assert limit.current == 5


@given(
    requests=st.floats(1, 1e5),
    tokens=st.floats(1, 1e7),
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=60),
    lateness=st.lists(st.floats(0, 5), min_size=60, max_size=60),
)
def test_no_minute_holds_more_than_allowed(
    requests: float, tokens: float, sizes: list[int], lateness: list[float]
) -> None:
    pace, now, sent = Pace(requests, tokens), 1000.0, []
    for size, late in zip(sizes, lateness, strict=False):
        now += pace.find_delay(now) + late
        assert pace.find_delay(now) == pytest.approx(0, abs=1e-6)
        pace.spend(now, size)
        sent.append((now, size))
    for place, (start, _) in enumerate(sent):
        minute = [size for time, size in sent[place:] if time < start + 60 - 1e-6]
        assert len(minute) <= requests + 1
        # The last one may begin before it is paid for, which evens out after it.
        assert sum(minute[:-1]) <= tokens + 1e-3


def test_requests_are_spaced_evenly_from_the_start() -> None:
    pace, now, times = Pace(120, None), 50.0, []
    for _ in range(4):
        now += pace.find_delay(now)
        times.append(now)
        pace.spend(now, 10**9)
    assert times == [50.0, 50.5, 51.0, 51.5]


def test_tokens_that_were_guessed_wrong_are_made_up_for() -> None:
    pace = Pace(None, 600)  # ten a second
    pace.spend(0.0, 100)
    assert pace.find_delay(0.0) == 10
    pace.correct(-60)
    assert pace.find_delay(0.0) == 4
    pace.correct(20)
    assert pace.find_delay(1.0) == 5


def test_without_limits_nothing_waits() -> None:
    pace = Pace(None, None)
    assert not pace.counts_tokens
    for _ in range(5):
        pace.spend(0.0, 10**9)
        assert pace.find_delay(0.0) == 0
