"""What intervals and p-values promise, checked on simulated models whose AUC is known.

Scores are normal in both labels, so the AUC is that of the binormal model. A row's noise is in part the same for all
models, in part the same for all seeds of a model, and in part new for each seed; seeds may differ in quality as well.
"""

import math
from statistics import NormalDist

import numpy as np
import pytest

from amalgam.evaluation.bootstrap import (
    Estimate,
    draw_resamples,
    find_interval,
    find_p_value,
    subtract_estimates,
)
from amalgam.evaluation.metrics import weigh_auc

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
    ones = np.ones((1, len(actual)))
    points = np.array([weigh_auc(actual, stack, ones)[0] for stack in stacks])
    resampled = np.stack([weigh_auc(actual, stack, resamples.rows) for stack in stacks], axis=1)
    return {"auc": Estimate(points, resampled, resamples.independent, (0.0, 1.0))}


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
