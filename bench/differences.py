"""Differences in AUC on the same test rows, also between methods trained with different numbers of seeds."""

import math
from dataclasses import dataclass, replace

from amalgam.evaluation.bootstrap import Estimate, find_errors, find_interval, find_p_value, subtract_estimates


@dataclass(frozen=True)
class Gain:
    """A difference of two AUCs, with its interval and p-value."""

    value: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        """Write the difference with its interval, for a table."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def measure_gain(first: Estimate, second: Estimate, confidence: float) -> Gain:
    """Subtract two AUCs, paired by test row, and by seed if both have the same number of seeds.

    If the numbers of seeds differ and neither is 1, the seeds count as independent draws: the variance between the
    seeds of each method is added to that of the rows, with degrees of freedom after Welch (1947). One seed reveals
    nothing about others, so a method with one seed adds no variance between seeds.
    """
    seeds, others = len(first.points), len(second.points)
    if seeds == others or 1 in (seeds, others):
        change = subtract_estimates({"auc": first}, {"auc": second}, ("auc",))["auc"]
        return Gain(change.value, *find_interval(change, confidence), find_p_value(change))
    from scipy.stats import t

    mean = replace(
        second, points=second.points.mean(keepdims=True), resampled=second.resampled.mean(axis=1, keepdims=True)
    )
    change = subtract_estimates({"auc": first}, {"auc": mean}, ("auc",))["auc"]
    parts = [*find_errors(change)[1], (float(second.points.var(ddof=1)) / others, others - 1)]
    total = sum(variance for variance, _ in parts)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    error = math.sqrt(total)
    reach = error * float(t.ppf((1 + confidence) / 2, freedom))
    p = 2 * float(t.sf(abs(change.value) / error, freedom))
    return Gain(change.value, change.value - reach, change.value + reach, p)
