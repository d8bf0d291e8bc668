"""Texts as token ids, and the batches made of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WINDOW = 16  # batches that are sorted by length together: enough to save padding, few enough to keep order random


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows.

    Attributes:
        tokenizer: pads batches of them.
        features: for each row the tokenizer's lists of ids and masks.
        labels: class index of each row, -1 where there is none.
    """

    tokenizer: "PreTrainedTokenizerBase"
    features: list[dict[str, list[int]]]
    labels: np.ndarray

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.features)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.array([len(feature["input_ids"]) for feature in self.features])

    def pad(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Collect rows into tensors, padded to the longest of them and no further."""
        return dict(self.tokenizer.pad([self.features[row] for row in rows], return_tensors="pt"))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load a model folder's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


def encode_rows(
    tokenizer: "PreTrainedTokenizerBase", rows: pd.DataFrame, max_length: int, labels: list[str] | None = None
) -> Encoded:
    """Tokenise the responses; a question follows as second segment, and of both the longer one is cut first.

    Args:
        tokenizer: of the model that will read the rows.
        rows: with `text` and `question`, and `label` if `labels` is given.
        max_length: tokens a row at most.
        labels: class names in order; None leaves all labels at -1.
    """
    texts = rows["text"].tolist()
    questions = rows["question"].tolist()
    length = min(max_length, tokenizer.model_max_length)
    if any(questions):
        encoded = tokenizer(texts, questions, truncation="longest_first", max_length=length)
    else:
        encoded = tokenizer(texts, truncation=True, max_length=length)
    names = list(encoded.keys())
    features = [{name: encoded[name][row] for name in names} for row in range(len(texts))]
    index = {label: number for number, label in enumerate(labels or [])}
    classes = rows["label"].map(index) if labels else np.full(len(rows), -1)
    return Encoded(tokenizer, features, np.asarray(classes, dtype=np.int64))


def draw_batches(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield row numbers of batch after batch, epoch after epoch, without end.

    Rows are shuffled, then sorted by length inside windows of a few batches, so that a batch holds rows of
    similar length and little padding is computed.
    """
    while True:
        order = generator.permutation(len(lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), batch_size * _WINDOW):
            window = order[start : start + batch_size * _WINDOW]
            window = window[np.argsort(lengths[window], kind="stable")]
            batches += [window[first : first + batch_size] for first in range(0, len(window), batch_size)]
        for number in generator.permutation(len(batches)):
            yield batches[number]


def sort_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield every row once, the longest first, in batches of similar length."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
