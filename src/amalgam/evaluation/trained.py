"""The trained models of a run: what they say of the test rows, how fast they are, and how large.

A model is the folder of a classifier, or an ONNX file, which reads texts by the tokenizer of the seed's student.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from amalgam.evaluation.metrics import Floats
from amalgam.evaluation.predictions import build_predictions
from amalgam.shipping.onnx import OnnxScorer
from amalgam.training.checkpoint import compute_softmax, measure_size, open_model, score_models

_PASSES, _ROWS = 2, 128  # with 64 rows, the start of a pass takes half of the time of the student in 8-bit integers
_MEASURED = ("teacher", "student", "student_int8")  # the control is as fast and as large as the student


def list_models(folders: Mapping[str, Path], exported: Path, seed: int) -> dict[str, Path]:
    """Name the models of a seed that there are: those in `folders`, `student` among them, and `student_int8`."""
    models = {model: folder / f"seed-{seed}" for model, folder in folders.items()}
    models["student_int8"] = exported / f"seed-{seed}" / "model.int8.onnx"
    return {model: path for model, path in models.items() if path.exists()}


def score_sets(
    sets: dict[str, pd.DataFrame], models: Mapping[int, Mapping[str, Path]], labels: list[str], bases: Sequence[Path]
) -> pd.DataFrame:
    """Return the predictions of every model, by seed and name, for every set, as `amalgam.evaluation.predictions` does.

    `bases` are folders of the encoders that models were trained from.
    """
    folders = [path for of_seed in models.values() for path in of_seed.values() if path.is_dir()]
    logits, tables = score_models(folders, sets, bases), []
    for name, rows in sets.items():
        found = dict(zip(folders, compute_softmax(logits[name]), strict=True))
        for seed, of_seed in models.items():
            for model, path in of_seed.items():
                scores = found[path] if path in found else _open(path, of_seed, bases)(rows)
                tables.append(build_predictions(name, model, seed, rows["id"], scores, labels))
    return pd.concat(tables)


def measure_speed(models: Mapping[str, Path], rows: pd.DataFrame, bases: Sequence[Path]) -> dict[str, float]:
    """Return `<model>_rows_per_second` on this machine, `<model>_megabytes`, and student to teacher of both.

    The models take turns, so that a busy moment of the machine meets all, and the fastest pass counts.
    """
    rows, models = rows.head(_ROWS), {name: path for name, path in models.items() if name in _MEASURED}
    opened = {name: _open(path, models, bases) for name, path in models.items()}
    passes = [{name: _time(score, rows) for name, score in opened.items()} for _ in range(_PASSES)]
    rates = {name: len(rows) / min(turn[name] for turn in passes) for name in models}
    sizes = {
        name: (measure_size(path, bases) if path.is_dir() else path.stat().st_size) / 1e6
        for name, path in models.items()
    }
    speeds = {f"{name}_rows_per_second": rate for name, rate in rates.items()}
    masses = {f"{name}_megabytes": size for name, size in sizes.items()}
    speeds["speedup"] = rates["student"] / rates["teacher"]
    masses["size_ratio"] = sizes["student"] / sizes["teacher"]
    rounded = {name: float(f"{value:.2g}") for name, value in speeds.items()}
    return rounded | {name: float(f"{value:.3g}") for name, value in masses.items()}


def _open(path: Path, of_seed: Mapping[str, Path], bases: Sequence[Path]) -> Callable[[pd.DataFrame], Floats]:
    return open_model(path, bases) if path.is_dir() else OnnxScorer(path, of_seed["student"]).score


def _time(score: Callable[[pd.DataFrame], Floats], rows: pd.DataFrame) -> float:
    start = time.perf_counter()
    score(rows)
    return time.perf_counter() - start
