"""The ratio of two metrics, such as what a student keeps of its teacher's AUC, with its interval."""

from dataclasses import replace

from amalgam.evaluation.bootstrap import Estimate, find_errors, find_quantile

_WIDEST = 1e3  # times the ratio; an interval that goes beyond says nothing


def summarise_ratio(name: str, top: Estimate, bottom: Estimate, confidence: float) -> dict[str, float]:
    """Return `<name>`, `<name>_low` and `<name>_high` to 4 decimals, of the ratio of the means over seeds.

    The ends are left out where there is no finite interval, and all is where the lower metric is not above 0.
    """
    if not bottom.value > 0:
        return {}
    summary = {name: round(top.value / bottom.value, 4)}
    ends = find_ratio_interval(top, bottom, confidence)
    if ends:
        summary |= {f"{name}_low": round(ends[0], 4), f"{name}_high": round(ends[1], 4)}
    return summary


def find_ratio_interval(top: Estimate, bottom: Estimate, confidence: float) -> tuple[float, float] | None:
    """Return the interval of the ratio by Fieller's theorem (Fieller, 1954).

    It holds every r for which `top - r * bottom` may well be 0. It is finite only where `bottom` itself is clearly
    not 0; else there is none.
    """
    from scipy.optimize import brentq

    if _measure_excess(0.0, bottom, bottom, confidence) <= 0:
        return None
    ratio = top.value / bottom.value
    ends = []
    for sign in (-1, 1):
        step = 1e-3 * (abs(ratio) + 1)
        while _measure_excess(ratio + sign * step, top, bottom, confidence) < 0:
            step *= 2
            if step > _WIDEST * (abs(ratio) + 1):
                return None
        end = brentq(_measure_excess, ratio, ratio + sign * step, args=(top, bottom, confidence))
        ends.append(float(end))
    return ends[0], ends[1]


def shift_estimate(estimate: Estimate, by: float) -> Estimate:
    """Add a constant to a metric."""
    low, high = estimate.limits
    return replace(
        estimate, points=estimate.points + by, resampled=estimate.resampled + by, limits=(low + by, high + by)
    )


def _measure_excess(ratio: float, top: Estimate, bottom: Estimate, confidence: float) -> float:
    """Return by how much `top - ratio * bottom` is farther from 0 than chance would have it; 0 or less: it may be 0."""
    difference = Estimate(
        top.points - ratio * bottom.points,
        top.resampled - ratio * bottom.resampled,
        top.independent,
        (-1.0, 1.0),
    )
    error, variances = find_errors(difference)
    return abs(difference.value) - (error and error * find_quantile(variances, 1 - confidence))
