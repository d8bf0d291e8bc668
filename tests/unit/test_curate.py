"""What curation rejects, which texts are near-duplicates, and how kept rows are mixed with human ones."""

from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.synthesis.curate import REASONS, cut_grams, find_rejects, summarise_curation
from amalgam.synthesis.mix import COLUMNS, mix_rows
from amalgam.tasks.texts import fold_text

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
    held = "near_validation_or_test", "test-1"
    assert curate(make_responses(*texts)) == [("copies_shot", "train-1"), held, held]
    assert curate(make_responses(texts[0]), shots=NO_ROWS, held_out=NO_ROWS) == [("", "")]


def test_a_rejected_text_is_no_reason_against_another() -> None:
    responses = make_responses(GOOD, GOOD, GOOD, f"{GOOD} Yes.", GOOD)
    responses.loc[0, "fault"] = "cut_off"
    found = curate(responses, ["", "inconsistent", "", "", "ungraded"])
    assert [reason for reason, _ in found] == ["cut_off", "inconsistent", "", "near_duplicate", "exact_duplicate"]
    # The first is not kept, so the second is the first of its kind.
    found = curate(make_responses(GOOD, f"{GOOD} Yes.", GOOD), ["ungraded", "", ""])
    assert found == [("ungraded", ""), ("", ""), ("near_duplicate", "c1")]
    # A threshold of 1 matches only equal texts.
    found = curate(make_responses(GOOD, f"{GOOD}!", f"{GOOD} Yes."), threshold=1.0)
    assert found == [("", ""), ("exact_duplicate", "c0"), ("", "")]


TEXT = st.text("ab c", max_size=40)
THRESHOLD = st.sampled_from([0.3, 0.5, 0.8, 1.0])
DRAWN = st.tuples(TEXT, *map(st.sampled_from, (["", "", "cut_off", "empty"], ["bad", "good"], ["", "inconsistent"])))


@settings(max_examples=40, deadline=None)
@given(st.lists(DRAWN, min_size=1, max_size=12), THRESHOLD)
def test_every_response_has_a_verdict_and_is_counted(drawn: list[tuple], threshold: float) -> None:
    texts, faults, labels, doubts = zip(*drawn, strict=True)
    responses = make_responses(*texts).assign(fault=faults, label=labels)
    reasons = [reason for reason, _ in curate(responses, list(doubts), threshold)]
    assert set(reasons) <= {"", *REASONS}
    assert all(reason == fault for reason, fault in zip(reasons, faults, strict=True) if fault)
    assert all(reason for reason, doubt in zip(reasons, doubts, strict=True) if doubt)
    kept = [text for text, reason in zip(texts, reasons, strict=True) if not reason]
    assert len(set(kept)) == len(kept)
    summary = summarise_curation(responses.assign(reason=reasons), TOTALS)
    assert summary["kept"] + sum(summary["rejected"].values()) == summary["responses"] == len(responses)
    assert sum(summary["kept_by_label"].values()) == summary["kept"] == len(kept)
    assert set(summary["kept_by_label"]) == set(labels)


def compare(one: str, other: str) -> float:
    grams, others = cut_grams(one), cut_grams(other)
    return len(grams & others) / len(grams | others)


@settings(max_examples=60)
@given(st.lists(TEXT, min_size=1, max_size=6), TEXT, THRESHOLD)
def test_the_nearest_human_row_is_found_exactly(texts: list[str], text: str, threshold: float) -> None:
    shots = pd.DataFrame({"id": [f"{number:02d}" for number in range(len(texts))], "text": texts})
    similarities = [compare(text, other) for other in texts]
    nearest = f"{similarities.index(max(similarities)):02d}" if max(similarities) >= threshold else ""
    (found,) = curate(make_responses(text), threshold=threshold, shots=shots, held_out=NO_ROWS)
    assert found == (("copies_shot", nearest) if nearest else ("", ""))


@settings(max_examples=30)
@given(st.lists(TEXT, min_size=1, max_size=12), THRESHOLD, st.integers(1, 5))
def test_of_near_responses_the_first_is_kept(texts: list[str], threshold: float, chunk: int) -> None:
    with patch("amalgam.synthesis.curate.CHUNK", chunk):
        curated = curate(make_responses(*texts), threshold=threshold, shots=NO_ROWS, held_out=NO_ROWS)
    found = [detail.removeprefix("c") for _, detail in curated]  # of the kept text that it resembles
    for row, name in enumerate(found):
        kept = {str(other): compare(texts[row], texts[other]) for other in range(row) if not found[other]}
        if name and fold_text(texts[row]) != fold_text(texts[int(name)]):
            assert kept[name] >= threshold
        # MinHash may miss a pair near the threshold, but hardly one far above it.
        if max(kept.values(), default=0.0) >= min(1.0, threshold + 0.2):
            assert name


