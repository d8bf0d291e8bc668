"""Agreement with human coders: of raters with each other, and of the student on the rows that it labels alone."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import Estimate, draw_resamples, estimate_metrics, summarise_estimates
from amalgam.evaluation.metrics import Bools, Floats, Ints
from amalgam.shipping.onnx import decide
from amalgam.tasks.schema import LEAVE_OUT
from amalgam.tasks.texts import count_independent
from amalgam.training.checkpoint import compute_softmax

_AGREEMENT = ("accuracy", "kappa", "quadratic_kappa")
_SMALLEST = 1e-12  # probability of which a logarithm is taken


def measure_selective(
    actual: Ints, groups: Ints | None, probabilities: Floats, calibration: Mapping[str, Any], confidence: float
) -> dict[str, float]:
    """Return rows, `coverage`, the share of them that needs no human, and `agreement` with coders on these.

    Both have an interval over rows, or groups of them; the agreement is left out where every row needs a human.
    The thresholds were not chosen by the test rows, so the figures hold for new rows like them. Terms as in Geifman
    and El-Yaniv (2017, arXiv 1705.08500), agreement being their selective accuracy.

    `probabilities` [n rows, k classes] are those of the student that ships, at temperature 1; `calibration` has the
    fields of `amalgam.shipping.calibration.Calibration`.
    """
    scaled = compute_softmax(np.log(np.maximum(probabilities, _SMALLEST)), calibration["temperature"])
    chosen, certainty = decide(scaled, calibration["threshold"])
    alone = certainty >= calibration["ask_below"]
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
    """Return rows, raters (columns rater1, rater2, …), and how far one agrees with another, the mean over pairs.

    Rows that not all raters rated are left out. A rating that is no label is a category of its own; for ordinal
    labels, where it has no place in the order, its row is left out. Empty where no two raters rated the same rows.
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
    pairs = [
        estimate_metrics(one, np.eye(len(categories))[other][None], resamples, ordinal=ordinal, names=_AGREEMENT)
        for one, other in combinations(codes, 2)
    ]
    estimates = {}
    for name, estimate in pairs[0].items():
        points = np.mean([pair[name].points for pair in pairs], axis=0)
        drawn = np.mean([pair[name].resampled for pair in pairs], axis=0)
        # Where all ratings are of one category, kappa is undefined: the raters agree.
        estimates[name] = replace(estimate, points=points, resampled=np.nan_to_num(drawn, nan=1.0))
    return {"rows": len(kept), "raters": cells.shape[1], **summarise_estimates(estimates, confidence)}


def _estimate_share(hits: Bools, of: Bools, weights: Floats, independent: float) -> Estimate:
    """Estimate the share of hits among some rows, all [n], of one seed; a resample without such rows has the share."""
    point = hits.sum() / of.sum()
    counts = weights @ of
    drawn = np.divide(weights @ hits, counts, out=np.full(len(weights), point), where=counts > 0)
    return Estimate(np.array([point]), drawn[:, None], independent, (0.0, 1.0))
