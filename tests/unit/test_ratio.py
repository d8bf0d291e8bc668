import numpy as np
import pytest

from amalgam.evaluation.bootstrap import Estimate
from amalgam.evaluation.ratio import find_ratio_interval, shift_estimate, summarise_ratio


def make_estimate(points, resampled, independent=1e6):
    return Estimate(np.asarray(points, float), np.asarray(resampled, float), independent, (0.0, 1.0))


def draw_pair(rng, top, bottom, error, shared=0.7, resamples=200):
    """Two estimates whose errors go together; the resamples spread around the values as these do around the truth."""
    noise = rng.normal(size=(resamples + 1, 2))
    noise[:, 1] = shared * noise[:, 0] + np.sqrt(1 - shared**2) * noise[:, 1]
    values = np.array([top, bottom]) + error * noise[0]
    drawn = values + error * noise[1:]
    return [make_estimate([values[part]], drawn[:, part, None]) for part in (0, 1)]


def test_a_ratio_by_hand():
    student, teacher = make_estimate([0.8, 0.84], np.tile([0.8, 0.84], (9, 1))), make_estimate([0.9], [[0.9]] * 9)
    assert summarise_ratio("auc", student, teacher, 0.95)["auc"] == pytest.approx(0.82 / 0.9, abs=5e-5)
    above = summarise_ratio("above", shift_estimate(student, -0.5), shift_estimate(teacher, -0.5), 0.95)
    assert above["above"] == pytest.approx(0.32 / 0.4, abs=5e-5)
    # Only the seeds vary: 12.706 standard errors, for one degree of freedom.
    half = 12.7062 * np.std([0.8, 0.84], ddof=1) / np.sqrt(2)
    assert above["above_high"] - above["above_low"] == pytest.approx(2 * half / 0.4, rel=1e-3)


def test_an_interval_covers_the_true_ratio_in_about_95_percent():
    rng = np.random.default_rng(1)
    # The lower metric is four standard errors above 0, where the usual formula would fail.
    intervals = [find_ratio_interval(*draw_pair(rng, 0.18, 0.2, 0.05), 0.95) for _ in range(400)]
    found = [interval for interval in intervals if interval]
    covered = sum(low <= 0.9 <= high for low, high in found) + len(intervals) - len(found)
    assert 0.93 <= covered / 400 <= 0.97
    assert len(found) > 380


def test_no_finite_interval_where_the_lower_metric_may_be_0():
    rng = np.random.default_rng(2)
    top, bottom = draw_pair(rng, 0.1, 0.05, 0.05)
    assert find_ratio_interval(top, bottom, 0.95) is None
    assert list(summarise_ratio("auc", top, bottom, 0.95)) == ["auc"]
    assert summarise_ratio("auc", top, shift_estimate(bottom, -1), 0.95) == {}


def test_equal_metrics_keep_all():
    rng = np.random.default_rng(3)
    top, _ = draw_pair(rng, 0.3, 0.3, 0.02)
    assert find_ratio_interval(top, top, 0.95) == pytest.approx((1.0, 1.0))
