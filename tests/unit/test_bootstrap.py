import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam.evaluation.bootstrap import (
    Estimate,
    draw_resamples,
    estimate_metrics,
    find_interval,
    find_p_value,
    subtract_estimates,
)


def make_estimate(points, resampled, *, limits=(0.0, 1.0), independent=1000.0):
    return Estimate(np.asarray(points, dtype=float), np.asarray(resampled, dtype=float), independent, limits)


@given(seed=st.integers(0, 1000), grouped=st.booleans())
def test_resamples_hold_every_label_and_as_many_units_as_there_are(seed, grouped):
    rng = np.random.default_rng(seed)
    actual = np.array([0, 0, 0, 0, 0, 0, 1, 2])
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3]) if grouped else None
    resamples = draw_resamples(actual, groups, resamples=30, rng=rng)
    for index in range(3):
        assert (resamples.rows[:, actual == index].sum(axis=1) > 0).all()
    assert (resamples.rows.sum(axis=1) == 8).all()
    assert resamples.independent == (4 if grouped else 8)
    if grouped:
        assert (resamples.rows[:, 0::2] == resamples.rows[:, 1::2]).all()


@given(
    value=st.floats(0.001, 0.999),
    spread=st.floats(1e-6, 2),
    confidence=st.floats(0.6, 0.999),
    limits=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 2.0)]),
)
def test_intervals_hold_the_value_and_stay_within_the_limits(value, spread, confidence, limits):
    low, high = limits
    scaled = low + value * (high - low)
    points = scaled + spread * np.array([-1, 0, 1])
    ends = find_interval(make_estimate(points, np.tile(points, (5, 1)), limits=limits), confidence)
    assert low <= ends[0] <= scaled + 1e-9
    assert scaled - 1e-9 <= ends[1] <= high


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


def test_a_model_without_seeds_counts_as_equal_for_each():
    rng = np.random.default_rng(2)
    actual = np.arange(40) % 2
    one = rng.dirichlet(np.ones(2), size=(1, 40))
    resamples = draw_resamples(actual, None, resamples=50, rng=rng)
    alone = estimate_metrics(actual, one, resamples, ordinal=False)
    thrice = estimate_metrics(actual, np.repeat(one, 3, axis=0), resamples, ordinal=False)
    difference = subtract_estimates(alone, thrice, ["auc", "quadratic_kappa"])
    assert list(difference) == ["auc"]
    assert difference["auc"].points == pytest.approx(np.zeros(3))


# What intervals and p-values promise, on simulated models whose AUC is known. Scores are normal in both labels, so the
# AUC is that of the binormal model. A row's noise is in part the same for all models, in part the same for all seeds of
# a model, and in part new for each seed; seeds may differ in quality as well.
AUC, ROWS, RESAMPLES, REPETITIONS = 0.85, 200, 80, 500
NORMAL = NormalDist()


def draw_test_set(rng, grouped):
    """Draw labels, groups of very unequal size or None, and the rows' noise, half of it common to a group."""
    if not grouped:
        return rng.integers(0, 2, size=ROWS), None, rng.normal(size=ROWS)
    sizes = rng.geometric(1 / 4, size=ROWS)
    groups = np.repeat(np.arange(ROWS), sizes)[:ROWS]
    noise = math.sqrt(0.5) * (rng.normal(size=ROWS)[groups] + rng.normal(size=ROWS))
    return rng.integers(0, 2, size=ROWS), groups, noise


def draw_estimate(rng, actual, noise, resamples, seeds, spread):
    """Train a model `seeds` times; `spread` is the standard deviation of its quality, in score units."""
    quality = math.sqrt(2 + spread**2) * NORMAL.inv_cdf(AUC) + spread * rng.normal(size=seeds)
    own = math.sqrt(0.7) * noise + math.sqrt(0.1) * rng.normal(size=len(actual))
    scores = quality[:, None] * actual + own + math.sqrt(0.2) * rng.normal(size=(seeds, len(actual)))
    stacks = np.stack([-scores, scores], axis=2)
    return estimate_metrics(actual, stacks, resamples, ordinal=False, names=["auc"])


def simulate(seed, *, models, seeds, spread, grouped):
    """Yield the estimates of so many equally good models on the same test set, for each repetition."""
    rng = np.random.default_rng(seed)
    for _ in range(REPETITIONS):
        actual, groups, noise = draw_test_set(rng, grouped)
        resamples = draw_resamples(actual, groups, resamples=RESAMPLES, rng=rng)
        yield [draw_estimate(rng, actual, noise, resamples, seeds, spread) for _ in range(models)]


@pytest.mark.parametrize(("seeds", "spread", "grouped"), [(1, 0.0, False), (3, 0.1, True), (5, 0.3, False)])
def test_a_95_percent_interval_covers_the_true_auc_in_93_to_97_percent(seeds, spread, grouped):
    covered = 0
    for (estimate,) in simulate(1, models=1, seeds=seeds, spread=spread, grouped=grouped):
        low, high = find_interval(estimate["auc"], 0.95)
        covered += low <= AUC <= high
    assert 0.93 <= covered / REPETITIONS <= 0.97


@pytest.mark.parametrize(("seeds", "spread", "grouped"), [(3, 0.1, False), (3, 0.3, True)])
def test_equal_models_are_told_apart_in_at_most_6_percent(seeds, spread, grouped):
    alarms = 0
    for first, second in simulate(2, models=2, seeds=seeds, spread=spread, grouped=grouped):
        alarms += find_p_value(subtract_estimates(first, second, ["auc"])["auc"]) < 0.05
    # More than a few as well: a test that never speaks would pass otherwise.
    assert 0.01 <= alarms / REPETITIONS <= 0.06
