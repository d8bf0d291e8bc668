import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import BudgetError, DataError
from amalgam.llm.answering import Answering
from amalgam.llm.request import Answer, bound_answer
from amalgam.params import Synthesis
from amalgam.synthesis.asking import Tally, build_requests, collect_completions, iterate_asked
from tests.pipeline.server import StubServer
from tests.unit.helpers import make_answering

PARAMS = Synthesis(rows=3, temperature=0.7, top_p=0.9, max_tokens=50, attempts=2)


def make_prompts(slots: int, responses: int = 1, format: str = "text") -> list[dict[str, Any]]:
    return [
        {
            "id": f"{label}-{slot:05d}",
            "label": label,
            "sample": slot,
            "question": "",
            "shots": [],
            "attributes": {},
            "group": f"{label}/{slot // 2}",
            "responses": responses,
            "format": format,
            "messages": [{"role": "user", "content": f"Write one comment that is {label}: it says so. {slot // 2}"}],
        }
        for slot in range(slots)
        for label in ("complaint", "praise")
    ]


@pytest.fixture
def answering(server: StubServer, tmp_path: Path) -> Answering:
    return make_answering(tmp_path, server.url)


def ask(prompts: list[dict[str, Any]], rows: int, answer: Any) -> dict[str, list[int]]:
    """Ask in rounds, as `collect_completions` does, of a function instead of an endpoint: attempts by slot."""
    tally, asked = Tally(), {}
    chosen: set[str] | None = None
    for _ in range(20):
        for prompt in prompts:
            if chosen is None or prompt["id"] in chosen:
                attempt = tally.attempts[prompt["id"]]
                asked.setdefault(prompt["id"], []).append(attempt)
                tally.add(prompt, answer(prompt["id"], attempt))
        chosen = tally.choose_slots(rows)
        if not chosen:
            break
    return asked


def answer_by_chance(slot: str, attempt: int) -> Answer:
    cut_off = random.Random(f"{slot}/{attempt}").random() < 0.4
    return Answer("fine", "length" if cut_off else "stop", 1, 1)


def test_a_request_holds_what_decides_its_answer_and_no_more() -> None:
    prompt = make_prompts(2)[2]
    first, third = build_requests([(prompt, 0), (prompt, 2)], "m", PARAMS)
    sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 50}
    assert (first.id, first.model, first.sample, first.group) == ("complaint-00001", "m", 1, "complaint/0")
    assert first.body == {"messages": prompt["messages"], **sampling, "seed": 1}
    assert (third.id, third.sample) == ("complaint-00001r2", 20_000_001)
    assert third.body == first.body | {"seed": 20_000_001, "max_tokens": 100}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_each_attempt_has_more_tokens_by_whichever_name(name: str) -> None:
    prompt = make_prompts(1)[0]
    fields = {"max_tokens": None, "seed": None, name: 400}
    requests = list(build_requests([(prompt, attempt) for attempt in range(3)], "m", PARAMS, fields))
    assert [request.body[name] for request in requests] == [400, 600, 800]
    assert [bound_answer(request) for request in requests] == [400, 600, 800]
    assert all(request.body.keys() == {"messages", "temperature", "top_p", name} for request in requests)
    assert [request.sample for request in requests] == [0, 10_000_000, 20_000_000]


def test_samples_without_a_seed_stay_apart() -> None:
    prompts = make_prompts(2)[::2]  # equal but for their samples
    one, two = build_requests([(prompt, 0) for prompt in prompts], "m", PARAMS, {"seed": None})
    assert one.body == two.body
    assert "seed" not in one.body
    assert one.key != two.key


def test_the_key_of_a_default_request_is_for_ever() -> None:
    (request,) = build_requests([(make_prompts(1)[0], 1)], "m", PARAMS)
    assert request.key == "975282c6c10928a80b24660b5810fa26bd1ee94ad141e5fe1400f1e32750ace4"


def test_json_is_asked_for_by_schema() -> None:
    (request,) = build_requests([(make_prompts(1, 2, "json")[0], 0)], "m", PARAMS)
    assert request.body["response_format"]["type"] == "json_schema"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, 30))
def test_more_rows_ask_again_just_as_fewer_rows_did(few: int, more: int) -> None:
    first = ask(make_prompts(few), few, answer_by_chance)
    second = ask(make_prompts(few + more), few + more, answer_by_chance)
    assert {slot: second[slot] for slot in first} == first


def test_several_responses_an_answer_are_topped_up_only_as_far_as_needed() -> None:
    # Four of five lines come: of 20 rows 16 are there at first, so one more answer a label is enough.
    lines = "\n".join(f"{number}. line" for number in range(4))
    asked = ask(make_prompts(4, 5, "lines"), 20, lambda *_: Answer(lines, "stop", 1, 1))
    assert {slot: attempts for slot, attempts in asked.items() if len(attempts) > 1} == {
        "complaint-00000": [0, 1],
        "praise-00000": [0, 1],
    }


