"""The responses in an answer by its format, and in the folder of answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.files import write_json
from amalgam.llm.request import write_answers
from amalgam.synthesis.answers import parse_answer, read_responses
from amalgam.synthesis.asking import build_response_format
from amalgam.tasks.texts import fold_text

GOOD = "I liked the corner seat by the window."
REFUSED = "I'm sorry, but I can't assist with that."


@pytest.mark.parametrize(
    ("text", "finish_reason", "faults"),
    [
        # Faults of the formats text, lines and json.
        (GOOD, "stop", ("", "", "malformed")),
        (f'{{"response": "{GOOD}"}}', "error", ("error", "error", "error")),
        (GOOD, "refusal", ("refusal", "refusal", "refusal")),
        (REFUSED, "length", ("refusal", "refusal", "refusal")),
        (GOOD, "length", ("cut_off", "cut_off", "cut_off")),
        ("", "stop", ("empty", "empty", "empty")),
        ("Here are three comments:", "stop", ("announcement", "announcement", "announcement")),
        ("👍", "stop", ("", "", "malformed")),
        ('{"response": "One.', "length", ("cut_off", "cut_off", "cut_off")),
        ('{"response": ""}', "stop", ("", "", "empty")),
        (f'{{"response": "{REFUSED}"}}', "stop", ("", "", "refusal")),
        ('{"error": {"message": "Rate limit reached"}}', "stop", ("", "", "malformed")),
        ("[" * 100_000, "stop", ("", "", "malformed")),
    ],
)
def test_an_answer_without_a_response_has_a_fault(text: str, finish_reason: str, faults: tuple[str, str, str]) -> None:
    for format, fault in zip(("text", "lines", "json"), faults, strict=True):
        responses, found = parse_answer(text, finish_reason, format, 3)
        assert (found, bool(responses)) == (fault, not fault), format


LISTS = {
    "plain": "One.\nTwo!\nThree?",
    "numbered": "1. One.\n2. Two!\n3. Three?",
    "bullets": "- One.\n* Two!\n• Three?",
    "quotes": '"One."\n“Two!”\n`Three?`',
    "numbers alone": "1.\nOne.\n2.\nTwo!\n3.\nThree?",
    "announced": "Here are three comments:\n\n1. One.\n2. Two!\n3. Three?",
    "closed": "1. One.\n2. Two!\n3. Three?\n\nDo you want more of them?",
    "code block": "```text\n1. One.\n2. Two!\n3. Three?\n```",
    "too many": "One.\nTwo!\nThree?\nFour.",
}


@pytest.mark.parametrize("raw", LISTS.values(), ids=LISTS)
def test_lines_are_read_however_they_are_listed(raw: str) -> None:
    assert parse_answer(raw, "stop", "lines", 3) == (["One.", "Two!", "Three?"], "")


@pytest.mark.parametrize(
    "lines",
    [
        ["3.5 stars for the screen", "2 batteries died", "10:30 and still no picture", "-10 degrees and it works"],
        ["1995. What a year", "$20 too much", "#1 in my book", "*sigh* broke again"],
        ["It does one thing: nothing.", "My verdict:", "Too dear.", "OK :)"],
    ],
)
def test_a_response_keeps_what_is_its_own(lines: list[str]) -> None:
    assert parse_answer("\n".join(lines), "stop", "lines", 4)[0] == lines
    numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
    assert parse_answer(numbered, "stop", "lines", 4)[0] == lines


@pytest.mark.parametrize(
    ("raw", "texts"), [("1. One.\n2. Two!\n3. Thr", ["One.", "Two!"]), ("Here are ten:\n1. One.\n2.", ["One."])]
)
def test_of_lines_that_were_cut_off_the_complete_ones_are_kept(raw: str, texts: list[str]) -> None:
    assert parse_answer(raw, "length", "lines", 3) == (texts, "")


def test_what_is_refused_or_empty_among_several_is_left_out() -> None:
    raw = json.dumps({"response_1": "One.", "response_2": REFUSED, "response_3": ' "" ', "response_4": "Two!"})
    assert parse_answer(raw, "stop", "json", 4) == (["One.", "Two!"], "")


@pytest.mark.parametrize(
    "raw",
    [
        '{"response_1": "One.", "response_2": "Two!"}',
        '{"responses": ["One.", "Two!"]}',
        '```json\n{"response_1": "One.", "response_2": "Two!"}\n```',
        'Here you are: {"response_1": "\\"One.\\"", "response_2": "Two!\\n"} I hope that it helps.',
    ],
)
def test_json_is_read_in_the_shapes_that_models_write(raw: str) -> None:
    assert parse_answer(raw, "stop", "json", 2) == (["One.", "Two!"], "")


PIECES = ["1. ", "\n", "\n\n", "- ", ":", '"', "{", "}", '{"response": ', ",", "One.", "```", "\ud83d", "\u2028"]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from([*PIECES, REFUSED])).map("".join))
REASONS = st.sampled_from(["stop", "length", "error", "refusal", "content_filter", "", "tool_calls"])


@settings(max_examples=300)
@given(TEXTS, REASONS, st.sampled_from(["text", "lines", "json"]), st.integers(1, 4))
@example("One.\u2028Two!\x85Three?", "stop", "lines", 2)
@example('{"response": "\\ud83d"}', "stop", "json", 1)
def test_any_text_gives_responses_or_a_fault(raw: str, finish_reason: str, format: str, responses: int) -> None:
    texts, fault = parse_answer(raw, finish_reason, format, responses)
    assert fault in ("", "error", "refusal", "cut_off", "thinking", "announcement", "empty", "malformed")
    assert bool(texts) == (fault == "")
    assert len(texts) <= responses
    for text in texts:
        assert fold_text(text)
        assert text.splitlines() == [text]
        assert text == " ".join(text.split())
        assert text.encode()
    if finish_reason in ("error", "refusal", "content_filter"):
        assert texts == []


@given(st.integers(1, 100))
def test_the_schema_asks_for_what_is_read(responses: int) -> None:
    described = build_response_format(responses)["json_schema"]
    schema = described["schema"]
    answer = json.dumps({key: f"So {number}." for number, key in enumerate(schema["properties"])})
    assert parse_answer(answer, "stop", "json", responses)[0] == [f"So {number}." for number in range(responses)]
    # What strict mode asks of a schema, here and at Azure.
    assert described["strict"] is True
    assert schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    assert set(json.dumps(schema).split('"')).isdisjoint({"minItems", "maxItems", "pattern", "minLength"})
    assert len(schema["properties"]) == responses <= 100


def write_completions(folder: Path, answers: list[dict[str, Any]], *, claimed: int | None = None) -> None:
    kept = {"sample": 0, "label": "bad", "question": "", "finish_reason": "stop", "format": "text", "responses": 1}
    write_answers(folder, [{"id": f"bad-{number}", **kept, **answer} for number, answer in enumerate(answers)])
    write_json(folder / "summary.json", {"answers": len(answers) if claimed is None else claimed})


def test_responses_are_read_out_of_the_folder_of_answers(tmp_path: Path) -> None:
    several = {"text": "1. first\n2. second", "responses": 3, "format": "lines", "shots": ["h1", "h2"]}
    write_completions(tmp_path, [several, {"text": "half a sen", "finish_reason": "length"}])
    responses = read_responses(tmp_path)
    assert list(responses) == ["id", "label", "sample", "question", "shots", "text", "fault"]
    assert responses.to_numpy().tolist() == [
        ["bad-0-1", "bad", 0, "", "h1 h2", "first", ""],
        ["bad-0-2", "bad", 0, "", "h1 h2", "second", ""],
        ["bad-1", "bad", 0, "", "", "half a sen", "cut_off"],
    ]


def test_a_missing_part_gives_one_sentence(tmp_path: Path) -> None:
    write_completions(tmp_path, [{"text": "fine"}], claimed=2)
    with pytest.raises(DataError, match="holds 1 of 2 answers: run `dvc checkout` or `dvc repro synthesize`"):
        read_responses(tmp_path)
    with pytest.raises(DataError, match=r"summary\.json is missing"):
        read_responses(tmp_path / "none")
