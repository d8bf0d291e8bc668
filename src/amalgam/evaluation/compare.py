"""All models of a run against each other, on the same test rows and seeds."""

import math

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import (
    Estimate,
    draw_resamples,
    estimate_metrics,
    subtract_estimates,
    summarise_estimates,
)
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.evaluation.ratio import shift_estimate, summarise_ratio
from amalgam.params import Evaluation

BASELINES = ("human_only", "embedding_lr", "tfidf_lr", "llm_grader")
# Metrics of which more is better; only these are compared.
COMPARED = ("auc", "macro_f1", "accuracy", "kappa", "quadratic_kappa")
_CHANCE = 0.5  # the AUC of guessing

Estimates = dict[str, dict[str, Estimate]]


def encode_labels(rows: pd.DataFrame, labels: list[str], name: str) -> Ints:
    """Return the class index [n] of each row.

    Raises:
        DataError: a label is not one of the task's.
    """
    if unknown := sorted(set(rows["label"]) - set(labels)):
        raise DataError(f"{name} holds the label {unknown[0]!r}, which is not in task.yaml: run `dvc repro prepare`")
    return np.array([labels.index(label) for label in rows["label"]], dtype=np.int64)


def encode_groups(rows: pd.DataFrame) -> Ints | None:
    """Return the group index [n] of each row, None where the set has no groups; a row without one is its own."""
    if "group" not in rows:
        return None
    names = ("group " + rows["group"]).where(rows["group"] != "", "row " + rows["id"])
    return np.asarray(pd.factorize(names)[0], dtype=np.int64)


def estimate_models(
    actual: Ints, groups: Ints | None, predictions: dict[str, Floats], params: Evaluation, *, ordinal: bool
) -> Estimates:
    """Estimate every metric of every model on one set, all on the same resamples.

    Args:
        actual: class index of each row [n].
        groups: group index of each row [n], or None.
        predictions: by model, probabilities [s seeds, n rows, k classes]; one seed stands for all.
        params: seed and number of the resamples.
        ordinal: whether the classes have an order.

    Raises:
        DataError: models were trained with different numbers of seeds.
    """
    counts = {len(stack) for stack in predictions.values()} - {1}
    if len(counts) > 1:
        raise DataError("data/predictions/predictions.csv holds models with different seeds: run `dvc repro`")
    resamples = draw_resamples(actual, groups, resamples=params.resamples, rng=np.random.default_rng(params.seed))
    return {model: estimate_metrics(actual, stack, resamples, ordinal=ordinal) for model, stack in predictions.items()}


def compare_models(estimates: Estimates, shipped: str, confidence: float) -> dict[str, dict[str, float | str]]:
    """Return the paired differences that the report's verdict rests on, as metrics/comparisons.json holds them.

    Args:
        estimates: by model.
        shipped: the model that ships; what is retained of the teacher is said of it.
        confidence: of the intervals.

    Raises:
        DataError: no model has an AUC, since all test rows have the same label.
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
    return differences | {"retention": dict(measure_retention(estimates[shipped], estimates["teacher"], confidence))}


def measure_retention(
    student: dict[str, Estimate], teacher: dict[str, Estimate], confidence: float
) -> dict[str, float]:
    """Return what the student keeps of the teacher's AUC, and of what that is above chance, with intervals."""
    own, whole = student["auc"], teacher["auc"]
    above = (shift_estimate(own, -_CHANCE), shift_estimate(whole, -_CHANCE))
    return {
        **summarise_ratio("auc", own, whole, confidence),
        **summarise_ratio("auc_above_chance", *above, confidence),
    }
