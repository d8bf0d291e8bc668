"""Folds for cross-validation: rows that depend on each other stay together."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from amalgam.tasks.texts import fold_text


def find_units(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number [rows] of what each row depends on: its group, or else its text.

    Rows of one unit, such as answers by one student, are no independent evidence.

    Args:
        rows: with `text`, and `group` where the task has one; a row without a group has an empty cell.
    """
    names = "text " + rows["text"].map(fold_text)
    if "group" in rows:
        names = names.where(rows["group"] == "", "group " + rows["group"])
    return np.asarray(pd.factorize(names)[0], dtype=np.int64)


def deal_folds(
    classes: NDArray[np.int64], units: NDArray[np.int64], folds: int, *, seed: int | None = None
) -> NDArray[np.int64]:
    """Deal rows into folds [rows], a unit as a whole, so that each fold has its share of every class.

    Args:
        classes: class index of each row [rows]; a unit counts as one of the class of its first row.
        units: see `find_units` [rows].
        folds: how many; fewer where there are not as many units.
        seed: draws which units of a class come together; None takes them in their order.
    """
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    place = first if seed is None else np.random.default_rng(seed).permutation(len(first))
    dealt = np.empty(len(first), dtype=np.int64)
    dealt[np.lexsort((place, classes[first]))] = np.arange(len(first)) % folds
    return dealt[unit]
