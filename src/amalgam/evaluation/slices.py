"""Metrics of a part of the test rows: of one subgroup, or of one period."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from amalgam.evaluation.abroca import Bools
from amalgam.evaluation.bootstrap import Estimate, Resamples, estimate_metrics
from amalgam.evaluation.metrics import Floats, Ints, count_confusions, weigh_false_positives
from amalgam.tasks.texts import count_independent

MODELS = ("teacher", "student")  # those that are looked at in parts
SMALLEST = 10  # rows of each label; with fewer, an interval says nothing
_SHOWN = ("auc", "accuracy", "kappa", "quadratic_kappa", "fpr")


def is_small(actual: Ints, member: Bools, classes: int) -> bool:
    """Whether a part of the rows has too few of a label to say anything about it."""
    return int(np.bincount(actual[member], minlength=classes).min()) < SMALLEST


def estimate_slice(
    actual: Ints, units: Ints | None, stack: Floats, member: Bools, resamples: Resamples, *, ordinal: bool
) -> dict[str, Estimate]:
    """Estimate metrics on a part of the rows, the false positive rate (`fpr`) among them.

    Args:
        actual: class index of each row [n].
        units: group index of each row [n], whose rows depend on each other, or None.
        stack: probabilities [s seeds, n rows, k classes].
        member: which rows belong to the part [n].
        resamples: draws of all n rows, so that parts of the same rows can be compared.
        ordinal: whether the classes have an order.
    """
    weights, classes = resamples.rows[:, member], stack.shape[2]
    part = Resamples(weights, count_independent(np.flatnonzero(member) if units is None else units[member]))
    estimates = estimate_metrics(actual[member], stack[:, member], part, ordinal=ordinal)
    rates = [
        [
            weigh_false_positives(count_confusions(actual[member], seed[member].argmax(axis=1), drawn, classes))
            for drawn in (np.ones((1, int(member.sum()))), weights)
        ]
        for seed in stack
    ]
    estimates["fpr"] = Estimate(
        np.array([points[0] for points, _ in rates]),
        np.stack([drawn for _, drawn in rates], axis=1),
        part.independent,
        (0.0, 1.0),
    )
    return {name: estimates[name] for name in _SHOWN if name in estimates}


def keep_defined(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    """Drop the resamples in which a metric is not defined, since they drew none of a label."""
    return {
        name: replace(estimate, resampled=estimate.resampled[np.isfinite(estimate.resampled).all(axis=1)])
        for name, estimate in estimates.items()
    }


def list_parts(cells: Iterable[str]) -> list[str]:
    """List the names of the parts, in alphabetical order; an empty cell belongs to none."""
    return sorted(set(cells) - {""})
