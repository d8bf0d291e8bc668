"""How fast models score beside each other, and how large they are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from amalgam.evaluation.metrics import Floats

_PASSES, _ROWS = 3, 200
Score = Callable[[pd.DataFrame], Floats]


@dataclass(frozen=True, slots=True)
class Timed:
    """A model: how it is opened, which gives what scores rows; and how many bytes its weights take."""

    open: Callable[[], Score]
    measure_size: Callable[[], int]


def measure_speed(models: Mapping[str, Timed], rows: pd.DataFrame) -> dict[str, float]:
    """Measure scoring rates (rows a second, on this machine) and sizes (MB of weights), to 2 and 3 digits.

    The models are opened before, and score the first 200 rows. They take turns, so that a busy moment of the machine
    meets all, and the fastest of three passes counts.

    Returns:
        `<model>_rows_per_second` and `<model>_megabytes`; `speedup` and `size_ratio`, of `student` to `teacher`.
    """
    rows = rows.head(_ROWS)
    opened = {name: model.open() for name, model in models.items()}
    passes = [{name: _time(score, rows) for name, score in opened.items()} for _ in range(_PASSES)]
    rates = {name: len(rows) / min(turn[name] for turn in passes) for name in models}
    sizes = {name: model.measure_size() / 1e6 for name, model in models.items()}
    return {
        **{f"{name}_rows_per_second": round_digits(rate, 2) for name, rate in rates.items()},
        "speedup": round_digits(rates["student"] / rates["teacher"], 2),
        **{f"{name}_megabytes": round_digits(size, 3) for name, size in sizes.items()},
        "size_ratio": round_digits(sizes["student"] / sizes["teacher"], 3),
    }


def round_digits(value: float, digits: int) -> float:
    """Round to a number of significant digits."""
    return float(f"{value:.{digits}g}")


def _time(score: Score, rows: pd.DataFrame) -> float:
    start = time.perf_counter()
    score(rows)
    return time.perf_counter() - start
