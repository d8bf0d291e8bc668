"""What a teacher is to learn from each row of a mix: its class, how much it counts, and when it comes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.embeddings import embed_rows, fit_logistic, predict_logistic
from amalgam.params import Teacher
from amalgam.training.folds import deal_folds
from amalgam.training.human_judge import STRENGTH, HumanJudge
from amalgam.training.losses import encode_targets

_FOLDS = 10
_LEAST = 0.05  # probability that a row is divided by at least, so that no row counts more than twenty times


@dataclass(frozen=True, slots=True)
class Learning:
    """Targets [rows, classes] and weights [rows], and the phases: row numbers that come one set after the other.

    `head` is where the classification head begins: weights [classes, width] and biases [classes], or None where it is
    random.
    """

    targets: np.ndarray
    weights: np.ndarray
    phases: list[np.ndarray]
    head: tuple[np.ndarray, np.ndarray] | None


def plan_learning(encoder: Path, mixed: pd.DataFrame, labels: list[str], params: Teacher) -> Learning:
    """Decide what is learned from each row of a mix.

    Where `params` ask for it, a synthetic row's weight or target comes from small classifiers on frozen embeddings:
    the *quality* model is trained on the human rows, and gives each synthetic row the probability of its label;
    the *diversity* model is trained on the other synthetic rows. `quality` weighs by the first; `importance` by the
    first over the second, so that what the synthetic rows say over and over counts less (IMP-Loss, Kuo et al. 2025,
    arXiv 2410.21526); `consistency` leaves out what the quality model would label otherwise. The quality model of a
    row never saw the human rows that the LLM had as examples for it (`HumanJudge`).

    Args:
        encoder: folder of the base model.
        mixed: rows (id, text, question, label, origin, shots).
        labels: class names in order.
        params: the section `teacher`.
    """
    classes = np.array([labels.index(label) for label in mixed["label"]], dtype=np.int64)
    human = (mixed["origin"] == "human").to_numpy()
    targets = encode_targets(classes, len(labels))
    weights = np.where(human, params.human_weight, 1.0)
    needs_view = params.synthetic_weights != "none" or params.soft_labels > 0
    vectors = embed_rows(encoder, mixed, max_length=params.max_length) if needs_view or _begins(params) else None
    if needs_view and vectors is not None and human.any() and not human.all():
        synthetic = np.flatnonzero(~human)
        quality = np.full(targets.shape, 1 / len(labels))  # of the synthetic rows; human rows get a placeholder
        judge = HumanJudge(mixed[human], vectors[human], labels)
        quality[synthetic] = judge.judge(vectors[synthetic], mixed["shots"].iloc[synthetic].tolist())
        weights[synthetic] = _weigh_synthetic(quality, vectors, classes, synthetic, len(labels), params)
        soft = params.soft_labels
        targets[synthetic] = (1 - soft) * targets[synthetic] + soft * quality[synthetic]
    if params.class_weights:
        weights = weights * balance_classes(classes, weights, len(labels))
    head = None
    if _begins(params) and vectors is not None:
        learned = human if human.any() else ~human
        head = fit_head(vectors[learned], classes[learned], len(labels))
    phases = [phase[weights[phase] > 0] for phase in order_rows(human, params.order)]
    return Learning(targets, weights, [phase for phase in phases if len(phase)], head)


def balance_classes(classes: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Return for each row the factor [rows] that makes all classes that are there count alike."""
    totals = np.bincount(classes, weights, minlength=count)
    factors = np.divide(weights.sum() / np.count_nonzero(totals), totals, out=np.ones(count), where=totals > 0)
    return np.asarray(factors[classes])


def order_rows(human: np.ndarray, order: str) -> list[np.ndarray]:
    """Return the phases: all rows at once, or human and synthetic ones in the order asked for; none is empty."""
    phases = {
        "joint": [np.arange(len(human))],
        "human_then_synthetic": [np.flatnonzero(human), np.flatnonzero(~human)],
        "synthetic_then_human": [np.flatnonzero(~human), np.flatnonzero(human)],
    }[order]
    return [phase for phase in phases if len(phase)]


def fit_head(
    vectors: np.ndarray,
    classes: np.ndarray,
    count: int,
    weights: np.ndarray | None = None,
    *,
    strength: float = STRENGTH,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the head that a logistic regression on embeddings would be.

    Fine-tuning from there, rather than from a random head, distorts the encoder less (Kumar et al. 2022, arXiv
    2202.10054).

    Args:
        vectors: embeddings [rows, width].
        classes: class index of each row [rows].
        count: how many classes there are.
        weights: how much each row counts [rows]; None is alike.
        strength: the inverse of the regularisation.

    Returns:
        Weights [classes, width] and biases [classes]; of a class without rows they are zero and minus ten, and of
        the only class that has rows, zero.
    """
    present = np.unique(classes)
    slopes, biases = np.zeros((count, vectors.shape[1])), np.full(count, -10.0)
    if len(present) < 2:
        biases[present] = 0
        return slopes, biases
    model = fit_logistic(vectors, classes, strength=strength, weights=weights)
    fitted, offsets = model.coef_, model.intercept_
    if len(present) == 2:  # one score for the second class becomes one for each
        fitted, offsets = np.concatenate([-fitted, fitted]) / 2, np.concatenate([-offsets, offsets]) / 2
    slopes[present], biases[present] = fitted, offsets
    return slopes, biases


def _begins(params: Teacher) -> bool:
    return params.head == "embedding"


def _weigh_synthetic(
    quality: np.ndarray, vectors: np.ndarray, classes: np.ndarray, synthetic: np.ndarray, count: int, params: Teacher
) -> np.ndarray:
    own = classes[synthetic]
    good = quality[synthetic, own]
    if params.synthetic_weights == "none":
        return np.ones(len(synthetic))
    if params.synthetic_weights == "consistency":
        return np.asarray(quality[synthetic].argmax(axis=1) == own, dtype=np.float64)
    if params.synthetic_weights == "importance":
        folds = deal_folds(own, np.arange(len(own)), _FOLDS)
        usual = np.ones(len(synthetic))
        for fold in range(_FOLDS):
            rest, judged = synthetic[folds != fold], synthetic[folds == fold]
            if len(np.unique(classes[rest])) > 1 and len(judged):
                model = fit_logistic(vectors[rest], classes[rest], strength=STRENGTH)
                said = predict_logistic(model, vectors[judged], count)
                usual[folds == fold] = said[np.arange(len(judged)), classes[judged]]
        good = good / np.maximum(usual, _LEAST)
    # A mean of 1: the weights say which of the synthetic rows count, not how much all of them do.
    return np.asarray(good / good.mean())
