from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.synthesis.curate import (
    REASONS,
    Verdict,
    curate_completions,
    extract_response,
    find_fault,
    select_gradable,
    summarise_curation,
)

SHOTS = pd.DataFrame({"id": ["train-1"], "text": ["The staff were kind and the bread was fresh from the oven."]})
HELD_OUT = pd.DataFrame({"id": ["test-1"], "text": ["We waited for forty minutes and then the coffee was cold."]})
GOOD = "I liked the corner seat by the window and the quiet music."


def make_line(number: int, text: str, finish_reason: str = "stop", label: str = "good") -> dict[str, Any]:
    tokens = {"prompt_tokens": 10, "completion_tokens": 3}
    place = {"id": f"c{number}", "label": label, "sample": number, "question": ""}
    return {**place, "text": text, "finish_reason": finish_reason, **tokens}


def curate(
    lines: list[dict[str, Any]], confirmed: dict[str, bool] | None = None, threshold: float = 0.8
) -> list[Verdict]:
    return curate_completions(lines, confirmed=confirmed, shots=SHOTS, held_out=HELD_OUT, threshold=threshold)


def find_reasons(*texts: str) -> list[tuple[str, str]]:
    verdicts = curate([make_line(number, text) for number, text in enumerate(texts)])
    return [(verdict.reason, verdict.detail) for verdict in verdicts]


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        (GOOD, "stop", ""),
        ("", "error", "error"),
        ("I'm sorry, but I can't assist with that.", "length", "refusal"),
        ("I won't.", "refusal", "refusal"),
        ("", "content_filter", "refusal"),
        (GOOD, "length", "cut_off"),
        ("", "length", "cut_off"),
        ("", "stop", "empty"),
        (' \n\n "" \n', "stop", "empty"),
        (":)", "stop", ""),
        ("👍", "stop", ""),
    ],
)
def test_an_answer_that_is_no_row_has_a_reason(text: str, finish_reason: str, reason: str) -> None:
    assert [verdict.reason for verdict in curate([make_line(0, text, finish_reason)])] == [reason]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m sorry, I can’t help with that.",  # noqa: RUF001
        "Sorry, but I cannot fulfill this request.",
        "I apologize, but I am unable to provide a response that criticises a product.",
        "I cannot create explicit content.",
        "I can't help you with this.",
        "I am not able to generate such a harmful text.",
        "I'm unable to write that.",
        "As an AI language model, I do not buy products.",
        "As a language model I have no opinion.",
    ],
)
def test_a_refusal_is_no_row(text: str) -> None:
    assert find_fault(text, "stop") == "refusal"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry it broke after a week.",
        "I’m sorry, but I can’t recommend this phone.",  # noqa: RUF001
        "Sorry, I cannot stand the menus.",
        "i can't help but love it",
        "I cannot help but wonder why it costs so much.",
        "I can't believe how crisp the pictures are.",
        "I can't create playlists on this player.",
        "I won't buy from them again.",
        "I am unable to hear anything in the left ear.",
        "As an airline pilot I need a battery that lasts.",
        "As a language teacher I like its dictionary.",
        "He said as an AI he would refuse.",
    ],
)
def test_what_only_begins_like_a_refusal_is_kept(text: str) -> None:
    assert find_fault(text, "stop") == ""


def test_equal_texts_are_kept_once() -> None:
    assert find_reasons(GOOD, f' "{GOOD.upper()}"', "ok", "OK!") == [
        ("", ""),
        ("exact_duplicate", "c0"),
        ("", ""),
        ("exact_duplicate", "c2"),
    ]


def test_near_duplicates_are_kept_once() -> None:
    assert find_reasons(GOOD, f"{GOOD} Yes.", "Nothing like it at all, really.") == [
        ("", ""),
        ("near_duplicate", "c0"),
        ("", ""),
    ]


