import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from amalgam.evaluation import curves

LABELS = ["no", "yes"]
ACTUAL = np.array([0, 0, 1, 1])
PERFECT = np.eye(2)[ACTUAL][None]


def test_roc_of_a_perfect_and_a_reversed_model():
    table = curves.trace_roc(ACTUAL, {"teacher": PERFECT, "student": 1 - PERFECT}, LABELS)
    assert set(table["label"]) == {"yes"}
    teacher, student = (table[table["model"] == model] for model in ("teacher", "student"))
    assert teacher["tpr"].tolist() == [0] + [1] * 101
    assert student["tpr"].tolist() == [0] * 101 + [1]


def test_area_under_the_mean_curve_is_the_mean_auc():
    rng = np.random.default_rng(0)
    actual = np.arange(400) % 2
    scores = 1 / (1 + np.exp(-(actual + rng.normal(size=(3, 400)))))
    table = curves.trace_roc(actual, {"teacher": np.stack([1 - scores, scores], axis=2)}, LABELS)
    expected = np.mean([roc_auc_score(actual, seed) for seed in scores])
    assert np.trapezoid(table["tpr"], table["fpr"]) == pytest.approx(expected, abs=0.01)
    assert table["tpr"].is_monotonic_increasing


def test_more_labels_give_a_curve_each_and_an_absent_label_none():
    stack = np.eye(3)[[0, 0, 1, 1]][None]
    table = curves.trace_roc(ACTUAL, {"teacher": stack}, ["low", "mid", "high"])
    assert set(table["label"]) == {"low", "mid"}
    assert curves.trace_roc(ACTUAL * 0, {"teacher": PERFECT}, LABELS).empty


def test_calibration_bins_hold_all_seeds():
    certain, unsure = np.eye(2)[ACTUAL], np.array([[0.45, 0.55]] * 4)
    table = curves.bin_calibration(ACTUAL, {"teacher": np.stack([certain, unsure])})
    assert table.to_dict("records") == [
        {"model": "teacher", "confidence": 0.55, "share": 0.5, "rows": 4},
        {"model": "teacher", "confidence": 1.0, "share": 1.0, "rows": 4},
    ]


def test_confusions_are_one_line_a_row_and_seed():
    table = curves.list_confusions(ACTUAL, {"student": np.concatenate([PERFECT, 1 - PERFECT])}, LABELS)
    counts = table.groupby(["model", "actual", "predicted"]).size().to_dict()
    assert counts == {("student", actual, predicted): 2 for actual in LABELS for predicted in LABELS}


def test_intervals_are_one_line_a_model_and_metric():
    table = curves.list_intervals({"teacher": {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "rows": 5}})
    assert table.to_dict("records") == [{"model": "teacher", "metric": "auc", "value": 0.9, "low": 0.8, "high": 0.95}]


def test_training_curves_are_joined_by_step(tmp_path):
    folder = tmp_path / "seed-3" / "plots" / "metrics"
    folder.mkdir(parents=True)
    (folder / "train_loss.tsv").write_text("step\ttrain_loss\n10\t0.5\n20\t0.4\n")
    (folder / "validation_loss.tsv").write_text("step\tvalidation_loss\n20\t0.6\n")
    table = curves.read_training({("teacher", 3): tmp_path / "seed-3", ("student", 3): tmp_path / "none"})
    expected = pd.DataFrame(
        {"model": "teacher", "seed": 3, "step": [10, 20], "loss": [0.5, 0.4], "validation_loss": [None, 0.6]}
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert curves.read_training({}).empty
