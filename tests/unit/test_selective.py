import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from amalgam.evaluation.selective import measure_selective
from amalgam.params import Evaluation

PARAMS = Evaluation(seed=1, resamples=500, confidence=0.95)
CALIBRATION = {"temperature": 1.0, "threshold": None, "ask_below": 0.9, "guaranteed": False, "sentence": ""}


def score(positive):
    positive = np.asarray(positive, dtype=np.float64)
    return np.stack([1 - positive, positive], axis=1)


def test_coverage_and_agreement_by_hand():
    actual = np.array([1, 1, 0, 0, 1])
    found = measure_selective(actual, None, score([0.95, 0.2, 0.05, 0.92, 0.6]), CALIBRATION, PARAMS)
    assert (found["rows"], found["ask_below"]) == (5, 0.9)
    assert (found["coverage"], found["agreement"]) == (0.6, pytest.approx(2 / 3, abs=1e-4))


def test_the_thresholds_are_those_that_ship():
    actual, probabilities = np.array([1, 0]), score([0.4, 0.02])
    moved = CALIBRATION | {"threshold": 0.3, "ask_below": 0.35}  # 0.4 for the last label is chosen, and kept
    found = measure_selective(actual, None, probabilities, moved, PARAMS)
    assert (found["coverage"], found["agreement"]) == (1.0, 1.0)
    softened = CALIBRATION | {"temperature": 3.0}  # 0.98 becomes 0.79
    assert measure_selective(actual, None, probabilities, softened, PARAMS)["coverage"] == 0.0


def test_without_a_row_that_is_kept_there_is_no_agreement():
    found = measure_selective(np.array([0, 1]), None, score([0.5, 0.5]), CALIBRATION, PARAMS)
    assert found["coverage"] == 0.0
    assert not any(name.startswith("agreement") for name in found)


def test_twenty_rows_that_all_agree_are_no_proof():
    found = measure_selective(np.ones(20, dtype=np.int64), None, score([0.99] * 20), CALIBRATION, PARAMS)
    exact = binomtest(20, 20).proportion_ci(0.95, method="exact").low
    assert (found["agreement"], found["agreement_low"]) == (1.0, pytest.approx(exact, abs=1e-4))
    groups = np.repeat(np.arange(4), 5)  # four groups of five count as four
    together = measure_selective(np.ones(20, dtype=np.int64), groups, score([0.99] * 20), CALIBRATION, PARAMS)
    assert together["agreement_low"] == pytest.approx(0.025 ** (1 / 4), abs=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_intervals_hold_what_was_measured(seed):
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, 2, size=60)
    found = measure_selective(actual, None, score(rng.uniform(size=60)), CALIBRATION | {"ask_below": 0.7}, PARAMS)
    for name in ("coverage", "agreement"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
