"""The guard: do the synthetic rows help? It asks two questions, and only the human rows answer.

Do classifiers trained on the human rows recognise the labels of the synthetic rows? If not, the LLM meant something
else by the labels than the coders did. And do the synthetic rows do harm in cross-validation that chance does not
explain? Both use logistic regression on frozen embeddings, which was also used to choose the rule (docs/findings.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from amalgam.tasks.texts import find_texts, find_units
from amalgam.training.embeddings import STRENGTH, fit_logistic, index_labels, predict_logistic

FOLDS = 5
LABEL_AUC = 0.65  # AUC with which classifiers of the human rows must tell the synthetic labels apart; 0.5 is chance
_JUDGE_FOLDS = 10  # at least: twice as many as a request has shots leave enough human rows to judge with
_REPEATS = 5  # times that folds are dealt: with 51 rows, a single deal says as much about the deal as about the rows
_RESAMPLES = 2000
_LEAST = 1e-12  # smallest probability whose logarithm is taken

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the guard found."""

    label_auc: float  # of the synthetic labels, by classifiers of human rows that were not the row's examples
    human_only_auc: float  # of held-out human rows, by a classifier of the other folds
    with_synthetic_auc: float  # the same, by a classifier that also learned synthetic rows
    difference: float  # by how much the latter exceeds the former, with standard error and 95 % bootstrap interval
    difference_error: float
    difference_low: float
    difference_high: float
    rows: int  # human rows in the cross-validation
    folds: int  # of the cross-validation
    least_label_auc: float = LABEL_AUC  # what `label_auc` must reach

    @property
    def recognised(self) -> bool:
        """Whether classifiers of the human-coded rows recognise the synthetic rows' labels."""
        return self.label_auc >= self.least_label_auc

    @property
    def helps(self) -> bool:
        """Whether to use the synthetic rows: their labels are recognised, and cross-validation finds no harm."""
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
    seed: int,
    grading: float | None = None,
) -> Evidence | None:
    """Return the human rows' evidence for and against the synthetic rows; None if no fold holds two classes.

    `human` are all human-coded rows that training may see (id, text, label, and group where the task has one),
    `synthetic` the rows that the mix would add (label, shots: ids of the human rows that the LLM saw), `vectors` the
    embeddings [rows, width] of both. `grading` is the AUC of the LLM on human rows if it labelled real texts, which
    have a column `soft`: it says more about their labels than classifiers can. If it also wrote rows, the lower counts.
    """
    label_auc = 1.0 if grading is None else grading
    written = np.ones(len(synthetic), dtype=np.bool_) if grading is None else (synthetic["soft"] == "").to_numpy()
    if written.any():
        rows = synthetic[written]
        scores = judge_labels(human, vectors[0], labels, vectors[1][written], rows["shots"].tolist())
        judged = np.flatnonzero(scores.any(axis=1))
        label_auc = min(label_auc, measure_label_auc(rows.iloc[judged], labels, scores[judged]))
    classes, units = index_labels(human, labels), find_units(human)
    folds = min(FOLDS, len(np.unique(units)))
    weights = _draw_units(units, np.random.default_rng(seed))
    sides = []
    for repeat in range(_REPEATS):
        dealt = deal_folds(classes, units, folds, seed=seed + repeat)
        found = (cross_validate(human, rows, vectors, labels, dealt) for rows in (synthetic.head(0), synthetic))
        sides.append([measure_within(classes, dealt, side, weights) for side in found])
    alone, joined = np.mean(sides, axis=0)
    if not np.isfinite(alone[0]):
        return None
    spread = (joined - alone)[1:]
    low, high = map(float, np.nanquantile(spread, (0.025, 0.975)))
    return Evidence(
        label_auc=label_auc,
        human_only_auc=float(alone[0]),
        with_synthetic_auc=float(joined[0]),
        difference=float(joined[0] - alone[0]),
        difference_error=float(np.nanstd(spread)),
        difference_low=low,
        difference_high=high,
        rows=len(human),
        folds=folds,
    )


def judge_labels(
    human: pd.DataFrame, learned: Floats, labels: list[str], judged: Floats, shots: Sequence[str]
) -> Floats:
    """Score synthetic rows with classifiers of human-coded rows: log-probabilities [rows, classes].

    `learned` and `judged` are the human and synthetic embeddings [rows, width], `shots` the ids of each synthetic row's
    examples. A row is judged only by a classifier of the folds that hold none of its examples: a classifier recognises
    texts modelled on its own rows, whatever the label. If these folds hold one class, its scores are 0.
    """
    classes, texts = index_labels(human, labels), find_texts(human)
    listed = [list_shots(row) for row in shots]
    # Not more folds than the rarest class has rows, so that leaving folds out leaves the classes in proportion.
    folds = min(2 * max(map(len, listed), default=0), np.unique(classes, return_counts=True)[1].min())
    dealt = deal_folds(classes, find_units(human), max(_JUDGE_FOLDS, folds))
    fold_of = dict(zip(human["id"], dealt.tolist(), strict=True))
    seen = [frozenset(fold_of[shot] for shot in row if shot in fold_of) for row in listed]
    scores = np.zeros((len(judged), len(labels)))
    for left_out in sorted(set(seen), key=sorted):
        kept = find_others(texts, np.isin(dealt, list(left_out)))
        rows = np.flatnonzero([row == left_out for row in seen])
        scores[rows] = fit_and_score(learned[kept], classes[kept], judged[rows], len(labels))
    return scores


