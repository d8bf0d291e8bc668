"""Differences of AUC on the same test rows, also between methods that were trained with different numbers of seeds."""

import math
from dataclasses import dataclass, replace

from amalgam.evaluation.bootstrap import Estimate, find_errors, find_interval, find_p_value, subtract_estimates


@dataclass(frozen=True)
class Gain:
    """By how much one AUC is above another, with its interval and p-value."""

    value: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        """Write the difference with its interval, for a table."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def measure_gain(first: Estimate, second: Estimate, confidence: float) -> Gain:
    """Subtract two AUCs, paired by test row, and by seed where both have as many.

    Where the numbers of seeds differ, and neither is 1, the seeds count as independent draws: the variance between
    those of each method adds to that of the rows, with degrees of freedom after Welch (1947). One seed says nothing of
    others, so the variance between seeds of a method with one is left out.
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
