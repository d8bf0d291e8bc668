import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    multilabel_confusion_matrix,
    roc_auc_score,
)

from amalgam.evaluation import metrics
from amalgam.evaluation.selective import measure_ceiling, measure_selective

NAMES = (*metrics.METRICS, "fpr")
SCALE = ["low", "mid", "high"]
CALIBRATION = {"temperature": 1.0, "threshold": None, "ask_below": 0.9, "guaranteed": False, "sentence": ""}


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


def test_calibration_error_by_hand():
    # Bin (0.5, 0.6]: mean probability 0.55, half right; bin (0.9, 1]: mean 1, all right.
    weights = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    found = metrics.measure_weighted(np.array([1, 0, 1, 1]), score([0.5001, 0.5999, 1.0, 1.0]), weights, ["ece"])
    assert found["ece"] == pytest.approx([0.05 / 2, 0.05])


def test_what_one_class_leaves_undefined_is_nan():
    measured = metrics.measure_weighted(np.zeros(3, dtype=int), score([0.0, 0.4, 0.1]), np.ones((2, 3)), NAMES)
    assert np.isnan([measured["auc"], measured["kappa"]]).all()
    assert [*measured["accuracy"], *measured["macro_f1"]] == [1, 1, 1, 1]


def summarise(intended: str, judged: str) -> dict[str, object]:
    names = {"b": "bad", "g": "good", ".": ""}
    columns = (pd.Series([names[mark] for mark in marks], dtype=str) for marks in (intended, judged))
    return metrics.summarise_agreement(*columns, ["bad", "good"])


def test_agreement_by_hand() -> None:
    # Of five graded rows four agree; of the labels as given, bad is right in 2 of 2, good in 2 of 3.
    assert summarise("bbbggb", "bb.ggg") == {
        **{"rows": 6, "unparsed": 1, "accuracy": 0.8, "precision": round((1 + 2 / 3) / 2, 4)},
        **{"recall": round((2 / 3 + 1) / 2, 4), "f1": 0.8, "kappa": round((0.8 - 0.48) / (1 - 0.48), 4)},
    }
    assert summarise("bg", "..") == {"rows": 2, "unparsed": 2}
    assert "kappa" not in summarise("bb", "bb")  # it is not defined


def score(positive):
    positive = np.asarray(positive, dtype=np.float64)
    return np.stack([1 - positive, positive], axis=1)


@pytest.mark.parametrize(
    ("positive", "changes", "coverage", "agreement"),
    [
        ([0.95, 0.2, 0.05, 0.92, 0.6], {}, 0.6, 0.6667),
        ([0.5] * 5, {}, 0.0, None),  # none of no rows
        ([0.4, 0.4, 0.02, 0.02, 0.4], {"threshold": 0.3, "ask_below": 0.35}, 1.0, 1.0),  # 0.4 for the last is chosen
        ([0.98] * 5, {"temperature": 3.0}, 0.0, None),  # 0.98 becomes 0.79
    ],
)
def test_coverage_and_agreement_are_those_of_the_thresholds_that_ship(positive, changes, coverage, agreement):
    actual = np.array([1, 1, 0, 0, 1])
    found = measure_selective(actual, None, score(positive), CALIBRATION | changes, 0.95)
    assert (found["rows"], found["coverage"], found.get("agreement")) == (5, coverage, agreement)


def test_twenty_rows_that_all_agree_are_no_proof():
    exact = binomtest(20, 20).proportion_ci(0.95, method="exact").low
    # Four groups of five rows count as four.
    for groups, lowest in ((None, exact), (np.repeat(np.arange(4), 5), 0.025 ** (1 / 4))):
        found = measure_selective(np.ones(20, dtype=np.int64), groups, score([0.99] * 20), CALIBRATION, 0.95)
        assert (found["agreement"], found["agreement_low"]) == (1.0, pytest.approx(lowest, abs=1e-4))


def draw_ratings(raters):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, size=120)
    columns = {}
    for number in range(1, raters + 1):
        off = rng.random(120) < 0.3
        columns[f"rater{number}"] = [SCALE[index] for index in np.where(off, rng.integers(0, 3, size=120), truth)]
    return pd.DataFrame({"id": [str(row) for row in range(120)], **columns})


def test_agreement_of_raters_equals_scikit_learn():
    ratings = draw_ratings(2)
    found = measure_ceiling(ratings, None, SCALE, 0.95, ordinal=True)
    first, second = ratings["rater1"], ratings["rater2"]
    expected = {
        **{"rows": 120, "raters": 2, "accuracy": (first == second).mean(), "kappa": cohen_kappa_score(first, second)},
        "quadratic_kappa": cohen_kappa_score(first, second, labels=SCALE, weights="quadratic"),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=5e-5)
    assert found["kappa_low"] < found["kappa"] < found["kappa_high"]
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 120)
    assert found["accuracy_high"] - found["accuracy_low"] == pytest.approx(2 * 1.98 * error, rel=0.1)


def test_three_raters_make_three_pairs_and_groups_widen_the_interval():
    ratings = draw_ratings(3)
    names = ["rater1", "rater2", "rater3"]
    pairs = [(ratings[one], ratings[other]) for one in names for other in names if one < other]
    alone = measure_ceiling(ratings, None, SCALE, 0.95, ordinal=False)
    assert alone["accuracy"] == pytest.approx(np.mean([(one == other).mean() for one, other in pairs]), abs=5e-5)
    repeated = pd.concat([ratings] * 4, ignore_index=True)
    grouped, loose = (
        measure_ceiling(repeated, groups, SCALE, 0.95, ordinal=False) for groups in (np.tile(np.arange(120), 4), None)
    )
    widths = [found["kappa_high"] - found["kappa_low"] for found in (alone, grouped, loose)]
    assert widths[1:] == pytest.approx([widths[0], widths[0] / 2], rel=0.15)


def test_a_rating_that_is_no_label_is_a_category_or_has_no_place_in_an_order():
    ratings = pd.DataFrame({"rater1": ["low", "high", "odd", "low"], "rater2": ["low", "low", "odd", ""]})
    nominal, ordinal = (measure_ceiling(ratings, None, SCALE, 0.95, ordinal=ordinal) for ordinal in (False, True))
    assert (nominal["rows"], nominal["accuracy"]) == (3, pytest.approx(2 / 3, abs=5e-5))
    assert (ordinal["rows"], ordinal["accuracy"]) == (2, 0.5)
    assert measure_ceiling(ratings[["rater1"]], None, SCALE, 0.95, ordinal=False) == {}  # one rater alone
