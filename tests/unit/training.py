"""What the tests of training share: settings under which a tiny encoder learns the toy comments in a second."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.params import Distillation, Teacher

TEACHER = Teacher(
    model="toy",
    max_length=24,
    learning_rate=5e-3,
    batch_size=8,
    steps=60,
    trained_layers=2,
    recipe="amalgam",
    class_weights=False,
    guard=False,
    min_validation_rows=0,
)
DISTILLATION = Distillation(
    student="layers",
    layers=1,
    trained_layers=1,
    temperature=2.0,
    left_out=100,
    learning_rate=3e-3,
    steps=30,
)


def score_rows(folder: Path, rows: pd.DataFrame, bases: Sequence[Path] = ()) -> np.ndarray:
    """Return the probabilities [rows, classes] that a model gives."""
    from amalgam.training.checkpoint import open_model

    return open_model(folder, bases)(rows)
