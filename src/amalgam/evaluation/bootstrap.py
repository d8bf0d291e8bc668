"""Intervals over training seeds and test rows.

Two things could have come out otherwise: which rows are in the test set, and which seeds the models were trained
with. A metric is the mean over the seeds, and its uncertainty has two parts.

- Rows: a bootstrap (Efron and Tibshirani, 1993) draws the test rows anew, with replacement. Where the set has groups,
  its rows depend on each other (say, sentences of one review), and whole groups are drawn in their place (Davison
  and Hinkley, 1997, section 3.8).
- Seeds: the variance between them, over their number. They are too few to be drawn anew: three have only ten
  different resamples, whose spread would come out too small.
- Seeds differ on single rows by chance even where they are equally good. The seeds' part holds that already, so the
  rows' part is the covariance of two seeds over the resamples, as in studies in which several readers look at the
  same cases (Obuchowski and Rockette, 1995; Hillis, 2007). Here the seeds are the readers.
- The interval is so many standard errors wide as Student's t says, for one degree of freedom fewer than there are
  seeds, or rows that count as independent; the mean of both, weighted by their variances (Cochran and Cox, 1950).
  Where seeds matter, few of them make a wide interval: up to 4.3 standard errors for three, 2.8 for five.
- Rows in groups of unequal size count as n^2 / sum(group size^2) independent ones (Kish, 1965).
- Intervals are formed on the log-odds scale between the lowest and the highest value that can be (delta method), so
  that they stay within these.
- All models see the same drawn rows and, by position, the same seeds, so differences are paired. A method without
  seeds counts as having the same predictions for each.
- The calibration error has an interval of its own, see `amalgam.evaluation.calibration`.
- With a single seed the interval covers rows only: one run does not say how much runs differ.
- A resample that misses a label which the set holds is thrown away and drawn anew, since no AUC exists for it. That
  makes the interval a little narrow where a label has only a handful of rows or groups.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from amalgam.evaluation.calibration import invert_gaps
from amalgam.evaluation.metrics import Floats, Ints, measure_weighted, weigh_calibration_gaps
from amalgam.tasks.texts import count_independent

# A resample's own calibration error is larger than that of all rows, so differences of it have no interval.
WITHOUT_DIFFERENCE = frozenset({"ece"})
_SMALLEST = 1e-12  # p-value

# Of rows and of seeds: a variance and its degrees of freedom.
Variances = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Resamples:
    """How often each row was drawn [r resamples, n rows], and how many rows count as independent."""

    rows: Floats
    independent: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric, or a paired difference of two.

    Attributes:
        points: of each seed on all rows [s].
        resampled: of each seed on each resample of the rows [r, s].
        independent: how many rows count as independent.
        limits: the lowest and the highest value that can be.
        gaps: of the calibration error, the gaps by bin of all rows [1, s, b] and of each resample [r, s, b].
    """

    points: Floats
    resampled: Floats
    independent: float
    limits: tuple[float, float]
    gaps: tuple[Floats, Floats] | None = None

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return float(self.points.mean())


def draw_resamples(
    actual: Ints, groups: NDArray[np.int64] | None, *, resamples: int, rng: np.random.Generator
) -> Resamples:
    """Draw rows, or whole groups of them.

    Args:
        actual: class index of each row [n].
        groups: group index of each row [n], counted from 0; None where rows are independent.
        resamples: number of resamples.
        rng: where the randomness comes from.
    """
    units = np.arange(len(actual)) if groups is None else groups
    rows = _draw_weights(int(units.max()) + 1, resamples, rng)[:, units]
    holds_label = np.eye(int(actual.max()) + 1)[:, np.unique(actual)][actual]
    while len(missing := np.flatnonzero((rows @ holds_label == 0).any(axis=1))):
        rows[missing] = _draw_weights(int(units.max()) + 1, len(missing), rng)[:, units]
    return Resamples(rows, count_independent(units))


def estimate_metrics(
    actual: Ints, probabilities: Floats, resamples: Resamples, *, ordinal: bool
) -> dict[str, Estimate]:
    """Estimate every metric of one model.

    Args:
        actual: class index of each row [n].
        probabilities: [s seeds, n rows, k classes]; one seed stands for all.
        resamples: the draws, the same for all models that are compared.
        ordinal: whether the classes have an order.
    """
    ones = np.ones((1, len(actual)))
    points = [measure_weighted(actual, seed, ones, ordinal=ordinal) for seed in probabilities]
    drawn = [measure_weighted(actual, seed, resamples.rows, ordinal=ordinal) for seed in probabilities]
    estimates = {
        name: Estimate(
            np.array([point[name][0] for point in points]),
            np.stack([values[name] for values in drawn], axis=1),
            resamples.independent,
            _find_limits(name, probabilities.shape[2]),
        )
        for name in points[0]
    }
    gaps = [
        np.stack([weigh_calibration_gaps(actual, seed, weights) for seed in probabilities], axis=1)
        for weights in (ones, resamples.rows)
    ]
    return estimates | {"ece": replace(estimates["ece"], gaps=(gaps[0], gaps[1]))}


