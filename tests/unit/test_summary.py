"""The tables that are drawn, and the numbers of metrics/summary.json, each taken from the file that has it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from amalgam.evaluation import summary


def make_estimate(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05}


FILES: dict[str, dict[str, Any]] = {
    "models": {
        "teacher": make_estimate("auc", 0.9),
        "student": make_estimate("auc", 0.8) | {"kappa": 0.5},
        "student_int8": make_estimate("auc", 0.7) | {"kappa": 0.4},
        "human_only": make_estimate("auc", 0.6),
        "transfer_test": {"student": make_estimate("auc", 0.1)},
    },
    "comparisons": {
        "gain_over_human_only": make_estimate("auc", 0.3) | {"kappa": 0.9},
        "gain_over_best_baseline": {"auc": 0.2, "baseline": "no"},
        "retention": {"auc": 0.99, "auc_above_chance": 0.75},
    },
    "selective": {"selective": {"rows": 9, "coverage": 0.5, "agreement": 0.95}},
    "speed": {
        **{"student_rows_per_second": 400.0, "student_int8_rows_per_second": 1300.0},
        **{"student_megabytes": 70.0, "student_int8_megabytes": 19.0},
    },
    "cost": {"synthesis": {"requests": 1, "cost_usd": 1.0}, "llm": {"requests": 3, "cost_usd": 2.5}},
    "data": {"labels": {"train": {"no": 20, "yes": 31}}, "learned": {"human": 51, "synthetic": 164}},
}


def summarise(precision: str = "int8", **changes: Any) -> dict[str, dict[str, float]]:
    return summary.summarise_run(FILES | changes, precision)


def test_every_number_is_that_of_the_file_that_has_it() -> None:
    student = {"kappa": 0.4, "retention": 0.75, "coverage": 0.5, "agreement": 0.95}
    assert summarise() == {
        "student": make_estimate("auc", 0.7) | student | {"rows_per_second": 1300.0, "megabytes": 19.0, "bits": 8},
        "teacher": make_estimate("auc", 0.9),
        "human_only": make_estimate("auc", 0.6),
        "gain": make_estimate("over_human_only", 0.3) | {"over_best_baseline": 0.2},
        "llm": {"requests": 3, "usd": 2.5},
        "learned": {"human": 51, "synthetic": 164},
    }
    assert sum(map(len, summarise().values())) <= 25


def test_the_student_is_the_file_that_ships() -> None:
    student = summarise("float32")["student"]
    assert (student["auc"], student["kappa"], student["bits"]) == (0.8, 0.5, 32)
    assert (student["rows_per_second"], student["megabytes"]) == (400.0, 70.0)


def test_kappa_counts_distances_where_labels_have_an_order() -> None:
    models = deepcopy(FILES["models"])
    models["student_int8"]["quadratic_kappa"] = 0.65
    student = summarise(models=models)["student"]
    assert student["kappa"] == 0.65
    assert "quadratic_kappa" not in student


def test_what_a_run_does_not_have_is_left_out() -> None:
    fewer: dict[str, dict[str, Any]] = {
        "selective": {"selective": {"rows": 9, "coverage": 0.0}},
        "cost": {"llm": {"requests": 3}},
        "comparisons": FILES["comparisons"] | {"retention": {}},
    }
    names, left = (
        {f"{section}.{name}" for section, values in found.items() for name in values}
        for found in (summarise(), summarise(**fewer))
    )
    assert names - left == {"student.agreement", "llm.usd", "student.retention"}


def test_requests_tokens_and_dollars_are_summed_over_all_work() -> None:
    costs = summary.sum_costs(
        {
            "synthesis": {"completions": 5, "kept": 4, "prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.25},
            "judge": {"rows": 3, "unparsed": 0, "prompt_tokens": 30, "completion_tokens": 3, "cost_usd": 0.5},
            "grader": None,
        }
    )
    assert costs["synthesis"] == {"requests": 5, "prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.25}
    assert costs["llm"] == {"requests": 8, "prompt_tokens": 130, "completion_tokens": 13, "cost_usd": 0.75}
    assert list(costs) == ["synthesis", "judge", "llm"]
    unknown = summary.sum_costs(
        {"judge": {"requests": 1, "cost_usd": 1.0}, "grader": {"requests": 2, "cost_usd": None}}
    )
    assert unknown["llm"] == {"requests": 3}


def test_what_stages_counted_goes_into_three_files() -> None:
    asked = {"prompt_tokens": 1, "completion_tokens": 2, "cost_usd": 0.0}
    run = {"steps": 8, "best_step": 4}
    summaries: dict[str, Any] = {
        "prepared": {"rows": {"train": 3}, "rater_kappa": None},
        "synthesis": {"completions": 4, "kept": 3, **asked},
        "judge": {"rows": 2, **asked},
        "baselines": {"human_only": {"seeds": {"1": run}}, "llm_grader": {"requests": 5, "unparsed": 1, **asked}},
        "teacher": {"seeds": {"1": run}, "guard": {"helps": 1}, "learned": {"human": 1, "synthetic": 2}, "held_out": 0},
        "student": {"seeds": {"1": run}, "undistilled": {"1": run}},
    }
    counts = summary.gather_counts(summaries, {"synthetic": 2, "human": 1})
    rows = {"human": 1, "synthetic": 2}
    assert counts["data"] == {
        "rows": {"train": 3},
        "mixed": rows,
        "learned": rows,
        "held_out": 0,
        "grader": {"rows": 5, "unparsed": 1},
    }
    assert list(counts["training"]["training"]) == ["teacher", "student", "student_undistilled", "human_only"]
    assert counts["training"]["training"]["student"] == {"seed_1": run}
    assert counts["training"]["guard"] == {"helps": 1}
    assert counts["cost"]["llm"]["requests"] == 11
    del summaries["baselines"]["llm_grader"], summaries["student"]["undistilled"], summaries["teacher"]["guard"]
    fewer = summary.gather_counts(summaries, {"human": 1})
    assert "grader" not in fewer["data"] | fewer["cost"]
    assert list(fewer["training"]) == ["training"]
    assert list(fewer["training"]["training"]) == ["teacher", "student", "human_only"]


NAMES = ["no", "yes"]
ACTUAL = np.array([0, 0, 1, 1])
PERFECT = np.eye(2)[ACTUAL][None]


def test_area_under_the_mean_curve_is_the_mean_auc() -> None:
    rng = np.random.default_rng(0)
    actual = np.arange(400) % 2
    scores = 1 / (1 + np.exp(-(actual + rng.normal(size=(3, 400)))))
    table = summary.trace_roc(actual, {"teacher": np.stack([1 - scores, scores], axis=2)}, NAMES)
    expected = np.mean([roc_auc_score(actual, seed) for seed in scores])
    assert np.trapezoid(table["tpr"], table["fpr"]) == pytest.approx(expected, abs=0.01)
    assert table["tpr"].is_monotonic_increasing


def test_more_labels_give_a_curve_each_and_an_absent_label_none() -> None:
    stack = np.eye(3)[[0, 0, 1, 1]][None]
    table = summary.trace_roc(ACTUAL, {"teacher": stack}, ["low", "mid", "high"])
    assert set(table["label"]) == {"low", "mid"}
    assert summary.trace_roc(ACTUAL * 0, {"teacher": PERFECT}, NAMES).empty


def test_calibration_bins_hold_all_seeds() -> None:
    certain, unsure = np.eye(2)[ACTUAL], np.array([[0.45, 0.55]] * 4)
    table = summary.bin_calibration(ACTUAL, {"teacher": np.stack([certain, unsure])})
    assert table.to_dict("records") == [
        {"model": "teacher", "confidence": 0.55, "share": 0.5, "rows": 4},
        {"model": "teacher", "confidence": 1.0, "share": 1.0, "rows": 4},
    ]


def test_training_curves_are_joined_by_step(tmp_path: Path) -> None:
    folder = tmp_path / "seed-3" / "plots" / "metrics"
    folder.mkdir(parents=True)
    (folder / "train_loss.tsv").write_text("step\ttrain_loss\n10\t0.5\n20\t0.4\n")
    (folder / "validation_loss.tsv").write_text("step\tvalidation_loss\n20\t0.6\n")
    table = summary.read_training({("teacher", 3): tmp_path / "seed-3", ("student", 3): tmp_path / "none"})
    expected = pd.DataFrame(
        {"model": "teacher", "seed": 3, "step": [10, 20], "loss": [0.5, 0.4], "validation_loss": [None, 0.6]}
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert summary.read_training({}).empty
