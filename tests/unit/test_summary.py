"""The tables that are drawn, and the numbers of metrics/summary.json, each taken from the file that has it."""

from typing import Any

import numpy as np
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
    student = summarise("float32")["student"]
    assert (student["auc"], student["kappa"], student["bits"], student["megabytes"]) == (0.8, 0.5, 32, 70.0)
    ordered = FILES["models"] | {"student_int8": {"kappa": 0.4, "quadratic_kappa": 0.65}}
    assert summarise(models=ordered)["student"]["kappa"] == 0.65  # where labels have an order


def test_what_stages_counted_is_gathered_and_summed() -> None:
    asked = {"prompt_tokens": 10, "completion_tokens": 2, "cost_usd": 0.25}
    run = {"1": {"steps": 8}}
    summaries: dict[str, Any] = {
        "prepared": {"rows": {"train": 3}, "rater_kappa": None},
        "synthesis": {"completions": 4, "kept": 3, **asked},
        "judge": {"rows": 2, **asked},
        "label": {"rows": 0},
        "baselines": {
            "human_only": {"seeds": {"1": {"steps": 8}}},
            "llm_grader": {"requests": 5, "unparsed": 1, **asked},
        },
        "teacher": {"seeds": run, "guard": {"helps": 1}, "learned": {"human": 1}, "held_out": 0},
        "student": {"seeds": run, "undistilled": run},
    }
    counts = summary.gather_counts(summaries, {"synthetic": 2, "human": 1})
    assert counts["data"]["mixed"] == {"human": 1, "synthetic": 2}
    assert counts["data"]["grader"] == {"rows": 5, "unparsed": 1}
    assert list(counts["training"]["training"]) == ["teacher", "student", "student_undistilled", "human_only"]
    assert counts["cost"]["llm"] == {"requests": 11, "prompt_tokens": 30, "completion_tokens": 6, "cost_usd": 0.75}
    summaries["label"] = {"rows": 6, "requests": 9, **asked}
    costs = summary.gather_counts(summaries, {})["cost"]
    assert (costs["label"]["requests"], costs["llm"]["requests"]) == (9, 20)
    summaries["judge"]["cost_usd"] = None  # of a model without a price
    assert "cost_usd" not in summary.gather_counts(summaries, {})["cost"]["llm"]


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


NAMES = ["no", "yes"]


def test_area_under_the_mean_curve_is_the_mean_auc() -> None:
    rng = np.random.default_rng(0)
    actual = np.arange(400) % 2
    scores = 1 / (1 + np.exp(-(actual + rng.normal(size=(3, 400)))))
    table = summary.trace_roc(actual, {"teacher": np.stack([1 - scores, scores], axis=2)}, NAMES)
    expected = np.mean([roc_auc_score(actual, seed) for seed in scores])
    assert np.trapezoid(table["tpr"], table["fpr"]) == pytest.approx(expected, abs=0.01)
    assert table["tpr"].is_monotonic_increasing
