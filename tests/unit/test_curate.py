from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.synthesis.curate import (
    REASONS,
    confirm_labels,
    curate_responses,
    join_judgements,
    summarise_curation,
    survey_responses,
)

SHOTS = pd.DataFrame({"id": ["train-1"], "text": ["The staff were kind and the bread was fresh from the oven."]})
HELD_OUT = pd.DataFrame({"id": ["test-1"], "text": ["We waited for forty minutes and then the coffee was cold."]})
NO_ROWS = pd.DataFrame({"id": [], "text": []}, dtype=str)
GOOD = "I liked the corner seat by the window and the quiet music."
TOTALS = {"answers": 9, "asked_again": 2, "usable": {}, "prompt_tokens": 90, "completion_tokens": 27, "cost_usd": 0.5}


def make_response(number: int, text: str, fault: str = "", label: str = "good", confirmed: bool = True) -> dict:
    place = {"id": f"c{number}", "label": label, "sample": number, "question": ""}
    return {**place, "text": text, "fault": fault, "confirmed": confirmed}


def curate(
    responses: list[dict[str, Any]],
    threshold: float = 0.8,
    shots: pd.DataFrame = SHOTS,
    held_out: pd.DataFrame = HELD_OUT,
) -> list[tuple[str, str]]:
    survey = survey_responses(iter(responses), threshold)
    curated = curate_responses(iter(responses), survey, shots=shots, held_out=held_out, threshold=threshold)
    found = []
    for response, row in zip(responses, curated, strict=True):
        assert row == {**response, "reason": row["reason"], "detail": row["detail"]}
        found.append((row["reason"], row["detail"]))
    return found


def find_reasons(*texts: str, **values: Any) -> list[tuple[str, str]]:
    return curate([make_response(number, text) for number, text in enumerate(texts)], **values)


