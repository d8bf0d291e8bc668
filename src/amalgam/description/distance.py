"""How far apart two sets of embeddings are, and whether that is more than chance."""

from dataclasses import dataclass

import numpy as np

from amalgam.evaluation.metrics import Floats

_SHUFFLES_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Distance:
    """The squared MMD, the value below which chance leaves it at the confidence asked for, and the p-value."""

    mmd2: float
    chance: float
    p: float


def measure_distance(
    first: Floats, second: Floats, *, shuffles: int, confidence: float, rng: np.random.Generator
) -> Distance:
    """Measure the maximum mean discrepancy of two samples, and test it by permutation (Gretton et al., 2012, JMLR 13).

    The unbiased estimate of its square, which may fall below 0, with a Gaussian kernel whose width is the median
    distance of all pairs. Under the null hypothesis both samples are from one source, so that rows may change sides.

    Args:
        first: vectors [n, width], at least 2.
        second: vectors [m, width], at least 2.
        shuffles: how often the rows are divided anew.
        confidence: share of the shuffles that lie below `chance`.
        rng: where the randomness comes from.
    """
    kernel = build_kernel(np.concatenate([first, second]))
    sides = np.zeros(len(kernel), dtype=bool)
    sides[: len(first)] = True
    found = float(estimate_mmd2(kernel, sides[None])[0])
    drawn = np.concatenate(
        [
            estimate_mmd2(kernel, rng.permuted(np.tile(sides, (min(_SHUFFLES_AT_ONCE, shuffles - done), 1)), axis=1))
            for done in range(0, shuffles, _SHUFFLES_AT_ONCE)
        ]
    )
    p = (1 + (drawn >= found).sum()) / (1 + shuffles)
    return Distance(found, float(np.quantile(drawn, confidence)), float(p))


def build_kernel(vectors: Floats) -> Floats:
    """Return the Gaussian kernel [n, n] of all pairs, 0 on the diagonal; its width is the median distance."""
    from sklearn.metrics.pairwise import euclidean_distances

    squares = euclidean_distances(vectors, squared=True)
    median = float(np.median(squares[np.triu_indices(len(vectors), 1)]))
    kernel = np.exp(-squares / (2 * median)) if median else np.ones_like(squares)
    np.fill_diagonal(kernel, 0.0)
    return np.asarray(kernel)


def estimate_mmd2(kernel: Floats, sides: np.ndarray) -> Floats:
    """Return the unbiased squared MMD [r] for each division of the rows into two sides [r, n].

    Args:
        kernel: of all pairs, 0 on the diagonal [n, n].
        sides: whether a row is on the first side; as many rows for each r.
    """
    one = sides.astype(np.float64)
    reached = one @ kernel
    within = (reached * one).sum(axis=1)
    across = (reached * (1 - one)).sum(axis=1)
    others = kernel.sum() - within - 2 * across
    n, m = float(sides[0].sum()), float((~sides[0]).sum())
    return np.asarray(within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * across / (n * m))
