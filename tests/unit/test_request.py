import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.llm.request import Request, bound_answer, override_bodies, read_answers, sum_answers, write_answers

LEAF = st.text(max_size=5) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
BODY = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        LEAF, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part, max_size=3)
    ),
    max_size=4,
)


def turn_around(value: Any) -> Any:
    """Reverse the order of every dict in a value."""
    if isinstance(value, dict):
        return {name: turn_around(value[name]) for name in reversed(value)}
    return [turn_around(part) for part in value] if isinstance(value, list) else value


def make_request(messages: list[dict[str, str]], sample: int = 0, model: str = "m", **params: Any) -> Request:
    return Request(f"row-{sample}", model, {"messages": messages, **params}, sample)


@given(BODY, st.integers(0, 9))
def test_neither_the_order_of_keys_nor_the_row_changes_the_key(body: dict[str, Any], sample: int) -> None:
    assert Request("a", "m", body, sample).key == Request("b", "m", turn_around(copy.deepcopy(body)), sample).key


@given(BODY, st.text(max_size=5), LEAF)
def test_whatever_is_sent_changes_the_key(body: dict[str, Any], name: str, value: Any) -> None:
    request = Request("a", "m", body, 0)
    changed = Request("a", "m", body | {name: value}, 0)
    assert (changed.key == request.key) == (name in body and repr(body[name]) == repr(value))
    assert len({request.key, Request("a", "n", body, 0).key, Request("a", "m", body, 1).key}) == 3


def test_the_key_of_a_request_is_for_ever() -> None:
    # Another key would mean paying for all answers again.
    request = make_request([{"role": "user", "content": "Grüße"}], 7, "sha256:00", temperature=0.7, seed=7)
    assert request.key == "16ef5a5159eafd8e958c6219c4fe9821633260c55b7e1b5ae7cf0969ca3d9149"


def test_fields_are_put_in_and_taken_out() -> None:
    request = Request("a", "m", {"messages": [], "max_tokens": 9, "seed": 1}, 0)
    (other,) = override_bodies([request], {"max_tokens": None, "max_completion_tokens": 99})
    assert other.body == {"messages": [], "seed": 1, "max_completion_tokens": 99}
    assert other.key != request.key
    assert bound_answer(other) == 99
    assert list(override_bodies([request], {})) == [request]


def make_lines(*samples: int) -> Iterator[dict[str, Any]]:
    return ({"key": f"{number:064x}", "sample": sample, "text": "é\n"} for number, sample in enumerate(samples))


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4500), max_size=40).map(sorted))
def test_lines_come_back_in_order_from_the_file_of_their_slot(
    tmp_path_factory: pytest.TempPathFactory, samples: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("answers")
    write_answers(folder, make_lines(*samples))
    assert list(read_answers(folder)) == list(make_lines(*samples))
    assert list_files(folder) == sorted({f"{sample // 1000:05d}.jsonl" for sample in samples})


def test_files_that_are_full_stay_and_files_of_an_earlier_run_go(tmp_path: Path) -> None:
    write_answers(tmp_path, make_lines(0, 0, 999, 1000))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_answers(tmp_path, make_lines(0, 0, 999, 1000, 1999, 2000))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after["00000.jsonl"] == before["00000.jsonl"]
    assert after["00001.jsonl"].startswith(before["00001.jsonl"])
    assert sorted(after) == ["00000.jsonl", "00001.jsonl", "00002.jsonl"]
    (tmp_path / "summary.json").write_text("{}")
    write_answers(tmp_path, make_lines(1500))
    assert list_files(tmp_path) == ["00001.jsonl", "summary.json"]
    write_answers(tmp_path / "none", make_lines())
    assert list(read_answers(tmp_path / "none")) == list(read_answers(tmp_path / "missing")) == []


@pytest.mark.parametrize(("costs", "cost"), [([0.25, 0.5], 0.75), ([0.25, None, 0.5], None), ([], 0.0), ([1e-7], 0.0)])
def test_totals_know_the_cost_only_if_they_know_all_of_it(costs: list[float | None], cost: float | None) -> None:
    lines = [{"prompt_tokens": 10, "completion_tokens": 3, "cost_usd": number} for number in costs]
    assert sum_answers(lines) == {
        "prompt_tokens": 10 * len(costs),
        "completion_tokens": 3 * len(costs),
        "cost_usd": cost,
    }
