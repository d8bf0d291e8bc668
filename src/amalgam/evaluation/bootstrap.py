"""Intervals over training seeds and test rows, for single metrics, differences and ratios.

A metric is the mean over the seeds, and its uncertainty has two parts.

- Rows: a bootstrap (Efron and Tibshirani, 1993) draws the test rows with replacement, whole groups of them where rows
  depend on each other (Davison and Hinkley, 1997, section 3.8); groups of unequal size count as fewer (Kish, 1965).
- Seeds: the variance between them, over their number. Their chance differences on single rows are already in this
  part, so the rows' part is the covariance of two seeds over the resamples, as for several readers of the same cases
  (Obuchowski and Rockette, 1995; Hillis, 2007).
- The half-width of the interval, in standard errors, is a quantile of Student's t with one degree of freedom fewer than
  there are seeds or independent rows: the mean of both quantiles, weighted by their variances (Cochran and Cox, 1950).
  The interval is computed on the log-odds scale between the lowest and the highest possible value (delta method).
- If the value is the highest or the lowest possible, so are all resamples. The bound of Clopper and Pearson (1934)
  replaces them, for as many rows as the rarest class has: a perfect AUC says that none of these is confused. If one
  of two separate sets of rows has such a value, the interval of their difference comes from both intervals (Newcombe,
  1998, method 10).
- All models see the same resamples and, by position, the same seeds, so differences are paired. A method without seeds
  counts as having the same predictions for every seed.

`actual` holds the class index of each row [n], `groups` its group index, counted from 0, or None if rows are
independent; `probabilities` are [s seeds, n rows, k classes], where a single seed stands for all.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.evaluation.metrics import METRICS, Floats, Ints, measure_weighted
from amalgam.tasks.texts import count_independent

SEED, RESAMPLES = 5, 2000
# The calibration error of a resample is larger than that of all rows: chance opens gaps in all bins, and their
# absolute values add up. So resamples give no interval for it.
WITHOUT_INTERVAL = frozenset({"ece"})
_SMALLEST = 1e-12  # p-value
_DRAWS = 100  # at most, of a resample that misses a class
_WIDEST = 1e3  # times the ratio; an interval that extends beyond is uninformative

# For rows and for seeds: a variance and its degrees of freedom.
Variances = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Resamples:
    """How often each row was drawn [r resamples, n rows], and how many rows count as independent."""

    rows: Floats
    independent: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric, or a paired difference of two."""

    points: Floats  # of each seed on all rows [s]
    resampled: Floats  # of each seed on each resample of the rows [r, s]
    independent: float  # how many rows count as independent
    limits: tuple[float, float]  # the lowest and the highest possible value
    decisive: float = math.inf  # how many independent rows a value at a limit rests on
    sides: tuple["Estimate", ...] = ()  # both sides of a difference between separate sets of rows

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return float(self.points.mean())


Estimates = dict[str, dict[str, Estimate]]  # by model and metric


def encode_labels(rows: pd.DataFrame, labels: list[str], name: str) -> Ints:
    """Return the class index [n] of each row; DataError if a label is not one of the task's."""
    if unknown := sorted(set(rows["label"]) - set(labels)):
        raise DataError(f"{name} holds the label {unknown[0]!r}, which is not in task.yaml: run `dvc repro prepare`")
    return np.array([labels.index(label) for label in rows["label"]], dtype=np.int64)


def encode_groups(rows: pd.DataFrame) -> Ints | None:
    """Return the group index [n] of each row, None if the set has no groups; a row without a group is its own."""
    if "group" not in rows:
        return None
    names = ("group " + rows["group"]).where(rows["group"] != "", "row " + rows["id"])
    return np.asarray(pd.factorize(names)[0], dtype=np.int64)