def test_what_is_of_no_use_is_asked_again_until_there_is_enough(server: StubServer, answering: Answering) -> None:
    prompts = make_prompts(3)
    server.spoilt = {0: "length", 1: "empty", 10_000_001: "refusal"}
    tally = collect_completions(lambda: prompts, "m", PARAMS, answering)
    assert tally.usable == {"complaint": 3, "praise": 3}
    assert tally.attempts == {f"{label}-{slot:05d}": slot + 1 for label in ("complaint", "praise") for slot in (0, 1)}
    assert len(server.log.answered) == 6 + 4 + 2
    asked = list(iterate_asked(lambda: prompts, tally, "m", PARAMS, answering))
    assert [(request.id, answer.finish_reason) for _, _, request, answer in asked][::2] == [
        ("complaint-00000", "length"),
        ("praise-00000", "length"),
        ("complaint-00001", "stop"),
        ("complaint-00001r2", "stop"),
        ("praise-00001r1", "refusal"),
        ("complaint-00002", "stop"),
    ]
    collect_completions(lambda: prompts, "m", PARAMS, answering)
    assert len(server.log.answered) == 12


def test_too_few_usable_answers_are_an_error_with_the_counts(server: StubServer, answering: Answering) -> None:
    server.spoilt = {1: "length", 10_000_001: "refusal", 20_000_001: "empty"}
    counts = r"label 'complaint' has 2 of 3 usable responses \(1 cut_off, 1 empty, 1 refusal\); label 'praise'"
    with pytest.raises(DataError, match=f"after 3 attempts {counts}"):
        collect_completions(lambda: make_prompts(3), "m", PARAMS, answering)
    assert len(server.log.answered) == 6 + 2 + 2


@pytest.mark.parametrize(
    ("text", "finish_reason", "words"),
    [
        ("The soup was", "MAX_TOKENS", "are cut off, such as 'The soup was': raise `synthesis.max_tokens`"),
        ("", "length", "are cut off: raise `synthesis.max_tokens`, or turn off the reasoning"),
        (
            "I can't help with that.",
            "stop",
            'are refused or filtered, such as "I can\'t help with that.": take another',
        ),
        (
            "<think>\nHm. \x1b[2J\u202e",
            "stop",
            r"thinking, such as '<think> Hm. \x1b[2J\u202e': turn off the reasoning",
        ),
        ("Here is one:", "stop", "only announce a response, such as 'Here is one:': take another model"),
    ],
)
def test_one_fault_of_most_answers_is_said_with_an_example(text: str, finish_reason: str, words: str) -> None:
    tally = Tally()
    for slot, prompt in enumerate(make_prompts(7)):
        fine = prompt["label"] == "praise" or slot >= 12
        tally.add(prompt, Answer("fine", "stop", 1, 1) if fine else Answer(text, finish_reason, 1, 1))
    _, sentence = tally.describe_main_fault()
    assert sentence.startswith("6 of 7 answers for label 'complaint' ")
    assert words in sentence
    assert "\n" not in sentence
    assert "synthesis.rows" not in sentence


def test_a_fault_of_half_the_answers_is_not_said() -> None:
    tally = Tally()
    for slot, prompt in enumerate(make_prompts(20)):
        tally.add(prompt, Answer("fine", "length" if slot % 4 > 1 else "stop", 1, 1))
    assert tally.describe_main_fault() == ("", "")


def test_a_run_that_fails_by_one_fault_says_what_helps_for_it(
    server: StubServer, answering: Answering, capsys: pytest.CaptureFixture[str]
) -> None:
    server.spoilt = {10_000_000 * attempt + slot: "length" for attempt in range(3) for slot in range(3)}
    with pytest.raises(
        DataError, match=r"; 18 of 18 answers are cut off, such as .* \`llm.body\`.*; the answers are kept"
    ):
        collect_completions(lambda: make_prompts(3), "m", PARAMS, answering)
    assert capsys.readouterr().err.count("synthesize: 6 of 6 answers are cut off, such as") == 1


def test_what_is_sent_again_counts_against_the_limit(server: StubServer, tmp_path: Path) -> None:
    server.spoilt = {0: "length"}
    answering = make_answering(tmp_path, server.url, max_requests=7)
    with pytest.raises(BudgetError, match=r"llm\.max_requests"):
        collect_completions(lambda: make_prompts(3), "m", PARAMS, answering)
    assert len(server.log.answered) == 7
    collect_completions(lambda: make_prompts(3), "m", PARAMS, answering)
    assert len(server.log.answered) == 8
