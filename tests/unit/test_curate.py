from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.synthesis.curate import REASONS, confirm_labels, find_rejects, join_judgements, summarise_curation

SHOTS = pd.DataFrame({"id": ["train-1"], "text": ["The staff were kind and the bread was fresh from the oven."]})
HELD_OUT = pd.DataFrame({"id": ["test-1"], "text": ["We waited for forty minutes and then the coffee was cold."]})
NO_ROWS = pd.DataFrame({"id": [], "text": []}, dtype=str)
GOOD = "I liked the corner seat by the window and the quiet music."
TOTALS = {"answers": 9, "asked_again": 2, "usable": {}, "prompt_tokens": 90, "completion_tokens": 27, "cost_usd": 0.5}


def make_responses(*texts: str, fault: str = "", label: str = "good") -> pd.DataFrame:
    names = [f"c{number}" for number in range(len(texts))]
    return pd.DataFrame({"id": names, "label": label, "text": texts, "fault": fault}, dtype=object)


def curate(
    responses: pd.DataFrame, doubts: list[str] | None = None, threshold: float = 0.8, **rows: Any
) -> list[tuple[str, str]]:
    rows = {"shots": SHOTS, "held_out": HELD_OUT} | rows
    against = pd.Series(doubts or [""] * len(responses), responses.index, dtype=object)
    found = find_rejects(responses, against, threshold=threshold, **rows)
    return [*zip(found["reason"], found["detail"], strict=True)]


def test_copies_of_human_rows_are_told_apart() -> None:
    texts = SHOTS["text"][0], f"So: {HELD_OUT['text'][0]}", HELD_OUT["text"][0]
    assert curate(make_responses(*texts)) == [
        ("copies_shot", "train-1"),
        ("near_validation_or_test", "test-1"),
        ("near_validation_or_test", "test-1"),
    ]
    assert curate(make_responses(texts[0]), shots=NO_ROWS, held_out=NO_ROWS) == [("", "")]


@pytest.mark.parametrize("fault", ["error", "refusal", "cut_off", "thinking", "announcement", "empty", "malformed"])
def test_an_answer_of_no_use_is_rejected_for_its_fault(fault: str) -> None:
    assert fault in REASONS
    responses = pd.concat([make_responses(GOOD, fault=fault), make_responses(GOOD)], ignore_index=True)
    assert curate(responses) == [(fault, ""), ("", "")]


def test_a_rejected_text_is_no_reason_against_another() -> None:
    responses = make_responses(GOOD, GOOD, GOOD, f"{GOOD} Yes.", GOOD)
    responses.loc[0, "fault"] = "cut_off"
    found = curate(responses, ["", "inconsistent", "", "", "ungraded"])
    assert [reason for reason, _ in found] == ["cut_off", "inconsistent", "", "near_duplicate", "exact_duplicate"]
    # The first is not kept, so the second is the first of its kind.
    found = curate(make_responses(GOOD, f"{GOOD} Yes.", GOOD), ["ungraded", "", ""])
    assert found == [("ungraded", ""), ("", ""), ("near_duplicate", "c1")]
    # A threshold of 1 takes equal texts alone.
    found = curate(make_responses(GOOD, f"{GOOD}!", f"{GOOD} Yes."), threshold=1.0)
    assert found == [("", ""), ("exact_duplicate", "c0"), ("", "")]


WORDS = st.sampled_from(["the", "bread", "was", "good", "sorry", "cold", ".", '"', "waiting"])
RESPONSES = st.lists(
    st.tuples(
        st.lists(WORDS, min_size=1, max_size=8).map(" ".join),
        st.sampled_from(["", "", "", "cut_off", "malformed"]),
        st.sampled_from(["bad", "good"]),
        st.sampled_from(["", "inconsistent"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(RESPONSES, st.sampled_from([0.3, 0.8, 1.0]))
def test_every_response_has_a_verdict_and_is_counted(drawn: list[tuple], threshold: float) -> None:
    texts, faults, labels, doubts = zip(*drawn, strict=True)
    responses = make_responses(*texts).assign(fault=faults, label=labels)
    reasons = [reason for reason, _ in curate(responses, list(doubts), threshold)]
    assert set(reasons) <= {"", *REASONS}
    for reason, fault, doubt in zip(reasons, faults, doubts, strict=True):
        assert not fault or reason == fault
        assert reason or not doubt
    kept = [text for text, reason in zip(texts, reasons, strict=True) if not reason]
    assert len(set(kept)) == len(kept)
    summary = summarise_curation(responses.assign(reason=reasons), TOTALS)
    assert summary["kept"] + sum(summary["rejected"].values()) == summary["responses"] == len(responses)
    assert sum(summary["kept_by_label"].values()) == summary["kept"] == len(kept)
    assert set(summary["kept_by_label"]) == set(labels)


@pytest.mark.parametrize("graded", [[], ["c0"], ["c2"], ["c0", "c1", "c2", "c3"]])
def test_judgements_are_joined_to_their_responses(graded: list[str]) -> None:
    judgements = pd.DataFrame({"id": graded, "judged": [f"judged {name}" for name in graded]}, dtype=str)
    joined = join_judgements(make_responses(*[GOOD] * 4), judgements)
    assert joined.tolist() == [f"judged c{number}" if f"c{number}" in graded else "" for number in range(4)]


def test_judgements_of_other_responses_are_refused() -> None:
    with pytest.raises(DataError, match=r"grades c9, but .* no such response: run `dvc repro judge`"):
        join_judgements(make_responses(GOOD), pd.DataFrame({"id": ["c9"], "judged": ["good"]}))


def test_labels_that_are_the_most_likely_are_confirmed() -> None:
    sizes: list[int] = []

    def predict(rows: pd.DataFrame) -> np.ndarray:
        sizes.append(len(rows))
        good = (rows["text"] == "good").to_numpy(dtype=float)
        return np.column_stack([1 - good, good])

    texts = ["good", "bad"] * 2500
    found = confirm_labels(make_responses(*texts), predict, ["bad", "good"])
    assert found.tolist() == [text == "good" for text in texts]
    assert sum(sizes) == 5000
    assert max(sizes) <= 2000