def confirm_labels(
    human: pd.DataFrame, learned: Floats, labels: list[str], judged: Floats, synthetic: pd.DataFrame
) -> Bools:
    """Mark the synthetic rows (label, shots) whose label `judge_labels` gives too, or that it cannot judge."""
    scores = judge_labels(human, learned, labels, judged, synthetic["shots"].tolist())
    return np.asarray(synthetic["label"] == np.array(labels)[scores.argmax(axis=1)]) | ~scores.any(axis=1)


def score_crosswise(human: pd.DataFrame, vectors: Floats, others: Floats, labels: list[str]) -> tuple[Floats, Floats]:
    """Return log-probabilities of human rows, by classifiers of the other folds, and of `others`, by one of all."""
    classes, nothing = index_labels(human, labels), human.head(0).assign(shots="")
    dealt = deal_folds(classes, find_units(human), FOLDS)
    scores = cross_validate(human, nothing, (vectors, others), labels, dealt)
    return scores, fit_and_score(vectors, classes, others, len(labels))


def deal_folds(classes: Ints, units: Ints, folds: int, *, seed: int | None = None) -> Ints:
    """Deal rows into folds [rows], each with its share of every class; units of dependent rows are never split.

    A unit has the class of its first row. With fewer units than `folds`, there are fewer folds. The seed draws which
    units of a class come together; None takes them in order.
    """
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    place = first if seed is None else np.random.default_rng(seed).permutation(len(first))
    dealt = np.empty(len(first), dtype=np.int64)
    dealt[np.lexsort((place, classes[first]))] = np.arange(len(first)) % folds
    return dealt[unit]


def find_others(texts: Ints, out: Bools) -> Bools:
    """Mark the rows [n] that a classifier of other folds learns: those whose text no held-out row has.

    If there are none, all rows that are not held out are marked.
    """
    kept = ~np.isin(texts, texts[out])
    return kept if kept.any() else ~out


def split_folds(human: pd.DataFrame, dealt: Ints) -> Iterator[tuple[Bools, Bools]]:
    """Yield, for one fold after another, marks of its rows and of those that a classifier of other folds learns."""
    texts = find_texts(human)
    for fold in np.unique(dealt):
        yield dealt == fold, find_others(texts, dealt == fold)


def list_shots(cell: str) -> set[str]:
    """List the ids in a cell of `shots`, which are percent-encoded and separated by blanks."""
    return {*map(unquote, cell.split())}


def cross_validate(
    human: pd.DataFrame, synthetic: pd.DataFrame, vectors: tuple[Floats, Floats], labels: list[str], dealt: Ints
) -> Floats:
    """Score human rows [rows, classes] with classifiers of the other folds and of the synthetic rows, perhaps none.

    Synthetic rows modelled on a row of the held-out fold are left out, because they would give it away. So the
    synthetic side has fewer rows here than in training, which puts it at a disadvantage. All rows together weigh as
    much as the human rows do without synthetic ones: otherwise more rows would also mean less regularisation.
    """
    classes, written = index_labels(human, labels), index_labels(synthetic, labels)
    shots = [list_shots(row) for row in synthetic["shots"]]
    scores = np.zeros((len(human), len(labels)))
    for out, known in split_folds(human, dealt):
        unseen = set(human["id"][~known])
        kept = np.flatnonzero([not seen & unseen for seen in shots])
        both = np.concatenate([vectors[0][known], vectors[1][kept]])
        learned, weight = np.concatenate([classes[known], written[kept]]), known.sum() / len(both)
        scores[out] = fit_and_score(both, learned, vectors[0][out], len(labels), weight)
    return scores


def fit_and_score(learned: Floats, classes: Ints, rows: Floats, count: int, weight: float = 1.0) -> Floats:
    """Fit a classifier to embeddings, each with this weight; return log-probabilities [rows, classes] of others.

    They are all equal if only one class is learned.
    """
    if len(np.unique(classes)) < 2:
        return np.zeros((len(rows), count))
    model = fit_logistic(learned, classes, strength=STRENGTH * weight)
    return np.asarray(np.log(np.maximum(predict_logistic(model, rows, count), _LEAST)))


def measure_label_auc(synthetic: pd.DataFrame, labels: list[str], logits: Floats) -> float:
    """Return the AUC with which the logits [rows, classes] tell the rows' labels apart; 0.5 if all are the same."""
    classes = index_labels(synthetic, labels)
    area = measure_within(classes, np.zeros_like(classes), logits, np.ones((1, len(classes))))[0]
    return float(np.nan_to_num(area, nan=0.5))


def measure_within(classes: np.ndarray, folds: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUC over pairs of rows of the same fold, averaged over classes, each against the rest.

    `weights` say how often each row counts [weightings, rows]. The result has one value per weighting, NaN if no fold
    holds rows of two classes.
    """
    from scipy.special import log_softmax

    scores = log_softmax(logits, axis=1)
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
    counts = np.isfinite(areas).sum(axis=0)
    means = np.divide(np.nansum(areas, axis=0), counts, out=np.full(len(weights), np.nan), where=counts > 0)
    return np.asarray(means)


def _draw_units(units: Ints, rng: np.random.Generator) -> Floats:
    """Return how often each row counts [1 + resamples, rows]: first once, then as often as its unit is drawn."""
    names, unit = np.unique(units, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    return np.concatenate([np.ones((1, len(unit))), drawn[:, unit]]).astype(np.float64)
