"""Mixing human-coded and synthetic rows at a ratio."""

from itertools import chain, zip_longest

import pandas as pd

from amalgam.errors import DataError


def count_synthetic(ratio: float, human: int) -> int:
    """Return how many synthetic rows make up the share `ratio` beside `human` rows; `ratio` is below 1."""
    return round(ratio / (1 - ratio) * human)


def mix_rows(human: pd.DataFrame, synthetic: pd.DataFrame, ratio: float, labels: list[str]) -> pd.DataFrame:
    """Mix rows at the synthetic share `ratio`, the human rows held fixed (arXiv 2501.09126).

    Synthetic rows are taken in turn from each label, in the order of the pool, so that the rows of a smaller
    ratio are among those of a larger one. Ratio 0 is the human rows alone, ratio 1 the whole pool alone.

    Args:
        human: human-coded train rows (id, text, question, label).
        synthetic: the curated pool (id, text, question, label), in the order in which it was asked for.
        ratio: synthetic share, 0 to 1.
        labels: all labels of the task.

    Returns:
        id, text, question, label and origin (`human` or `synthetic`).

    Raises:
        DataError: the pool is too small for the ratio.
    """
    columns = ["id", "text", "question", "label"]
    pool = synthetic[columns].assign(origin="synthetic")
    # Ratio 1 takes what there is, but no model learns a label without a row.
    wanted = len(labels) if ratio == 1 else count_synthetic(ratio, len(human))
    chosen = _take_in_turn(pool, wanted, ratio, labels)
    if ratio == 1:
        return pool.reset_index(drop=True)
    return pd.concat([human[columns].assign(origin="human"), chosen], ignore_index=True)


def _take_in_turn(pool: pd.DataFrame, wanted: int, ratio: float, labels: list[str]) -> pd.DataFrame:
    queues = [list(pool.index[pool["label"] == label]) for label in labels]
    for place, (label, queue) in enumerate(zip(labels, queues, strict=True)):
        needed = -(-(wanted - place) // len(labels))
        if len(queue) < needed:
            raise DataError(
                f"`ratio: {ratio:g}` needs {needed} synthetic rows of label {label!r}, but curation kept {len(queue)}: "
                "raise `synthesis.rows`, or lower `ratio`"
            )
    turns = chain.from_iterable(zip_longest(*queues))
    return pool.loc[[row for row in turns if row is not None][:wanted]]
