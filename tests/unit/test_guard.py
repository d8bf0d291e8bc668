import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from amalgam.training.cross_validation import CrossValidation, cross_validate
from amalgam.training.guard import Evidence, measure_label_auc, measure_within, weigh_evidence
from amalgam.training.teacher import Trial

LABELS = ["bad", "good"]
RECOGNISED = {"label_auc": 0.8, "least_label_auc": 0.65}


def make_human(count: int) -> pd.DataFrame:
    labels = [LABELS[number % 2] for number in range(count)]
    return pd.DataFrame(
        {"id": [f"h{number}" for number in range(count)], "text": labels, "question": "", "label": labels}
    )


def make_synthetic(shots: list[str]) -> pd.DataFrame:
    count = len(shots)
    labels = [LABELS[number % 2] for number in range(count)]
    return pd.DataFrame({"id": [f"s{n}" for n in range(count)], "text": "x", "question": "", "label": labels}).assign(
        shots=shots
    )


class Trainer:
    """Scores rows by their label with noise: less of it if synthetic rows are there, as `gain` says."""

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.calls: list[tuple[pd.DataFrame, pd.DataFrame, int]] = []

    def __call__(self, trials: list[Trial]) -> list[np.ndarray]:
        return [self._score(trial.learned, trial.rows, trial.seed) for trial in trials]

    def _score(self, learned: pd.DataFrame, rows: pd.DataFrame, seed: int) -> np.ndarray:
        self.calls.append((learned, rows, seed))
        strength = 1 + self.gain * (learned["origin"] == "synthetic").any()
        noise = np.random.default_rng(seed).normal(size=len(rows))
        scores = strength * (rows["label"] == "good").to_numpy() + noise
        return np.stack([-scores, scores], axis=1)


@pytest.mark.parametrize(("gain", "helps"), [(3.0, True), (0.0, True), (-2.0, False)])
def test_the_guard_keeps_rows_out_that_do_harm(gain: float, helps: bool) -> None:
    trainer = Trainer(gain)
    validated = cross_validate(
        make_human(100), make_synthetic([""] * 40), LABELS, trainer, folds=5, blend=False, seed=3
    )
    found = weigh_evidence(validated, **RECOGNISED, seed=3)
    assert found is not None
    assert found.helps is helps
    assert (found.folds, found.rows) == (5, 100)
    assert found.difference == pytest.approx(found.with_synthetic_auc - found.human_only_auc)
    assert found.difference_low <= found.difference <= found.difference_high
    if gain:
        assert (found.difference_low > 0) is helps
        assert 0 < found.difference_error < abs(found.difference)
    assert found == weigh_evidence(validated, **RECOGNISED, seed=3)


def test_no_row_is_scored_by_what_it_gave_rise_to() -> None:
    trainer = Trainer(0.0)
    shots = [f"h{number % 20} h{(number + 7) % 20}" for number in range(60)]
    cross_validate(make_human(20), make_synthetic(shots), LABELS, trainer, folds=4, blend=False, seed=1)
    assert len(trainer.calls) == 8
    scored = []
    for learned, rows, _ in trainer.calls:
        held_out = set(rows["id"])
        assert not held_out & set(learned["id"])
        synthetic = learned[learned["origin"] == "synthetic"]
        assert not any(held_out & set(row.split()) for row in synthetic["shots"])
        scored.append((len(synthetic), sorted(held_out)))
        assert set(rows["label"]) == set(LABELS)  # each fold has its share of both
    without, joined = scored[::2], scored[1::2]
    assert [names for _, names in without] == [names for _, names in joined]
    assert sorted(name for _, names in joined for name in names) == sorted(make_human(20)["id"])
    assert all(count == 0 for count, _ in without)
    assert all(count > 0 for count, _ in joined)


