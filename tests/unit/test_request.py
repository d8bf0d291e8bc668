"""Requests and their keys, the price list, and the files of answers."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import DataError
from amalgam.llm.request import (
    Price,
    Request,
    bound_answer,
    load_prices,
    override_bodies,
    read_answers,
    sum_answers,
    write_answers,
)
from tests.unit.helpers import PRICES

LIST = """\
date: 2026-01-02
source: a friend
batch: 0.25
models:
  good: {prompt: 2.0, completion: 8}
  good-2025-01-01: {prompt: 1.0, completion: 4.0}
"""


def test_the_key_of_a_request_is_for_ever() -> None:
    # Another key would mean paying for all answers again.
    body = {"messages": [{"role": "user", "content": "Grüße"}], "temperature": 0.7, "seed": 7}
    key = "16ef5a5159eafd8e958c6219c4fe9821633260c55b7e1b5ae7cf0969ca3d9149"
    assert Request("row-7", "sha256:00", body, 7).key == key
    turned = {"seed": 7, "temperature": 0.7, "messages": [{"content": "Grüße", "role": "user"}]}
    assert Request("another row", "sha256:00", turned, 7, "group", ("row",)).key == key


def test_whatever_is_sent_changes_the_key() -> None:
    bodies: list[dict[str, Any]] = [{}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {"a": [{"b": 1}]}]
    requests = [Request("a", model, body, sample) for model in "mn" for body in bodies for sample in (0, 1)]
    assert len({request.key for request in requests}) == len(requests)


def test_fields_are_put_in_and_taken_out() -> None:
    request = Request("a", "m", {"messages": [], "max_tokens": 9, "seed": 1}, 0)
    (other,) = override_bodies([request], {"max_tokens": None, "max_completion_tokens": 99})
    assert other.body == {"messages": [], "seed": 1, "max_completion_tokens": 99}
    assert bound_answer(other) == 99
    assert list(override_bodies([request], {})) == [request]


def test_the_shipped_list_knows_the_common_models() -> None:
    prices = load_prices(PRICES)
    assert prices.date <= datetime.date.today()
    assert prices.find("gpt-4o-mini") == prices.find("gpt-4o-mini-2024-07-18") == Price(0.15, 0.60, 0.5)
    assert prices.find("gpt-4o-2024-05-13") == Price(5.0, 15.0, 0.5)
    for unknown in ("smollm2-135m-instruct", "gpt-4o-audio", "gpt-4o-mini-07-18", ""):
        assert prices.find(unknown) is None


def test_a_price_counts_tokens_of_both_kinds_and_a_dated_name_may_have_its_own(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(LIST)
    prices, price = load_prices(tmp_path / "prices.yaml"), Price(2.0, 8.0, 0.25)
    assert price == prices.find("good") == prices.find("good-2025-01-02")
    assert prices.find("good-2025-01-01") == Price(1.0, 4.0, 0.25)
    assert price.cost(500, 250) == pytest.approx(0.003)
    assert price.cost(500, 250, batch=True) == pytest.approx(0.00075)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (LIST.replace("2.0", "-2.0"), "wrong value at `models.good.prompt`"),
        (LIST.replace("8}", "8, cached: 1}"), "wrong value at `models.good.cached`"),
        ("- a list", "wrong value at `the top level`"),
        ("models: [", "is missing or not valid YAML"),
        (None, "is missing or not valid YAML"),
    ],
)
def test_a_wrong_or_missing_list_is_told(wrong: str | None, words: str, tmp_path: Path) -> None:
    if wrong is not None:
        (tmp_path / "prices.yaml").write_text(wrong)
    with pytest.raises(DataError, match=f"prices.yaml .*{words}"):
        load_prices(tmp_path / "prices.yaml")


def make_lines(*samples: int) -> Iterator[dict[str, Any]]:
    return ({"key": f"{number:064x}", "sample": sample, "text": "é\n"} for number, sample in enumerate(samples))


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_lines_come_back_from_the_file_of_their_slot_and_full_files_stay(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    write_answers(tmp_path, make_lines(0, 0, 999, 1000))
    before = read_files(tmp_path)
    write_answers(tmp_path, make_lines(0, 0, 999, 1000, 1999, 4500))
    assert list(read_answers(tmp_path)) == list(make_lines(0, 0, 999, 1000, 1999, 4500))
    after = read_files(tmp_path)
    assert after["00000.jsonl"] == before["00000.jsonl"]
    assert after["00001.jsonl"].startswith(before["00001.jsonl"])
    assert sorted(after) == ["00000.jsonl", "00001.jsonl", "00004.jsonl", "summary.json"]
    write_answers(tmp_path, make_lines(1500))  # files of an earlier run go
    assert sorted(read_files(tmp_path)) == ["00001.jsonl", "summary.json"]
    write_answers(tmp_path / "none", make_lines())
    assert list(read_answers(tmp_path / "none")) == list(read_answers(tmp_path / "missing")) == []


@pytest.mark.parametrize(("costs", "cost"), [([0.25, 0.5], 0.75), ([0.25, None, 0.5], None), ([], 0.0), ([1e-7], 0.0)])
def test_totals_know_the_cost_only_if_they_know_all_of_it(costs: list[float | None], cost: float | None) -> None:
    lines = [{"prompt_tokens": 10, "completion_tokens": 3, "cost_usd": number} for number in costs]
    tokens = {"prompt_tokens": 10 * len(costs), "completion_tokens": 3 * len(costs)}
    assert sum_answers(lines) == tokens | {"cost_usd": cost}
