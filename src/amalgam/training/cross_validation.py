"""Human rows labelled by teachers of the other ones: how far the labels of a model like that can be trusted."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from amalgam.tasks.texts import find_units
from amalgam.training.folds import deal_folds
from amalgam.training.guard import index_classes
from amalgam.training.teacher import Trial

RunTrials = Callable[[list[Trial]], list[np.ndarray]]
COLUMNS = ["id", "unit", "label", "predicted", "probability"]  # the last is that of the label predicted
_DIGITS = 6


def label_out_of_fold(
    human: pd.DataFrame, labels: list[str], run_trials: RunTrials, *, folds: int, seed: int
) -> pd.DataFrame:
    """Label each fold of the human rows by a human-only teacher of the other folds.

    Synthetic rows have no part in it, so it holds for every ratio: where they help, it promises less than they bring.

    Args:
        human: all human-coded rows that training may see (id, text, question, label, and group where there is one).
        labels: class names in order.
        run_trials: trains on rows (id, text, question, label, origin, shots), returns logits [rows, classes] of each.
        folds: how many; fewer where there are not as many groups of rows.
        seed: of the training of the first fold; each fold has the next one.

    Returns:
        A row a human row, with the columns `COLUMNS`; rows of one `unit` depend on each other.
    """
    from scipy.special import softmax

    units = find_units(human)
    dealt = deal_folds(index_classes(human, labels), units, min(folds, len(np.unique(units))))
    marked = human.assign(origin="human", shots="")
    numbers = np.unique(dealt)
    trials = [Trial(marked[dealt != fold], marked[dealt == fold], seed + int(fold)) for fold in numbers]
    probabilities = np.zeros((len(human), len(labels)))
    for fold, logits in zip(numbers, run_trials(trials), strict=True):
        probabilities[dealt == fold] = softmax(logits.astype(np.float64), axis=1)
    chosen = probabilities.argmax(axis=1)
    said = np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0].round(_DIGITS)
    predicted = [labels[number] for number in chosen]
    return human[["id", "label"]].assign(unit=units, predicted=predicted, probability=said)[COLUMNS]
