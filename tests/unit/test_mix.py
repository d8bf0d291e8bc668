import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.synthesis.mix import COLUMNS, Row, count_synthetic, mix_rows

LABELS = ["bad", "good", "so"]


def make_rows(prefix: str, **counts: int) -> list[Row]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [
        {"id": f"{prefix}{number}", "text": f"text {number}", "question": "", "label": label, "shots": "h1 h2"}
        for number, label in enumerate(labels)
    ]


def mix(pool: Iterable[Row], ratio: float) -> list[Row]:
    return list(mix_rows(HUMAN, pool, ratio, LABELS))


def list_ids(rows: Iterable[Row], **wanted: str) -> list[str]:
    return [row["id"] for row in rows if wanted.items() <= row.items()]


HUMAN = make_rows("h", bad=10, good=9, so=1)


@pytest.mark.parametrize(
    ("ratio", "human", "count"), [(0.0, 41, 0), (0.2, 40, 10), (0.5, 41, 41), (0.8, 41, 164), (0.9, 10, 90)]
)
def test_the_share_of_synthetic_rows_is_the_ratio(ratio: float, human: int, count: int) -> None:
    assert count_synthetic(ratio, human) == count


@settings(max_examples=60)
@given(st.floats(0, 0.85), st.floats(0, 0.85))
def test_human_rows_stay_and_smaller_mixes_are_within_larger_ones(one: float, other: float) -> None:
    pool = make_rows("s", so=50, bad=50, good=50)
    random.Random(3).shuffle(pool)
    small, large = (mix(pool, ratio) for ratio in sorted((one, other)))
    assert list_ids(small) == list_ids(large)[: len(small)]
    for mixed, ratio in zip((small, large), sorted((one, other)), strict=True):
        assert all(list(row) == COLUMNS for row in mixed)
        assert len(set(list_ids(mixed))) == len(mixed)
        assert list_ids(mixed, origin="human") == list_ids(HUMAN) == list_ids(mixed)[: len(HUMAN)]
        synthetic = [row for row in mixed if row["origin"] == "synthetic"]
        assert len(synthetic) == round(ratio / (1 - ratio) * len(HUMAN))
        assert [row["label"] for row in synthetic] == [LABELS[turn % 3] for turn in range(len(synthetic))]
        for label in LABELS:  # each label in the order of the pool
            taken = list_ids(synthetic, label=label)
            assert taken == list_ids(pool, label=label)[: len(taken)]


def test_ratio_0_needs_no_pool_and_1_takes_all_of_it() -> None:
    pool = make_rows("s", bad=3, good=1, so=1)
    assert mix([], 0.0) == [{**row, "group": "", "origin": "human", "shots": ""} for row in HUMAN]
    everything = mix(pool, 1.0)
    assert list_ids(everything, origin="synthetic") == list_ids(everything) == list_ids(pool)


def test_a_pool_of_just_the_right_size_will_do() -> None:
    # 20 human rows at a half: 20 synthetic rows, 7 of the first two labels and 6 of the last.
    assert len(mix(make_rows("s", bad=7, good=7, so=6), 0.5)) == 40


def test_no_more_of_the_pool_is_read_than_is_needed() -> None:
    pool = iter(make_rows("s", so=1, good=9, bad=1) * 9)
    assert list_ids(mix(pool, 0.2), origin="synthetic") == ["s10", "s1", "s0", "s10", "s2"]
    assert next(pool)["id"] == "s0"  # the pool's third turn


def test_a_label_that_the_task_does_not_know_is_passed_over() -> None:
    pool = make_rows("s", other=5, bad=2, good=2, so=1)
    assert list_ids(mix(pool, 0.2), origin="synthetic") == ["s5", "s7", "s9", "s6", "s8"]


@pytest.mark.parametrize("counts", [{"bad": 50, "good": 6, "so": 50}, {"bad": 50, "good": 50, "so": 5}])
def test_a_pool_that_is_too_small_gives_one_sentence(counts: dict[str, int]) -> None:
    label = min(counts, key=counts.__getitem__)
    words = f"needs {counts[label] + 1} synthetic rows of label '{label}', but curation kept {counts[label]}: raise"
    with pytest.raises(DataError, match=rf"^`ratio: 0\.5` {words} `synthesis\.rows`, or lower `ratio`$"):
        mix(make_rows("s", **counts), 0.5)


@pytest.mark.parametrize(
    ("rejects", "words"),
    [
        ({"ungraded": 9}, "could not read the judge's grades of 9 of 13: take another model, or set `curation.consist"),
        ({"inconsistent": 6, "near_duplicate": 1}, "could not confirm the label of 6 of 11: say the labels"),
        ({"exact_duplicate": 8}, "rejected as alike 8 of 12: raise `synthesis.temperature`"),
        ({"ungraded": 4}, ""),  # half: more rows bring as many again
        ({"refusal": 99}, ""),  # asked again until there were enough
    ],
)
def test_more_rows_are_no_help_where_most_are_rejected(rejects: dict[str, int], words: str) -> None:
    pool = make_rows("s", bad=50, good=4, so=50)
    with pytest.raises(DataError) as raised:
        list(mix_rows(HUMAN, pool, 0.5, LABELS, lambda label: rejects if label == "good" else {}))
    assert f"label 'good', but curation kept 4{', and ' if words else ''}{words}" in str(raised.value)
    assert ("synthesis.rows" in str(raised.value)) == (not words)


@pytest.mark.parametrize("counts", [{}, {"bad": 9, "good": 9}])
def test_ratio_1_needs_every_label(counts: dict[str, int]) -> None:
    label = "so" if counts else "bad"
    with pytest.raises(DataError, match=f"`ratio: 1` needs 1 synthetic rows of label '{label}'.*`synthesis.rows`"):
        mix(make_rows("s", **counts), 1.0)
