import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from amalgam.evaluation.selective import measure_ceiling, measure_selective

LABELS = ["low", "mid", "high"]
CALIBRATION = {"temperature": 1.0, "threshold": None, "ask_below": 0.9, "guaranteed": False, "sentence": ""}


def score(positive):
    positive = np.asarray(positive, dtype=np.float64)
    return np.stack([1 - positive, positive], axis=1)


def test_coverage_and_agreement_by_hand():
    actual = np.array([1, 1, 0, 0, 1])
    found = measure_selective(actual, None, score([0.95, 0.2, 0.05, 0.92, 0.6]), CALIBRATION, 0.95)
    assert (found["rows"], found["ask_below"]) == (5, 0.9)
    assert (found["coverage"], found["agreement"]) == (0.6, pytest.approx(2 / 3, abs=1e-4))


def test_the_thresholds_are_those_that_ship():
    actual, probabilities = np.array([1, 0]), score([0.4, 0.02])
    moved = CALIBRATION | {"threshold": 0.3, "ask_below": 0.35}  # 0.4 for the last label is chosen, and kept
    found = measure_selective(actual, None, probabilities, moved, 0.95)
    assert (found["coverage"], found["agreement"]) == (1.0, 1.0)
    softened = CALIBRATION | {"temperature": 3.0}  # 0.98 becomes 0.79
    assert measure_selective(actual, None, probabilities, softened, 0.95)["coverage"] == 0.0


def test_without_a_row_that_is_kept_there_is_no_agreement():
    found = measure_selective(np.array([0, 1]), None, score([0.5, 0.5]), CALIBRATION, 0.95)
    assert found["coverage"] == 0.0
    assert not any(name.startswith("agreement") for name in found)


def test_twenty_rows_that_all_agree_are_no_proof():
    found = measure_selective(np.ones(20, dtype=np.int64), None, score([0.99] * 20), CALIBRATION, 0.95)
    exact = binomtest(20, 20).proportion_ci(0.95, method="exact").low
    assert (found["agreement"], found["agreement_low"]) == (1.0, pytest.approx(exact, abs=1e-4))
    groups = np.repeat(np.arange(4), 5)  # four groups of five count as four
    together = measure_selective(np.ones(20, dtype=np.int64), groups, score([0.99] * 20), CALIBRATION, 0.95)
    assert together["agreement_low"] == pytest.approx(0.025 ** (1 / 4), abs=1e-4)


def draw_ratings(raters=2, rows=120, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, size=rows)
    columns = {}
    for number in range(1, raters + 1):
        off = rng.random(rows) < 0.3
        columns[f"rater{number}"] = [LABELS[index] for index in np.where(off, rng.integers(0, 3, size=rows), truth)]
    return pd.DataFrame({"id": [str(row) for row in range(rows)], **columns})


def test_agreement_equals_scikit_learn():
    ratings = draw_ratings()
    found = measure_ceiling(ratings, None, LABELS, 0.95, ordinal=True)
    first, second = ratings["rater1"], ratings["rater2"]
    assert (found["rows"], found["raters"]) == (120, 2)
    assert found["accuracy"] == pytest.approx((first == second).mean(), abs=5e-5)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(first, second), abs=5e-5)
    quadratic = cohen_kappa_score(first, second, labels=LABELS, weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(quadratic, abs=5e-5)
    assert found["kappa_low"] < found["kappa"] < found["kappa_high"]
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 120)
    assert found["accuracy_high"] - found["accuracy_low"] == pytest.approx(2 * 1.98 * error, rel=0.1)


def test_three_raters_make_three_pairs_and_groups_widen_the_interval():
    ratings = draw_ratings(raters=3)
    names = ["rater1", "rater2", "rater3"]
    pairs = [(ratings[one], ratings[other]) for one in names for other in names if one < other]
    alone = measure_ceiling(ratings, None, LABELS, 0.95, ordinal=False)
    assert alone["accuracy"] == pytest.approx(np.mean([(one == other).mean() for one, other in pairs]), abs=5e-5)
    repeated = pd.concat([ratings] * 4, ignore_index=True)
    groups = np.tile(np.arange(120), 4)
    grouped = measure_ceiling(repeated, groups, LABELS, 0.95, ordinal=False)
    loose = measure_ceiling(repeated, None, LABELS, 0.95, ordinal=False)
    widths = [found["kappa_high"] - found["kappa_low"] for found in (alone, grouped, loose)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.15)


def test_a_rating_that_is_no_label_is_a_category_or_has_no_place_in_an_order():
    ratings = pd.DataFrame({"rater1": ["low", "high", "odd", "low"], "rater2": ["low", "low", "odd", ""]})
    nominal = measure_ceiling(ratings, None, LABELS, 0.95, ordinal=False)
    ordinal = measure_ceiling(ratings, None, LABELS, 0.95, ordinal=True)
    assert (nominal["rows"], nominal["accuracy"]) == (3, pytest.approx(2 / 3, abs=5e-5))
    assert (ordinal["rows"], ordinal["accuracy"]) == (2, 0.5)


@pytest.mark.parametrize("columns", [{}, {"rater1": ["low"]}, {"rater1": ["low"], "rater2": [""]}])
def test_without_two_raters_there_is_no_ceiling(columns):
    ratings = pd.DataFrame({"id": ["a"], **columns})
    assert measure_ceiling(ratings, None, LABELS, 0.95, ordinal=False) == {}
