"""An interval for the expected calibration error.

The error as measured is too large: chance opens gaps in all bins, and their absolute values add up. A resample has
chance on top of chance, so the spread of resamples around the measured error makes no interval.

What resamples do give is the noise of the gaps themselves, which is as often up as down. The interval holds every
error that could well have led to the measured one (test inversion: DiCiccio and Romano, 1990, On nonparametric
confidence intervals, section 3): the measured gaps are scaled by a factor, the noise is put on them, and the factor
belongs to the interval unless nearly all of what comes out lies above or nearly all below the measured error. For a
perfectly calibrated model, at factor 0, that is exact.
"""

import numpy as np

from amalgam.evaluation.metrics import Floats

_HALVINGS = 20


def invert_gaps(gaps: Floats, noise: Floats, tails: float) -> tuple[float, float, float]:
    """Return lower end, median-unbiased estimate and upper end of the calibration error.

    Args:
        gaps: by seed and bin, accuracy less mean probability, times the bin's share of the rows [1, s, b].
        noise: gaps of each resample less those of all rows [r, s, b].
        tails: the share of both tails together, such as 0.05.
    """
    measured = _sum_gaps(gaps)[0]
    low, middle, high = (_find_factor(gaps, noise, measured, share) for share in (1 - tails / 2, 0.5, tails / 2))
    return low * measured, middle * measured, high * measured


def _find_factor(gaps: Floats, noise: Floats, measured: float, share: float) -> float:
    """Return the factor, at least 0, with which the share `share` of the noisy errors is up to the measured one."""
    low, high = 0.0, 1.0
    if not measured or _find_share(low, gaps, noise, measured) <= share:
        return low
    while _find_share(high, gaps, noise, measured) > share:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _find_share(middle, gaps, noise, measured) > share else (low, middle)
    return (low + high) / 2


def _find_share(factor: float, gaps: Floats, noise: Floats, measured: float) -> float:
    return float((_sum_gaps(factor * gaps + noise) <= measured).mean())


def _sum_gaps(gaps: Floats) -> Floats:
    """Return the calibration error [r], the mean over seeds."""
    return np.asarray(np.abs(gaps).sum(axis=2).mean(axis=1))