def draw_resamples(
    actual: Ints, groups: Ints | None, *, resamples: int = RESAMPLES, rng: np.random.Generator | None = None
) -> Resamples:
    """Draw rows, or whole groups of rows; a resample that misses a class of `actual` has no AUC and is drawn again.

    With many rare classes, a row of each class that is still missing, with its group, is then added. Without `rng`,
    equal sets get equal draws.
    """
    rng = rng or np.random.default_rng(SEED)
    units = np.arange(len(actual)) if groups is None else groups
    holds_label = np.eye(int(actual.max()) + 1)[:, np.unique(actual)][actual]
    count = int(units.max()) + 1
    rows, missing = np.zeros((resamples, len(units))), np.arange(resamples)
    for _ in range(_DRAWS):
        rows[missing] = rng.multinomial(count, np.full(count, 1 / count), size=len(missing))[:, units]
        missing = missing[(rows[missing] @ holds_label == 0).any(axis=1)]
        if not len(missing):
            break
    for place, label in np.argwhere(rows @ holds_label == 0):
        rows[place, units == rng.choice(units[holds_label[:, label] == 1])] += 1
    return Resamples(rows, count_independent(units))


def estimate_models(actual: Ints, groups: Ints | None, predictions: dict[str, Floats], *, ordinal: bool) -> Estimates:
    """Estimate every metric of every model on the same resamples."""
    resamples = draw_resamples(actual, groups)
    return {model: estimate_metrics(actual, stack, resamples, ordinal=ordinal) for model, stack in predictions.items()}


def estimate_metrics(
    actual: Ints, probabilities: Floats, resamples: Resamples, *, ordinal: bool, names: Iterable[str] = METRICS
) -> dict[str, Estimate]:
    """Estimate metrics of one model; if the classes have no order, there is no `quadratic_kappa`."""
    names = [name for name in names if ordinal or name != "quadratic_kappa"]
    weights = np.concatenate([np.ones((1, len(actual))), resamples.rows])  # all rows first
    measured = [measure_weighted(actual, seed, weights, names) for seed in probabilities]
    highest = {"brier": 1.0 if probabilities.shape[2] == 2 else 2.0}
    rarest, found = float(np.unique(actual, return_counts=True)[1].min()) / len(actual), {}
    for name in names:
        points, *drawn = np.stack([values[name] for values in measured], axis=1)
        limits = (-1.0 if "kappa" in name else 0.0, highest.get(name, 1.0))
        decisive = resamples.independent * (1.0 if name == "accuracy" else rarest)
        found[name] = Estimate(points, np.array(drawn), resamples.independent, limits, decisive)
    return found


def subtract(first: Estimate, second: Estimate) -> Estimate:
    """Return the paired difference `first - second`."""
    width = first.limits[1] - first.limits[0]
    points, resampled = first.points - second.points, first.resampled - second.resampled
    return Estimate(points, resampled, first.independent, (-width, width))


def subtract_estimates(
    first: dict[str, Estimate], second: dict[str, Estimate], names: Iterable[str]
) -> dict[str, Estimate]:
    """Return the paired differences `first - second` of the named metrics that both have."""
    return {name: subtract(first[name], second[name]) for name in names if name in first and name in second}


