from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from amalgam.synthesis.answers import tabulate_responses
from amalgam.tasks.texts import fold_text
from amalgam.training.guard import (
    Evidence,
    ask_guard,
    confirm_labels,
    cross_validate,
    deal_folds,
    judge_labels,
    measure_label_auc,
    measure_within,
    score_crosswise,
)
from amalgam.training.teacher import OUT_OF_FOLD, deal_human, label_out_of_fold, list_trials
from tests.unit.training import TEACHER

LABELS = ["bad", "good"]


def make_human(count: int) -> pd.DataFrame:
    labels = [LABELS[number % 2] for number in range(count)]
    rows = {"id": [f"h{number}" for number in range(count)], "text": [f"{n} {one}" for n, one in enumerate(labels)]}
    return pd.DataFrame(rows).assign(question="", label=labels)


def make_synthetic(shots: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"label": [LABELS[number % 2] for number in range(len(shots))], "shots": shots})


def embed(rows: pd.DataFrame, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Make vectors whose first value shows the label, with noise in all values."""
    vectors = rng.normal(size=(len(rows), 40))
    vectors[:, 0] += strength * np.where(rows["label"] == "good", 1, -1)
    return vectors


def ask(strength: float, human: pd.DataFrame, synthetic: pd.DataFrame) -> Evidence:
    rng = np.random.default_rng(1)
    vectors = embed(human, rng, 0.5), embed(synthetic, rng, strength)
    found = ask_guard(human, synthetic, vectors, LABELS, seed=3)
    assert found is not None
    return found


def test_the_guard_lets_right_labels_in_and_keeps_wrong_ones_out() -> None:
    human, synthetic = make_human(80), make_synthetic([""] * 800)
    right, wrong, senseless = (ask(strength, human, synthetic) for strength in (0.8, -0.8, 0.0))
    assert right.helps
    assert right.difference > right.difference_error > 0
    assert right.label_auc > 0.6
    assert not wrong.helps
    assert wrong.difference_high < 0
    assert wrong.label_auc < 0.4
    assert not senseless.recognised
    assert senseless.label_auc == pytest.approx(0.5, abs=0.1)
    assert (right.folds, right.rows) == (5, 80)
    assert right.difference == pytest.approx(right.with_synthetic_auc - right.human_only_auc)
    assert right == ask(0.8, human, synthetic)


@pytest.mark.parametrize("name", ["{}", "50% {}"])
def test_copies_of_human_rows_bring_nothing(name: str) -> None:
    human = make_human(50)
    human["id"] = human["id"].map(name.format)
    line = {"label": "good", "sample": 0, "question": "", "responses": 1, "format": "text", "finish_reason": "stop"}
    lines = ({**line, "id": "a", "text": row.text, "shots": [row.id]} for row in human.itertuples())
    shots = tabulate_responses(lines)["shots"].to_numpy()
    copies = pd.concat([human.assign(shots=shots)] * 4, ignore_index=True)
    vectors = embed(human, np.random.default_rng(5))
    found = ask_guard(human, copies, (vectors, np.concatenate([vectors] * 4)), LABELS, seed=2)
    assert found is not None
    assert 0.6 < found.human_only_auc < 1
    assert found.difference == pytest.approx(0, abs=2e-3)


def test_a_synthetic_row_is_not_judged_by_its_own_examples() -> None:
    human = make_human(20)
    vectors = np.random.default_rng(1).normal(size=(22, 6))

    def judge(moved: list[int], shots: list[str], **groups: list[str]) -> np.ndarray:
        learned = vectors[:20].copy()
        learned[moved] += 100.0
        return judge_labels(human.assign(**groups), learned, LABELS, vectors[22 - len(shots) :], shots)

    found, after = (judge(moved, ["h0 h7", "h0"]) for moved in ([], [0, 7]))
    np.testing.assert_array_equal(after[0], found[0])  # both moved rows were its examples
    assert np.abs(after[1] - found[1]).max() > 0.01  # only one was
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0)
    # Nor by rows from the group of an example.
    one, other = (judge(moved, ["h3"], group=["g"] * 10 + [""] * 10) for moved in ([], list(range(10))))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shots", [4, 16])
def test_right_labels_are_recognised_however_many_shots_a_request_has(shots: int) -> None:
    human, synthetic, rng = make_human(51), make_synthetic([""] * 40), np.random.default_rng(1)
    pools = [human["id"][human["label"] == label][:16] for label in synthetic["label"]]
    synthetic["shots"] = [" ".join(rng.choice(pool, shots, replace=False)) for pool in pools]
    vectors = embed(human, rng, 2.0), embed(synthetic, rng, 2.0)
    scores = judge_labels(human, vectors[0], LABELS, vectors[1], synthetic["shots"].tolist())
    assert measure_label_auc(synthetic, LABELS, scores) > 0.9


def test_a_row_that_no_fold_can_judge_does_not_count() -> None:
    human = make_human(20)
    found, more = (ask(0.8, human, make_synthetic([*[""] * 60, *rest])) for rest in ([], [" ".join(human["id"])] * 60))
    assert more.label_auc == found.label_auc > 0.6


def test_a_label_is_confirmed_if_the_human_rows_give_it_too_or_cannot_judge() -> None:
    human, rng = make_human(40), np.random.default_rng(1)
    synthetic = make_synthetic(["h0", "h1"] * 10)
    vectors = embed(human, rng, 9.0), embed(synthetic, rng, 9.0)
    synthetic.loc[:3, "label"] = ["good", "bad", "good", "bad"]  # wrong
    synthetic.loc[:1, "shots"] = " ".join(human["id"])
    found = confirm_labels(human, vectors[0], LABELS, vectors[1], synthetic)
    assert found.tolist() == [True, True, False, False, *[True] * 16]


def test_copies_of_a_held_out_row_in_other_groups_are_not_learned() -> None:
    human = make_human(20).assign(group=[f"g{number}" for number in range(20)])
    copies = [0, 1, 2, 3, 4]
    human.loc[copies, "text"] = ["No idea", "no idea.", "No idea", "No idea!", "No idea"]
    assert len(set(deal_human(human, LABELS)[copies])) > 1
    vectors, synthetic = np.random.default_rng(1).normal(size=(22, 6)), make_synthetic(["h0", "h9"])
    moved = vectors.copy()
    moved[copies[1:]] += 100.0
    scorers: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda rows: judge_labels(human, rows[:20], LABELS, rows[20:], synthetic["shots"].tolist()),
        lambda rows: score_crosswise(human, rows[:20], rows[20:], LABELS)[0],
        lambda rows: cross_validate(human, synthetic, (rows[:20], rows[20:]), LABELS, deal_human(human, LABELS)),
    ]
    for score in scorers:
        np.testing.assert_array_equal(score(moved)[0], score(vectors)[0])
    for job in list_trials(Path(), human, LABELS, TEACHER, 1):
        (_, learned, *_), rows = job.args[:2]  # type: ignore[attr-defined]
        assert not {*learned["text"].map(fold_text)} & {*rows["text"].map(fold_text)}


def test_one_class_alone_says_nothing() -> None:
    human, synthetic = make_human(8).assign(label="bad"), make_synthetic([""] * 4)
    assert ask_guard(human, synthetic, (np.ones((8, 2)), np.ones((4, 2))), LABELS, seed=1) is None


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15)), min_size=2, max_size=60),
    st.integers(2, 6),
    st.none() | st.integers(0, 9),
)
def test_folds_keep_units_whole(drawn: list[tuple[int, int]], folds: int, seed: int | None) -> None:
    classes, units = np.array(drawn).T
    dealt = deal_folds(classes, units, folds, seed=seed)
    assert all(len(set(dealt[units == unit])) == 1 for unit in units)
    assert set(dealt) == set(range(min(folds, len(set(units)))))
    alone = deal_folds(classes, np.arange(len(drawn)), folds, seed=seed)
    for part in (alone, *(alone[classes == number] for number in set(classes))):
        shares = np.bincount(part, minlength=folds)
        assert shares.max() - shares.min() <= 1


def test_every_human_row_is_labelled_by_a_teacher_of_other_groups() -> None:
    human = make_human(20).assign(group=[f"g{number // 4}" for number in range(20)])
    dealt = deal_human(human, LABELS)
    assert [human["group"][dealt == fold].nunique() for fold in np.unique(dealt)] == [1] * 5
    logits = np.where(human["label"].to_numpy()[:, None] == LABELS, [[1.0, 3.0]], 0.0)  # more certain of `good`
    found = label_out_of_fold(human, LABELS, [logits[dealt == fold] for fold in range(5)])
    labels = human["label"].tolist()
    expected = human["id"].tolist(), [number // 4 for number in range(20)], labels, labels, [0.731059, 0.952574] * 10
    assert found.to_dict("list") == dict(zip(OUT_OF_FOLD, map(list, expected), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_within_one_fold_the_area_is_the_usual_one(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    actual = np.concatenate([np.arange(classes), rng.integers(0, classes, size=20)])
    logits = rng.normal(size=(len(actual), classes)).round(1)
    found = measure_within(actual, np.zeros(len(actual), dtype=int), logits, np.ones((1, len(actual))))[0]
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).round(9)
    areas = [roc_auc_score(actual == number, probabilities[:, number]) for number in range(classes)]
    assert found == pytest.approx(np.mean(areas), abs=1e-9)
    # Folds on different scales do not mix.
    folds, half = np.array([0, 0, 1, 1]), np.array([0.0, 0.5, 5.0, 5.5])
    scaled = measure_within(np.array([0, 1, 0, 1]), folds, np.stack([-half, half], axis=1), np.ones((1, 4)))
    assert scaled[0] == 1.0


@pytest.mark.parametrize(
    ("label_auc", "difference", "helps"),
    [(0.65, 0.04, True), (0.64, 0.04, False), (0.8, -0.02, True), (0.8, -0.021, False)],
)
def test_rows_are_used_whose_labels_are_right_and_that_do_no_harm(
    label_auc: float, difference: float, helps: bool
) -> None:
    assert Evidence(label_auc, 0.8, 0.8 + difference, difference, 0.02, -0.1, 0.1, 51, 5).helps is helps
