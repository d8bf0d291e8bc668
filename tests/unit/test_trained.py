from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.evaluation.trained import list_models, measure_speed, score_sets
from amalgam.training.scoring import score_rows
from tests.pipeline.toy import LABELS


def lay_out(folder: Path, teacher: Path, shipped: Path) -> dict[int, dict[str, Path]]:
    """Lay a run out: two seeds, of which one has no teacher and no ONNX file."""
    for name, target in (("teacher/seed-1", teacher), ("students/seed-1", teacher), ("students/seed-2", teacher)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    (folder / "exported/seed-1").mkdir(parents=True)
    (folder / "exported/seed-1/model.int8.onnx").symlink_to(shipped / "model.onnx")
    folders = {"teacher": folder / "teacher", "student": folder / "students"}
    folders["student_undistilled"] = folders["student"] / "undistilled"
    return {seed: list_models(folders, folder / "exported", seed) for seed in (1, 2, 3)}


def test_every_model_that_is_there_scores_every_set(
    teacher: Path, shipped: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    models = lay_out(tmp_path, teacher, shipped)
    assert [list(of_seed) for of_seed in models.values()] == [["teacher", "student", "student_int8"], ["student"], []]
    rows = comments.assign(id=[f"{number}" for number in range(len(comments))])
    table = score_sets({"test": rows, "transfer_test": rows.head(1)}, models, list(LABELS), [encoder])
    order = table.groupby(["set", "seed", "model"], sort=False)["id"].agg(list)
    assert order.index.to_list() == [
        (name, seed, model)
        for name in ("test", "transfer_test")
        for seed, model in ((1, "teacher"), (1, "student"), (1, "student_int8"), (2, "student"))
    ]
    assert order.iloc[0] == order.iloc[3] == list(rows["id"])
    scores = {model: part[[f"p_{label}" for label in LABELS]].to_numpy() for model, part in table.groupby("model")}
    expected = score_rows(teacher, rows, [encoder])
    np.testing.assert_allclose(scores["teacher"][: len(rows)], expected, atol=1e-6)
    np.testing.assert_allclose(scores["student_int8"][: len(rows)], expected, atol=0.03)  # of bfloat16


def test_speed_and_size_are_told_of_every_model(
    teacher: Path, shipped: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    models = lay_out(tmp_path, teacher, shipped)[1]
    speed = measure_speed(models, comments, [encoder])
    assert all(speed[f"{name}_rows_per_second"] > 0 for name in models)
    assert speed["student_int8_megabytes"] == float(f"{(shipped / 'model.onnx').stat().st_size / 1e6:.3g}")
    assert (speed["size_ratio"], speed["teacher_megabytes"]) == (1.0, speed["student_megabytes"])
    assert speed["speedup"] > 0