def test_copies_of_human_rows_are_told_apart() -> None:
    assert find_reasons(SHOTS["text"][0], f"So: {HELD_OUT['text'][0]}", HELD_OUT["text"][0]) == [
        ("copies_shot", "train-1"),
        ("near_validation_or_test", "test-1"),
        ("near_validation_or_test", "test-1"),
    ]


def test_a_rejected_text_is_no_reason_against_another() -> None:
    lines = [make_line(0, GOOD, "length"), make_line(1, GOOD), make_line(2, GOOD), make_line(3, f"{GOOD} Yes.")]
    verdicts = curate(lines, confirmed={"c1": False, "c2": True, "c3": True})
    assert [verdict.reason for verdict in verdicts] == ["cut_off", "inconsistent", "", "near_duplicate"]


def test_only_what_is_new_is_asked_for_its_label() -> None:
    # Rows of which no text came have no entry in `confirmed`.
    lines = [make_line(0, "", "error"), make_line(1, GOOD), make_line(2, GOOD)]
    assert [verdict.reason for verdict in curate(lines, {"c1": True})] == ["error", "", "exact_duplicate"]


def test_a_threshold_of_1_takes_equal_texts_alone() -> None:
    lines = [make_line(0, GOOD), make_line(1, f"{GOOD}!"), make_line(2, f"{GOOD} Yes.")]
    assert [verdict.reason for verdict in curate(lines, threshold=1.0)] == ["", "exact_duplicate", ""]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("  One,\ntwo. \n \n Explanation: this is so.", "One, two."),
        ("\n\n\nFirst.\n\nSecond.", "First."),
        ('"Quoted."', "Quoted."),
        ("“Quoted.”", "Quoted."),
        ("**Bold.**", "Bold."),
        ('She said "no".', 'She said "no".'),
        ('"No", she said.', '"No", she said.'),
        ("Tom &amp; Anna\u200b", "Tom & Anna"),
        ('"', '"'),
        ("", ""),
    ],
)
def test_the_response_is_taken_out_of_the_answer(raw: str, text: str) -> None:
    assert extract_response(raw) == text


WORDS = st.sampled_from(["the", "bread", "was", "good", "I'm sorry", "cold", ".", "\n\n", '"', "waiting", ""])
LINES = st.lists(
    st.tuples(st.lists(WORDS, max_size=8).map(" ".join), st.sampled_from(["stop", "length", "error", "refusal", ""])),
    max_size=12,
)


@settings(max_examples=40)
@given(LINES, st.sampled_from([0.3, 0.8, 1.0]), st.booleans())
def test_every_completion_has_a_verdict_and_is_counted(
    drawn: list[tuple[str, str]], threshold: float, check: bool
) -> None:
    lines = [make_line(number, *line, label=("bad", "good")[number % 2]) for number, line in enumerate(drawn)]
    confirmed = {line["id"]: number % 3 > 0 for number, line in enumerate(lines)}
    verdicts = curate(lines, confirmed if check else None, threshold)
    assert len(verdicts) == len(lines)
    assert {verdict.reason for verdict in verdicts} <= {"", *REASONS}
    kept = [verdict.text for verdict in verdicts if not verdict.reason]
    assert len(set(kept)) == len(kept)
    assert all(kept)
    summary = summarise_curation(lines, verdicts)
    assert summary["kept"] + sum(summary["rejected"].values()) == summary["completions"] == len(lines)
    assert sum(summary["kept_by_label"].values()) == summary["kept"] == len(kept)
    assert list(summary["rejected"]) == list(REASONS)
    assert (summary["prompt_tokens"], summary["completion_tokens"]) == (10 * len(lines), 3 * len(lines))
    # What has no text to grade is not sent to a grader; all else is.
    graded = {line["id"] for line, v in zip(lines, verdicts, strict=True) if v.reason not in REASONS[:4]}
    assert set(select_gradable(lines)["id"]) == graded


def test_nothing_to_grade_is_a_table_all_the_same() -> None:
    assert list(select_gradable([])) == ["id", "text", "question", "label"]
