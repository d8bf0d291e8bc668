"""Export the students as ONNX; choose seed, precision and thresholds from rows outside the test set."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from runtime import run_stage

import numpy as np
import pandas as pd

from amalgam.files import read_json, read_rows, write_json
from amalgam.machine import show_progress
from amalgam.params import Params
from amalgam.shipping.calibration import Calibration, Judged, calibrate
from amalgam.shipping.export import INT8_AUC_LOSS, export_onnx, measure_fidelity, quantize_onnx
from amalgam.shipping.onnx import FLOAT, INTEGER, OnnxScorer
from amalgam.tasks.texts import find_units

PREPARED = Path("data/prepared")
STUDENTS = Path("models/students")
HELD_OUT = Path("data/transfer/validation.csv")
OUT_OF_FOLD = Path("models/teacher/out_of_fold.csv")
BASES = [Path("models/base/encoder"), Path("models/base/student")]
TARGET = Path("models/exported")


def main(params: Params, root: Path) -> None:
    """Read models/students/ and the rows outside the test set, write models/exported/."""
    outcomes = read_json(STUDENTS / "summary.json")["seeds"]
    best = min(params.seeds, key=lambda seed: outcomes[str(seed)]["validation_loss"] or 0.0)
    student, folder = STUDENTS / f"seed-{best}", TARGET / f"seed-{best}"
    texts = pd.concat([read_rows(PREPARED / f"{name}.csv") for name in ("train", "unlabelled", "validation")])
    with show_progress("export", total=len(params.seeds)) as advance, ThreadPoolExecutor(1) as pool:
        seeds = sorted(params.seeds, key=lambda seed: seed != best)
        export_onnx({STUDENTS / f"seed-{seed}": TARGET / f"seed-{seed}" / FLOAT for seed in seeds}, BASES)
        # The quantizer takes one core and leaves the others to scoring.
        exact = pool.submit(lambda: OnnxScorer(folder / FLOAT, student).score(texts))
        for each in (TARGET / f"seed-{seed}" for seed in seeds):
            quantize_onnx(each / FLOAT, each / INTEGER)
            if each != folder:
                (each / FLOAT).unlink()
            advance(None)
        fidelity = measure_fidelity(exact.result(), OnnxScorer(folder / INTEGER, student).score(texts))
    precision, model = ("int8", INTEGER) if fidelity["auc_loss"] <= INT8_AUC_LOSS else ("fp32", FLOAT)
    calibration = calibrate_shipped(OnnxScorer(folder / model, student), params)
    summary = {"seed": best, "precision": precision, "model": model, "calibration": asdict(calibration)}
    write_json(TARGET / "summary.json", summary | {"fidelity": fidelity})


def calibrate_shipped(scorer: OnnxScorer, params: Params) -> Calibration:
    """Choose the thresholds of the model that ships."""
    validation, uncoded = read_rows(PREPARED / "validation.csv"), read_rows(PREPARED / "unlabelled.csv")
    validation = validation[validation["id"].isin(read_rows(HELD_OUT)["id"])]  # those that no teacher was trained on
    labels = np.array([scorer.labels.index(label) for label in validation["label"]], dtype=np.int64)
    rows = read_rows(OUT_OF_FOLD)
    right = (rows["predicted"] == rows["label"]).to_numpy(np.bool_)
    return calibrate(
        scorer.compute_logits(validation),
        labels,
        find_units(validation),
        Judged(rows["probability"].to_numpy(np.float64), right, rows["unit"].to_numpy(np.int64)),
        scorer.compute_logits(uncoded),
        agreement=params.shipping.agreement,
        confidence=params.evaluation.confidence,
    )


if __name__ == "__main__":
    run_stage("export", main)
