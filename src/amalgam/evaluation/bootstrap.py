"""Intervals by a hierarchical bootstrap over training seeds and test rows.

Two things could have come out otherwise: which rows are in the test set, and which seeds the models were trained
with. Each resample draws both anew, with replacement; its value is the mean over the drawn seeds of the metric on
the drawn rows, and the interval is the middle of all resamples (percentile method, Efron and Tibshirani, 1993).

- All models see the same drawn rows and, by position, the same drawn seeds, so differences are paired. A method
  without seeds counts as having the same predictions for each.
- Rows of one group (say, sentences of one review) depend on each other: where the set has groups, whole groups are
  drawn in place of rows (cluster bootstrap, Davison and Hinkley, 1997, section 3.8).
- One seed fewer is drawn than there are: with as many as there are, the spread that few seeds show would come out
  too small, by a third for three (McCarthy and Snowden, 1985). With a single seed the interval covers rows only.
- Three seeds that differ a lot among themselves still give too narrow an interval (about 89 % in place of 95 % where
  seeds add as much spread as the rows do): train more of them.
- A resample that misses a label which the set holds is thrown away and drawn anew, since no AUC exists for it. That
  makes the interval a little narrow where a label has only a handful of rows or groups.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amalgam.evaluation.metrics import Floats, Ints, measure_weighted

# A resample's own calibration error is always larger than that of all rows: its percentiles are no interval.
_WITHOUT_INTERVAL = frozenset({"ece"})


@dataclass(frozen=True, slots=True)
class Resamples:
    """How often each row [r resamples, n rows] and each seed [r resamples, s seeds] was drawn."""

    rows: Floats
    seeds: Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric on all rows, mean over seeds, and its value on every resample [r]."""

    value: float
    draws: Floats


def draw_resamples(
    actual: Ints, groups: NDArray[np.int64] | None, *, seeds: int, resamples: int, rng: np.random.Generator
) -> Resamples:
    """Draw rows, or whole groups of them, and seeds.

    Args:
        actual: class index of each row [n].
        groups: group index of each row [n], counted from 0; None where rows are independent.
        seeds: number of training seeds.
        resamples: number of resamples.
        rng: where the randomness comes from.
    """
    units = np.arange(len(actual)) if groups is None else groups
    rows = _draw_weights(int(units.max()) + 1, resamples, rng)[:, units]
    holds_label = np.eye(int(actual.max()) + 1)[:, np.unique(actual)][actual]
    while len(missing := np.flatnonzero((rows @ holds_label == 0).any(axis=1))):
        rows[missing] = _draw_weights(int(units.max()) + 1, len(missing), rng)[:, units]
    return Resamples(rows, _draw_weights(seeds, resamples, rng, draws=max(1, seeds - 1)))


def estimate_metrics(
    actual: Ints, probabilities: Floats, resamples: Resamples, *, ordinal: bool
) -> dict[str, Estimate]:
    """Estimate every metric of one model.

    Args:
        actual: class index of each row [n].
        probabilities: [s seeds, n rows, k classes]; one seed stands for all.
        resamples: the draws, the same for all models that are compared.
        ordinal: whether the classes have an order.

    Raises:
        ValueError: the model has another number of seeds than was drawn, and not one.
    """
    count = len(probabilities)
    if count not in (1, resamples.seeds.shape[1]):
        raise ValueError(f"{count} seeds, but {resamples.seeds.shape[1]} were drawn")
    ones = np.ones((1, len(actual)))
    points = [measure_weighted(actual, seed, ones, ordinal=ordinal) for seed in probabilities]
    drawn = [measure_weighted(actual, seed, resamples.rows, ordinal=ordinal) for seed in probabilities]
    shares = resamples.seeds / resamples.seeds.sum(axis=1, keepdims=True) if count > 1 else np.ones((1, 1))
    return {
        name: Estimate(
            float(np.mean([point[name][0] for point in points])),
            (shares * np.stack([draws[name] for draws in drawn], axis=1)).sum(axis=1),
        )
        for name in points[0]
    }


def subtract_estimates(
    first: dict[str, Estimate], second: dict[str, Estimate], names: Iterable[str]
) -> dict[str, Estimate]:
    """Return the paired differences `first - second` of the named metrics, where both have them."""
    return {
        name: Estimate(first[name].value - second[name].value, first[name].draws - second[name].draws)
        for name in names
        if name in first and name in second
    }


def summarise_estimates(estimates: dict[str, Estimate], confidence: float) -> dict[str, float]:
    """Return `<name>`, `<name>_low` and `<name>_high` to 4 decimals; a metric that is not defined is left out."""
    summary: dict[str, float] = {}
    for name, estimate in estimates.items():
        if not math.isfinite(estimate.value):
            continue
        summary[name] = round(estimate.value, 4)
        if name not in _WITHOUT_INTERVAL:
            low, high = find_interval(estimate.draws, confidence)
            summary |= {f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
    return summary


def find_interval(draws: Floats, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of resampled values [r] that holds the share `confidence` of them."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _draw_weights(units: int, resamples: int, rng: np.random.Generator, draws: int | None = None) -> Floats:
    counts = rng.multinomial(units if draws is None else draws, np.full(units, 1 / units), size=resamples)
    return counts.astype(np.float64)
