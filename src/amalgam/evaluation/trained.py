"""The trained models of a run, and how each is scored."""

from functools import partial
from pathlib import Path

import pandas as pd

from amalgam.evaluation.metrics import Floats
from amalgam.evaluation.predictions import build_predictions
from amalgam.evaluation.speed import Timed
from amalgam.training.checkpoint import read_note
from amalgam.training.scoring import score_rows


def list_trained(folders: dict[str, Path], exported: Path, base: Path, seed: int) -> dict[str, Timed]:
    """Name the models of a seed that there are: those in `folders`, and `student_int8`.

    Args:
        folders: by model, the folder that holds one of each seed; `student` among them.
        exported: folder of the students as ONNX, by seed; it may be missing.
        base: folder of the encoder that teachers were trained from; the weights that they left as they were are there.
        seed: of the training.
    """
    of_seed = {model: folder / f"seed-{seed}" for model, folder in folders.items()}
    models = {
        model: Timed(partial(score_rows, folder, base=base), _find_weights(folder, base))
        for model, folder in of_seed.items()
        if folder.exists()
    }
    quantised = exported / f"seed-{seed}" / "model.int8.onnx"
    if quantised.exists():
        models["student_int8"] = Timed(partial(_score_exported, quantised, of_seed["student"]), [quantised])
    return models


def score_sets(sets: dict[str, pd.DataFrame], models: dict[int, dict[str, Timed]], labels: list[str]) -> pd.DataFrame:
    """Return the predictions of every model of every seed for every set, as `amalgam.evaluation.predictions` has them.

    Args:
        sets: rows by the name of the set.
        models: by seed, then by name.
        labels: the task's, in order.
    """
    return pd.concat(
        build_predictions(name, model, seed, rows["id"], timed.score(rows), labels)
        for name, rows in sets.items()
        for seed, of_seed in models.items()
        for model, timed in of_seed.items()
    )


def _find_weights(folder: Path, base: Path) -> list[Path]:
    """Find the files that hold a model's weights, its members' and those of the encoder that they need."""
    whole = not any(read_note(note.parent).base for note in folder.rglob("amalgam.json"))
    return sorted([*folder.rglob("*.safetensors"), *([] if whole else base.glob("*.safetensors"))])


def _score_exported(model: Path, tokenizer: Path, rows: pd.DataFrame) -> Floats:
    """Score rows with the quantised student, as it ships."""
    from amalgam.predicting.onnx import OnnxScorer

    return OnnxScorer(model, tokenizer).score(rows)
