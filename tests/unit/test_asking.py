import random
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import BudgetError, DataError
from amalgam.files import read_json
from amalgam.llm.request import Answer, Request, read_answers
from amalgam.params import Synthesis
from amalgam.synthesis import asking
from amalgam.synthesis.asking import Prompt, Rounds, collect_answers, write_completions
from tests.pipeline.server import StubServer
from tests.unit.helpers import make_answering

PARAMS = Synthesis(source="write", rows=3, temperature=0.7, top_p=0.9, max_tokens=50)


def make_prompts(slots: int, responses: int = 1, format: str = "text") -> list[Prompt]:
    return [
        {
            "id": f"{label}-{slot:05d}",
            "label": label,
            "sample": slot,
            "question": "",
            "shots": ["h1", "h2"],
            "attributes": {"length": "short"},
            "group": f"{label}/{slot // 2}",
            "responses": responses,
            "format": format,
            "messages": [{"role": "user", "content": f"Write one comment that is {label}: it says so. {slot // 2}"}],
        }
        for slot in range(slots)
        for label in ("complaint", "praise")
    ]


def build(prompt: Prompt, attempt: int, **fields: Any) -> Request:
    return Rounds([prompt], "m", PARAMS, fields).build_request(0, attempt)


def ask(prompts: list[Prompt], rows: int, answer: Any) -> dict[str, list[int]]:
    """Ask a function instead of an endpoint; return the attempts of each slot."""
    rounds = Rounds(prompts, "m", PARAMS.model_copy(update={"rows": rows}))
    while requests := rounds.build_requests():
        rounds.add_answers([answer(request.id) for request in requests])
    asked: dict[str, list[int]] = {}
    for line in rounds.build_lines():
        asked.setdefault(f"{line['label']}{line['sample']}", []).append(line["attempt"])
    return asked


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_each_attempt_has_more_tokens_by_whichever_name(name: str) -> None:
    fields = {"max_tokens": None, "seed": None, name: 400}
    requests = [build(make_prompts(1)[0], attempt, **fields) for attempt in (0, 1, 2)]
    assert [request.body[name] for request in requests] == [400, 600, 800]
    assert all(request.body.keys() == {"messages", "temperature", "top_p", name} for request in requests)
    assert [request.sample for request in requests] == [0, 10_000_000, 20_000_000]
    assert build(make_prompts(1, 2, "json")[0], 0).body["response_format"]["type"] == "json_schema"


def test_keys_are_for_ever_and_samples_without_a_seed_stay_apart() -> None:
    assert build(make_prompts(1)[0], 1).key == "975282c6c10928a80b24660b5810fa26bd1ee94ad141e5fe1400f1e32750ace4"
    one, two = (build(prompt, 0, seed=None) for prompt in make_prompts(2)[::2])  # equal except for their samples
    assert one.body == two.body
    assert one.key != two.key


def answer_by_chance(name: str) -> Answer:
    return Answer("fine", "length" if random.Random(name).random() < 0.4 else "stop", 1, 1)


def test_more_rows_ask_again_just_as_fewer_rows_did() -> None:
    asked = ask(make_prompts(30), 30, answer_by_chance)
    for few in range(1, 30, 4):
        first = ask(make_prompts(few), few, answer_by_chance)
        assert {slot: asked[slot] for slot in first} == first


def test_several_responses_an_answer_are_topped_up_only_as_far_as_needed() -> None:
    # Four of five lines arrive: at first 16 of 20 rows are there, so one more answer a label is enough.
    lines = "\n".join(f"{number}. line" for number in range(4))
    asked = ask(make_prompts(4, 5, "lines"), 20, lambda _: Answer(lines, "stop", 1, 1))
    assert {slot for slot, attempts in asked.items() if attempts == [0, 1]} == {"complaint0", "praise0"}
    assert sum(map(len, asked.values())) == 8 + 2


