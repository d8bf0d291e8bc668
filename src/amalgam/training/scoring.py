"""Scoring: class probabilities from a trained model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.machine import choose_device
from amalgam.training.checkpoint import load_trained, read_note
from amalgam.training.classifier import add_pooling
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.loop import compute_logits


class Scorer:
    """A trained classifier, loaded once; where it has several members, the mean of their probabilities is its view."""

    def __init__(self, folder: Path, bases: Sequence[Path] = (), *, batch_size: int = 64) -> None:
        """Load the model in `folder`; batches of `batch_size` rows hold rows of similar length.

        `bases` are folders of encoders, one of which it was trained from; see `load_trained`.
        """
        self._members = [_Member(folder / name, bases, batch_size) for name in read_note(folder).members or ["."]]

    def score(self, rows: pd.DataFrame) -> np.ndarray:
        """Return probabilities [rows, classes], in the order of the rows (with `text` and `question`)."""
        logits = self.compute_logits(rows).astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    def compute_logits(self, rows: pd.DataFrame) -> np.ndarray:
        """Return logits [rows, classes], in the order of the rows; of several members see `average_views`."""
        views = np.stack([member.compute_logits(rows) for member in self._members])
        return average_views(views) if len(views) > 1 else np.asarray(views[0])


class _Member:
    def __init__(self, folder: Path, bases: Sequence[Path], batch_size: int) -> None:
        self._note = read_note(folder)  # its own: members may read different tokens
        self._tokenizer = load_tokenizer(folder)
        self._device = choose_device()
        model = load_trained(folder, bases)
        self._model = add_pooling(model, self._note.pooling).to(self._device).eval()
        self._batch_size = batch_size

    def compute_logits(self, rows: pd.DataFrame) -> np.ndarray:
        if rows.empty:
            return np.zeros((0, len(self._note.labels)), dtype=np.float32)
        read = rows if self._note.uses_question else rows.assign(question="")
        encoded = encode_rows(self._tokenizer, read, self._note.max_length)
        return compute_logits(self._model, encoded, self._device, self._batch_size)


def average_views(views: np.ndarray) -> np.ndarray:
    """Return the logarithms of the mean probabilities [rows, classes] of logits [models, rows, classes].

    The mean of probabilities is what an ensemble says (Lakshminarayanan et al. 2017, arXiv 1612.01474).
    """
    views = views.astype(np.float64)
    shifted = np.exp(views - views.max(axis=2, keepdims=True))
    probabilities = shifted / shifted.sum(axis=2, keepdims=True)
    return np.asarray(np.log(np.maximum(probabilities.mean(axis=0), 1e-12)), dtype=np.float32)


def score_rows(folder: Path, rows: pd.DataFrame, bases: Sequence[Path] = ()) -> np.ndarray:
    """Return the probabilities [rows, classes] that the model in `folder` gives, in the order of the rows."""
    return Scorer(folder, bases).score(rows)


def measure_size(folder: Path, bases: Sequence[Path] = ()) -> int:
    """Return the bytes of all weights of the model in `folder`, of all its members, as it computes with them."""
    members = [folder / name for name in read_note(folder).members or ["."]]
    return sum(weight.nbytes for member in members for weight in load_trained(member, bases).parameters())
