"""Scoring: class probabilities from a trained model."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from amalgam.training.checkpoint import read_note
from amalgam.training.classifier import add_pooling, load_classifier
from amalgam.training.device import choose_device
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.loop import compute_logits


class Scorer:
    """A trained model, loaded once."""

    def __init__(self, folder: Path, *, batch_size: int = 64) -> None:
        """Load the model in `folder`; batches of `batch_size` rows hold rows of similar length."""
        self._note = read_note(folder)
        self._tokenizer = load_tokenizer(folder)
        self._device = choose_device()
        model = load_classifier(folder, self._note.labels)
        self._model = add_pooling(model, self._note.pooling).to(self._device).eval()
        self._batch_size = batch_size

    def score(self, rows: pd.DataFrame) -> np.ndarray:
        """Return probabilities [rows, classes], in the order of the rows (with `text` and `question`)."""
        return torch.softmax(torch.from_numpy(self.compute_logits(rows)).double(), dim=1).numpy()

    def compute_logits(self, rows: pd.DataFrame) -> np.ndarray:
        """Return logits [rows, classes], in the order of the rows."""
        if rows.empty:
            return np.zeros((0, len(self._note.labels)), dtype=np.float32)
        read = rows if self._note.uses_question else rows.assign(question="")
        encoded = encode_rows(self._tokenizer, read, self._note.max_length)
        return compute_logits(self._model, self._tokenizer, encoded, self._device, self._batch_size)


def score_rows(folder: Path, rows: pd.DataFrame, *, batch_size: int = 64) -> np.ndarray:
    """Return the probabilities [rows, classes] that the model in `folder` gives, in the order of the rows."""
    return Scorer(folder, batch_size=batch_size).score(rows)
