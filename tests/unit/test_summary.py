"""The numbers of metrics/summary.json, each taken from the file that has it."""

from copy import deepcopy
from typing import Any

import pytest

from amalgam.evaluation.summary import summarise_run


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
    return summarise_run(FILES | changes, precision)


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


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"selective": {"selective": {"rows": 9, "coverage": 0.0}}}, {"student.agreement"}),
        ({"cost": {"llm": {"requests": 3}}}, {"llm.usd"}),
        ({"comparisons": FILES["comparisons"] | {"retention": {}}}, {"student.retention"}),
    ],
)
def test_what_a_run_does_not_have_is_left_out(changes: dict[str, Any], missing: set[str]) -> None:
    names, fewer = (
        {f"{section}.{name}" for section, values in found.items() for name in values}
        for found in (summarise(), summarise(**changes))
    )
    assert names - fewer == missing
