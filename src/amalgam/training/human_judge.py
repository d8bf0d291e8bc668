"""What human-coded rows say of the labels of synthetic ones, by classifiers that saw none of their examples."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from amalgam.embeddings import fit_logistic, predict_logistic
from amalgam.tasks.texts import find_units
from amalgam.training.folds import deal_folds

_FOLDS = 10  # more than a request has shots, so that some of the human rows are left to judge by
STRENGTH = 10.0  # inverse regularisation of logistic regression on unit vectors; the usual 1 is too strict


class HumanJudge:
    """Logistic regressions on frozen embeddings of human-coded rows.

    A row that was written after examples of some folds is judged by a classifier of the other folds alone: it would
    recognise what its own rows gave rise to, whatever the label.
    """

    def __init__(self, human: pd.DataFrame, vectors: NDArray[np.float64], labels: list[str]) -> None:
        """Deal the rows into folds.

        Args:
            human: rows (id, text, label, and group where the task has one).
            vectors: their embeddings [rows, width].
            labels: class names in order.
        """
        self._classes = np.array([labels.index(label) for label in human["label"]], dtype=np.int64)
        self._vectors, self._count = vectors, len(labels)
        self._folds = deal_folds(self._classes, find_units(human), _FOLDS)
        self._fold_of = dict(zip(human["id"], self._folds.tolist(), strict=True))

    def judge(self, vectors: NDArray[np.float64], shots: Sequence[str]) -> NDArray[np.float64]:
        """Return probabilities [rows, classes] of rows; where the folds left hold one class, all are as likely.

        Args:
            vectors: embeddings [rows, width].
            shots: of each row the ids of the human rows that the LLM saw, with blanks between.
        """
        seen = [frozenset(self._fold_of[shot] for shot in row.split() if shot in self._fold_of) for row in shots]
        views = np.full((len(vectors), self._count), 1 / self._count)
        for folds in sorted(set(seen), key=sorted):
            learned = ~np.isin(self._folds, list(folds))
            judged = np.flatnonzero([row == folds for row in seen])
            if len(np.unique(self._classes[learned])) > 1:
                model = fit_logistic(self._vectors[learned], self._classes[learned], strength=STRENGTH)
                views[judged] = predict_logistic(model, vectors[judged], self._count)
        return views