def summarise_estimates(estimates: dict[str, Estimate], confidence: float) -> dict[str, float]:
    """Return `<name>`, `<name>_low` and `<name>_high` to 4 decimals; an undefined metric is left out."""
    summary: dict[str, float] = {}
    for name, estimate in estimates.items():
        if math.isfinite(estimate.value):
            summary[name] = round(estimate.value, 4)
            if name not in WITHOUT_INTERVAL:
                low, high = find_interval(estimate, confidence)
                summary |= {f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
    return summary


def find_interval(estimate: Estimate, confidence: float) -> tuple[float, float]:
    """Return the interval that holds the true value with probability `confidence`."""
    from scipy.special import expit

    if not all(find_errors(side)[0] for side in estimate.sides):
        first, second = (side.value for side in estimate.sides)
        (lowest, highest), (least, most) = (find_interval(side, confidence) for side in estimate.sides)
        down, up = math.hypot(first - lowest, most - second), math.hypot(highest - first, second - least)
        return estimate.value - down, estimate.value + up
    odds, error, variances = _find_odds(estimate)
    low, high = estimate.limits
    if not error:
        reach = (high - low) * (1 - ((1 - confidence) / 2) ** (1 / estimate.decisive))
        return estimate.value - reach * (estimate.value == high), estimate.value + reach * (estimate.value == low)
    step = error * find_quantile(variances, 1 - confidence)
    lower, upper = (low + (high - low) * float(expit(end)) for end in (odds - step, odds + step))
    return lower, upper


def find_p_value(difference: Estimate) -> float:
    """Return the two-sided p-value of a difference: one minus the largest confidence whose interval excludes 0."""
    from scipy.optimize import brentq

    odds, error, variances = _find_odds(difference)
    if not error:
        return float(difference.value == 0)
    distance = abs(odds) / error  # the log-odds of no difference are 0
    if find_quantile(variances, _SMALLEST) <= distance:
        return _SMALLEST
    return float(brentq(lambda tails: find_quantile(variances, tails) - distance, _SMALLEST, 1, xtol=_SMALLEST))


def correct_p_values(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's method (1979), which is valid however they depend on each other."""
    order = np.argsort(values, kind="stable")
    corrected = np.minimum(1.0, np.asarray(values)[order] * np.arange(len(values), 0, -1))
    return [float(value) for value in np.maximum.accumulate(corrected)[np.argsort(order)]]


def find_ratio(top: Estimate, bottom: Estimate, confidence: float, *, above: float) -> list[float]:
    """Return the ratio of two means over seeds, each minus the value `above`, and both ends of its interval.

    The interval is that of Fieller (1954): it holds every r for which `top - r * bottom` may well be 0. If `bottom`
    itself may be 0, only the ratio is returned; if `bottom` is not above the value, nothing.
    """
    from scipy.optimize import brentq

    def measure_excess(factor: float, ratio: float) -> float:
        """Return by how much `factor * top - ratio * bottom` is farther from 0 than chance explains."""
        points, resampled = (
            factor * (one - above) - ratio * (other - above)
            for one, other in ((top.points, bottom.points), (top.resampled, bottom.resampled))
        )
        error, variances = find_errors(Estimate(points, resampled, top.independent, (-1.0, 1.0)))
        return abs(float(points.mean())) - (error and error * find_quantile(variances, 1 - confidence))

    if not bottom.value > above:
        return []
    ratio = (top.value - above) / (bottom.value - above)
    found = [ratio]
    for sign in (-1, 1) if measure_excess(0, 1) > 0 else ():
        step = 1e-3 * (abs(ratio) + 1)
        while measure_excess(1, ratio + sign * step) < 0:
            step *= 2
            if step > _WIDEST * (abs(ratio) + 1):
                return [ratio]
        found.append(float(brentq(lambda value: measure_excess(1, value), ratio, ratio + sign * step)))
    return found


def find_errors(estimate: Estimate) -> tuple[float, Variances]:
    """Return the standard error, and the variances due to rows and seeds with their degrees of freedom.

    Resamples in which the metric is undefined, because they miss a label, do not count.
    """
    seeds, independent = len(estimate.points), max(2.0, estimate.independent)
    drawn = estimate.resampled[np.isfinite(estimate.resampled).all(axis=1)]
    common = float(drawn.var())
    if seeds > 1:  # the covariance of two seeds: the variance of a sum is that of its parts and twice each covariance
        common = float(drawn.sum(axis=1).var() - drawn.var(axis=0).sum()) / (seeds * (seeds - 1))
    rows = max(0.0, common) * independent / (independent - 1)
    between = float(estimate.points.var(ddof=1)) / seeds if seeds > 1 else 0.0
    return math.sqrt(rows + between), ((rows, independent - 1), (between, max(1, seeds - 1)))


def find_quantile(variances: Variances, tails: float) -> float:
    """Return how many standard errors leave the share `tails` outside: Student's t, weighted by the variances."""
    from scipy.special import stdtrit

    total = sum(variance for variance, _ in variances)
    return float(sum(-variance / total * stdtrit(freedom, tails / 2) for variance, freedom in variances))


def _find_odds(estimate: Estimate) -> tuple[float, float, Variances]:
    """Return the value as log-odds between its limits, their standard error (0 if nothing varies), and variances."""
    low, high = estimate.limits
    share = (estimate.value - low) / (high - low)
    error, variances = find_errors(estimate)
    if not 0 < share < 1:
        return 0.0, 0.0, variances
    return math.log(share / (1 - share)), error / (high - low) / (share * (1 - share)), variances
