from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import DataError
from amalgam.files import read_json
from amalgam.llm.request import Answer, Request
from amalgam.synthesis.completions import build_lines, iterate_responses, read_completions, write_completions

ANSWER = Answer("fine\n\nindeed", "stop", 3, 2, 0.25)


def make_asked(
    slots: int, answer: Answer = ANSWER, **prompt: Any
) -> Iterator[tuple[dict[str, Any], int, Request, Answer]]:
    for slot in range(slots):
        for label in ("bad", "good"):
            asked = {"id": f"{label}-{slot:05d}", "label": label, "sample": slot, "question": "", "shots": ["h1", "h2"]}
            asked |= {"attributes": {"length": "short"}, "responses": 1, "format": "text", "messages": []} | prompt
            yield asked, 0, Request(asked["id"], "m", {"messages": [label]}, slot), answer


def write(folder: Path, slots: int) -> None:
    write_completions(folder, build_lines(make_asked(slots)))


def test_completions_come_back_in_order_and_whole(tmp_path: Path) -> None:
    write(tmp_path, 3)
    lines = list(read_completions(tmp_path))
    assert [line["id"] for line in lines] == [prompt["id"] for prompt, *_ in make_asked(3)]
    assert lines[0] == {
        "key": next(make_asked(1))[2].key,
        **{"id": "bad-00000", "attempt": 0, "label": "bad", "sample": 0, "question": "", "shots": ["h1", "h2"]},
        **{"attributes": {"length": "short"}, "responses": 1, "format": "text"},
        **{"text": "fine\n\nindeed", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 2},
        "cost_usd": 0.25,
    }
    assert read_json(tmp_path / "summary.json") == {
        **{"answers": 6, "asked_again": 0, "usable": {"bad": 3, "good": 3}, "faults": {}},
        **{"prompt_tokens": 18, "completion_tokens": 12, "cost_usd": 1.5},
    }


def test_full_shards_stay_when_rows_grow(tmp_path: Path) -> None:
    write(tmp_path / "few", 1001)
    write(tmp_path / "many", 1500)
    first, second = (
        [(tmp_path / size / f"0000{number}.jsonl").read_bytes() for size in ("few", "many")] for number in (0, 1)
    )
    assert first[0] == first[1]
    assert second[1].startswith(second[0])


def test_a_missing_shard_gives_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, 1001)
    (tmp_path / "00001.jsonl").unlink()
    with pytest.raises(DataError, match="holds 2000 of 2002 answers: run `dvc checkout` or `dvc repro synthesize`"):
        list(read_completions(tmp_path))
    with pytest.raises(DataError, match=r"summary\.json is missing"):
        list(read_completions(tmp_path / "none"))


def test_an_answer_of_several_lines_is_as_many_responses() -> None:
    asked = list(make_asked(1, Answer("1. first\n2. second", "stop", 3, 2), responses=3, format="lines"))
    responses = list(iterate_responses(build_lines(asked)))
    assert [(one["id"], one["text"], one["fault"]) for one in responses[:2]] == [
        ("bad-00000-1", "first", ""),
        ("bad-00000-2", "second", ""),
    ]
    assert len(responses) == 4


def test_an_answer_of_no_use_is_one_response_with_its_fault() -> None:
    asked = list(make_asked(1, Answer("half a sen", "length", 3, 2), responses=1))
    (first, _) = iterate_responses(build_lines(asked))
    assert first == {
        **{"id": "bad-00000", "label": "bad", "sample": 0, "question": "", "shots": "h1 h2"},
        **{"text": "half a sen", "fault": "cut_off"},
    }


def test_one_unknown_price_makes_the_sum_unknown(tmp_path: Path) -> None:
    asked = [*make_asked(1), *make_asked(1, Answer("fine", "stop", 1, 1, None))]
    write_completions(tmp_path, build_lines(asked))
    assert read_json(tmp_path / "summary.json")["cost_usd"] is None
