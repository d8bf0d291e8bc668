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


class ContrastiveLoss:
    """Draws the vectors of rows of one label together, and those of others apart.

    The squared distance of a pair's cosine from 1, where both rows have the same label, or from 0, where they do not,
    as sentence encoders learn it in SetFit (Tunstall et al. 2022, arXiv 2209.11055); but over all pairs of a batch,
    since the vectors are there. Both kinds of pairs count alike, however many there are of each.
    """

    def __init__(self, targets: np.ndarray, weights: np.ndarray) -> None:
        """Take the class probabilities [rows, classes] of each row, and its weight [rows]: a pair has their product.

        Where a row's class is not certain, a pair is of one label with the probability that both classes are the same.
        """
        self._targets = torch.tensor(targets, dtype=torch.float32)
        self._weights = torch.tensor(weights, dtype=torch.float32)

    def __call__(self, vectors: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the loss of a batch's vectors [rows, width], each of length 1."""
        targets, weights = self._targets[rows].to(vectors), self._weights[rows].to(vectors)
        first, second = torch.triu_indices(len(rows), len(rows), offset=1, device=vectors.device)
        alike = (targets[first] * targets[second]).sum(dim=1)
        cosines = (vectors[first] * vectors[second]).sum(dim=1)
        pairs = weights[first] * weights[second]
        together, apart = pairs * alike, pairs * (1 - alike)
        return _average((1 - cosines) ** 2, together) + _average(cosines**2, apart)


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


def _average(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean; 0 where nothing has weight."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-9)


def encode_targets(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the probabilities [rows, classes] that say the class index of each row with certainty."""
    return np.asarray(np.eye(classes)[labels])
