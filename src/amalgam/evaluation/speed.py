"""How fast models score beside each other, and how large they are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from amalgam.evaluation.metrics import Floats

_PASSES = 3


@dataclass(frozen=True, slots=True)
class Timed:
    """A model: opens and scores rows in one call; and how many bytes its weights take."""

    score: Callable[[pd.DataFrame], Floats]
    measure_size: Callable[[], int]


def measure_speed(models: Mapping[str, Timed], rows: pd.DataFrame) -> dict[str, float]:
    """Measure scoring rates (rows a second, on this machine) and sizes (MB of weights), to 2 and 3 digits.

    The models take turns, so that a busy moment of the machine meets all, and the fastest of three passes counts.
    Opening a model, measured on one row, is taken off: it is done once, however many rows follow.

    Returns:
        `<model>_rows_per_second` and `<model>_megabytes`; `speedup` and `size_ratio`, of `student` to `teacher`.
    """
    passes = [
        {name: (_time(model, rows.head(1)), _time(model, rows)) for name, model in models.items()}
        for _ in range(_PASSES)
    ]
    rates, sizes = {}, {}
    for name, model in models.items():
        opening, scoring = (min(turn[name][part] for turn in passes) for part in (0, 1))
        rates[name] = len(rows) / max(scoring - opening, scoring / 100)
        sizes[name] = model.measure_size() / 1e6
    return {
        **{f"{name}_rows_per_second": round_digits(rate, 2) for name, rate in rates.items()},
        "speedup": round_digits(rates["student"] / rates["teacher"], 2),
        **{f"{name}_megabytes": round_digits(size, 3) for name, size in sizes.items()},
        "size_ratio": round_digits(sizes["student"] / sizes["teacher"], 3),
    }


def round_digits(value: float, digits: int) -> float:
    """Round to a number of significant digits."""
    return float(f"{value:.{digits}g}")


def _time(model: Timed, rows: pd.DataFrame) -> float:
    start = time.perf_counter()
    model.score(rows)
    return time.perf_counter() - start
