"""The guard: do the synthetic rows help? Asked of the human rows alone, in two ways.

Teachers of the human rows alone must recognise the labels of the synthetic rows: where they do not, the LLM meant
something else by the labels than the coders did. And in cross-validation on the human rows the synthetic rows must not
do harm that chance does not explain.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from amalgam.training.cross_validation import CrossValidation

_RESAMPLES = 2000
_LEVELS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the guard found.

    Attributes:
        label_auc: AUC with which teachers of the human rows alone tell the labels of the synthetic rows apart.
        least_label_auc: what it must reach.
        folds: of the cross-validation.
        rows: human rows that took part in it.
        human_only_auc: of held-out human rows, by teachers of the other folds.
        with_synthetic_auc: the same, by teachers that also had synthetic rows.
        difference: by which the latter is above the former, with its standard error and 95 % bootstrap interval.
    """

    label_auc: float
    least_label_auc: float
    folds: int
    rows: int
    human_only_auc: float
    with_synthetic_auc: float
    difference: float
    difference_error: float
    difference_low: float
    difference_high: float

    @property
    def recognised(self) -> bool:
        """Whether the synthetic rows' labels are what human-coded rows say."""
        return self.label_auc >= self.least_label_auc

    @property
    def helps(self) -> bool:
        """Whether the synthetic rows are to be used: their labels are right, and cross-validation finds no harm."""
        return self.recognised and self.difference >= -self.difference_error

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        values = {name: round(value, 4) for name, value in asdict(self).items()}
        return {"helps": int(self.helps), "recognised": int(self.recognised), **values}


def measure_label_auc(synthetic: pd.DataFrame, labels: list[str], logits: np.ndarray) -> float:
    """Return the AUC with which the logits [rows, classes] tell the rows' labels apart; 0.5 where all are alike."""
    classes = np.array([labels.index(label) for label in synthetic["label"]], dtype=np.int64)
    area = measure_within(classes, np.zeros_like(classes), logits, np.ones((1, len(classes))))[0]
    return float(np.nan_to_num(area, nan=0.5))


def weigh_evidence(found: CrossValidation, *, label_auc: float, least_label_auc: float, seed: int) -> Evidence | None:
    """Put what the synthetic rows bring in cross-validation beside the AUC of their labels.

    The AUC of the cross-validation counts pairs of rows of the same fold, since teachers of different folds are on
    different scales.

    Args:
        found: teachers of the other folds, without and with synthetic rows.
        label_auc: see `measure_label_auc`.
        least_label_auc: what it must reach.
        seed: of the resamples.

    Returns:
        What was found; None where no fold holds two classes, so that nothing can be said.
    """
    views, rows = (found.human_only, found.with_synthetic), len(found.classes)
    ones = np.ones((1, rows))
    first, second = (float(measure_within(found.classes, found.folds, view, ones)[0]) for view in views)
    if not np.isfinite(first):
        return None
    weights = np.random.default_rng(seed).multinomial(rows, ones[0] / rows, size=_RESAMPLES)
    alone, joined = (measure_within(found.classes, found.folds, view, weights) for view in views)
    spread = joined - alone
    interval = map(float, np.nanquantile(spread, _LEVELS))
    difference = (second - first, float(np.nanstd(spread)), *interval)
    folds = len(np.unique(found.folds))
    return Evidence(label_auc, least_label_auc, folds, rows, first, second, *difference)


def measure_within(classes: np.ndarray, folds: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUC over pairs of rows of the same fold, the mean over classes of one against the rest.

    Args:
        classes: class index of each row [rows].
        folds: fold of each row [rows].
        logits: [rows, classes].
        weights: how often each row counts [weightings, rows].

    Returns:
        One value a weighting [weightings]; NaN where no fold holds a row of a class and one of another.
    """
    scores = logits - _log_sum(logits)
    areas = []
    for number in np.unique(classes):
        won, total = np.zeros(len(weights)), np.zeros(len(weights))
        for fold in np.unique(folds):
            positive = np.flatnonzero((folds == fold) & (classes == number))
            negative = np.flatnonzero((folds == fold) & (classes != number))
            ahead = (scores[positive, number][:, None] - scores[negative, number]).round(9)  # equal up to rounding
            wins = np.where(ahead == 0, 0.5, ahead > 0)
            won += ((weights[:, positive] @ wins) * weights[:, negative]).sum(axis=1)
            total += weights[:, positive].sum(axis=1) * weights[:, negative].sum(axis=1)
        areas.append(np.divide(won, total, out=np.full(len(weights), np.nan), where=total > 0))
    there = np.isfinite(areas)
    counts = there.sum(axis=0)
    means = np.divide(np.nansum(areas, axis=0), counts, out=np.full(len(weights), np.nan), where=counts > 0)
    return np.asarray(means)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(axis=1, keepdims=True)
    return np.asarray(highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)))
