"""ABROCA: the area between the ROC curves of two groups of rows (Gardner, Brooks and Baker, 2019).

It is 0 where a model ranks the rows of both groups equally well at every threshold, and it is never negative: chance
alone makes it larger than 0, the more so the fewer rows there are. So it comes with what chance would make of it.
"""

import numpy as np
from numpy.typing import NDArray

from amalgam.evaluation.metrics import Floats, Ints

Bools = NDArray[np.bool_]


def measure_abroca(actual: Ints, stack: Floats, members: Bools) -> Floats:
    """Return the area [r], the mean over seeds; NaN where a group lacks positive or negative rows.

    For two classes the last one is positive. For more it is the plain mean over classes of one class against the rest.

    Args:
        actual: class index of each row [n].
        stack: probabilities [s seeds, n rows, k classes].
        members: which rows belong to the one group [r ways to divide them, n]; all others are the other group.
    """
    classes = stack.shape[2]
    positives = [classes - 1] if classes == 2 else range(classes)
    areas = [_measure_areas(actual == index, seed[:, index], members) for seed in stack for index in positives]
    return np.asarray(np.mean(areas, axis=0))


def shuffle_members(actual: Ints, member: Bools, units: Ints | None, *, times: int, rng: np.random.Generator) -> Bools:
    """Draw divisions [times, n] of the rows that have nothing to do with the model's scores.

    Membership moves among rows of the same label. Where rows come in units that depend on each other (say, the
    answers of one person), and each unit is of one group as a whole, it moves among whole units.
    """
    if units is not None:
        sizes = np.bincount(units)
        shares = np.bincount(units, weights=member) / np.maximum(sizes, 1)
        if np.isin(shares, (0, 1)).all():
            return np.stack([rng.permutation(shares == 1)[units] for _ in range(times)])
    drawn = np.tile(member, (times, 1))
    for index in np.unique(actual):
        rows = np.flatnonzero(actual == index)
        drawn[:, rows] = rng.permuted(drawn[:, rows], axis=1)
    return drawn


def _measure_areas(positive: Bools, scores: Floats, members: Bools) -> Floats:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))  # the last row of each run of equal scores
    kinds = positive[order]
    fpr, tpr = _trace(members[:, order], kinds, ends)
    others = _trace(~members[:, order], kinds, ends)
    return np.array([_integrate(*rates) for rates in zip(fpr, tpr, *others, strict=True)])


def _trace(part: Bools, kinds: Bools, ends: Ints) -> tuple[Floats, Floats]:
    """Return false and true positive rates [r, thresholds + 1] of the rows in each part [r, n]."""
    rates = []
    for rows in (part & ~kinds, part & kinds):
        counts = np.pad(rows.cumsum(axis=1)[:, ends], ((0, 0), (1, 0))).astype(np.float64)
        totals = counts[:, -1:]
        rates.append(np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0))
    return rates[0], rates[1]


def _integrate(fpr: Floats, tpr: Floats, other_fpr: Floats, other_tpr: Floats) -> float:
    """Return the area between two curves of straight lines, exactly."""
    if not np.isfinite([fpr[-1], tpr[-1], other_fpr[-1], other_tpr[-1]]).all():
        return float("nan")
    knots = np.unique(np.concatenate([fpr, other_fpr]))
    starts, widths = knots[:-1], np.diff(knots)
    # Between two knots the difference is a line; two points inside give it, clear of jumps at the knots.
    first, second = (
        np.interp(inside, fpr, tpr) - np.interp(inside, other_fpr, other_tpr)
        for inside in (starts + widths / 3, starts + 2 * widths / 3)
    )
    left, right = 2 * first - second, 2 * second - first
    both = np.abs(left) + np.abs(right)
    crossing = np.divide(left**2 + right**2, both, out=np.zeros_like(both), where=both > 0)
    return float((widths * np.where(left * right >= 0, both, crossing) / 2).sum())
