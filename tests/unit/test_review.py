"""The comparison itself: changes, rows, seeds, differences, flips and the verdict."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from sklearn.metrics import roc_auc_score

from amalgam.errors import DataError
from amalgam.review.changes import Change, StageChange, compare_mappings, compare_stages, find_stale_params, list_usage
from amalgam.review.paired import (
    Comparison,
    Flip,
    Outputs,
    compare_outputs,
    correct_p_values,
    find_flips,
    find_obstacle,
    pair_seeds,
    share_rows,
)
from amalgam.review.revisions import Revision, flatten
from amalgam.review.verdict import judge_comparison
from tests.unit.review_project import LABELS, make_outputs, make_rows


def make_revision(**fields: Any) -> Revision:
    empty = {"commit": "", "params": {}, "pipeline": frozenset(), "stages": {}, "metrics": {}, "ordinal": False}
    return Revision(name="new", **(empty | fields))


def compare(old: Outputs, new: Outputs) -> Comparison:
    return compare_outputs(old, new, 0.95, ordinal=False)


def flip(rows: pd.DataFrame, old: np.ndarray, new: np.ndarray) -> list[Flip]:
    """Find flips by the probability of `no`, by seed and row."""
    actual = np.array([LABELS.index(label) for label in rows["label"]])
    return find_flips(rows, actual, *(np.stack([part, 1 - part], axis=2) for part in (old, new)), LABELS)


def test_changes_name_what_was_added_and_removed() -> None:
    old = flatten({"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 0.5})
    new = flatten({"a": 1.0, "b": {"c": [1, 3], "d": None, "e": None}})
    assert compare_mappings(old, new) == [
        Change("b.c", [1, 2], [1, 3], "changed"),
        Change("b.e", None, None, "added"),
        Change("gone", 0.5, None, "removed"),
    ]


def test_a_stage_with_another_command_or_none_before_has_run() -> None:
    old, new = (make_revision(stages={"mix": {"cmd": cmd, "deps": [{"path": cmd, "md5": "1"}]}}) for cmd in "xy")
    assert compare_stages(old, old) == []
    assert compare_stages(old, new) == [StageChange("mix", [], ["x", "y"], [])]
    assert compare_stages(make_revision(), make_revision(stages={"mix": {"cmd": "x"}})) == [
        StageChange("mix", [], [], [])
    ]


def test_params_that_no_stage_has_run_with_are_found() -> None:
    params = {"ratio": 0.5, "seeds": [1, 2], "evaluation": {"seed": 5}, "teacher": {"steps": 80}}
    locked = {
        "mix": {"params": {"params.yaml": {"ratio": 0.8}}},
        "teacher": {"params": {"params.yaml": {"teacher.steps": 80, "seeds": [1, 2]}}},
        "evaluate@1": {"params": {"params.yaml": {"evaluation": {"seed": 6}, "teacher.patience": 3}}},
        "gone": {"params": {"params.yaml": {"ratio": 0.1}}},
    }
    revision = make_revision(params=params, stages=locked, pipeline=frozenset({"mix", "teacher", "evaluate", "new"}))
    assert find_stale_params(revision) == {"mix": ["ratio"], "evaluate@1": ["evaluation", "teacher.patience"]}


def test_usage_is_counted_by_kind_of_work() -> None:
    numbers = {"requests": 224, "prompt_tokens": 1000, "completion_tokens": 50, "cost_usd": 0.25}
    metrics = {f"synthesis.{name}": number for name, number in numbers.items()}
    graded = {"work": "grading them", "requests": 10, "prompt_tokens": 90, "completion_tokens": 0, "cost_usd": None}
    revision = make_revision(metrics=metrics | {"judge.requests": 10, "judge.prompt_tokens": 90, "student.auc": 0.8})
    assert list_usage(revision) == [{"work": "writing responses"} | numbers, graded]


def test_rows_that_cannot_be_compared_are_refused_with_the_reason() -> None:
    rows = make_rows(60)
    outputs = make_outputs(rows, {"student": 1.0})
    assert find_obstacle(outputs, outputs) == ""
    assert find_obstacle(outputs, replace(outputs, labels=["yes", "no"])) == "the labels are not the same"
    first = rows["id"] != "r003"
    reasons = {
        "1 of 60 test rows with the same id have another text": rows.assign(text=rows["text"].where(first, "no")),
        "1 of 60 test rows with the same id have another label": rows.assign(label=rows["label"].where(first, "no")),
        "none of the 60 test rows was one of the 60 before": rows.assign(id="x" + rows["id"]),
        "the 34 test rows that both have hold fewer than 5 of a second label": rows[
            (rows["label"] == "no") | (rows["id"] < "r008")
        ],
    }
    for reason, changed in reasons.items():
        assert find_obstacle(outputs, make_outputs(changed, {"student": 1.0})) == reason


def test_only_shared_rows_are_compared_whatever_their_order() -> None:
    rows = make_rows(80)
    old = make_outputs(rows, {"student": 1.0})
    new = make_outputs(rows.iloc[20:].sample(frac=1, random_state=1), {"student": 2.0})
    comparison = compare(old, new)
    assert (comparison.rows, comparison.old_rows, comparison.new_rows) == (60, 80, 60)
    assert list(share_rows(old, new)["id"]) == sorted(rows["id"].iloc[20:])
    within = compare(make_outputs(rows.iloc[20:], {"student": 1.0}), new)
    assert (comparison.differences, comparison.flips) == (within.differences, within.flips)


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ([1, 2, 3], [3, 2, 1], [(1, 1), (2, 2), (3, 3)]),
        ([1, 2, 3], [2, 3, 4], [(2, 2), (3, 3), (1, 4)]),
        ([1, 2, 3], [1, 2, 3, 4, 5], [(1, 1), (2, 2), (3, 3)]),
        ([7, 8], [1], [(7, 1)]),
    ],
)
def test_seeds_are_paired_with_themselves_first(old: list[int], new: list[int], pairs: list[tuple[int, int]]) -> None:
    assert pair_seeds(old, new) == pairs


def test_more_seeds_of_the_same_model_are_no_change() -> None:
    rows = make_rows(60)
    comparison = compare(make_outputs(rows, {"student": 1.0}), make_outputs(rows, {"student": 1.0}, (1, 2, 3, 4, 5)))
    assert (comparison.differences, comparison.unchanged, comparison.flips) == ([], ["student"], [])
    assert judge_comparison(comparison, 0.95).kind == "no change"


def test_differences_equal_scikit_learn_and_only_changed_models_count() -> None:
    rows = make_rows(120, groups=True)
    old = make_outputs(rows, {"teacher": 1.5, "student": 1.0, "tfidf_lr": 0.5, "llm_grader": 0.1})
    new = make_outputs(rows, {"teacher": 1.6, "student": 2.0, "tfidf_lr": 0.5, "human_only": 1.0})
    comparison = compare(old, new)
    assert comparison.unchanged == ["tfidf_lr"]
    assert comparison.left_out == ["human_only", "llm_grader"]
    first, *others = comparison.differences
    assert first.measure == "student.auc"
    metrics = ["auc", "macro_f1", "accuracy", "kappa", "brier"]
    expected = {f"{model}.{metric}" for model in ("teacher", "student") for metric in metrics}
    assert {difference.measure for difference in comparison.differences} == expected
    for value, outputs in ((first.old, old), (first.new, new)):
        table = outputs.table[outputs.table["model"] == "student"]
        aucs = [roc_auc_score(rows["label"] == "yes", part["p_yes"]) for _, part in table.groupby("seed")]
        assert value == pytest.approx(np.mean(aucs), abs=1e-6)
    assert first.change == pytest.approx(first.new - first.old, abs=2e-6)
    assert first.low < first.change < first.high
    assert (first.p, first.seeds) == (first.corrected, 3)
    assert [one.corrected for one in others] == pytest.approx(correct_p_values([one.p for one in others]), abs=1e-6)


def test_better_and_worse_follow_the_direction_of_the_measure() -> None:
    rows = make_rows(200)
    weak, strong = (make_outputs(rows, {"student": strength}) for strength in (0.5, 3.0))
    up, down = compare(weak, strong), compare(strong, weak)
    for better, worse in zip(up.differences, down.differences, strict=True):
        assert (better.outcome, worse.outcome) == ("better", "worse"), better.measure
        assert (better.change, better.low) == pytest.approx((-worse.change, -worse.high), abs=1e-5)
    assert next(one.change for one in up.differences if one.measure == "student.brier") < 0
    first, verdict = up.differences[0], judge_comparison(up, 0.95)
    assert verdict.kind == "better"
    assert f"from {first.old:.3f} to {first.new:.3f}, by +{first.change:.3f}" in verdict.sentence
    assert "excludes 0 (paired over 200 test rows and 3 seeds)." in verdict.sentence
    assert judge_comparison(down, 0.95).kind == "worse"


def test_the_verdict_agrees_with_the_interval() -> None:
    rows = make_rows(60)
    kinds = set()
    for strength in np.linspace(1.0, 2.6, 12):
        comparison = compare(make_outputs(rows, {"student": 1.0}), make_outputs(rows, {"student": strength + 0.001}))
        primary, kind = comparison.primary, judge_comparison(comparison, 0.95).kind
        assert primary
        assert kind == ("better" if primary.low > 0 else "worse" if primary.high < 0 else "no evidence of a difference")
        kinds.add(kind)
    assert {"better", "no evidence of a difference"} <= kinds


def test_one_seed_is_said_to_show_little() -> None:
    rows = make_rows(100)
    comparison = compare(make_outputs(rows, {"student": 0.5}, (1,)), make_outputs(rows, {"student": 3.0}, (1,)))
    assert judge_comparison(comparison, 0.95).sentence.endswith(
        "(paired over 100 test rows and one seed). One seed does not show how much training runs differ."
    )


@pytest.mark.parametrize("change", [lambda table: table.iloc[1:], lambda table: pd.concat([table, table.head(1)])])
def test_predictions_for_other_rows_are_refused(change: Any) -> None:
    outputs = make_outputs(make_rows(60), {"student": 1.0})
    with pytest.raises(DataError, match=r"predictions of student, seed 1, are not for the rows of data/prepared/test"):
        compare(outputs, replace(outputs, table=change(outputs.table)))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_no_correction_and_bonferroni_and_never_milder_than_benjamini_hochberg(
    values: list[float],
) -> None:
    corrected = correct_p_values(values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, values[index] * (len(values) - rank)))
        assert corrected[index] == largest
    assert all(value <= one <= min(1.0, len(values) * value) for value, one in zip(values, corrected, strict=True))
    assert not values or (np.array(corrected) >= false_discovery_control(values) - 1e-12).all()


def test_flips_are_those_of_the_majority() -> None:
    rows = make_rows(4).assign(label=["no", "no", "yes", "yes"], question=["q?", "", "", ""])
    old = np.array([[0.9, 0.9, 0.4, 0.2], [0.8, 0.3, 0.6, 0.9], [0.7, 0.9, 0.4, 0.2]])
    new = np.array([[0.1, 0.9, 0.4, 0.9], [0.2, 0.9, 0.4, 0.8], [0.9, 0.9, 0.4, 0.2]])
    first, second = flip(rows, old, new)
    assert first == Flip("r000", "text of r000", "q?", "no", "no", "yes", 0.8, 0.4)
    assert (second.id, second.label, second.old, second.new) == ("r003", "yes", "yes", "no")
    assert [(one.old, one.new) for one in flip(rows, new, old)] == [("yes", "no"), ("no", "yes")]


def test_a_tied_vote_goes_to_the_higher_mean_probability() -> None:
    rows = make_rows(1)
    tied, sure = np.array([[0.9], [0.4]]), np.array([[0.1], [0.4]])
    assert len(flip(rows, sure, tied)) == 1
    assert flip(rows, tied, tied) == []
