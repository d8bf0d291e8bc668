"""Agreement with human coders: of raters with each other, and of the student on the rows that it labels alone."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import Estimate, draw_resamples, summarise_estimates
from amalgam.evaluation.metrics import Bools, Floats, Ints, measure_weighted
from amalgam.predicting.onnx import compute_probabilities, decide
from amalgam.tasks.schema import LEAVE_OUT
from amalgam.tasks.texts import count_independent

_SMALLEST = 1e-12  # probability of which a logarithm is taken


def measure_selective(
    actual: Ints, groups: Ints | None, probabilities: Floats, calibration: Mapping[str, Any], confidence: float
) -> dict[str, float]:
    """Return rows, `coverage`, the share of them that needs no human, and `agreement` with coders on these.

    Both have an interval over rows, or groups of them; the agreement is left out where every row needs a human.
    The thresholds were not chosen by the test rows, so the figures hold for new rows like them. Terms as in Geifman
    and El-Yaniv (2017, arXiv 1705.08500), agreement being their selective accuracy.

    Args:
        actual: class index of each row [n].
        groups: group index of each row [n], or None.
        probabilities: [n rows, k classes] of the student that ships, at temperature 1.
        calibration: its thresholds, the fields of `amalgam.shipping.calibration.Calibration`.
        confidence: of the intervals.
    """
    scaled = compute_probabilities(np.log(np.maximum(probabilities, _SMALLEST)), calibration["temperature"])
    chosen = decide(scaled, calibration["threshold"])
    alone = np.take_along_axis(scaled, chosen[:, None], axis=1)[:, 0] >= calibration["ask_below"]
    right = alone & (chosen == actual)
    resamples = draw_resamples(np.zeros_like(actual), groups)  # any label may be missing: neither share needs it
    found = {"coverage": _estimate_share(alone, np.ones_like(alone), resamples.rows, resamples.independent)}
    exact: dict[str, float] = {}
    if alone.any():
        independent = count_independent(np.arange(alone.sum()) if groups is None else groups[alone])
        found["agreement"] = _estimate_share(right, alone, resamples.rows, independent)
        if right.sum() == alone.sum():
            # Resamples of rows that are all right are so too: the bound of Clopper and Pearson (1934) in their place.
            exact["agreement_low"] = round(((1 - confidence) / 2) ** (1 / independent), 4)
    shares = summarise_estimates(found, confidence) | exact
    return {"rows": len(actual), "ask_below": round(calibration["ask_below"], 4), **shares}


def measure_ceiling(
    ratings: pd.DataFrame, groups: Ints | None, labels: list[str], confidence: float, *, ordinal: bool
) -> dict[str, float]:
    """Return rows, raters, and the agreement of one rater with another, the mean over pairs of raters.

    A rating that is no label of the task counts as a category of its own; for ordinal labels, where it has no place
    in the order, its row is left out. Rows that not all raters rated are left out.

    Args:
        ratings: columns rater1, rater2, … of the test rows [n]; other columns do not matter.
        groups: group index of each row [n], or None.
        labels: all labels of the task, in order.
        confidence: of the intervals.
        ordinal: whether the labels have an order.

    Returns:
        Empty where no two raters rated the same rows.
    """
    cells = ratings.filter(regex=r"^rater\d+$")
    known = cells.isin(labels) if ordinal else (cells != "") & (cells != LEAVE_OUT)
    rated = known.all(axis=1).to_numpy()
    if cells.shape[1] < 2 or not rated.any():
        return {}
    kept = cells[rated]
    categories = [*labels, *sorted(set(kept.to_numpy().ravel()) - set(labels))]
    codes = [kept[rater].map(categories.index).to_numpy() for rater in kept]
    units = None if groups is None else np.unique(groups[rated], return_inverse=True)[1]
    resamples = draw_resamples(np.zeros(len(kept), dtype=np.int64), units)  # agreement needs no label in particular
    names = ["accuracy", "kappa", *(["quadratic_kappa"] if ordinal else [])]
    found: dict[str, list[Floats]] = {name: [] for name in names}
    for weights in (np.ones((1, len(kept))), resamples.rows):
        pairs = [
            measure_weighted(one, np.eye(len(categories))[other], weights, names)
            for one, other in combinations(codes, 2)
        ]
        for name in names:
            found[name].append(np.mean([pair[name] for pair in pairs], axis=0))
    estimates = {
        # A kappa that is undefined, where all ratings are of one category: the raters agree.
        name: Estimate(
            points, np.nan_to_num(drawn[:, None], nan=1.0), resamples.independent, (-1.0 if "kappa" in name else 0, 1)
        )
        for name, (points, drawn) in found.items()
    }
    return {"rows": len(kept), "raters": cells.shape[1], **summarise_estimates(estimates, confidence)}


def _estimate_share(hits: Bools, of: Bools, weights: Floats, independent: float) -> Estimate:
    """Estimate the share of hits among some rows, all [n], of one seed; a resample without such rows has the share."""
    point = hits.sum() / of.sum()
    counts = weights @ of
    drawn = np.divide(weights @ hits, counts, out=np.full(len(weights), point), where=counts > 0)
    return Estimate(np.array([point]), drawn[:, None], independent, (0.0, 1.0))
