"""The guard: do the synthetic rows help? Asked of the human rows alone, by cross-validation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from amalgam.training.learning import deal_folds

# Trains on the mixed rows of the first argument with the seed of the last, and scores the rows of the second.
TrainAndScore = Callable[[pd.DataFrame, pd.DataFrame, int], np.ndarray]
_RESAMPLES = 2000
_LEVELS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the guard found: AUC on held-out human rows, and of the difference a 95 % bootstrap interval."""

    folds: int
    rows: int
    human_only_auc: float
    with_synthetic_auc: float
    difference: float
    difference_low: float
    difference_high: float

    @property
    def helps(self) -> bool:
        """Whether the synthetic rows did better than nothing; a tie is no help."""
        return self.difference > 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        names = ("human_only_auc", "with_synthetic_auc", "difference", "difference_low", "difference_high")
        rounded = {name: round(getattr(self, name), 4) for name in names}
        return {"helps": int(self.helps), "folds": self.folds, "rows": self.rows, **rounded}


def weigh_evidence(
    human: pd.DataFrame,
    synthetic: pd.DataFrame,
    labels: list[str],
    train_and_score: TrainAndScore,
    *,
    folds: int,
    seed: int,
) -> Evidence | None:
    """Cross-validate a teacher without and with the synthetic rows.

    Each fold of the human rows is scored by a teacher of the other folds alone, and by one that also has the
    synthetic rows: only those for which the LLM saw no example of that fold, since a row that was written after a
    held-out row would give it away. So the synthetic side has fewer rows here than it will have, which is to its
    disadvantage. The AUC counts pairs of rows of the same fold, since teachers of different folds are on different
    scales.

    Args:
        human: all human-coded rows that training may see (id, text, question, label).
        synthetic: the rows that the mix would add (id, text, question, label, shots).
        labels: class names in order.
        train_and_score: trains on rows (id, text, question, label, origin, shots), returns logits [rows, classes].
        folds: how many; fewer where there are not as many rows.
        seed: of the trainings and the resamples.

    Returns:
        What was found; None where no fold holds two classes, so that nothing can be said.
    """
    classes = np.array([labels.index(label) for label in human["label"]], dtype=np.int64)
    folds = min(folds, len(human))
    dealt = deal_folds(classes, folds)
    shots = [set(row.split()) for row in synthetic["shots"]]
    alone, joined = np.zeros((len(human), len(labels))), np.zeros((len(human), len(labels)))
    marked = human.assign(origin="human", shots="")
    for fold in range(folds):
        held_out, learned = marked[dealt == fold], marked[dealt != fold]
        unseen = set(held_out["id"])
        kept = synthetic[[not seen & unseen for seen in shots]].assign(origin="synthetic")
        alone[dealt == fold] = train_and_score(learned, held_out, seed + fold)
        joined[dealt == fold] = train_and_score(pd.concat([learned, kept], ignore_index=True), held_out, seed + fold)
    pairs = _Pairs(classes, dealt)
    if not pairs.count:
        return None
    ones = np.ones((1, len(human)))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(human), np.full(len(human), 1 / len(human)), size=_RESAMPLES).astype(float)
    first, second = pairs.measure(alone, ones)[0], pairs.measure(joined, ones)[0]
    spread = pairs.measure(joined, weights) - pairs.measure(alone, weights)
    low, high = np.nanquantile(spread, _LEVELS)
    return Evidence(folds, len(human), float(first), float(second), float(second - first), float(low), float(high))


class _Pairs:
    """All pairs of a row of a class and a row of another class in the same fold."""

    def __init__(self, classes: np.ndarray, folds: np.ndarray) -> None:
        self._blocks: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number in np.unique(classes):
            for fold in np.unique(folds):
                inside = folds == fold
                positive, negative = (
                    np.flatnonzero(inside & (classes == number)),
                    np.flatnonzero(inside & (classes != number)),
                )
                if len(positive) and len(negative):
                    self._blocks.setdefault(int(number), []).append((positive, negative))

    @property
    def count(self) -> int:
        """Count the classes of which there are pairs."""
        return len(self._blocks)

    def measure(self, logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the AUC, the mean over classes, for each weighting of the rows [weightings, rows]."""
        areas = []
        scores = logits - _log_sum(logits)
        for number, blocks in self._blocks.items():
            won, total = np.zeros(len(weights)), np.zeros(len(weights))
            for positive, negative in blocks:
                ahead = scores[positive, number][:, None] - scores[negative, number][None, :]
                wins = (ahead > 0) + (ahead == 0) / 2
                won += np.einsum("rp,pn,rn->r", weights[:, positive], wins, weights[:, negative], optimize=True)
                total += weights[:, positive].sum(1) * weights[:, negative].sum(1)
            areas.append(np.divide(won, total, out=np.full(len(weights), np.nan), where=total > 0))
        return np.asarray(np.nanmean(areas, axis=0))


def _log_sum(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(axis=1, keepdims=True)
    return np.asarray(highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)))
