"""The guard: do the synthetic rows help? Asked of the human rows alone, in two ways.

Classifiers of the human rows must recognise the labels of the synthetic rows: where they do not, the LLM meant
something else by the labels than the coders did. And in cross-validation on the human rows the synthetic rows must not
do harm that chance does not explain. Both by logistic regression on frozen embeddings, with which the rule was chosen
too (bench/rules.py): it takes seconds, and each side is one classifier.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from amalgam.embeddings import fit_logistic, predict_logistic
from amalgam.tasks.texts import find_units
from amalgam.training.folds import deal_folds
from amalgam.training.human_judge import STRENGTH, HumanJudge

_REPEATS = 5  # deals of the folds: with 51 rows, one alone says as much about the deal as about the rows
_RESAMPLES = 2000
_LEVELS = (0.025, 0.975)
_LEAST = 1e-12  # probability of which there is a logarithm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the guard found.

    Attributes:
        label_auc: AUC with which classifiers of human rows tell the labels of the synthetic rows apart; none of them
            saw the examples that the LLM had for the row.
        least_label_auc: what it must reach.
        folds: of the cross-validation.
        rows: human rows that took part in it.
        human_only_auc: of held-out human rows, by a classifier of the other folds.
        with_synthetic_auc: the same, by one that also had synthetic rows.
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


def ask_guard(
    human: pd.DataFrame,
    synthetic: pd.DataFrame,
    vectors: tuple[Floats, Floats],
    labels: list[str],
    *,
    folds: int,
    least_label_auc: float,
    seed: int,
) -> Evidence | None:
    """Find out what the human rows say for and against the synthetic ones.

    Args:
        human: all human-coded rows that training may see (id, text, label, and group where the task has one).
        synthetic: the rows that the mix would add (label, shots).
        vectors: embeddings [rows, width] of both.
        labels: class names in order.
        folds: of the cross-validation.
        least_label_auc: see `Evidence`.
        seed: deals the folds and draws the resamples.

    Returns:
        What was found; None where no fold holds two classes, so that nothing can be said.
    """
    views = HumanJudge(human, vectors[0], labels).judge(vectors[1], synthetic["shots"].tolist())
    label_auc = measure_label_auc(synthetic, labels, np.log(np.maximum(views, _LEAST)))
    classes, units = index_classes(human, labels), find_units(human)
    folds = min(folds, len(np.unique(units)))
    weights = _draw_units(units, np.random.default_rng(seed))
    sides: list[list[Floats]] = []
    for repeat in range(_REPEATS):
        dealt = deal_folds(classes, units, folds, seed=seed + repeat)
        scores = cross_validate(human, synthetic, vectors, labels, dealt)
        sides.append([measure_within(classes, dealt, side, weights) for side in scores])
    alone, joined = np.mean(sides, axis=0)
    if not np.isfinite(alone[0]):
        return None
    spread = (joined - alone)[1:]
    interval = map(float, np.nanquantile(spread, _LEVELS))
    difference = (float(joined[0] - alone[0]), float(np.nanstd(spread)), *interval)
    return Evidence(label_auc, least_label_auc, folds, len(human), float(alone[0]), float(joined[0]), *difference)


def cross_validate(
    human: pd.DataFrame, synthetic: pd.DataFrame, vectors: tuple[Floats, Floats], labels: list[str], dealt: Ints
) -> tuple[Floats, Floats]:
    """Score human rows [rows, classes] by classifiers of the other folds, without and with synthetic rows.

    Synthetic rows that were written after a row of the held-out fold are left out, since they would give it away. So
    the synthetic side has fewer rows here than it will have, which is to its disadvantage. All rows together weigh as
    much as the human ones alone do: else more rows would also be less regularised.

    Args:
        human: rows (id, label).
        synthetic: rows (label, shots).
        vectors: embeddings [rows, width] of both.
        labels: class names in order.
        dealt: fold of each human row [rows].
    """
    classes, written = index_classes(human, labels), index_classes(synthetic, labels)
    shots = [set(row.split()) for row in synthetic["shots"]]
    alone, joined = np.zeros((len(human), len(labels))), np.zeros((len(human), len(labels)))
    for fold in np.unique(dealt):
        out = dealt == fold
        unseen = set(human["id"][out])
        kept = np.array([not seen & unseen for seen in shots], dtype=np.bool_)
        alone[out] = fit_and_score(vectors[0][~out], classes[~out], vectors[0][out], len(labels))
        both = np.concatenate([vectors[0][~out], vectors[1][kept]])
        weight = (~out).sum() / len(both)
        learned = np.concatenate([classes[~out], written[kept]])
        joined[out] = fit_and_score(both, learned, vectors[0][out], len(labels), weight)
    return alone, joined


def index_classes(rows: pd.DataFrame, labels: list[str]) -> Ints:
    """Return the class index [rows] of each row's label."""
    return np.array([labels.index(label) for label in rows["label"]], dtype=np.int64)


def fit_and_score(learned: Floats, classes: Ints, rows: Floats, count: int, weight: float = 1.0) -> Floats:
    """Fit a classifier and score rows: log-probabilities [rows, classes], all alike where there is one class to learn.

    Args:
        learned: embeddings [learned, width].
        classes: class index of each [learned].
        rows: embeddings [rows, width].
        count: how many classes there are.
        weight: how much each learned row counts.
    """
    if len(np.unique(classes)) < 2:
        return np.zeros((len(rows), count))
    model = fit_logistic(learned, classes, strength=STRENGTH * weight)
    return np.asarray(np.log(np.maximum(predict_logistic(model, rows, count), _LEAST)))


def measure_label_auc(synthetic: pd.DataFrame, labels: list[str], logits: Floats) -> float:
    """Return the AUC with which the logits [rows, classes] tell the rows' labels apart; 0.5 where all are alike."""
    classes = index_classes(synthetic, labels)
    area = measure_within(classes, np.zeros_like(classes), logits, np.ones((1, len(classes))))[0]
    return float(np.nan_to_num(area, nan=0.5))


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


def _draw_units(units: Ints, rng: np.random.Generator) -> Floats:
    """Return how often each row counts [1 + resamples, rows]: once, then as often as its unit is drawn."""
    names, unit = np.unique(units, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    return np.concatenate([np.ones((1, len(unit))), drawn[:, unit]]).astype(np.float64)
