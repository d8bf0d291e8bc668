from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import DataError
from amalgam.llm.request import Answer
from amalgam.params import Synthesis
from amalgam.synthesis.completions import build_requests, read_completions, write_completions

PARAMS = Synthesis(rows=2, temperature=0.7, top_p=0.9, max_tokens=50)
ANSWER = Answer("fine\n\nindeed", "stop", 3, 2)


def make_prompts(samples: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{label}-{sample}", "label": label, "sample": sample, "question": "", "shots": [], "messages": [label]}
        for sample in range(samples)
        for label in ("bad", "good")
    ]


def write(folder: Path, samples: int) -> None:
    prompts = make_prompts(samples)
    write_completions(folder, prompts, build_requests(prompts, "m", PARAMS), [ANSWER] * len(prompts))


def test_a_request_holds_what_decides_its_answer_and_no_more() -> None:
    request = build_requests(make_prompts(2), "m", PARAMS)[2]
    assert (request.id, request.model, request.sample) == ("bad-1", "m", 1)
    assert request.body == {"messages": ["bad"], "temperature": 0.7, "top_p": 0.9, "max_tokens": 50, "seed": 1}


def test_more_rows_leave_the_requests_as_they_are() -> None:
    few, many = (build_requests(make_prompts(n), "m", PARAMS.model_copy(update={"rows": n})) for n in (2, 5))
    assert [request.key for request in many[:4]] == [request.key for request in few]
    assert len({request.key for request in many}) == 10


def test_completions_come_back_in_order(tmp_path: Path) -> None:
    write(tmp_path, 3)
    lines = read_completions(tmp_path, 6)
    assert [line["id"] for line in lines] == [prompt["id"] for prompt in make_prompts(3)]
    assert lines[0] == {
        "key": build_requests(make_prompts(1), "m", PARAMS)[0].key,
        **{"id": "bad-0", "label": "bad", "sample": 0, "question": ""},
        **{"text": "fine\n\nindeed", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 2},
    }


def test_full_shards_stay_when_rows_grow(tmp_path: Path) -> None:
    write(tmp_path / "few", 1001)
    write(tmp_path / "many", 1500)
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["00000.jsonl", "00001.jsonl"]
    first, second = (
        [(tmp_path / size / f"0000{number}.jsonl").read_bytes() for size in ("few", "many")] for number in (0, 1)
    )
    assert first[0] == first[1]
    assert second[1].startswith(second[0])


def test_a_missing_shard_gives_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, 1001)
    (tmp_path / "00001.jsonl").unlink()
    with pytest.raises(DataError, match="holds 2000 of 2002 answers: run `dvc checkout` or `dvc repro synthesize`"):
        read_completions(tmp_path, 2002)
    with pytest.raises(DataError, match="holds 0 of 1 answers"):
        read_completions(tmp_path / "none", 1)
