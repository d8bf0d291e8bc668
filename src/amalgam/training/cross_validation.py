"""Teachers of some human rows, asked about the others: what a method is worth, without a row set aside for it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from amalgam.training.learning import deal_folds
from amalgam.training.scoring import average_views
from amalgam.training.teacher import Trial

RunTrials = Callable[[list[Trial]], list[np.ndarray]]
COLUMNS = ["id", "label", "predicted", "probability"]  # of a table of them; the last is that of the label predicted
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Human rows as teachers of the other folds see them.

    Attributes:
        classes: class index of each row [rows].
        folds: fold of each row [rows].
        human_only: logits [rows, classes], by teachers of the human rows alone.
        with_synthetic: the same, by teachers that also had synthetic rows.
    """

    classes: np.ndarray
    folds: np.ndarray
    human_only: np.ndarray
    with_synthetic: np.ndarray

    def tabulate(self, human: pd.DataFrame, labels: list[str], *, with_synthetic: bool) -> pd.DataFrame:
        """Return what those teachers say of the human rows (id, label), with the columns `COLUMNS`."""
        from scipy.special import softmax

        logits = self.with_synthetic if with_synthetic else self.human_only
        probabilities = softmax(logits.astype(np.float64), axis=1)
        chosen = probabilities.argmax(axis=1)
        said = np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0].round(_DIGITS)
        predicted = [labels[number] for number in chosen]
        return human[["id", "label"]].assign(predicted=predicted, probability=said)


def cross_validate(
    human: pd.DataFrame,
    synthetic: pd.DataFrame,
    labels: list[str],
    run_trials: RunTrials,
    *,
    folds: int,
    blend: bool,
    seed: int,
) -> CrossValidation:
    """Cross-validate a teacher without and with the synthetic rows.

    Each fold of the human rows is scored by a teacher of the other folds alone, and by one that also has the
    synthetic rows: only those for which the LLM saw no example of that fold, since a row that was written after a
    held-out row would give it away. So the synthetic side has fewer rows here than it will have, which is to its
    disadvantage.

    Args:
        human: all human-coded rows that training may see (id, text, question, label).
        synthetic: the rows that the mix would add (id, text, question, label, shots).
        labels: class names in order.
        run_trials: trains on rows (id, text, question, label, origin, shots), returns logits [rows, classes] of each.
        folds: how many; fewer where there are not as many rows.
        blend: whether the teacher with the synthetic rows speaks together with the one without.
        seed: of the trainings of the first fold; each fold has the next one.
    """
    classes = np.array([labels.index(label) for label in human["label"]], dtype=np.int64)
    folds = min(folds, len(human))
    dealt = deal_folds(classes, folds)
    shots = [set(row.split()) for row in synthetic["shots"]]
    marked = human.assign(origin="human", shots="")
    trials = []
    for fold in range(folds):
        held_out, learned = marked[dealt == fold], marked[dealt != fold]
        unseen = set(held_out["id"])
        kept = synthetic[[not seen & unseen for seen in shots]].assign(origin="synthetic")
        both = pd.concat([learned, kept], ignore_index=True)
        trials += [Trial(rows, held_out, seed + fold) for rows in (learned, both)]
    logits = run_trials(trials)
    alone, joined = np.zeros((len(human), len(labels))), np.zeros((len(human), len(labels)))
    for fold in range(folds):
        alone[dealt == fold], joined[dealt == fold] = logits[2 * fold : 2 * fold + 2]
    if blend:
        joined = average_views(np.stack([alone, joined]))
    return CrossValidation(classes, dealt, alone, joined)