def test_both_sides_of_a_fold_are_trained_with_one_seed() -> None:
    trainer = Trainer(0.0)
    cross_validate(make_human(12), make_synthetic([""] * 4), LABELS, trainer, folds=3, blend=False, seed=7)
    assert [seed for *_, seed in trainer.calls] == [7, 7, 8, 8, 9, 9]


def test_one_class_alone_says_nothing() -> None:
    human = make_human(8).assign(label="bad")
    found = cross_validate(human, make_synthetic([""] * 4), LABELS, Trainer(1.0), folds=2, blend=False, seed=1)
    assert weigh_evidence(found, **RECOGNISED, seed=1) is None


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


def test_folds_on_different_scales_do_not_mix() -> None:
    actual, folds = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    scores = np.array([0.0, 1.0, 10.0, 11.0])
    logits = np.stack([-scores, scores], axis=1)
    assert measure_within(actual, folds, logits, np.ones((1, 4)))[0] == 1.0
    assert measure_within(actual, folds * 0, logits, np.ones((1, 4)))[0] == 0.75


def make_evidence(**changes: float) -> Evidence:
    difference = {"difference": 0.04444, "difference_error": 0.02, "difference_low": -0.01, "difference_high": 0.1}
    values = {"folds": 5, "rows": 51, "human_only_auc": 0.81234, "with_synthetic_auc": 0.85678, **difference}
    return Evidence(**RECOGNISED | values | changes)


def test_evidence_is_ready_for_json() -> None:
    assert make_evidence().to_dict() == {
        **{"helps": 1, "recognised": 1, "label_auc": 0.8, "least_label_auc": 0.65, "folds": 5, "rows": 51},
        **{"human_only_auc": 0.8123, "with_synthetic_auc": 0.8568},
        **{"difference": 0.0444, "difference_error": 0.02, "difference_low": -0.01, "difference_high": 0.1},
    }


@pytest.mark.parametrize(
    ("changes", "helps"),
    [
        ({"label_auc": 0.65}, True),
        ({"label_auc": 0.64}, False),
        ({"difference": -0.02}, True),
        ({"difference": -0.021}, False),
    ],
)
def test_rows_are_used_whose_labels_are_right_and_that_do_no_harm(changes: dict[str, float], helps: bool) -> None:
    assert make_evidence(**changes).helps is helps


def test_the_labels_auc_is_that_of_all_rows() -> None:
    synthetic = make_synthetic([""] * 4)
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    logits = np.stack([-scores, scores], axis=1)
    assert measure_label_auc(synthetic, LABELS, logits) == 0.75
    assert measure_label_auc(synthetic, LABELS, -logits) == 0.25
    assert measure_label_auc(synthetic.assign(label="bad"), LABELS, logits) == 0.5


def test_a_blend_is_judged_as_one() -> None:
    human, synthetic = make_human(60), make_synthetic([""] * 20)
    found = [
        weigh_evidence(
            cross_validate(human, synthetic, LABELS, Trainer(-3.0), folds=5, blend=blend, seed=2), **RECOGNISED, seed=2
        )
        for blend in (False, True)
    ]
    alone, together = (evidence.with_synthetic_auc for evidence in found if evidence)
    assert alone < together
    assert len({evidence.human_only_auc for evidence in found if evidence}) == 1


def test_what_was_said_of_each_row_is_the_likeliest_label_with_its_probability() -> None:
    alone, joined = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, np.log(3.0)], [0.0, 0.0]])
    found = CrossValidation(np.array([0, 1]), np.array([0, 1]), alone.astype(np.float32), joined)
    table = found.tabulate(make_human(2), LABELS, with_synthetic=True)
    assert table.to_dict("records") == [
        {"id": "h0", "label": "bad", "predicted": "good", "probability": 0.75},
        {"id": "h1", "label": "good", "predicted": "bad", "probability": 0.5},
    ]
    assert list(found.tabulate(make_human(2), LABELS, with_synthetic=False)["probability"]) == [0.5, 0.880797]
