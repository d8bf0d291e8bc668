"""How fast the student scores beside the teacher, and how much smaller it is."""

import time
from pathlib import Path

import pandas as pd

from amalgam.training.scoring import score_rows

_PASSES = 3


def measure_speed(teacher: Path, student: Path, rows: pd.DataFrame) -> dict[str, float]:
    """Measure scoring rates (rows a second, on this machine) and sizes (MB of weights), to 2 and 3 digits.

    The models take turns, so that a busy moment of the machine meets both, and the fastest of three passes counts.
    Opening a model, measured on one row, is taken off: it is done once, however many rows follow.
    """
    folders = {"teacher": teacher, "student": student}
    passes = [
        {model: (_time(folder, rows.head(1)), _time(folder, rows)) for model, folder in folders.items()}
        for _ in range(_PASSES)
    ]
    rates, sizes = {}, {}
    for model, folder in folders.items():
        opening, scoring = (min(turn[model][part] for turn in passes) for part in (0, 1))
        rates[model] = len(rows) / max(scoring - opening, scoring / 100)
        sizes[model] = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    return {
        "teacher_rows_per_second": round_digits(rates["teacher"], 2),
        "student_rows_per_second": round_digits(rates["student"], 2),
        "speedup": round_digits(rates["student"] / rates["teacher"], 2),
        "teacher_megabytes": round_digits(sizes["teacher"], 3),
        "student_megabytes": round_digits(sizes["student"], 3),
        "size_ratio": round_digits(sizes["student"] / sizes["teacher"], 3),
    }


def round_digits(value: float, digits: int) -> float:
    """Round to a number of significant digits."""
    return float(f"{value:.{digits}g}")


def _time(folder: Path, rows: pd.DataFrame) -> float:
    start = time.perf_counter()
    score_rows(folder, rows)
    return time.perf_counter() - start
