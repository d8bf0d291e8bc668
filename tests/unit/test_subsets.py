"""Metrics of subgroups and periods, of what the student labels alone, and of what several people rated."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, roc_auc_score, roc_curve

from amalgam.evaluation.subsets import (
    CodedRows,
    measure_abroca,
    measure_ceiling,
    measure_periods,
    measure_selective,
    measure_subgroups,
    name_periods,
    shuffle_members,
)

ROWS = 300
SCALE = ["low", "mid", "high"]
CALIBRATION = {"temperature": 1.0, "threshold": None, "ask_below": 0.9, "guaranteed": False, "sentence": ""}


def score(positive):
    positive = np.asarray(positive, dtype=np.float64)
    return np.stack([1 - positive, positive], axis=-1)


def draw_case(unfair=0.0):
    """Rows of three schools, one of them tiny; a model that ranks worse in school b by `unfair`."""
    rng = np.random.default_rng(0)
    actual = rng.integers(0, 2, size=ROWS)
    schools = np.where(np.arange(ROWS) < 8, "tiny", np.where(np.arange(ROWS) % 3 == 0, "b", "a"))
    odds = 2 * actual - 1 + rng.normal(size=(2, ROWS)) + unfair * (schools == "b") * rng.normal(size=ROWS)
    stack = score(1 / (1 + np.exp(-odds)))
    rows = pd.DataFrame({"id": [str(row) for row in range(ROWS)], "subgroup_school": schools})
    return rows, actual, {"teacher": stack, "student": stack}


def measure(rows, actual, stacks, groups=None):
    return measure_subgroups(CodedRows(rows, actual, groups, stacks, False), 0.95)["school"]


def test_metrics_of_a_subgroup_equal_scikit_learn_on_its_rows():
    rows, actual, stacks = draw_case()
    found = measure(rows, actual, stacks)
    assert list(found) == ["a", "b", "tiny"]
    assert found["tiny"] == {"rows": 8, "small": 1}
    part, stack = (rows["subgroup_school"] == "b").to_numpy(), stacks["teacher"]
    teacher, predicted = found["b"]["teacher"], stack.argmax(axis=2)
    rates = [np.mean(predicted[:, members & (actual == 0)]) for members in (part, ~part)]
    aucs = [np.mean([roc_auc_score(actual[rows], seed[rows, 1]) for seed in stack]) for rows in (part, ~part)]
    assert (found["b"]["rows"], found["b"]["small"]) == (part.sum(), 0)
    expected = {
        **{"auc": aucs[0], "auc_minus_rest": aucs[0] - aucs[1], "fpr": rates[0], "fpr_minus_rest": rates[0] - rates[1]},
        "accuracy": np.mean((predicted == actual)[:, part]),
    }
    assert {name: teacher[name] for name in expected} == pytest.approx(expected, abs=5e-5)
    for name in (*expected, "kappa"):
        assert teacher[f"{name}_low"] < teacher[name] < teacher[f"{name}_high"]
    rows["subgroup_school"] = rows["subgroup_school"].replace({"tiny": "", "b": ""})  # an empty cell is not a subgroup
    alone = measure(rows, actual, stacks)
    assert list(alone) == ["a"]
    assert "abroca" not in alone["a"]["teacher"]  # there is no rest


def test_rows_that_depend_on_each_other_widen_the_intervals_of_a_subgroup():
    rows, actual, stacks = draw_case()
    rows, actual = pd.concat([rows] * 4, ignore_index=True), np.tile(actual, 4)
    stacks = {model: np.tile(stack[:1], (1, 4, 1)) for model, stack in stacks.items()}
    units = np.tile(np.arange(ROWS), 4)
    loose, grouped = (measure(rows, actual, stacks, groups)["a"]["teacher"] for groups in (None, units))
    widths = [found["accuracy_high"] - found["accuracy_low"] for found in (loose, grouped)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.25)


@pytest.mark.parametrize("unfair", [4.0, 0.0])
def test_a_model_that_is_worse_for_some_is_found_out_and_a_fair_one_is_not(unfair):
    student = measure(*draw_case(unfair))["b"]["student"]
    assert (student["abroca"] > student["abroca_chance"]) == bool(unfair)
    assert (student["auc_minus_rest_high"] < 0) == bool(unfair)


def test_a_model_that_is_right_about_a_dozen_rows_of_each_label_is_not_shown_to_be_better_for_them():
    rows, actual, stacks = draw_case()
    few = np.concatenate([np.flatnonzero(actual == label)[:12] for label in (0, 1)])
    stacks["student"][:, few] = score(actual[few])
    rows["subgroup_school"] = np.where(rows.index.isin(few), "few", "rest")
    student = measure(rows, actual, stacks)["few"]["student"]
    assert (student["auc"], student["fpr"]) == (1.0, 0.0)
    for name in ("auc_minus_rest", "fpr_minus_rest"):
        assert student[f"{name}_low"] < 0 < student[f"{name}_high"]


@pytest.mark.parametrize("grouped", [False, True])
def test_groups_drawn_by_chance_differ_as_much_as_those_that_do_not_matter(grouped):
    rng, above = np.random.default_rng(4), 0
    units = np.arange(80) // 2 if grouped else None
    for _ in range(80):
        actual = rng.integers(0, 2, size=80)
        member = (rng.random(40) < 0.4)[units] if grouped else rng.random(80) < 0.4
        stack = score(1 / (1 + np.exp(-(actual + rng.normal(size=80)))))[None]
        drawn = shuffle_members(actual, member, units, times=19, rng=rng)
        area, *chance = measure_abroca(actual, stack, np.concatenate([member[None], drawn]))
        above += area > np.median(chance)
    assert 28 <= above <= 52


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), digits=st.integers(1, 6))
def test_the_area_equals_a_direct_integral(seed, digits):
    rng = np.random.default_rng(seed)
    actual, member = np.arange(80) % 2, rng.permutation(np.arange(80) // 2 % 2 == 0)
    scores = np.clip(rng.random(80) * 0.6 + 0.4 * actual * rng.random(80), 0, 1).round(digits)
    grid = (np.arange(200_001) + 0.5) / 200_001
    curves = [np.interp(grid, *roc_curve(actual[part], scores[part])[:2]) for part in (member, ~member)]
    found = measure_abroca(actual, score(scores)[None], member[None])
    assert found == pytest.approx([np.abs(curves[0] - curves[1]).mean()], abs=2e-5)


def test_periods_are_measured_in_order_of_time():
    rows, actual, stacks = draw_case()
    years = np.repeat(["2023-11-02", "2022-10-01T08:00", "2024-02-02"], [100, 190, 10])
    years[299] = ""
    found = measure_periods(CodedRows(rows.assign(time=years), actual, None, stacks, False), 0.95)
    counts = [("2022-10-01", 190, 0), ("2023-11-02", 100, 0), ("2024-02-02", 9, 1)]
    assert [(name, period["rows"], period["small"]) for name, period in found.items()] == counts
    expected = np.mean([roc_auc_score(actual[:100], seed[:100, 1]) for seed in stacks["teacher"]])
    assert found["2023-11-02"]["teacher"]["auc"] == pytest.approx(expected, abs=5e-5)
    for timeless in (rows, rows.assign(time="")):
        assert measure_periods(CodedRows(timeless, actual, None, stacks, False), 0.95) == {}


@pytest.mark.parametrize(
    ("end", "expected"),
    [("2024-01-10", "2024-01-01"), ("2024-06-01", "2024-01"), ("2026-01-01", "2024-Q1"), ("2030-01-01", "2024")],
)
def test_a_period_is_the_shortest_of_which_there_are_at_most_twelve(end, expected):
    times = pd.date_range("2024-01-01", end, freq="D", tz="UTC").to_series().reset_index(drop=True)
    times[len(times)] = pd.NaT
    assert list(name_periods(times).iloc[[0, -1]]) == [expected, ""]


@pytest.mark.parametrize(
    ("positive", "changes", "coverage", "agreement"),
    [
        ([0.95, 0.2, 0.05, 0.92, 0.6], {}, 0.6, 0.6667),
        ([0.4, 0.4, 0.02, 0.02, 0.4], {"threshold": 0.3, "ask_below": 0.35}, 1.0, 1.0),  # 0.4 for the last is chosen
        ([0.98] * 5, {"temperature": 3.0}, 0.0, None),  # 0.98 becomes 0.79
    ],
)
def test_coverage_and_agreement_are_those_of_the_thresholds_that_ship(positive, changes, coverage, agreement):
    found = measure_selective(np.array([1, 1, 0, 0, 1]), None, score(positive), CALIBRATION | changes, 0.95)
    assert (found["rows"], found["coverage"], found.get("agreement")) == (5, coverage, agreement)


def test_twenty_rows_that_all_agree_are_no_proof():
    exact = binomtest(20, 20).proportion_ci(0.95, method="exact").low
    # Four groups of five rows count as four.
    for groups, lowest in ((None, exact), (np.repeat(np.arange(4), 5), 0.025 ** (1 / 4))):
        found = measure_selective(np.ones(20, dtype=np.int64), groups, score([0.99] * 20), CALIBRATION, 0.95)
        assert (found["agreement"], found["agreement_low"]) == (1.0, pytest.approx(lowest, abs=1e-4))


def measure_raters(ratings, groups=None, *, ordinal=False):
    return measure_ceiling(CodedRows(ratings, np.zeros(len(ratings)), groups, {}, ordinal), SCALE, 0.95)


def test_agreement_of_raters_is_the_mean_over_pairs_and_groups_widen_its_interval():
    rng = np.random.default_rng(0)
    truth, names = rng.integers(0, 3, size=120), ["rater1", "rater2", "rater3"]
    codes = [np.where(rng.random(120) < 0.3, rng.integers(0, 3, size=120), truth) for _ in names]
    ratings = pd.DataFrame(dict(zip(names, np.array(SCALE)[codes], strict=True)))
    found, pairs = measure_raters(ratings, ordinal=True), list(combinations(codes, 2))
    expected = {
        "accuracy": np.mean([one == other for one, other in pairs]),
        "kappa": np.mean([cohen_kappa_score(*pair) for pair in pairs]),
        "quadratic_kappa": np.mean([cohen_kappa_score(*pair, weights="quadratic") for pair in pairs]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=5e-5)
    assert (found["rows"], found["raters"]) == (120, 3)
    two = measure_raters(ratings[names[:2]])
    error = np.sqrt(two["accuracy"] * (1 - two["accuracy"]) / 120)
    assert two["accuracy_high"] - two["accuracy_low"] == pytest.approx(2 * 1.98 * error, rel=0.1)
    repeated = pd.concat([ratings] * 4, ignore_index=True)
    grouped, loose = (measure_raters(repeated, groups, ordinal=True) for groups in (np.tile(np.arange(120), 4), None))
    widths = [one["kappa_high"] - one["kappa_low"] for one in (found, grouped, loose)]
    assert widths[1:] == pytest.approx([widths[0], widths[0] / 2], rel=0.15)


def test_a_rating_that_is_no_label_is_a_category_or_has_no_place_in_an_order():
    ratings = pd.DataFrame({"rater1": ["low", "high", "odd", "low"], "rater2": ["low", "low", "odd", ""]})
    nominal, ordinal = (measure_raters(ratings, ordinal=ordinal) for ordinal in (False, True))
    assert (nominal["rows"], nominal["accuracy"]) == (3, pytest.approx(2 / 3, abs=5e-5))
    assert (ordinal["rows"], ordinal["accuracy"]) == (2, 0.5)
    assert measure_raters(ratings[["rater1"]]) == {}  # one rater alone
