import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, cohen_kappa_score, f1_score, roc_auc_score

from amalgam.evaluation import metrics


def draw_case(seed, classes, rows=40, resamples=6):
    """Rows with tied scores, and resamples that hold every class."""
    rng = np.random.default_rng(seed)
    actual = rng.permutation(np.arange(rows) % classes)
    probabilities = rng.dirichlet(np.ones(classes), size=rows).round(1)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = rng.integers(0, 4, size=(resamples, rows)).astype(float)
    weights[:, [int(np.argmax(actual == index)) for index in range(classes)]] += 1
    return actual, probabilities, weights


def measure_with_sklearn(actual, probabilities, ordinal):
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    labels = list(range(classes))
    positives = [1] if classes == 2 else labels
    values = {
        "auc": np.mean([roc_auc_score(actual == index, probabilities[:, index]) for index in positives]),
        "macro_f1": f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0),
        "accuracy": accuracy_score(actual, predicted),
        "kappa": cohen_kappa_score(actual, predicted, labels=labels),
        "brier": brier_score_loss(actual, probabilities, labels=labels),
    }
    if ordinal:
        values["quadratic_kappa"] = cohen_kappa_score(actual, predicted, labels=labels, weights="quadratic")
    return values


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), ordinal=st.booleans())
def test_each_weighting_equals_scikit_learn_on_repeated_rows(seed, classes, ordinal):
    actual, probabilities, weights = draw_case(seed, classes)
    measured = metrics.measure_weighted(actual, probabilities, weights, ordinal=ordinal)
    for number, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(actual)), counts)
        expected = measure_with_sklearn(actual[rows], probabilities[rows], ordinal)
        assert {name: measured[name][number] for name in expected} == pytest.approx(expected)
        assert measured.keys() - expected.keys() == {"ece"}


def test_macro_auc_equals_scikit_learn_one_against_rest():
    actual, probabilities, _ = draw_case(3, 4)
    expected = roc_auc_score(actual, probabilities, multi_class="ovr", average="macro")
    assert metrics.weigh_auc(actual, probabilities, np.ones((1, 40))) == pytest.approx([expected])


def test_calibration_error_by_hand():
    # Bin (0.5, 0.6]: mean probability 0.55, half right; bin (0.9, 1]: mean 1, all right.
    top = np.array([0.5001, 0.5999, 1.0, 1.0])
    probabilities = np.stack([1 - top, top], axis=1)
    actual = np.array([1, 0, 1, 1])
    error = metrics.weigh_calibration_error(actual, probabilities, np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]]))
    assert error == pytest.approx([0.05 / 2, 0.05])


def test_bins_hold_their_upper_edge():
    top = np.array([0.05, 0.1, 0.1000001, 0.3, 0.30000000000000004, 0.7, 0.95, 1.0])
    assert metrics.assign_bins(top).tolist() == [0, 0, 1, 2, 2, 6, 9, 9]


def test_quadratic_kappa_by_hand():
    # Two of four rows miss by one class; of the 16 pairs of an actual and a predicted label, 8 miss by one, 4 by two.
    confusions = metrics.count_confusions(np.array([0, 0, 2, 2]), np.array([0, 1, 1, 2]), np.ones((1, 4)), 3)
    assert metrics.weigh_kappa(confusions, quadratic=True) == pytest.approx([1 - (2 / 4) / ((8 * 1 + 4 * 4) / 16)])


def test_perfect_and_useless_models():
    actual = np.array([0, 1, 0, 1])
    perfect, useless = np.eye(2)[actual], np.full((4, 2), 0.5)
    ones = np.ones((1, 4))
    best = metrics.measure_weighted(actual, perfect, ones, ordinal=False)
    assert {name: value[0] for name, value in best.items()} == {
        **dict.fromkeys(["auc", "macro_f1", "accuracy", "kappa"], 1.0),
        "brier": 0.0,
        "ece": 0.0,
    }
    worst = metrics.measure_weighted(actual, useless, ones, ordinal=False)
    assert (worst["auc"][0], worst["kappa"][0], worst["brier"][0], worst["ece"][0]) == (0.5, 0.0, 0.25, 0.0)


def test_what_one_class_leaves_undefined_is_nan():
    actual, probabilities = np.zeros(3, dtype=int), np.array([[1.0, 0.0], [0.6, 0.4], [0.9, 0.1]])
    measured = metrics.measure_weighted(actual, probabilities, np.ones((2, 3)), ordinal=False)
    assert np.isnan(measured["auc"]).all()
    assert np.isnan(measured["kappa"]).all()
    assert measured["accuracy"].tolist() == [1, 1]
    assert measured["macro_f1"].tolist() == [1, 1]


def test_blocks_change_nothing(monkeypatch):
    actual, probabilities, weights = draw_case(1, 3)
    whole = metrics.measure_weighted(actual, probabilities, weights, ordinal=True)
    monkeypatch.setattr(metrics, "_BLOCK", 80)
    parts = metrics.measure_weighted(actual, probabilities, weights, ordinal=True)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values)
