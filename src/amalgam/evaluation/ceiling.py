"""The human ceiling: how far raters agree with each other on the test rows."""

from itertools import combinations

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import Estimate, draw_resamples, summarise_estimates
from amalgam.evaluation.metrics import Floats, Ints, count_confusions, weigh_accuracy, weigh_kappa
from amalgam.params import Evaluation
from amalgam.tasks.schema import LEAVE_OUT


def measure_ceiling(
    ratings: pd.DataFrame, groups: Ints | None, labels: list[str], params: Evaluation, *, ordinal: bool
) -> dict[str, float]:
    """Return rows, raters, and the agreement of one rater with another, the mean over pairs of raters.

    A rating that is no label of the task counts as a category of its own, but for ordinal labels, where it has no
    place in the order, its row is left out. Rows that not all raters rated are left out.

    Args:
        ratings: rater1, rater2, … of the test rows [n]; columns of other names do not matter.
        groups: group index of each row [n], or None.
        labels: all labels of the task, in order.
        params: resamples and confidence of the intervals.
        ordinal: whether the labels have an order.

    Returns:
        Empty where no two raters rated the same rows.
    """
    raters = [str(name) for name in ratings.filter(regex=r"^rater\d+$")]
    cells = ratings[raters]
    known = cells.isin(labels) if ordinal else (cells != "") & (cells != LEAVE_OUT)
    rated = known.all(axis=1).to_numpy()
    if len(raters) < 2 or not rated.any():
        return {}
    kept = cells[rated]
    names = [*labels, *sorted(set(kept.to_numpy().ravel()) - set(labels))]
    codes = [np.array([names.index(name) for name in kept[rater]], dtype=np.int64) for rater in raters]
    units = None if groups is None else np.unique(groups[rated], return_inverse=True)[1]
    # Any of the labels may be missing from a resample: agreement needs none of them.
    resamples = draw_resamples(
        np.zeros(len(kept), dtype=np.int64), units, resamples=params.resamples, rng=np.random.default_rng(params.seed)
    )
    ones = np.ones((1, len(kept)))
    points, drawn = (_agree(codes, weights, len(names), ordinal) for weights in (ones, resamples.rows))
    estimates = {
        name: Estimate(
            points[name],
            np.nan_to_num(drawn[name][:, None], nan=1.0),  # all of one category: the raters agree
            resamples.independent,
            (-1.0 if "kappa" in name else 0.0, 1.0),
        )
        for name in points
    }
    return {"rows": len(kept), "raters": len(raters), **summarise_estimates(estimates, params.confidence)}


def _agree(codes: list[Ints], weights: Floats, categories: int, ordinal: bool) -> dict[str, Floats]:
    """Return accuracy and kappas [r] by name; where all ratings are of one category, kappa is NaN."""
    pairs = [count_confusions(first, second, weights, categories) for first, second in combinations(codes, 2)]
    measures = {
        "accuracy": [weigh_accuracy(pair) for pair in pairs],
        "kappa": [weigh_kappa(pair) for pair in pairs],
        **({"quadratic_kappa": [weigh_kappa(pair, quadratic=True) for pair in pairs]} if ordinal else {}),
    }
    return {name: np.mean(values, axis=0) for name, values in measures.items()}