def test_equal_texts_are_kept_once() -> None:
    assert find_reasons(GOOD, f' "{GOOD.upper()}"', "ok", "OK!", GOOD) == [
        ("", ""),
        ("exact_duplicate", "c0"),
        ("", ""),
        ("exact_duplicate", "c2"),
        ("exact_duplicate", "c0"),
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


def test_without_human_rows_nothing_copies_them() -> None:
    assert find_reasons(SHOTS["text"][0], shots=NO_ROWS, held_out=NO_ROWS) == [("", "")]


@pytest.mark.parametrize("fault", ["error", "refusal", "cut_off", "thinking", "announcement", "empty", "malformed"])
def test_an_answer_of_no_use_is_rejected_for_its_fault(fault: str) -> None:
    assert fault in REASONS
    assert curate([make_response(0, GOOD, fault), make_response(1, GOOD)]) == [(fault, ""), ("", "")]


def test_a_rejected_text_is_no_reason_against_another() -> None:
    responses = [
        make_response(0, GOOD, "cut_off"),
        make_response(1, GOOD, confirmed=False),
        make_response(2, GOOD),
        make_response(3, f"{GOOD} Yes."),
        make_response(4, GOOD, confirmed=False),
    ]
    reasons = [reason for reason, _ in curate(responses)]
    assert reasons == ["cut_off", "inconsistent", "", "near_duplicate", "exact_duplicate"]


def test_a_grade_that_could_not_be_read_is_no_disagreement() -> None:
    unread = make_response(0, GOOD, confirmed=False) | {"graded": False}
    assert curate([unread, make_response(1, GOOD, confirmed=False)]) == [("ungraded", ""), ("inconsistent", "")]


def test_near_texts_of_rejected_ones_are_kept() -> None:
    # The first is not kept, so the second is the first of its kind.
    responses = [make_response(0, GOOD, confirmed=False), make_response(1, f"{GOOD} Yes."), make_response(2, GOOD)]
    assert curate(responses) == [("inconsistent", ""), ("", ""), ("near_duplicate", "c1")]


def test_a_threshold_of_1_takes_equal_texts_alone() -> None:
    assert find_reasons(GOOD, f"{GOOD}!", f"{GOOD} Yes.", threshold=1.0) == [
        ("", ""),
        ("exact_duplicate", "c0"),
        ("", ""),
    ]


WORDS = st.sampled_from(["the", "bread", "was", "good", "sorry", "cold", ".", '"', "waiting"])
RESPONSES = st.lists(
    st.tuples(
        st.lists(WORDS, min_size=1, max_size=8).map(" ".join),
        st.sampled_from(["", "", "", "cut_off", "malformed"]),
        st.sampled_from(["bad", "good"]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(RESPONSES, st.sampled_from([0.3, 0.8, 1.0]))
def test_every_response_has_a_verdict_and_is_counted(drawn: list[tuple], threshold: float) -> None:
    responses = [make_response(number, *values) for number, values in enumerate(drawn)]
    reasons = [reason for reason, _ in curate(responses, threshold)]
    assert set(reasons) <= {"", *REASONS}
    for reason, (_, fault, _, confirmed) in zip(reasons, drawn, strict=True):
        assert not fault or reason == fault
        assert confirmed or reason
    kept = [text for (text, *_), reason in zip(drawn, reasons, strict=True) if not reason]
    assert len(set(kept)) == len(kept)
    counts = Counter((label, reason) for (_, _, label, _), reason in zip(drawn, reasons, strict=True))
    summary = summarise_curation(counts, TOTALS)
    assert summary["kept"] + sum(summary["rejected"].values()) == summary["responses"] == len(responses)
    assert sum(summary["kept_by_label"].values()) == summary["kept"] == len(kept)
    assert set(summary["kept_by_label"]) == {response["label"] for response in responses}


def test_the_summary_says_what_all_of_it_took() -> None:
    counts = {("good", ""): 3, ("bad", "empty"): 1, ("good", "malformed"): 2}
    assert summarise_curation(counts, TOTALS) == {
        **{"completions": 9, "asked_again": 2, "responses": 6, "kept": 3},
        "rejected": dict.fromkeys(REASONS, 0) | {"empty": 1, "malformed": 2},
        "kept_by_label": {"bad": 0, "good": 3},
        **{"prompt_tokens": 90, "completion_tokens": 27, "cost_usd": 0.5},
    }


def judge(*ids: str) -> Iterable[dict[str, str]]:
    return ({"id": name, "label": "good", "judged": f"judged {name}"} for name in ids)


@pytest.mark.parametrize("graded", [[], ["c0"], ["c2"], ["c0", "c1", "c3"], ["c0", "c1", "c2", "c3"]])
def test_judgements_are_joined_to_their_responses(graded: list[str]) -> None:
    responses = [make_response(number, GOOD) for number in range(4)]
    joined = list(join_judgements(responses, judge(*graded)))
    assert [row["judged"] for row in joined] == [f"judged c{n}" if f"c{n}" in graded else "" for n in range(4)]
    assert [row | {"judged": ""} for row in joined] == [response | {"judged": ""} for response in responses]


@pytest.mark.parametrize("graded", [["c9"], ["c1", "c0"]])
def test_judgements_of_other_responses_are_refused(graded: list[str]) -> None:
    responses = [make_response(number, GOOD) for number in range(4)]
    with pytest.raises(DataError, match=rf"grades {graded[-1]}, but .* no such response: run `dvc repro judge`"):
        list(join_judgements(responses, judge(*graded)))


def test_labels_that_are_the_most_likely_are_confirmed() -> None:
    sizes: list[int] = []
    texts = ["good", "bad"] * 2500
    responses = [make_response(number, text, label="good") for number, text in enumerate(texts)]
    found = list(confirm_labels(iter(responses), lambda rows: _predict(rows, sizes), ["bad", "good"]))
    assert [row["confirmed"] for row in found] == [text == "good" for text in texts]
    assert [row["id"] for row in found] == [row["id"] for row in responses]
    assert sum(sizes) == 5000
    assert max(sizes) <= 2000


def _predict(rows: pd.DataFrame, sizes: list[int]) -> np.ndarray:
    sizes.append(len(rows))
    good = (rows["text"] == "good").to_numpy(dtype=float)
    return np.column_stack([1 - good, good])
