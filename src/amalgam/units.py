"""Units: sets of rows that depend on each other, such as the answers of one student."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amalgam.tasks.texts import fold_text

if TYPE_CHECKING:
    import pandas as pd


def find_units(rows: "pd.DataFrame") -> NDArray[np.int64]:
    """Return the number [rows] of the unit of each row: its group, or else its text.

    Args:
        rows: with `text`, and `group` where the task has one; a row without a group has an empty cell, or none.
    """
    import pandas as pd

    names = "text " + rows["text"].map(fold_text)
    if "group" in rows:
        groups = rows["group"].fillna("")
        names = names.where(groups == "", "group " + groups)
    return np.asarray(pd.factorize(names)[0], dtype=np.int64)


def count_independent(units: NDArray[np.int64]) -> float:
    """Return how many rows count as independent, where those of one unit [n] depend on each other (Kish, 1965)."""
    return len(units) ** 2 / float((np.bincount(units) ** 2).sum())
