import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.synthesis.mix import count_synthetic, mix_rows

LABELS = ["bad", "good", "so"]


def make_rows(prefix: str, **counts: int) -> pd.DataFrame:
    labels = [label for label, count in counts.items() for _ in range(count)]
    ids = [f"{prefix}{number}" for number in range(len(labels))]
    rows = {"id": ids, "text": [f"text of {name}" for name in ids], "question": "", "label": labels, "extra": "x"}
    return pd.DataFrame(rows, columns=["id", "text", "question", "label", "extra"], dtype=str)


HUMAN = make_rows("h", bad=10, good=9, so=1)


@pytest.mark.parametrize(
    ("ratio", "human", "count"), [(0.0, 41, 0), (0.2, 40, 10), (0.5, 41, 41), (0.8, 41, 164), (0.9, 10, 90)]
)
def test_the_share_of_synthetic_rows_is_the_ratio(ratio: float, human: int, count: int) -> None:
    assert count_synthetic(ratio, human) == count


@settings(max_examples=60)
@given(st.floats(0, 0.85), st.floats(0, 0.85))
def test_human_rows_stay_and_smaller_mixes_are_within_larger_ones(one: float, other: float) -> None:
    pool = make_rows("s", so=50, bad=50, good=50).sample(frac=1, random_state=3)
    small, large = (mix_rows(HUMAN, pool, ratio, LABELS) for ratio in sorted((one, other)))
    assert small["id"].tolist() == large["id"].tolist()[: len(small)]
    for mixed, ratio in zip((small, large), sorted((one, other)), strict=True):
        assert list(mixed) == ["id", "text", "question", "label", "origin"]
        assert mixed["id"].is_unique
        human, synthetic = mixed[mixed["origin"] == "human"], mixed[mixed["origin"] == "synthetic"]
        assert human["id"].tolist() == HUMAN["id"].tolist()
        assert len(synthetic) == round(ratio / (1 - ratio) * len(HUMAN))
        counts = [(synthetic["label"] == label).sum() for label in LABELS]
        assert counts == sorted(counts, reverse=True)  # the first labels get what is left over
        assert counts[0] - counts[-1] <= 1
        for label in LABELS:  # each label in the order of the pool
            taken = synthetic.loc[synthetic["label"] == label, "id"].tolist()
            assert taken == pool.loc[pool["label"] == label, "id"].tolist()[: len(taken)]


def test_ratio_0_needs_no_pool_and_1_takes_all_of_it() -> None:
    pool = make_rows("s", bad=3, good=1, so=1)
    none = mix_rows(HUMAN, pool.head(0), 0.0, LABELS)
    assert none["id"].tolist() == HUMAN["id"].tolist()
    everything = mix_rows(HUMAN, pool, 1.0, LABELS)
    assert everything["id"].tolist() == pool["id"].tolist()
    assert set(everything["origin"]) == {"synthetic"}


def test_a_pool_of_just_the_right_size_will_do() -> None:
    # 20 human rows at a half: 20 synthetic rows, 7 of the first two labels and 6 of the last.
    assert len(mix_rows(HUMAN, make_rows("s", bad=7, good=7, so=6), 0.5, LABELS)) == 40


@pytest.mark.parametrize("counts", [{"bad": 50, "good": 6, "so": 50}, {"bad": 50, "good": 50, "so": 5}])
def test_a_pool_that_is_too_small_gives_one_sentence(counts: dict[str, int]) -> None:
    label = min(counts, key=counts.__getitem__)
    words = f"needs {counts[label] + 1} synthetic rows of label '{label}', but curation kept {counts[label]}: raise"
    with pytest.raises(DataError, match=rf"^`ratio: 0\.5` {words} `synthesis\.rows`, or lower `ratio`$"):
        mix_rows(HUMAN, make_rows("s", **counts), 0.5, LABELS)


@pytest.mark.parametrize("counts", [{}, {"bad": 9, "good": 9}])
def test_ratio_1_needs_every_label(counts: dict[str, int]) -> None:
    label = "so" if counts else "bad"
    with pytest.raises(DataError, match=f"`ratio: 1` needs 1 synthetic rows of label '{label}'.*`synthesis.rows`"):
        mix_rows(HUMAN, make_rows("s", **counts), 1.0, LABELS)
