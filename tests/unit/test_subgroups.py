import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score

from amalgam.errors import DataError
from amalgam.evaluation.periods import measure_periods, name_periods
from amalgam.evaluation.slices import SMALLEST
from amalgam.evaluation.subgroups import measure_subgroups
from amalgam.params import Evaluation
from amalgam.tasks.texts import parse_times

PARAMS = Evaluation(seed=1, resamples=200, confidence=0.95)
ROWS = 300


def draw_case(unfair=0.0, seed=0):
    """Rows of three schools, one of them tiny; a model that ranks worse in school b by `unfair`."""
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, 2, size=ROWS)
    schools = np.where(np.arange(ROWS) < 8, "tiny", np.where(np.arange(ROWS) % 3 == 0, "b", "a"))
    odds = 2 * actual - 1 + rng.normal(size=(2, ROWS)) + unfair * (schools == "b") * rng.normal(size=ROWS)
    positive = 1 / (1 + np.exp(-odds))
    stack = np.stack([1 - positive, positive], axis=2)
    rows = pd.DataFrame({"id": [str(row) for row in range(ROWS)], "subgroup_school": schools})
    return rows, actual, {"teacher": stack, "student": stack}


def test_metrics_of_a_subgroup_equal_scikit_learn_on_its_rows():
    rows, actual, stacks = draw_case()
    found = measure_subgroups(rows, actual, None, stacks, PARAMS, ordinal=False)["school"]
    assert list(found) == ["a", "b", "tiny"]
    part, stack = (rows["subgroup_school"] == "b").to_numpy(), stacks["teacher"]
    teacher, predicted = found["b"]["teacher"], stack.argmax(axis=2)
    rates = []
    for members in (part, ~part):
        counts = [confusion_matrix(actual[members], seed[members]) for seed in predicted]
        rates.append(np.mean([table[0, 1] / table[0].sum() for table in counts]))
    aucs = [np.mean([roc_auc_score(actual[rows], seed[rows, 1]) for seed in stack]) for rows in (part, ~part)]
    assert found["b"]["rows"] == part.sum()
    assert teacher["auc"] == pytest.approx(aucs[0], abs=5e-5)
    assert teacher["auc_minus_rest"] == pytest.approx(aucs[0] - aucs[1], abs=5e-5)
    assert teacher["fpr"] == pytest.approx(rates[0], abs=5e-5)
    assert teacher["fpr_minus_rest"] == pytest.approx(rates[0] - rates[1], abs=5e-5)
    accuracy = np.mean([accuracy_score(actual[part], seed[part]) for seed in predicted])
    assert teacher["accuracy"] == pytest.approx(accuracy, abs=5e-5)
    for name in ("auc", "fpr", "accuracy", "kappa", "auc_minus_rest", "fpr_minus_rest"):
        assert teacher[f"{name}_low"] < teacher[name] < teacher[f"{name}_high"]


def test_rows_that_depend_on_each_other_widen_the_intervals_of_a_subgroup():
    rows, actual, stacks = draw_case()
    rows, actual = pd.concat([rows] * 4, ignore_index=True), np.tile(actual, 4)
    stacks = {model: np.tile(stack[:1], (1, 4, 1)) for model, stack in stacks.items()}
    widths = []
    for units in (None, np.tile(np.arange(ROWS), 4)):
        found = measure_subgroups(rows, actual, units, stacks, PARAMS, ordinal=False)["school"]["a"]["teacher"]
        widths.append(found["accuracy_high"] - found["accuracy_low"])
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.25)


def test_a_small_subgroup_is_marked_and_says_nothing():
    rows, actual, stacks = draw_case()
    found = measure_subgroups(rows, actual, None, stacks, PARAMS, ordinal=False)["school"]
    assert found["tiny"] == {"rows": 8, "small": 1}
    assert found["a"]["small"] == 0
    assert min(np.bincount(actual[8:])) > SMALLEST


def test_a_model_that_is_worse_for_some_is_found_out_and_a_fair_one_is_not():
    for unfair, least, most in ((4.0, 0.0, 0.01), (0.0, 0.05, 1.0)):
        rows, actual, stacks = draw_case(unfair)
        student = measure_subgroups(rows, actual, None, stacks, PARAMS, ordinal=False)["school"]["b"]["student"]
        assert least <= student["abroca_p"] <= most
        assert (student["abroca"] > student["abroca_chance"]) == (student["abroca_p"] < 0.05)
        assert (student["auc_minus_rest_high"] < 0) == bool(unfair)


def test_one_subgroup_alone_has_no_rest_and_an_empty_cell_is_no_subgroup():
    rows, actual, stacks = draw_case()
    rows["subgroup_school"] = rows["subgroup_school"].replace({"tiny": "", "b": ""})
    found = measure_subgroups(rows, actual, None, stacks, PARAMS, ordinal=False)["school"]
    assert list(found) == ["a"]
    assert "auc" in found["a"]["teacher"]
    assert "abroca" not in found["a"]["teacher"]
    assert measure_subgroups(rows[["id"]], actual, None, stacks, PARAMS, ordinal=False) == {}


def test_periods_are_measured_in_order_of_time():
    rows, actual, stacks = draw_case()
    years = np.where(
        np.arange(ROWS) < 100, "2023-11-02", np.where(np.arange(ROWS) < 290, "2022-10-01T08:00", "2024-02-02")
    )
    years[299] = ""
    found = measure_periods(rows.assign(time=years), actual, None, stacks, PARAMS, ordinal=False)
    assert list(found) == ["2022-10-01", "2023-11-02", "2024-02-02"]
    assert [period["rows"] for period in found.values()] == [190, 100, 9]
    assert found["2024-02-02"]["small"] == 1
    expected = np.mean([roc_auc_score(actual[:100], seed[:100, 1]) for seed in stacks["teacher"]])
    assert found["2023-11-02"]["teacher"]["auc"] == pytest.approx(expected, abs=5e-5)
    assert measure_periods(rows, actual, None, stacks, PARAMS, ordinal=False) == {}


@pytest.mark.parametrize(
    ("end", "expected"),
    [("2024-01-10", "2024-01-01"), ("2024-06-01", "2024-01"), ("2026-01-01", "2024-Q1"), ("2030-01-01", "2024")],
)
def test_a_period_is_the_shortest_of_which_there_are_at_most_twelve(end, expected):
    times = pd.date_range("2024-01-01", end, freq="D", tz="UTC").to_series().reset_index(drop=True)
    assert name_periods(times)[0] == expected


def test_a_time_that_is_no_date_is_named():
    rows = pd.DataFrame({"id": ["a", "b", "c"], "time": ["2024", "", "last May"]})
    with pytest.raises(DataError, match="the row c has the time 'last May', which is not in the form of ISO 8601"):
        parse_times(rows)
    assert parse_times(rows.head(2)).isna().tolist() == [False, True]
