import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.synthesis.mix import COLUMNS, mix_rows

LABELS = ["bad", "good", "so"]
NO_REJECTS = pd.DataFrame(columns=["label", "reason"])


def make_rows(prefix: str, **counts: int) -> pd.DataFrame:
    labels = [label for label, count in counts.items() for _ in range(count)]
    texts = {"text": [f"text {number}" for number in range(len(labels))], "question": "", "label": labels}
    return pd.DataFrame({"id": [f"{prefix}{number}" for number in range(len(labels))], **texts, "shots": "h1 h2"})


HUMAN = make_rows("h", bad=10, good=9, so=1).drop(columns="shots")


def mix(pool: pd.DataFrame, ratio: float, rejects: pd.DataFrame = NO_REJECTS) -> pd.DataFrame:
    return mix_rows(HUMAN, pool, rejects, ratio, LABELS)


def list_ids(rows: pd.DataFrame, column: str = "", value: str = "") -> list[str]:
    return rows["id"][rows[column] == value].tolist() if column else rows["id"].tolist()


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 0.85), st.floats(0, 0.85))
def test_human_rows_stay_and_smaller_mixes_are_within_larger_ones(one: float, other: float) -> None:
    pool = make_rows("s", so=50, bad=50, good=50).sample(frac=1, random_state=3)
    small, large = (mix(pool, ratio) for ratio in sorted((one, other)))
    assert list_ids(small) == list_ids(large)[: len(small)]
    for mixed, ratio in zip((small, large), sorted((one, other)), strict=True):
        assert list(mixed) == COLUMNS
        assert mixed["id"].is_unique
        assert list_ids(mixed, "origin", "human") == list_ids(HUMAN) == list_ids(mixed)[: len(HUMAN)]
        synthetic = mixed[mixed["origin"] == "synthetic"]
        assert len(synthetic) == round(ratio / (1 - ratio) * len(HUMAN))
        assert synthetic["label"].tolist() == [LABELS[turn % 3] for turn in range(len(synthetic))]
        for label in LABELS:  # each label in the order of the pool
            taken = list_ids(synthetic, "label", label)
            assert taken == list_ids(pool, "label", label)[: len(taken)]


def test_ratio_0_needs_no_pool_and_1_takes_all_of_it() -> None:
    alone = mix(make_rows("s"), 0.0)
    pd.testing.assert_frame_equal(alone, HUMAN.assign(group="", origin="human", shots="")[COLUMNS], check_dtype=False)
    pool = make_rows("s", bad=3, good=1, so=1)
    assert list_ids(mix(pool, 1.0), "origin", "synthetic") == list_ids(pool)
    assert set(mix(pool, 1.0)["shots"]) == {"h1 h2"}


def test_a_label_that_the_task_does_not_know_is_passed_over() -> None:
    pool = make_rows("s", other=5, bad=2, good=2, so=1)
    assert list_ids(mix(pool, 0.2), "origin", "synthetic") == ["s5", "s7", "s9", "s6", "s8"]


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
    reasons = [reason for reason, count in rejects.items() for _ in range(count)]
    with pytest.raises(DataError) as raised:
        mix(make_rows("s", bad=50, good=4, so=50), 0.5, pd.DataFrame({"label": "good", "reason": reasons}))
    assert f"label 'good', but curation kept 4{', and ' if words else ''}{words}" in str(raised.value)
    assert ("synthesis.rows" in str(raised.value)) == (not words)


@pytest.mark.parametrize("counts", [{}, {"bad": 9, "good": 9}])
def test_ratio_1_needs_every_label(counts: dict[str, int]) -> None:
    label = "so" if counts else "bad"
    with pytest.raises(DataError, match=f"`ratio: 1` needs 1 synthetic rows of label '{label}'.*`synthesis.rows`"):
        mix(make_rows("s", **counts), 1.0)