def test_useless_answers_are_asked_again(server: StubServer, tmp_path: Path) -> None:
    server.spoilt = {0: "length", 1: "empty", 10_000_001: "refusal"}
    for _ in range(2):  # the second time, the journal answers
        rounds = Rounds(make_prompts(3), "m", PARAMS)
        collect_answers(rounds, make_answering(tmp_path, server.url))
        assert rounds.usable == {"complaint": 3, "praise": 3}
        assert len(server.log.answered) == 6 + 4 + 2
    write_completions(tmp_path / "completions", rounds)
    lines = list(read_answers(tmp_path / "completions"))
    reasons = [(line["id"][10:], line["finish_reason"]) for line in lines if line["label"] == "complaint"]
    assert reasons[:3] == [("00000", "length"), ("00000r1", "stop"), ("00001", "stop")]
    assert reasons[3:] == [("00001r1", "refusal"), ("00001r2", "stop"), ("00002", "stop")]
    assert lines[0].items() >= {"key": build(make_prompts(1)[0], 0).key, "attempt": 0, "label": "complaint"}.items()
    counts = {"answers": 12, "asked_again": 6, "usable": {"complaint": 3, "praise": 3}}
    counts["faults"] = {"cut_off": 2, "empty": 2, "refusal": 2}
    assert read_json(tmp_path / "completions/summary.json").items() >= counts.items()


def test_many_missing_responses_are_an_error_and_a_few_do_not_end_a_run_that_is_paid_for(
    server: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "ATTEMPTS", 2)
    server.spoilt = {1: "length", 10_000_001: "refusal", 20_000_001: "empty"}
    counts = r"label 'complaint' has 2 of 3 usable responses \(1 cut_off, 1 empty, 1 refusal\); label 'praise'"
    with pytest.raises(DataError, match=f"after 3 attempts {counts}"):
        collect_answers(Rounds(make_prompts(3), "m", PARAMS), make_answering(tmp_path, server.url))
    assert len(server.log.answered) == 6 + 2 + 2
    rounds = Rounds(make_prompts(10), "m", PARAMS.model_copy(update={"rows": 10}))
    collect_answers(rounds, make_answering(tmp_path, server.url))
    assert rounds.usable == {"complaint": 9, "praise": 9}
    said = "after 3 attempts label 'complaint' has 9 of 10 usable responses (1 cut_off, 1 empty, 1 refusal); label 'pr"
    assert said in capsys.readouterr().err
    server.spoilt = {10_000_000 * attempt + slot: "length" for attempt in range(3) for slot in range(3)}
    with pytest.raises(DataError, match=r"; 18 of 18 answers are cut off.* \`llm.body\`.*; the answers are kept"):
        collect_answers(Rounds(make_prompts(3), "m", PARAMS), make_answering(tmp_path / "other", server.url))
    assert capsys.readouterr().err.count("synthesize: 6 of 6 answers are cut off, such as") == 1


@pytest.mark.parametrize(
    ("text", "finish_reason", "words"),
    [
        ("The soup was", "MAX_TOKENS", "are cut off, such as 'The soup was': raise `synthesis.max_tokens`"),
        ("<think>\nHm. \x1b[2J\u202e", "stop", r"thinking, such as '<think> Hm. \x1b[2J\u202e': turn off the rea"),
    ],
)
def test_one_fault_of_most_answers_is_said_with_an_example(text: str, finish_reason: str, words: str) -> None:
    rounds = Rounds(make_prompts(7), "m", PARAMS)
    bad, fine = Answer(text, finish_reason, 1, 1), Answer("fine", "stop", 1, 1)
    rounds.add_answers([fine if slot % 2 or slot >= 12 else bad for slot in range(14)])
    _, sentence = rounds.describe_main_fault()
    assert sentence.startswith("6 of 7 answers for label 'complaint' ")
    assert words in sentence
    assert "\n" not in sentence
    assert "synthesis.rows" not in sentence


def test_what_is_sent_again_counts_against_the_limit(server: StubServer, tmp_path: Path) -> None:
    server.spoilt = {0: "length"}
    answering = make_answering(tmp_path, server.url, max_requests=7)
    with pytest.raises(BudgetError, match=r"llm\.max_requests"):
        collect_answers(Rounds(make_prompts(3), "m", PARAMS), answering)
    assert len(server.log.answered) == 7
    collect_answers(Rounds(make_prompts(3), "m", PARAMS), answering)
    assert len(server.log.answered) == 8
