"""The tables that are drawn, and the numbers of metrics/summary.json, each taken from the file that has it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from amalgam.errors import DataError
from amalgam.evaluation import summary
from amalgam.evaluation.bootstrap import estimate_models
from amalgam.evaluation.predictions import build_predictions, read_predictions, stack_predictions, write_predictions
from amalgam.report.content import flatten


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
        "retention": {"auc_above_chance": 0.75},
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
    whole = {"kappa": 0.5, "bits": 32, "rows_per_second": 400.0, "megabytes": 70.0}
    assert summarise("fp32")["student"] == make_estimate("auc", 0.8) | student | whole
    ordered = FILES["models"] | {"student_int8": {"kappa": 0.4, "quadratic_kappa": 0.65}}
    assert summarise(models=ordered)["student"]["kappa"] == 0.65  # where labels have an order
    # What a run does not have is left out.
    fewer: dict[str, dict[str, Any]] = {
        "selective": {"selective": {"rows": 9, "coverage": 0.0}},
        "cost": {"llm": {"requests": 3}},
        "comparisons": FILES["comparisons"] | {"retention": {}},
    }
    gone = flatten(summarise()).keys() - flatten(summarise(**fewer)).keys()
    assert gone == {"student.agreement", "llm.usd", "student.retention"}


def test_what_stages_counted_is_gathered_and_summed() -> None:
    asked, run = {"prompt_tokens": 10, "completion_tokens": 2, "cost_usd": 0.25}, {"1": {"steps": 8}}
    summaries: dict[str, Any] = {
        "prepared": {"rows": {"train": 3}, "rater_kappa": None},
        "synthesis": {"completions": 4, "kept": 3, **asked},
        "judge": {"rows": 2, **asked},
        "label": {"rows": 0},
        "baselines": {"human_only": {"seeds": run}, "llm_grader": {"requests": 5, "unparsed": 1, **asked}},
        "teacher": {"seeds": run, "guard": {"helps": 1}, "learned": {"human": 1, "synthetic": 2}, "held_out": 0},
        "student": {"seeds": run, "undistilled": run},
    }
    counts = summary.gather_counts(summaries, {"synthetic": 2, "human": 1})
    assert counts["data"]["mixed"] == {"human": 1, "synthetic": 2}
    assert counts["data"]["grader"] == {"rows": 5, "unparsed": 1}
    assert list(counts["training"]["training"]) == ["teacher", "student", "student_undistilled", "human_only"]
    assert counts["cost"]["llm"] == {"requests": 11, "prompt_tokens": 30, "completion_tokens": 6, "cost_usd": 0.75}
    assert counts["data"]["learned"] == {"human": 1, "synthetic": 2}
    summaries |= {"label": {"rows": 6, "requests": 9, **asked}}
    summaries["judge"]["cost_usd"] = None  # of a model without a price
    counts = summary.gather_counts(summaries, {})
    assert counts["data"]["learned"] == {"human": 1, "synthetic": 2, "labelled": 2}
    costs = counts["cost"]
    assert (costs["label"]["requests"], costs["llm"]["requests"]) == (9, 20)
    assert "cost_usd" not in costs["llm"]


def draw_model(rng: np.random.Generator, actual: np.ndarray, *strengths: float) -> np.ndarray:
    """Probabilities [seeds, rows, 2] of models whose scores separate the classes by `strengths` standard deviations."""
    own = rng.normal(size=(len(strengths), len(actual)))
    odds = np.array(strengths)[:, None] * actual + 0.8 * rng.normal(size=len(actual)) + 0.6 * own
    positive = 1 / (1 + np.exp(-odds))
    return np.stack([1 - positive, positive], axis=2)


def test_comparisons_are_paired_and_against_the_strongest_baseline() -> None:
    rng, actual = np.random.default_rng(5), np.arange(200) % 2
    predictions = {
        "human_only": draw_model(rng, actual, 0.5, 0.5, 0.5),
        "teacher": draw_model(rng, actual, 3.0, 3.0, 3.0),
        "tfidf_lr": draw_model(rng, actual, 1.5),
        "embedding_lr": draw_model(rng, actual, 1.0),
        "student": draw_model(rng, actual, 3.0, 3.0, 3.0),
        "student_int8": draw_model(rng, actual, 2.0, 2.0, 2.0),
        "llm_grader": np.full((1, 200, 2), 0.5),
    }
    estimates = estimate_models(actual, None, predictions, ordinal=False)
    aucs = {model: metrics["auc"].value for model, metrics in estimates.items()}
    found = summary.compare_models(estimates, "student_int8", 0.95)
    best, student, retention = (
        found.pop(name) for name in ("gain_over_best_baseline", "student_minus_teacher", "retention")
    )
    assert found.keys() == {"gain_over_human_only", "int8_minus_student"}  # there is no undistilled student
    assert (best["baseline"], "brier" in best) == ("tfidf_lr", False)
    assert best["auc"] == pytest.approx(aucs["teacher"] - aucs["tfidf_lr"], abs=1e-4)
    assert found["gain_over_human_only"]["auc_low"] > 0
    assert student["auc_low"] < 0 < student["auc_high"]
    kept = (aucs["student_int8"] - 0.5) / (aucs["teacher"] - 0.5)
    assert retention["auc_above_chance"] == pytest.approx(kept, abs=1e-4)  # of what ships
    assert retention["auc_above_chance_low"] < kept < retention["auc_above_chance_high"]
    with pytest.raises(DataError, match="the same label"):
        summary.compare_models(estimate_models(actual * 0, None, predictions, ordinal=False), "student", 0.95)


def test_predictions_survive_the_file_and_are_put_in_order(tmp_path: Path) -> None:
    labels, path = ["no", "yes"], tmp_path / "predictions.csv"
    probabilities = np.array([[0.25, 0.75], [1 / 3, 2 / 3]])
    write_predictions(path, build_predictions("test", "teacher", 7, ["NA", "01"], probabilities, labels))
    assert path.read_text().splitlines()[1] == "test,teacher,7,NA,0.250000,0.750000"
    stacks = stack_predictions(read_predictions(path, labels), "test", ["01", "NA"], labels)
    assert stacks["teacher"] == pytest.approx(probabilities[None, ::-1], abs=1e-6)
    with pytest.raises(DataError, match="teacher, seed 7"):
        stack_predictions(read_predictions(path, labels), "test", ["01"], labels)
    with pytest.raises(DataError, match="has the columns"):
        read_predictions(path, ["yes", "no"])


def test_area_under_the_mean_curve_is_the_mean_auc() -> None:
    actual = np.arange(400) % 2
    stack = draw_model(np.random.default_rng(0), actual, 1.0, 1.0, 1.0)
    table = summary.trace_roc(actual, {"teacher": stack}, ["no", "yes"])
    expected = np.mean([roc_auc_score(actual, seed[:, 1]) for seed in stack])
    assert np.trapezoid(table["tpr"], table["fpr"]) == pytest.approx(expected, abs=0.01)
    assert table["tpr"].is_monotonic_increasing


def test_a_run_without_validation_losses_has_its_curves(tmp_path: Path) -> None:
    file = tmp_path / "plots/metrics/train_loss.tsv"
    file.parent.mkdir(parents=True)
    file.write_text("step\ttrain_loss\n4\t0.5\n")
    (row,) = summary.read_training({("teacher", 1): tmp_path, ("student", 1): tmp_path / "none"}).to_dict("records")
    assert [row[name] for name in ("model", "seed", "step", "loss")] == ["teacher", 1, 4, 0.5]
    assert np.isnan(row["validation_loss"])
