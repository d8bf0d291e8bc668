"""The trained models of a run: how each scores rows, how fast, and how large it is."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from amalgam.evaluation.metrics import Floats
from amalgam.evaluation.predictions import build_predictions
from amalgam.training.parallel import Advance, run_trainings
from amalgam.training.scoring import Scorer, measure_size

_PASSES, _ROWS = 3, 200
Score = Callable[[pd.DataFrame], Floats]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model: its folder, those of encoders with the weights that it left as they were, and an ONNX file."""

    folder: Path
    bases: Sequence[Path]
    onnx: Path | None = None

    def open(self) -> Score:
        """Load the model; what comes back scores rows. The ONNX file, where there is one, does it as it ships."""
        if self.onnx is None:
            return Scorer(self.folder, self.bases).score
        from amalgam.predicting.onnx import OnnxScorer

        return OnnxScorer(self.onnx, self.folder).score

    def measure_size(self) -> int:
        """Return the bytes of its weights."""
        return self.onnx.stat().st_size if self.onnx else measure_size(self.folder, self.bases)


def list_trained(folders: Mapping[str, Path], exported: Path, bases: Sequence[Path], seed: int) -> dict[str, Trained]:
    """Name the models of a seed that there are: those in `folders`, `student` among them, and `student_int8`."""
    name = f"seed-{seed}"
    models = {model: Trained(folder / name, bases) for model, folder in folders.items() if (folder / name).exists()}
    quantised = exported / name / "model.int8.onnx"
    return models | (
        {"student_int8": Trained(folders["student"] / name, bases, quantised)} if quantised.exists() else {}
    )


def score_sets(
    sets: dict[str, pd.DataFrame], models: Mapping[int, Mapping[str, Trained]], labels: list[str], encoder: Path
) -> pd.DataFrame:
    """Return the predictions of every model of every seed for every set, as `amalgam.evaluation.predictions` has them.

    Args:
        sets: rows by the name of the set.
        models: by seed, then by name.
        labels: the task's, in order.
        encoder: folder of the largest model, whose size says how many seeds are scored at once.
    """
    jobs = [partial(_score_seed, seed, sets, of_seed, labels) for seed, of_seed in models.items()]
    return pd.concat(run_trainings(jobs, encoder, lambda _: None)).sort_values("set", kind="stable")


def measure_speed(models: Mapping[str, Trained], rows: pd.DataFrame) -> dict[str, float]:
    """Measure scoring rates (rows a second, on this machine) and sizes (MB of weights), to 2 and 3 digits.

    The models are opened before. They take turns, so that a busy moment of the machine meets all, and the fastest
    pass counts.

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


def _score_seed(
    seed: int, sets: dict[str, pd.DataFrame], models: Mapping[str, Trained], labels: list[str], _advance: Advance
) -> pd.DataFrame:
    tables = []
    for model, trained in models.items():
        score = trained.open()
        tables += [build_predictions(name, model, seed, rows["id"], score(rows), labels) for name, rows in sets.items()]
    return pd.concat(tables)


def _time(score: Score, rows: pd.DataFrame) -> float:
    start = time.perf_counter()
    score(rows)
    return time.perf_counter() - start
