"""The trained models of a run, and how each is scored."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from amalgam.evaluation.predictions import build_predictions
from amalgam.evaluation.speed import Score, Timed
from amalgam.training.parallel import Advance, run_trainings
from amalgam.training.scoring import Scorer, measure_size


def list_trained(folders: dict[str, Path], exported: Path, bases: Sequence[Path], seed: int) -> dict[str, Timed]:
    """Name the models of a seed that there are: those in `folders`, and `student_int8`.

    Args:
        folders: by model, the folder that holds one of each seed; `student` among them.
        exported: folder of the students as ONNX, by seed; it may be missing.
        bases: folders of encoders that models were trained from; the weights that they left as they were are there.
        seed: of the training.
    """
    of_seed = {model: folder / f"seed-{seed}" for model, folder in folders.items()}
    models = {
        model: Timed(partial(_open, folder, bases), partial(measure_size, folder, bases))
        for model, folder in of_seed.items()
        if folder.exists()
    }
    quantised = exported / f"seed-{seed}" / "model.int8.onnx"
    if quantised.exists():
        models["student_int8"] = Timed(
            partial(_open_exported, quantised, of_seed["student"]), partial(_weigh, quantised)
        )
    return models


def score_sets(
    sets: dict[str, pd.DataFrame], models: dict[int, dict[str, Timed]], labels: list[str], encoder: Path
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


def _score_seed(
    seed: int, sets: dict[str, pd.DataFrame], models: dict[str, Timed], labels: list[str], _advance: Advance
) -> pd.DataFrame:
    tables = []
    for model, timed in models.items():
        score = timed.open()
        tables += [build_predictions(name, model, seed, rows["id"], score(rows), labels) for name, rows in sets.items()]
    return pd.concat(tables)


def _open(folder: Path, bases: Sequence[Path]) -> Score:
    return Scorer(folder, bases).score


def _open_exported(model: Path, tokenizer: Path) -> Score:
    """Open the quantised student, as it ships."""
    from amalgam.shipping.onnx import OnnxScorer

    return OnnxScorer(model, tokenizer).score


def _weigh(file: Path) -> int:
    return file.stat().st_size
