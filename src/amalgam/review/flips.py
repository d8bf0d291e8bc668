"""Test rows on which two revisions of a model differ."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from amalgam.evaluation.compare import encode_labels
from amalgam.evaluation.metrics import Floats, Ints


@dataclass(frozen=True, slots=True)
class Flip:
    """A row that one revision gets right and the other wrong, by majority over seeds.

    Attributes:
        id: of the row, as are `text`, `question` and `label`.
        old: the label that the older revision predicts.
        new: the label that the newer one predicts.
        old_probability: that of the row's own label, mean over seeds, in the older revision.
        new_probability: the same in the newer one.
    """

    id: str
    text: str
    question: str
    label: str
    old: str
    new: str
    old_probability: float
    new_probability: float

    @property
    def is_right_now(self) -> bool:
        """Whether the newer revision is the one that is right."""
        return self.new == self.label


def find_flips(rows: pd.DataFrame, old: Floats, new: Floats, labels: list[str]) -> list[Flip]:
    """List the rows that turned from right to wrong or back, the largest change of probability first.

    Args:
        rows: id, text, question and label of each row [n].
        old: probabilities [s seeds, n rows, k labels] of the older revision.
        new: those of the newer one.
        labels: in the order of the probabilities.
    """
    actual = encode_labels(rows, labels, "the test set")
    before, after = _vote(old), _vote(new)
    index = np.arange(len(actual))
    own = [np.round(stack.mean(axis=0)[index, actual], 4) for stack in (old, new)]
    flips = [
        Flip(
            **{name: str(rows[name].iloc[row]) for name in ("id", "text", "question", "label")},
            old=labels[before[row]],
            new=labels[after[row]],
            old_probability=float(own[0][row]),
            new_probability=float(own[1][row]),
        )
        for row in np.flatnonzero((before == actual) != (after == actual))
    ]
    return sorted(flips, key=lambda flip: (-abs(flip.new_probability - flip.old_probability), flip.id))


def _vote(stack: Floats) -> Ints:
    """Return the class [n] that most seeds predict; of equally many, the one of the higher mean probability."""
    classes = stack.shape[2]
    votes = np.eye(classes)[stack.argmax(axis=2)].sum(axis=0)
    return np.asarray((votes + stack.mean(axis=0) / 2).argmax(axis=1), dtype=np.int64)
