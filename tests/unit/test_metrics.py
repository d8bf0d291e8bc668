import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, cohen_kappa_score, f1_score, roc_auc_score

from amalgam.evaluation import metrics

NAMES = (*metrics.METRICS, "fpr")


def measure_with_sklearn(actual, probabilities):
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    labels = list(range(classes))
    positives = [1] if classes == 2 else labels
    return {
        "auc": np.mean([roc_auc_score(actual == index, probabilities[:, index]) for index in positives]),
        "macro_f1": f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0),
        "accuracy": accuracy_score(actual, predicted),
        "kappa": cohen_kappa_score(actual, predicted, labels=labels),
        "brier": brier_score_loss(actual, probabilities, labels=labels),
        "quadratic_kappa": cohen_kappa_score(actual, predicted, labels=labels, weights="quadratic"),
        "fpr": np.mean([(predicted == index)[actual != index].mean() for index in positives]),
    }


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_each_weighting_equals_scikit_learn_on_repeated_rows(seed, classes):
    rng = np.random.default_rng(seed)
    actual = rng.permutation(np.arange(40) % classes)
    probabilities = rng.dirichlet(np.ones(classes), size=40).round(1)  # with ties
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = rng.integers(0, 4, size=(6, 40)).astype(float)
    weights[:, [int(np.argmax(actual == index)) for index in range(classes)]] += 1  # every class occurs
    measured = metrics.measure_weighted(actual, probabilities, weights, NAMES)
    for number, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(40), counts)
        expected = measure_with_sklearn(actual[rows], probabilities[rows])
        assert {name: measured[name][number] for name in expected} == pytest.approx(expected)
        assert measured.keys() - expected.keys() == {"ece"}


def score(*positive):
    return np.stack([1 - np.array(positive), positive], axis=1)


def test_calibration_error_by_hand():
    # Bin (0.5, 0.6]: mean probability 0.55, half right; bin (0.9, 1]: mean 1, all right.
    weights = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    found = metrics.measure_weighted(np.array([1, 0, 1, 1]), score(0.5001, 0.5999, 1.0, 1.0), weights, ["ece"])
    assert found["ece"] == pytest.approx([0.05 / 2, 0.05])


def test_what_one_class_leaves_undefined_is_nan():
    measured = metrics.measure_weighted(np.zeros(3, dtype=int), score(0.0, 0.4, 0.1), np.ones((2, 3)), NAMES)
    assert np.isnan([measured["auc"], measured["kappa"]]).all()
    assert [*measured["accuracy"], *measured["macro_f1"]] == [1, 1, 1, 1]


def summarise(intended: str, judged: str) -> dict[str, object]:
    names = {"b": "bad", "g": "good", ".": ""}
    columns = (pd.Series([names[mark] for mark in marks], dtype=str) for marks in (intended, judged))
    return metrics.summarise_agreement(*columns, ["bad", "good"])


def test_agreement_by_hand() -> None:
    # Four of five graded rows agree; among the labels as given, bad is right in 2 of 2, good in 2 of 3.
    assert summarise("bbbggb", "bb.ggg") == {
        **{"rows": 6, "unparsed": 1, "accuracy": 0.8, "precision": round((1 + 2 / 3) / 2, 4)},
        **{"recall": round((2 / 3 + 1) / 2, 4), "f1": 0.8, "kappa": round((0.8 - 0.48) / (1 - 0.48), 4)},
    }
    assert summarise("bg", "..") == {"rows": 2, "unparsed": 2}
    assert "kappa" not in summarise("bb", "bb")  # it is not defined
