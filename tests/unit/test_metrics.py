import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    multilabel_confusion_matrix,
    roc_auc_score,
)

from amalgam.evaluation import metrics

NAMES = (*metrics.METRICS, "fpr")
LABELS = ["bad", "good"]


def draw_case(seed, classes, rows=40, resamples=6):
    """Rows with tied scores, and resamples that hold every class."""
    rng = np.random.default_rng(seed)
    actual = rng.permutation(np.arange(rows) % classes)
    probabilities = rng.dirichlet(np.ones(classes), size=rows).round(1)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = rng.integers(0, 4, size=(resamples, rows)).astype(float)
    weights[:, [int(np.argmax(actual == index)) for index in range(classes)]] += 1
    return actual, probabilities, weights


def measure_with_sklearn(actual, probabilities):
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    labels = list(range(classes))
    positives = [1] if classes == 2 else labels
    counts = multilabel_confusion_matrix(actual, predicted, labels=labels)[positives]
    return {
        "auc": np.mean([roc_auc_score(actual == index, probabilities[:, index]) for index in positives]),
        "macro_f1": f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0),
        "accuracy": accuracy_score(actual, predicted),
        "kappa": cohen_kappa_score(actual, predicted, labels=labels),
        "brier": brier_score_loss(actual, probabilities, labels=labels),
        "quadratic_kappa": cohen_kappa_score(actual, predicted, labels=labels, weights="quadratic"),
        "fpr": np.mean([table[0, 1] / table[0].sum() for table in counts]),
    }


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_each_weighting_equals_scikit_learn_on_repeated_rows(seed, classes):
    actual, probabilities, weights = draw_case(seed, classes)
    measured = metrics.measure_weighted(actual, probabilities, weights, NAMES)
    for number, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(actual)), counts)
        expected = measure_with_sklearn(actual[rows], probabilities[rows])
        assert {name: measured[name][number] for name in expected} == pytest.approx(expected)
        assert measured.keys() - expected.keys() == {"ece"}


def test_calibration_error_by_hand():
    # Bin (0.5, 0.6]: mean probability 0.55, half right; bin (0.9, 1]: mean 1, all right.
    top = np.array([0.5001, 0.5999, 1.0, 1.0])
    probabilities = np.stack([1 - top, top], axis=1)
    actual = np.array([1, 0, 1, 1])
    weights = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    assert metrics.measure_weighted(actual, probabilities, weights, ["ece"])["ece"] == pytest.approx([0.05 / 2, 0.05])


def test_bins_hold_their_upper_edge():
    top = np.array([0.05, 0.1, 0.1000001, 0.3, 0.30000000000000004, 0.7, 0.95, 1.0])
    assert metrics.assign_bins(top).tolist() == [0, 0, 1, 2, 2, 6, 9, 9]


def test_what_one_class_leaves_undefined_is_nan():
    actual, probabilities = np.zeros(3, dtype=int), np.array([[1.0, 0.0], [0.6, 0.4], [0.9, 0.1]])
    measured = metrics.measure_weighted(actual, probabilities, np.ones((2, 3)), NAMES)
    assert np.isnan(measured["auc"]).all()
    assert np.isnan(measured["kappa"]).all()
    assert measured["accuracy"].tolist() == [1, 1]
    assert measured["macro_f1"].tolist() == [1, 1]


def test_blocks_change_nothing(monkeypatch):
    actual, probabilities, weights = draw_case(1, 3)
    whole = metrics.measure_weighted(actual, probabilities, weights, NAMES)
    monkeypatch.setattr(metrics, "_BLOCK", 80)
    parts = metrics.measure_weighted(actual, probabilities, weights, NAMES)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values)


def summarise(intended: str, judged: str) -> dict[str, object]:
    names = {"b": "bad", "g": "good", ".": ""}
    columns = (pd.Series([names[mark] for mark in marks], dtype=str) for marks in (intended, judged))
    return metrics.summarise_agreement(*columns, LABELS)


def test_agreement_by_hand() -> None:
    # Of five graded rows four agree; of the labels as given, bad is right in 2 of 2, good in 2 of 3.
    assert summarise("bbbggb", "bb.ggg") == {
        "rows": 6,
        "unparsed": 1,
        "accuracy": 0.8,
        "precision": round((1 + 2 / 3) / 2, 4),
        "recall": round((2 / 3 + 1) / 2, 4),
        "f1": 0.8,
        "kappa": round((0.8 - 0.48) / (1 - 0.48), 4),
    }


def test_no_grade_at_all_has_counts_alone() -> None:
    assert summarise("bg", "..") == {"rows": 2, "unparsed": 2}
    assert summarise("", "") == {"rows": 0, "unparsed": 0}


@pytest.mark.parametrize(("intended", "judged", "kappa"), [("bb", "bb", None), ("bb", "bg", 0.0), ("bg", "gb", -1.0)])
def test_kappa_is_left_out_where_it_is_undefined(intended: str, judged: str, kappa: float | None) -> None:
    assert summarise(intended, judged).get("kappa") == kappa
