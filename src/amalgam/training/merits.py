"""Merits: how good a model is by its logits for the validation rows, and the standard error of that."""

from collections.abc import Callable

import numpy as np
import torch


class RankingMerit:
    """Area under the ROC curve, the mean over classes of one against the rest.

    The loss would not do: on few rows it rises with the model's confidence long before the ranking gets worse.
    """

    def __init__(self, labels: np.ndarray) -> None:
        """Take the class index of every row."""
        self._labels = labels

    def __call__(self, logits: np.ndarray) -> tuple[float, float]:
        """Return the mean over the classes that are there but are not all there is, and its standard error."""
        from sklearn.metrics import roc_auc_score

        probabilities = torch.softmax(torch.tensor(logits).double(), dim=1).numpy()
        classes, counts = np.unique(self._labels, return_counts=True)
        if len(classes) < 2:
            return 0.5, 0.5
        areas = [roc_auc_score(self._labels == number, probabilities[:, number]) for number in classes]
        errors = [
            estimate_area_error(area, count, len(logits) - count) for area, count in zip(areas, counts, strict=True)
        ]
        # Equal up to noise must count as equal.
        return round(float(np.mean(areas)), 6), float(np.mean(errors))


class Closeness:
    """The negative of a loss: for a student that is to see as its teacher does, the loss is the measure."""

    def __init__(self, loss: Callable[[torch.Tensor, np.ndarray], torch.Tensor]) -> None:
        """Take the loss over the validation rows."""
        self._loss = loss

    def __call__(self, logits: np.ndarray) -> tuple[float, float]:
        """Return the negative of the mean loss over all rows, and its standard error.

        On ten rows the mean says little: its lowest value is often that of an early step, by chance.
        """
        scores = torch.tensor(logits)
        losses = [float(self._loss(scores[row : row + 1], np.array([row]))) for row in range(len(scores))]
        error = float(np.std(losses, ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
        return -float(np.mean(losses)), error


def estimate_area_error(area: float, positives: int, negatives: int) -> float:
    """Return the standard error of an area under the ROC curve (Hanley and McNeil 1982).

    An area of 1 is taken as half a pair less: on few rows it is no proof of perfection.
    """
    area = min(area, 1 - 0.5 / (positives * negatives))
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (positives - 1) * (both_positive - area**2) + (negatives - 1) * (both_negative - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (positives * negatives)))
