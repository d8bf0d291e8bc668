"""Export each student as ONNX in two precisions, and choose by rows outside the test set what ships and how."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from runtime import run_stage

import numpy as np
import pandas as pd

from amalgam.files import read_json, write_json
from amalgam.machine import show_progress
from amalgam.params import Params
from amalgam.predicting.onnx import Floats, OnnxScorer
from amalgam.rows import read_rows
from amalgam.shipping.calibration import Judged, calibrate
from amalgam.shipping.export import FLOAT, INTEGER, export_onnx, quantize_onnx
from amalgam.shipping.fidelity import choose_precision, measure_fidelity
from amalgam.tasks.texts import find_units
from amalgam.training.parallel import run_trainings

PREPARED = Path("data/prepared")
STUDENTS = Path("models/students")
HELD_OUT = Path("data/transfer/validation.csv")
OUT_OF_FOLD = Path("models/teacher/out_of_fold.csv")
BASES = [Path("models/base/encoder"), Path("models/base/student")]
TARGET = Path("models/exported")


def main(params: Params, root: Path) -> None:
    """Read models/students/ and the rows outside the test set, write models/exported/."""
    texts = pd.concat([read_rows(PREPARED / f"{name}.csv") for name in ("train", "unlabelled", "validation")])
    jobs = [partial(export_student, seed, texts[["text", "question"]]) for seed in params.seeds]
    with show_progress("export", total=len(jobs)) as advance:
        fidelity = dict(zip(params.seeds, run_trainings(jobs, BASES[0], advance), strict=True))
    outcomes = read_json(STUDENTS / "summary.json")["seeds"]
    best = min(params.seeds, key=lambda seed: outcomes[str(seed)]["validation_loss"] or 0.0)
    precision = choose_precision(fidelity[best], params.shipping.int8_auc_loss)
    model = INTEGER if precision == "int8" else FLOAT
    for seed in params.seeds if model == INTEGER else ():  # of the others, what would ship is measured, and no more
        if seed != best:
            (TARGET / f"seed-{seed}" / FLOAT).unlink()
    scorer = OnnxScorer(TARGET / f"seed-{best}" / model, STUDENTS / f"seed-{best}")
    validation = read_rows(PREPARED / "validation.csv")
    validation = validation[validation["id"].isin(read_rows(HELD_OUT)["id"])]  # those that no teacher learned
    labels = np.array([scorer.labels.index(label) for label in validation["label"]], dtype=np.int64)
    calibration = calibrate(
        compute_logits(scorer, validation),
        labels,
        find_units(validation),
        read_out_of_fold(),
        compute_logits(scorer, read_rows(PREPARED / "unlabelled.csv")),
        agreement=params.shipping.agreement,
        confidence=params.evaluation.confidence,
    )
    summary = {
        "seed": best,
        "precision": precision,
        "model": model,
        "calibration": asdict(calibration),
        "fidelity": {str(seed): figures for seed, figures in fidelity.items()},
    }
    write_json(TARGET / "summary.json", summary)


def compute_logits(scorer: OnnxScorer, rows: pd.DataFrame) -> Floats:
    """Return logits [rows, classes] of rows with `text` and `question`."""
    return scorer.compute_logits(rows["text"].tolist(), rows["question"].tolist())


def read_out_of_fold() -> Judged:
    """Read how teachers of the other folds labelled the human-coded rows."""
    rows = read_rows(OUT_OF_FOLD)
    right = (rows["predicted"] == rows["label"]).to_numpy(np.bool_)
    return Judged(rows["probability"].to_numpy(np.float64), right, rows["unit"].to_numpy(np.int64))


def export_student(seed: int, texts: pd.DataFrame, advance: Callable[[object], None]) -> dict[str, Any]:
    """Write both precisions of a seed's student; return how near they are to each other."""
    student, folder = STUDENTS / f"seed-{seed}", TARGET / f"seed-{seed}"
    export_onnx(student, folder / FLOAT, BASES)
    quantize_onnx(folder / FLOAT, folder / INTEGER)
    exact, small = (OnnxScorer(folder / name, student).score(texts) for name in (FLOAT, INTEGER))
    advance(None)
    return measure_fidelity(exact, small)


if __name__ == "__main__":
    run_stage("export", main)
