"""Intervals, p-values and ratios keep their promises: by property, and on simulated models with a known AUC."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam.evaluation.bootstrap import (
    Estimate,
    correct_p_values,
    draw_resamples,
    estimate_metrics,
    estimate_models,
    find_interval,
    find_p_value,
    find_ratio,
    subtract,
    subtract_estimates,
    summarise_estimates,
)


def make_estimate(points, resampled, *, limits=(0.0, 1.0), independent=1000.0):
    return Estimate(np.asarray(points, dtype=float), np.asarray(resampled, dtype=float), independent, limits)


@pytest.mark.parametrize("grouped", [False, True])
def test_resamples_hold_every_label_and_as_many_units_as_there_are(grouped):
    actual = np.array([0, 0, 0, 0, 0, 0, 1, 2])
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3]) if grouped else None
    resamples = draw_resamples(actual, groups)
    assert all((resamples.rows[:, actual == index].sum(axis=1) > 0).all() for index in range(3))
    assert (resamples.rows.sum(axis=1) == 8).all()
    assert resamples.independent == (4 if grouped else 8)
    assert not grouped or (resamples.rows[:, 0::2] == resamples.rows[:, 1::2]).all()
    many = draw_resamples(np.arange(40), np.arange(40) // 2 if grouped else None, resamples=30)
    assert (many.rows > 0).all()  # so many labels with one row each are hardly ever drawn by chance


@pytest.mark.parametrize(("rows", "grouped"), [(16, False), (40, False), (40, True)])
def test_a_perfect_model_has_the_interval_of_as_many_rows_without_a_miss(rows, grouped):
    actual, groups = np.arange(rows) % 2, np.arange(rows) // 2
    right = np.eye(2)[actual][None] * 0.8 + 0.1
    found = estimate_models(actual, groups if grouped else None, {"a": right, "b": right}, ordinal=False)
    shown, half = summarise_estimates(found["a"], 0.95), rows / (4 if grouped else 2)
    assert (shown["auc"], shown["auc_high"]) == (1, 1)
    assert shown["auc_low"] == pytest.approx(0.025 ** (1 / half), abs=1e-4)
    assert shown["accuracy_low"] == pytest.approx(0.025 ** (0.5 / half), abs=1e-4)
    difference = subtract(found["a"]["auc"], found["b"]["auc"])
    assert (find_interval(difference, 0.95), find_p_value(difference)) == ((0, 0), 1)


@given(value=st.floats(0.001, 0.999), spread=st.floats(1e-6, 2), confidence=st.floats(0.6, 0.999))
def test_intervals_hold_the_value_and_stay_within_the_limits(value, spread, confidence):
    points = 2 * value - 1 + spread * np.array([-1, 0, 1])
    low, high = find_interval(make_estimate(points, np.tile(points, (5, 1)), limits=(-1.0, 1.0)), confidence)
    assert -1 <= low <= points[1] + 1e-9
    assert points[1] - 1e-9 <= high <= 1


@given(seed=st.integers(0, 1000), confidence=st.floats(0.6, 0.999))
def test_a_p_value_is_where_the_interval_begins_to_hold_zero(seed, confidence):
    rng = np.random.default_rng(seed)
    points = rng.normal(0.03, 0.02, size=3)
    difference = make_estimate(points, points + rng.normal(0, 0.02, size=(50, 1)), limits=(-1.0, 1.0), independent=30)
    low, high = find_interval(difference, confidence)
    p = find_p_value(difference)
    assert 0 < p <= 1
    assert (low > 0 or high < 0) == (p < 1 - confidence)


def test_no_difference_has_p_1_and_a_sure_one_the_smallest():
    none = make_estimate([0.0, 0.0], np.zeros((9, 2)), limits=(-1.0, 1.0))
    sure = make_estimate([0.5], 0.5 + 1e-6 * np.resize([-1, 1], 10)[:, None], limits=(-1.0, 1.0))
    assert (find_p_value(none), find_interval(none, 0.95)) == (1.0, (0.0, 0.0))
    assert 0 < find_p_value(sure) < 1e-9
    assert find_p_value(make_estimate([0.5], np.full((9, 1), 0.5), limits=(-1.0, 1.0))) == 0


def test_p_values_are_corrected_by_holm():
    assert correct_p_values([0.5, 0.01, 0.02, 0.015]) == pytest.approx([0.5, 0.04, 0.045, 0.045])
    assert correct_p_values([0.7, 0.6]) == [1, 1]
    assert correct_p_values([]) == []


def test_a_model_without_seeds_counts_as_equal_for_each():
    actual = np.arange(40) % 2
    one = np.random.default_rng(2).dirichlet(np.ones(2), size=(1, 40))
    found = estimate_models(actual, None, {"one": one, "three": np.repeat(one, 3, axis=0)}, ordinal=False)
    difference = subtract_estimates(found["one"], found["three"], ["auc", "quadratic_kappa"])
    assert list(difference) == ["auc"]
    assert difference["auc"].points == pytest.approx(np.zeros(3))


# Scores are normal in both labels, so the AUC is that of the binormal model. A row's noise is partly the same for all
# models, partly the same for all seeds of a model, and partly new for each seed; seeds may differ in quality as well.
AUC, ROWS, RESAMPLES, REPETITIONS = 0.85, 200, 80, 500


def simulate(*, seeds, spread, grouped):
    """Yield the AUCs of two equally good models on the same test set; `spread` is that of the seeds' quality.

    Groups have very unequal sizes, and half of the noise is common to a group.
    """
    rng = np.random.default_rng(1)
    for _ in range(REPETITIONS):
        actual, groups, noise = rng.integers(0, 2, size=ROWS), None, rng.normal(size=ROWS)
        if grouped:
            groups = np.repeat(np.arange(ROWS), rng.geometric(1 / 4, size=ROWS))[:ROWS]
            noise = math.sqrt(0.5) * (noise + rng.normal(size=ROWS)[groups])
        resamples = draw_resamples(actual, groups, resamples=RESAMPLES, rng=rng)
        estimates = []
        for _ in range(2):
            quality = math.sqrt(2 + spread**2) * NormalDist().inv_cdf(AUC) + spread * rng.normal(size=seeds)
            own = math.sqrt(0.7) * noise + math.sqrt(0.1) * rng.normal(size=ROWS)
            scores = quality[:, None] * actual + own + math.sqrt(0.2) * rng.normal(size=(seeds, ROWS))
            stacks = np.stack([-scores, scores], axis=2)
            estimates.append(estimate_metrics(actual, stacks, resamples, ordinal=False, names=["auc"])["auc"])
        yield estimates


@pytest.mark.parametrize(("seeds", "spread", "grouped"), [(1, 0.0, False), (3, 0.1, True), (5, 0.3, False)])
def test_95_percent_intervals_cover_the_true_auc_and_equal_models_are_seldom_told_apart(seeds, spread, grouped):
    covered, alarms = 0, 0
    for first, second in simulate(seeds=seeds, spread=spread, grouped=grouped):
        low, high = find_interval(first, 0.95)
        covered += low <= AUC <= high
        alarms += find_p_value(subtract(first, second)) < 0.05
    assert 0.93 <= covered / REPETITIONS <= 0.97
    # Not too few either: otherwise a test that never rejects would pass.
    assert seeds == 1 or 0.01 <= alarms / REPETITIONS <= 0.06


def draw_pair(rng, top, bottom):
    """Two estimates with correlated errors; the resamples spread around the values as these do around the truth."""
    noise = rng.normal(size=(201, 2))
    noise[:, 1] = 0.7 * noise[:, 0] + math.sqrt(0.51) * noise[:, 1]
    values = np.array([top, bottom]) + 0.05 * noise[0]
    drawn = values + 0.05 * noise[1:]
    return [make_estimate(values[[part]], drawn[:, [part]], independent=1e6) for part in (0, 1)]


def test_an_interval_covers_the_true_ratio_in_about_95_percent():
    rng = np.random.default_rng(1)
    # The denominator is four standard errors above 0, where the usual formula would fail.
    found = [find_ratio(*draw_pair(rng, 0.18, 0.2), 0.95, above=0.0) for _ in range(400)]
    finite = [one for one in found if len(one) == 3]
    covered = sum(low <= 0.9 <= high for _, low, high in finite) + len(found) - len(finite)
    assert 0.93 <= covered / 400 <= 0.97
    assert len(finite) > 380
    top, bottom = draw_pair(np.random.default_rng(2), 0.1, 0.05)  # which may be 0
    assert find_ratio(top, bottom, 0.95, above=0.0) == [top.value / bottom.value]
    assert find_ratio(top, bottom, 0.95, above=1.0) == []