def subtract_estimates(
    first: dict[str, Estimate], second: dict[str, Estimate], names: Iterable[str]
) -> dict[str, Estimate]:
    """Return the paired differences `first - second` of the named metrics, where both have them.

    Raises:
        ValueError: the numbers of seeds differ, and neither is one.
    """
    return {name: _subtract(first[name], second[name]) for name in names if name in first and name in second}


def summarise_estimates(estimates: dict[str, Estimate], confidence: float) -> dict[str, float]:
    """Return `<name>`, `<name>_low` and `<name>_high` to 4 decimals; a metric that is not defined is left out."""
    summary: dict[str, float] = {}
    for name, estimate in estimates.items():
        if not math.isfinite(estimate.value):
            continue
        low, high = find_interval(estimate, confidence)
        summary |= {name: round(estimate.value, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
    return summary


def find_interval(estimate: Estimate, confidence: float) -> tuple[float, float]:
    """Return the interval that holds the true value with probability `confidence`."""
    if estimate.gaps is not None:
        return _find_gap_interval(estimate, *estimate.gaps, confidence)
    low, high = estimate.limits
    width, share = high - low, (estimate.value - low) / (high - low)
    error, variances = find_errors(estimate)
    if not error or not 0 < share < 1:
        return estimate.value, estimate.value
    step = error * find_quantile(variances, 1 - confidence) / width / (share * (1 - share))
    centre = _to_odds(share)
    return low + width * _to_share(centre - step), low + width * _to_share(centre + step)


def find_p_value(difference: Estimate) -> float:
    """Return the two-sided p-value of a difference: one minus the largest confidence whose interval leaves out 0."""
    from scipy.optimize import brentq

    low, high = difference.limits
    width, share = high - low, (difference.value - low) / (high - low)
    error, variances = find_errors(difference)
    if not error or not 0 < share < 1:
        return float(difference.value == 0)
    distance = abs(_to_odds(share) - _to_odds(-low / width)) * share * (1 - share) * width / error
    if find_quantile(variances, _SMALLEST) <= distance:
        return _SMALLEST
    return float(brentq(_compare_quantile, _SMALLEST, 1, args=(variances, distance), xtol=_SMALLEST))


def find_errors(estimate: Estimate) -> tuple[float, Variances]:
    """Return the standard error, and the variances due to rows and seeds with their degrees of freedom."""
    seeds, independent = len(estimate.points), max(2.0, estimate.independent)
    rows = max(0.0, _find_common_variance(estimate.resampled)) * independent / (independent - 1)
    between = float(estimate.points.var(ddof=1)) / seeds if seeds > 1 else 0.0
    return math.sqrt(rows + between), ((rows, independent - 1), (between, max(1, seeds - 1)))


def find_quantile(variances: Variances, tails: float) -> float:
    """Return how many standard errors leave out the share `tails`: Student's t, weighted by the variances."""
    from scipy.special import stdtrit

    total = sum(variance for variance, _ in variances)
    return float(sum(-variance / total * stdtrit(freedom, tails / 2) for variance, freedom in variances))


def _draw_weights(units: int, resamples: int, rng: np.random.Generator) -> Floats:
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)


def _find_limits(name: str, classes: int) -> tuple[float, float]:
    if "kappa" in name:
        return -1.0, 1.0
    return 0.0, 2.0 if name == "brier" and classes > 2 else 1.0


def _subtract(first: Estimate, second: Estimate) -> Estimate:
    width = first.limits[1] - first.limits[0]
    points, resampled = first.points - second.points, first.resampled - second.resampled
    return Estimate(points, resampled, first.independent, (-width, width))


def _find_gap_interval(estimate: Estimate, gaps: Floats, resampled: Floats, confidence: float) -> tuple[float, float]:
    """Widen the rows' interval of the calibration error by the spread between seeds."""
    low, middle, high = invert_gaps(gaps, resampled - gaps, 1 - confidence)
    (_, freedom), seeds = find_errors(estimate)[1]
    ends = []
    for end in (low, high):
        rows = (end - middle) / find_quantile(((1.0, freedom), (0.0, 1)), 1 - confidence)
        variances = (rows**2, freedom), seeds
        error = math.sqrt(rows**2 + seeds[0])
        ends.append(error and find_quantile(variances, 1 - confidence) * error)
    # The error as measured is too large rather than too small; still, nobody expects it outside of its interval.
    return max(0.0, middle - ends[0]), min(1.0, max(estimate.value, middle + ends[1]))


def _find_common_variance(resampled: Floats) -> float:
    """Return the mean covariance between two seeds' values over the resamples; with one seed, its variance."""
    seeds = int(resampled.shape[1])
    if seeds == 1:
        return float(resampled.var())
    # The variance of a sum is that of its parts and twice each covariance.
    together, apart = resampled.sum(axis=1).var(), resampled.var(axis=0).sum()
    return float(together - apart) / (seeds * (seeds - 1))


def _compare_quantile(tails: float, variances: Variances, distance: float) -> float:
    return find_quantile(variances, tails) - distance


def _to_odds(share: float) -> float:
    return math.log(share / (1 - share))


def _to_share(odds: float) -> float:
    return (1 + math.tanh(odds / 2)) / 2
