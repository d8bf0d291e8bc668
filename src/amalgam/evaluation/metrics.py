"""Metrics of class probabilities, each for many weightings of the same rows at once.

A bootstrap resample is a vector of weights: how often each row was drawn. All metrics here take a matrix of such
vectors and return one value a resample; rows of ones give the metric of the rows as they are. Where scikit-learn
has the metric, the value equals scikit-learn's on the rows repeated by weight.

`actual` holds class indices [n rows], `probabilities` is [n rows, k classes], `weights` is [r resamples, n rows].
A metric that is not defined for a resample is NaN there. The predicted class is the most probable one, the first
of equals.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BINS = 10  # of the calibration error, as in Guo et al. (2017)
_BLOCK = 2_000_000  # weights looked at in one go, so that a large test set does not fill the memory


def measure_weighted(actual: Ints, probabilities: Floats, weights: Floats, *, ordinal: bool) -> dict[str, Floats]:
    """Return every metric [r resamples] by name; `quadratic_kappa` is among them for ordinal labels only."""
    size = max(1, _BLOCK // max(1, len(actual)))
    blocks = [
        _measure_block(actual, probabilities, weights[start : start + size], ordinal)
        for start in range(0, len(weights), size)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def weigh_auc(actual: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve [r]: the chance that a positive row scores above a negative one, ties counting half.

    For two classes the last one is positive. For more it is the plain mean over classes of one class against the
    rest, over the classes that occur in `actual`.
    """
    classes = probabilities.shape[1]
    positives = [classes - 1] if classes == 2 else [int(index) for index in np.unique(actual)]
    return _average(_rank_auc(actual == index, probabilities[:, index], weights) for index in positives)


def count_confusions(actual: Ints, predicted: Ints, weights: Floats, classes: int) -> Floats:
    """Return confusion matrices [r, k actual, k predicted] of weighted counts."""
    cells = np.eye(classes * classes)[actual * classes + predicted]
    return np.asarray(weights @ cells).reshape(-1, classes, classes)


def weigh_macro_f1(confusions: Floats) -> Floats:
    """F1 [r], averaged over the classes that occur among the actual labels of a resample."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    actual, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    scores = 2 * hits / np.maximum(actual + predicted, 1)
    return _divide((scores * (actual > 0)).sum(axis=1), (actual > 0).sum(axis=1))


def weigh_accuracy(confusions: Floats) -> Floats:
    """Share [r] of rows whose predicted class is the actual one."""
    return _divide(np.trace(confusions, axis1=1, axis2=2), confusions.sum(axis=(1, 2)))


def weigh_kappa(confusions: Floats, *, quadratic: bool = False) -> Floats:
    """Cohen's kappa [r]; quadratic: a miss counts by the square of its distance (Cohen, 1968)."""
    classes = confusions.shape[1]
    index = np.arange(classes)
    cost = (index[:, None] - index) ** 2 if quadratic else 1 - np.eye(classes)
    actual, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    observed = (confusions * cost).sum(axis=(1, 2))
    chance = np.einsum("ri,rj,ij->r", actual, predicted, cost)
    return 1 - _divide(observed * confusions.sum(axis=(1, 2)), chance)


def weigh_brier(actual: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Brier score [r], as scikit-learn scales it.

    For two classes the mean of (p - y)^2 of the positive class, 0 to 1; for more the sum of that over all classes,
    0 to 2 (Brier, 1950).
    """
    classes = probabilities.shape[1]
    losses = ((probabilities - np.eye(classes)[actual]) ** 2).sum(axis=1) / (2 if classes == 2 else 1)
    return _divide(weights @ losses, weights.sum(axis=1))


def weigh_calibration_error(actual: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Expected calibration error [r] of the predicted class (Guo et al., 2017, arXiv 1706.04599).

    Rows fall into ten bins of equal width by the probability of their predicted class; the error is the mean over
    rows of the gap between accuracy and mean probability in the row's bin.
    """
    return np.asarray(np.abs(weigh_calibration_gaps(actual, probabilities, weights)).sum(axis=1))


def weigh_calibration_gaps(actual: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Return by bin the gap between accuracy and mean probability, times the bin's share of the rows [r, 10 bins].

    The calibration error is the sum of their absolute values.
    """
    top = probabilities.max(axis=1)
    gaps = (probabilities.argmax(axis=1) == actual) - top
    bins = np.eye(_BINS)[assign_bins(top)]
    return _divide(weights @ (bins * gaps[:, None]), weights.sum(axis=1, keepdims=True) * np.ones(_BINS))


def weigh_false_positives(confusions: Floats) -> Floats:
    """False positive rate [r]: the share of the rows of other classes that are taken for the class.

    For two classes the last one is positive. For more it is the plain mean over classes of one class against the rest.
    """
    classes = confusions.shape[1]
    positives = [classes - 1] if classes == 2 else range(classes)
    return _average(_divide_false_positives(confusions, index) for index in positives)


def assign_bins(top: Floats) -> Ints:
    """Return the calibration bin [n], 0 to 9, of each top probability; bin b holds b/10 < p <= (b + 1)/10."""
    # Rounding first: 0.3 * 10 is above 3 by the smallest of amounts.
    return np.clip(np.ceil(np.round(top * _BINS, 9)).astype(np.int64) - 1, 0, _BINS - 1)


def _measure_block(actual: Ints, probabilities: Floats, weights: Floats, ordinal: bool) -> dict[str, Floats]:
    confusions = count_confusions(actual, probabilities.argmax(axis=1), weights, probabilities.shape[1])
    quadratic = {"quadratic_kappa": weigh_kappa(confusions, quadratic=True)} if ordinal else {}
    return {
        "auc": weigh_auc(actual, probabilities, weights),
        "macro_f1": weigh_macro_f1(confusions),
        "accuracy": weigh_accuracy(confusions),
        "kappa": weigh_kappa(confusions),
        **quadratic,
        "brier": weigh_brier(actual, probabilities, weights),
        "ece": weigh_calibration_error(actual, probabilities, weights),
    }


def _rank_auc(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    order = np.argsort(scores, kind="stable")
    ties = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where each run of equal scores begins
    ranked = weights[:, order]
    above = np.add.reduceat(ranked * positive[order], ties, axis=1)
    below = np.add.reduceat(ranked, ties, axis=1) - above
    beaten = below.cumsum(axis=1) - below / 2
    return _divide((above * beaten).sum(axis=1), above.sum(axis=1) * below.sum(axis=1))


def _divide_false_positives(confusions: Floats, index: int) -> Floats:
    others = confusions.sum(axis=(1, 2)) - confusions[:, index].sum(axis=1)
    return _divide(confusions[:, :, index].sum(axis=1) - confusions[:, index, index], others)


def _average(values: Iterable[Floats]) -> Floats:
    return np.asarray(np.mean(np.stack(list(values)), axis=0))


def _divide(top: Floats, bottom: NDArray[Any]) -> Floats:
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom != 0))
