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
    outcome = train_model(
        model,
        tokenizer,
        build_examples(encode_rows(tokenizer, train, params.max_length, labels)),
        build_examples(encode_rows(tokenizer, validation, params.max_length, labels)),
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
        raise ModelError(f"{folder} cannot be loaded as a classifier ({error}): choose another `teacher.model`") from error
    return model


def build_examples(encoded: Encoded) -> Examples:
    """Put rows together with the cross-entropy of their labels."""
    return Examples(encoded, CrossEntropy(encoded.labels))


class CrossEntropy:
    """Cross-entropy against the rows' labels."""

    def __init__(self, labels: np.ndarray) -> None:
        """Take the class index of every row."""
        self._labels = torch.from_numpy(labels)

    def __call__(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the mean over the batch."""
        return functional.cross_entropy(logits, self._labels[rows].to(logits.device))
