"""Selective prediction on the test rows: how many the shipped student labels alone, and how often it is right there.

Its thresholds come from elsewhere (`models/exported/summary.json`), so what is measured here is no choice of the test
rows, and holds for new rows like them, whether or not validation rows vouched for an agreement.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amalgam.evaluation.bootstrap import Estimate, draw_resamples, summarise_estimates
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.params import Evaluation
from amalgam.shipping.onnx import compute_probabilities, decide
from amalgam.tasks.texts import count_independent

_LEAST = 1e-12  # probability of which there is a logarithm


def measure_selective(
    actual: Ints, groups: Ints | None, probabilities: Floats, calibration: Mapping[str, Any], params: Evaluation
) -> dict[str, float]:
    """Return rows, `coverage`, the share of them that no human has to look at, and `agreement` with coders on these.

    Both have an interval over rows, or groups of them; the agreement is left out where a human is asked about all.
    Terms as Geifman and El-Yaniv (2017, arXiv 1705.08500) have them, agreement being their selective accuracy.

    Args:
        actual: class index of each row [n].
        groups: group index of each row [n], or None.
        probabilities: [n rows, k classes] of the student that ships, at temperature 1.
        calibration: its thresholds, the fields of `amalgam.shipping.calibration.Calibration`.
        params: resamples and confidence of the intervals.
    """
    scaled = compute_probabilities(np.log(np.maximum(probabilities, _LEAST)), calibration["temperature"])
    chosen, certainty = decide(scaled, calibration["threshold"])
    alone = certainty >= calibration["ask_below"]
    right = alone & (chosen == actual)
    # Any label may be missing from a resample: neither share needs it.
    resamples = draw_resamples(
        np.zeros_like(actual), groups, resamples=params.resamples, rng=np.random.default_rng(params.seed)
    )
    found = {"coverage": _estimate_share(alone, np.ones_like(alone), resamples.rows, resamples.independent)}
    exact: dict[str, float] = {}
    if alone.any():
        units = np.arange(alone.sum()) if groups is None else np.unique(groups[alone], return_inverse=True)[1]
        independent = count_independent(units)
        found["agreement"] = _estimate_share(right, alone, resamples.rows, independent)
        if right.sum() == alone.sum():
            # Resamples of rows that are all right are so too: the bound of Clopper and Pearson (1934) in their place.
            exact["agreement_low"] = round(((1 - params.confidence) / 2) ** (1 / independent), 4)
    shares = summarise_estimates(found, params.confidence) | exact
    return {"rows": len(actual), "ask_below": round(calibration["ask_below"], 4), **shares}


def _estimate_share(hits: NDArray[np.bool_], of: NDArray[np.bool_], weights: Floats, independent: float) -> Estimate:
    """Estimate the share of hits among some rows, all [n], of one seed; a resample without such rows has the share."""
    point = hits.sum() / of.sum()
    counts = weights @ of
    drawn = np.divide(weights @ hits, counts, out=np.full(len(weights), point), where=counts > 0)
    return Estimate(np.array([point]), drawn[:, None], independent, (0.0, 1.0))
