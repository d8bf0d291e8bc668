"""Metrics of class probabilities, each under many weightings of the same rows at once.

A bootstrap resample is a vector of weights: how often each row was drawn. All metrics take a matrix of such vectors and
return one value per resample; a vector of ones gives the metric of the rows as they are. The values equal
scikit-learn's on the rows repeated by weight.

`actual` holds class indices [n rows], `probabilities` is [n rows, k classes], `weights` is [r resamples, n rows]. An
undefined metric is NaN. The predicted class is the most probable one, or the first of equals. With two classes, the
last one is positive; with more, a metric of one class against the rest is averaged over classes without weights.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

METRICS = ("auc", "macro_f1", "accuracy", "kappa", "quadratic_kappa", "brier", "ece")
_BINS = 10  # of the calibration error, as in Guo et al. (2017)
_BLOCK = 2_000_000  # weights that are ranked at once, so that a large test set does not fill the memory


def measure_weighted(actual: Ints, probabilities: Floats, weights: Floats, names: Collection[str]) -> dict[str, Floats]:
    """Return the named metrics [r].

    auc: area under the ROC curve.
    macro_f1: F1, averaged over the classes that occur among the actual labels of a resample.
    accuracy: share of rows whose predicted class is the actual one.
    kappa, quadratic_kappa: Cohen's kappa; in the latter, a miss counts by the square of its distance (Cohen, 1968).
    fpr: false positive rate.
    brier: as scikit-learn scales it, 0 to 1 for two classes, 0 to 2 for more (Brier, 1950).
    ece: expected calibration error of the predicted class (Guo et al., 2017, arXiv 1706.04599).
    """
    classes, total = probabilities.shape[1], weights.sum(axis=1)
    cells = np.eye(classes * classes)[actual * classes + probabilities.argmax(axis=1)]
    confusions = (weights @ cells).reshape(-1, classes, classes)
    # By class [r, k]: rows that are right, rows that have the class, rows that were given the class.
    hits, have, given = np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(axis=2), confusions.sum(axis=1)
    distances = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2

    def measure_kappa(costs: NDArray[Any]) -> Floats:
        observed, chance = (confusions * costs).sum(axis=(1, 2)), np.einsum("ri,rj,ij->r", have, given, costs)
        return 1 - divide(observed * total, chance)

    scores, rates = 2 * hits / np.maximum(have + given, 1), divide(given - hits, total[:, None] - have)
    losses = ((probabilities - np.eye(classes)[actual]) ** 2).sum(axis=1) / (2 if classes == 2 else 1)
    top = probabilities.max(axis=1)
    gaps = (probabilities.argmax(axis=1) == actual) - top
    by_bin = weights @ (np.eye(_BINS)[assign_bins(top)] * gaps[:, None])
    measures = {
        "auc": weigh_auc(actual, probabilities, weights) if "auc" in names else np.empty(0),  # it takes a while
        "macro_f1": divide((scores * (have > 0)).sum(axis=1), (have > 0).sum(axis=1)),
        "accuracy": divide(hits.sum(axis=1), total),
        "kappa": measure_kappa(np.minimum(distances, 1)),
        "quadratic_kappa": measure_kappa(distances),
        "fpr": rates[:, -1] if classes == 2 else rates.mean(axis=1),
        "brier": divide(weights @ losses, total),
        "ece": np.abs(divide(by_bin, total[:, None])).sum(axis=1),
    }
    return {name: measures[name] for name in names}


def weigh_auc(actual: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Return the probability [r] that a positive row scores above a negative one, ties counting half."""
    classes = probabilities.shape[1]
    positives = [classes - 1] if classes == 2 else np.unique(actual)
    blocks = np.array_split(weights, weights.size // _BLOCK + 1)
    areas = [
        np.concatenate([_rank_auc(actual == index, probabilities[:, index], block) for block in blocks])
        for index in positives
    ]
    return np.asarray(np.mean(areas, axis=0))


def assign_bins(top: Floats) -> Ints:
    """Return the calibration bin [n], 0 to 9, of each top probability; bin b holds b/10 < p <= (b + 1)/10."""
    # Round first: 0.1 + 0.2 is above 0.3 by a tiny amount.
    return np.clip(np.ceil(np.round(top * _BINS, 9)).astype(np.int64) - 1, 0, _BINS - 1)


def summarise_agreement(intended: pd.Series, judged: pd.Series, labels: list[str]) -> dict[str, Any]:
    """Return counts, Cohen's kappa, accuracy and macro precision, recall and F1 of a grader's labels.

    Rows to which the grader gave no label ("" in `judged`) are counted, but left out of the measures.
    """
    from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

    graded = judged != ""
    summary: dict[str, Any] = {"rows": len(judged), "unparsed": int((~graded).sum())}
    if not graded.any():
        return summary
    truth, found = intended[graded], judged[graded]
    macro = precision_recall_fscore_support(truth, found, labels=labels, average="macro", zero_division=0)
    measures = {"accuracy": (truth == found).mean(), **dict(zip(("precision", "recall", "f1"), macro, strict=False))}
    if truth.nunique() > 1 or found.nunique() > 1:  # else chance agreement is complete, and kappa undefined
        measures["kappa"] = cohen_kappa_score(truth, found, labels=labels)
    return summary | {name: round(float(value), 4) for name, value in measures.items()}


def _rank_auc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    order = np.argsort(scores, kind="stable")
    ties = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where each run of equal scores begins
    ranked = weights[:, order]
    above = np.add.reduceat(ranked * positive[order], ties, axis=1)
    below = np.add.reduceat(ranked, ties, axis=1) - above
    beaten = below.cumsum(axis=1) - below / 2
    return divide((above * beaten).sum(axis=1), above.sum(axis=1) * below.sum(axis=1))


def divide(top: Floats, bottom: NDArray[Any], otherwise: float = np.nan) -> Floats:
    """Divide two arrays; division by 0 gives `otherwise`."""
    bottom = np.broadcast_to(bottom, top.shape)
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, otherwise), where=bottom != 0))
