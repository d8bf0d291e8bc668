"""Folds for cross-validation: rows that depend on each other stay together."""

import numpy as np
from numpy.typing import NDArray


def deal_folds(
    classes: NDArray[np.int64], units: NDArray[np.int64], folds: int, *, seed: int | None = None
) -> NDArray[np.int64]:
    """Deal rows into folds [rows], a unit as a whole, so that each fold has its share of every class.

    Args:
        classes: class index of each row [rows]; a unit counts as one of the class of its first row.
        units: number of what each row depends on [rows].
        folds: how many; fewer where there are not as many units.
        seed: draws which units of a class come together; None takes them in their order.
    """
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    place = first if seed is None else np.random.default_rng(seed).permutation(len(first))
    dealt = np.empty(len(first), dtype=np.int64)
    dealt[np.lexsort((place, classes[first]))] = np.arange(len(first)) % folds
    return dealt[unit]
