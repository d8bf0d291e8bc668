"""Losses: functions of the logits of a batch and its row numbers."""

import numpy as np
import torch
from torch.nn import functional


class CrossEntropy:
    """Cross-entropy against class probabilities, each row with a weight."""

    def __init__(self, targets: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take the probabilities [rows, classes] that are to be learned, and the weight of each row [rows].

        Weights are scaled to a mean of 1, so that they change what counts and not how far a step goes.
        """
        weights = np.ones(len(targets)) if weights is None else weights
        self._targets = torch.tensor(targets, dtype=torch.float32)
        self._weights = torch.tensor(weights / weights.mean(), dtype=torch.float32)

    def __call__(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the weighted mean over the batch."""
        losses = functional.cross_entropy(logits, self._targets[rows].to(logits), reduction="none")
        return (losses * self._weights[rows].to(logits)).mean()


class DistillationLoss:
    """`alpha * T^2 * KL(teacher || student) + (1 - alpha) * CE` (Hinton et al. 2015, arXiv 1503.02531).

    T^2 keeps the gradient of the soft part the same size at every temperature. Rows without a label have the
    soft part alone, with full weight.
    """

    def __init__(self, teacher_logits: np.ndarray, labels: np.ndarray, *, temperature: float, alpha: float) -> None:
        """Take the teacher's logits [rows, classes] and the class index of each row, -1 for none."""
        self._logits = torch.tensor(teacher_logits)
        self._labels = torch.tensor(labels)
        self._temperature, self._alpha = temperature, alpha

    def __call__(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the mean over the batch."""
        labels = self._labels[rows].to(logits.device)
        soft_teacher = functional.log_softmax(self._logits[rows].to(logits) / self._temperature, dim=1)
        soft_student = functional.log_softmax(logits / self._temperature, dim=1)
        soft = functional.kl_div(soft_student, soft_teacher, reduction="none", log_target=True).sum(dim=1)
        hard = functional.cross_entropy(logits, labels, reduction="none", ignore_index=-1)
        alpha = torch.where(labels < 0, 1.0, self._alpha)
        return (alpha * self._temperature**2 * soft + (1 - alpha) * hard).mean()


def encode_targets(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the probabilities [rows, classes] that say the class index of each row with certainty."""
    return np.asarray(np.eye(classes)[labels])
