"""All models of a run against each other, on the same rows and seeds."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import (
    Estimate,
    draw_resamples,
    estimate_metrics,
    find_errors,
    find_quantile,
    subtract_estimates,
    summarise_estimates,
)
from amalgam.evaluation.metrics import Floats, Ints

BASELINES = ("human_only", "embedding_lr", "tfidf_lr", "llm_grader")
COMPARED = ("auc", "macro_f1", "accuracy", "kappa", "quadratic_kappa")  # more is better
_CHANCE = 0.5  # the AUC of guessing
_WIDEST = 1e3  # times the ratio; an interval that goes beyond says nothing

Estimates = dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class CodedRows:
    """A set of human-coded rows, and what the models say of them."""

    rows: pd.DataFrame  # the table [n]
    actual: Ints  # class index of each row [n]
    groups: Ints | None  # group index of each row [n]; None where rows are independent
    stacks: dict[str, Floats]  # by model, probabilities [s seeds, n rows, k classes]
    ordinal: bool  # whether the classes have an order


def encode_labels(rows: pd.DataFrame, labels: list[str], name: str) -> Ints:
    """Return the class index [n] of each row; DataError if a label is not one of the task's."""
    if unknown := sorted(set(rows["label"]) - set(labels)):
        raise DataError(f"{name} holds the label {unknown[0]!r}, which is not in task.yaml: run `dvc repro prepare`")
    return np.array([labels.index(label) for label in rows["label"]], dtype=np.int64)


def encode_groups(rows: pd.DataFrame) -> Ints | None:
    """Return the group index [n] of each row, None where the set has no groups; a row without one is its own."""
    if "group" not in rows:
        return None
    names = ("group " + rows["group"]).where(rows["group"] != "", "row " + rows["id"])
    return np.asarray(pd.factorize(names)[0], dtype=np.int64)


def estimate_models(actual: Ints, groups: Ints | None, predictions: dict[str, Floats], *, ordinal: bool) -> Estimates:
    """Estimate every metric of every model on the same resamples; DataError if their numbers of seeds differ."""
    if len({len(stack) for stack in predictions.values()} - {1}) > 1:
        raise DataError("data/predictions/predictions.csv holds models with different seeds: run `dvc repro`")
    resamples = draw_resamples(actual, groups)
    return {model: estimate_metrics(actual, stack, resamples, ordinal=ordinal) for model, stack in predictions.items()}


def compare_models(estimates: Estimates, shipped: str, confidence: float) -> dict[str, dict[str, float | str]]:
    """Return the paired differences that the report's verdict rests on, as metrics/comparisons.json holds them.

    `retention` is what the model that ships keeps of the teacher's AUC above chance. DataError if no model has an AUC,
    since all test rows have the same label.
    """
    if not math.isfinite(estimates["teacher"]["auc"].value):
        raise DataError("all rows of data/prepared/test.csv have the same label: raise `split.test`")
    # The strongest baseline is picked by the test set itself: that favours the baseline, never the teacher.
    best = max((model for model in BASELINES if model in estimates), key=lambda model: estimates[model]["auc"].value)
    pairs = {
        "gain_over_human_only": ("teacher", "human_only"),
        "gain_over_best_baseline": ("teacher", best),
        "student_minus_teacher": ("student", "teacher"),
        "student_minus_undistilled": ("student", "student_undistilled"),
        "int8_minus_student": ("student_int8", "student"),
    }
    differences: dict[str, dict[str, float | str]] = {
        name: dict(summarise_estimates(subtract_estimates(estimates[first], estimates[second], COMPARED), confidence))
        for name, (first, second) in pairs.items()
        if first in estimates and second in estimates
    }
    differences["gain_over_best_baseline"]["baseline"] = best
    ratio = find_ratio(estimates[shipped]["auc"], estimates["teacher"]["auc"], confidence, above=_CHANCE)
    names = ("auc_above_chance", "auc_above_chance_low", "auc_above_chance_high")
    return differences | {"retention": {name: round(value, 4) for name, value in zip(names, ratio, strict=False)}}


def find_ratio(top: Estimate, bottom: Estimate, confidence: float, *, above: float) -> list[float]:
    """Return the ratio of what two means over seeds are above a value, and both ends of its interval.

    The interval is that of Fieller (1954): it holds every r for which `top - r * bottom` may well be 0. Where `bottom`
    itself may be 0 there is none, only the ratio; nothing where `bottom` is not above the value.
    """
    from scipy.optimize import brentq

    def measure_excess(factor: float, ratio: float) -> float:
        """Return by how much `factor * top - ratio * bottom` is farther from 0 than chance would have it."""
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
