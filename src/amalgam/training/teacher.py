"""The teacher: a BERT-family encoder, fine-tuned on labelled rows."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from amalgam.errors import ModelError
from amalgam.params import Teacher
from amalgam.training.checkpoint import save_checkpoint
from amalgam.training.device import set_seed
from amalgam.training.encoding import Encoded, encode_rows, load_tokenizer
from amalgam.training.loop import Examples, Outcome, train_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def train_teacher(
    encoder: Path,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    labels: list[str],
    params: Teacher,
    *,
    seed: int,
    target: Path,
    advance: Callable[[object], None],
) -> Outcome:
    """Fine-tune the encoder with cross-entropy and save the best checkpoint to `target`.

    Args:
        encoder: folder of the base model.
        train: labelled rows (text, question, label).
        validation: labelled rows that choose the checkpoint.
        labels: class names in order.
        params: the section `teacher`.
        seed: of the new head's weights, dropout and the order of batches.
        target: folder to write.
        advance: called once a step.
    """
    set_seed(seed)
    tokenizer = load_tokenizer(encoder)
    model = load_classifier(encoder, labels)
    held_out = encode_rows(tokenizer, validation, params.max_length, labels)
    outcome = train_model(
        model,
        tokenizer,
        build_examples(encode_rows(tokenizer, train, params.max_length, labels)),
        build_examples(held_out),
        RankingMerit(held_out.labels),
        params,
        seed=seed,
        curves=target / "curves",
        advance=advance,
    )
    save_checkpoint(model, tokenizer, target, labels, params.max_length, uses_question=bool(train["question"].any()))
    return outcome


def load_classifier(folder: Path, labels: list[str]) -> "PreTrainedModel":
    """Load an encoder with a classification head for the labels; weights come from safetensors only.

    Raises:
        ModelError: the folder holds no encoder that transformers can make a classifier of.
    """
    from transformers import AutoModelForSequenceClassification

    names = dict(enumerate(labels))
    try:
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=names,
            label2id={name: number for number, name in names.items()},
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} cannot be loaded as a classifier ({error}): choose another `teacher.model`"
        ) from error
    return model


def build_examples(encoded: Encoded) -> Examples:
    """Put rows together with the cross-entropy of their labels."""
    return Examples(encoded, CrossEntropy(encoded.labels))


class CrossEntropy:
    """Cross-entropy against the rows' labels."""

    def __init__(self, labels: np.ndarray) -> None:
        """Take the class index of every row."""
        self._labels = torch.tensor(labels)

    def __call__(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the mean over the batch."""
        return functional.cross_entropy(logits, self._labels[rows].to(logits.device))


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


def estimate_area_error(area: float, positives: int, negatives: int) -> float:
    """Return the standard error of an area under the ROC curve (Hanley and McNeil 1982).

    An area of 1 is taken as half a pair less: on few rows it is no proof of perfection.
    """
    area = min(area, 1 - 0.5 / (positives * negatives))
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (positives - 1) * (both_positive - area**2) + (negatives - 1) * (both_negative - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (positives * negatives)))