LABELS = ["bad", "good", "so"]
NO_REJECTS = pd.DataFrame(columns=["label", "reason"])


def make_rows(prefix: str, **counts: int) -> pd.DataFrame:
    labels = [label for label, count in counts.items() for _ in range(count)]
    texts = {"text": [f"text {number}" for number in range(len(labels))], "question": "", "label": labels}
    return pd.DataFrame({"id": [f"{prefix}{number}" for number in range(len(labels))], **texts, "shots": "h1 h2"})


HUMAN = make_rows("h", bad=10, good=9, so=1).drop(columns="shots")


def mix(pool: pd.DataFrame, ratio: float, rejects: pd.DataFrame = NO_REJECTS) -> pd.DataFrame:
    return mix_rows(HUMAN, pool, rejects, ratio, LABELS)


def list_ids(rows: pd.DataFrame, **where: str) -> list[str]:
    return rows.loc[(rows[[*where]] == pd.Series(where)).all(axis=1), "id"].tolist()


def test_human_rows_stay_and_smaller_mixes_are_within_larger_ones() -> None:
    pool = make_rows("s", so=50, bad=50, good=50).sample(frac=1, random_state=3)
    largest = list_ids(mix(pool, 0.85))
    for ratio in (0.0, 0.1, 0.5, 0.85):
        mixed = mix(pool, ratio)
        assert list(mixed) == COLUMNS
        assert list_ids(mixed) == largest[: len(mixed)]
        assert list_ids(mixed, origin="human") == list_ids(HUMAN) == largest[: len(HUMAN)]
        synthetic = mixed[mixed["origin"] == "synthetic"]
        assert len(synthetic) == round(ratio / (1 - ratio) * len(HUMAN))
        assert synthetic["label"].tolist() == [LABELS[turn % 3] for turn in range(len(synthetic))]
        for label in LABELS:  # each label in the order of the pool
            taken = list_ids(synthetic, label=label)
            assert taken == list_ids(pool, label=label)[: len(taken)]
    whole = mix(pool, 1.0)
    assert list_ids(whole, origin="synthetic", shots="h1 h2") == list_ids(whole) == list_ids(pool)


@pytest.mark.parametrize(("kept", "ratio", "needed", "largest"), [(6, 0.5, 7, 0.47), (0, 1, 1, 0.0)])
def test_a_pool_that_is_too_small_gives_one_sentence(kept: int, ratio: float, needed: int, largest: float) -> None:
    pool = make_rows("s", bad=50, good=kept, so=50)
    words = f"`ratio: {ratio:g}` needs {needed} synthetic rows of label 'good', but curation kept {kept}"
    with pytest.raises(DataError, match=rf"^{words}: raise `synthesis.rows`, or lower `ratio` to {largest:g}$"):
        mix(pool, ratio)
    assert len(mix(pool, largest)) in range(len(HUMAN), len(HUMAN) + 3 * kept + 1)


@pytest.mark.parametrize(
    ("rejects", "words"),
    [
        ({"inconsistent": 6, "near_duplicate": 1}, "could not confirm the label of 6 of 11 responses: define the"),
        ({"exact_duplicate": 8}, "rejected as copies 8 of 12 responses: raise `synthesis.temperature`"),
        ({"ungraded": 4}, ""),  # half: the same share of more rows is kept
        ({"refusal": 99}, ""),  # asked again until there were enough
    ],
)
def test_more_rows_are_no_help_where_most_are_rejected(rejects: dict[str, int], words: str) -> None:
    reasons = [reason for reason, count in rejects.items() for _ in range(count)]
    with pytest.raises(DataError) as raised:
        mix(make_rows("s", bad=50, good=4, so=50), 0.5, pd.DataFrame({"label": "good", "reason": reasons}))
    assert f"label 'good', but curation kept 4{', and ' if words else ''}{words}" in str(raised.value)
    assert ("synthesis.rows" in str(raised.value)) == (not words)
