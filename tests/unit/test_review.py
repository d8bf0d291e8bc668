"""The comparison itself: changes, rows, seeds, differences, flips and the verdict."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from sklearn.metrics import roc_auc_score

from amalgam.errors import DataError
from amalgam.params import Evaluation
from amalgam.review.changes import (
    Change,
    StageChange,
    Usage,
    compare_mappings,
    compare_stages,
    find_stale_params,
    list_usage,
)
from amalgam.review.flips import find_flips
from amalgam.review.matching import find_obstacle, pair_seeds, share_rows, stack_pair
from amalgam.review.outputs import Outputs
from amalgam.review.paired import compare_outputs, correct_p_values
from amalgam.review.revisions import Revision, flatten
from amalgam.review.verdict import judge_comparison, judge_equal, judge_points
from tests.unit.review_project import LABELS, make_outputs, make_rows

PARAMS = Evaluation(confidence=0.95)


def make_revision(name="new", **fields):
    empty = {"commit": "", "params": {}, "pipeline": frozenset(), "stages": {}, "metrics": {}, "ordinal": False}
    return Revision(name=name, **(empty | fields))


def compare(old: Outputs, new: Outputs, **params):
    return compare_outputs(old, new, PARAMS.model_copy(update=params), ordinal=False)


def test_changes_name_what_was_added_and_removed():
    old = flatten({"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 0.5})
    new = flatten({"a": 1.0, "b": {"c": [1, 3], "d": None, "e": None}})
    assert compare_mappings(old, new) == [
        Change("b.c", [1, 2], [1, 3], "changed"),
        Change("b.e", None, None, "added"),
        Change("gone", 0.5, None, "removed"),
    ]


def test_stages_that_ran_say_what_of_them_changed():
    def lock(ratio, mixed, cmd="x"):
        deps = [{"path": "data/curated", "md5": "1"}, {"path": "data/prepared", "md5": mixed}]
        outs = [{"path": "data/mixed.csv", "md5": mixed}]
        mix = {"cmd": cmd, "deps": deps, "params": {"params.yaml": {"ratio": ratio, "task": "t"}}, "outs": outs}
        return {"mix": mix, "prompts": {"cmd": "p", "outs": [{"path": "data/prompts.jsonl", "md5": "1"}]}}

    old = make_revision(stages=lock(0.8, "m"))
    assert compare_stages(old, make_revision(stages=lock(0.8, "m"))) == []
    assert compare_stages(old, make_revision(stages=lock(0.2, "n"))) == [
        StageChange("mix", ["ratio"], ["data/prepared"], ["data/mixed.csv"])
    ]
    assert compare_stages(old, make_revision(stages=lock(0.8, "m", "y"))) == [StageChange("mix", [], [], [])]
    assert [stage.name for stage in compare_stages(make_revision(), old)] == ["mix", "prompts"]


def test_params_that_no_stage_has_run_with_are_found():
    params = {"ratio": 0.5, "seeds": [1, 2], "evaluation": {"seed": 5}, "teacher": {"steps": 80}}
    locked = {
        "mix": {"params": {"params.yaml": {"ratio": 0.8}}},
        "teacher": {"params": {"params.yaml": {"teacher.steps": 80, "seeds": [1, 2]}}},
        "evaluate@1": {"params": {"params.yaml": {"evaluation": {"seed": 6}, "teacher.patience": 3}}},
        "gone": {"params": {"params.yaml": {"ratio": 0.1}}},
    }
    revision = make_revision(params=params, stages=locked, pipeline=frozenset({"mix", "teacher", "evaluate", "new"}))
    assert find_stale_params(revision) == {"mix": ["ratio"], "evaluate@1": ["evaluation", "teacher.patience"]}


def test_usage_is_counted_by_kind_of_work():
    metrics = {
        "synthesis.completions": 224,
        "synthesis.kept": 190,
        "synthesis.prompt_tokens": 1000,
        "synthesis.completion_tokens": 50,
        "synthesis.cost_usd": 0.25,
        "judge.rows": 10,
        "judge.prompt_tokens": 90,
        "student.auc": 0.8,
    }
    usages = list_usage(make_revision(metrics=metrics))
    assert usages == [Usage("writing responses", 224, 1000, 50, 0.25), Usage("grading them", 10, 90, 0, None)]


def test_rows_that_cannot_be_compared_are_refused_with_the_reason():
    rows = make_rows(60)
    outputs = make_outputs(rows, {"student": 1.0})
    other = dataclasses.replace(outputs, labels=["yes", "no"])
    assert find_obstacle(outputs, outputs) == ""
    assert find_obstacle(outputs, other) == "the labels are not the same"
    for column in ("text", "label"):
        changed = rows.assign(**{column: rows[column].where(rows["id"] != "r003", "no")})
        reason = find_obstacle(outputs, make_outputs(changed, {"student": 1.0}))
        assert reason == f"1 of 60 test rows with the same id have another {column}"
    strangers = rows.assign(id="x" + rows["id"])
    assert find_obstacle(outputs, make_outputs(strangers, {"student": 1.0})) == (
        "none of the 60 test rows was one of the 60 before"
    )
    few = rows[(rows["label"] == "no") | (rows["id"] < "r008")]
    assert find_obstacle(outputs, make_outputs(few, {"student": 1.0})) == (
        "the 34 test rows that both have hold fewer than 5 of a second label"
    )


def test_only_shared_rows_are_compared_whatever_their_order():
    rows = make_rows(80)
    old = make_outputs(rows, {"student": 1.0})
    new = make_outputs(rows.iloc[20:].sample(frac=1, random_state=1), {"student": 2.0})
    comparison = compare(old, new)
    assert (comparison.rows, comparison.old_rows, comparison.new_rows) == (60, 80, 60)
    assert list(share_rows(old, new)["id"]) == sorted(rows["id"].iloc[20:])
    within = compare(make_outputs(rows.iloc[20:], {"student": 1.0}), new)
    assert (comparison.differences, comparison.flips) == (within.differences, within.flips)


def test_seeds_are_paired_with_themselves_first():
    assert pair_seeds([1, 2, 3], [3, 2, 1]) == [(1, 1), (2, 2), (3, 3)]
    assert pair_seeds([1, 2, 3], [2, 3, 4]) == [(2, 2), (3, 3), (1, 4)]
    assert pair_seeds([1, 2, 3], [1, 2, 3, 4, 5]) == [(1, 1), (2, 2), (3, 3)]
    assert pair_seeds([7, 8], [1]) == [(7, 1)]


def test_more_seeds_of_the_same_model_are_no_change():
    rows = make_rows(60)
    comparison = compare(make_outputs(rows, {"student": 1.0}), make_outputs(rows, {"student": 1.0}, (1, 2, 3, 4, 5)))
    assert (comparison.differences, comparison.unchanged, comparison.flips) == ([], ["student"], [])
    assert judge_comparison(comparison, 0.95).kind == "no change"


def test_differences_equal_scikit_learn_and_only_changed_models_count():
    rows = make_rows(120, groups=True)
    old = make_outputs(rows, {"teacher": 1.5, "student": 1.0, "tfidf_lr": 0.5, "llm_grader": 0.1})
    new = make_outputs(rows, {"teacher": 1.6, "student": 2.0, "tfidf_lr": 0.5, "human_only": 1.0})
    comparison = compare(old, new)
    assert comparison.unchanged == ["tfidf_lr"]
    assert comparison.left_out == ["human_only", "llm_grader"]
    metrics = ["auc", "macro_f1", "accuracy", "kappa", "brier"]
    expected = [f"{model}.{metric}" for model in ("teacher", "student") for metric in metrics]
    names = [difference.measure for difference in comparison.differences]
    assert names[0] == "student.auc"
    assert sorted(names) == sorted(expected)
    first = comparison.differences[0]
    for value, outputs in ((first.old, old), (first.new, new)):
        table = outputs.table[outputs.table["model"] == "student"]
        aucs = [roc_auc_score(rows["label"] == "yes", part["p_yes"]) for _, part in table.groupby("seed")]
        assert value == pytest.approx(np.mean(aucs), abs=1e-6)
    assert first.change == pytest.approx(first.new - first.old, abs=2e-6)
    assert first.low < first.change < first.high
    assert (first.p, first.seeds) == (first.corrected, 3)
    assert sorted(one.corrected for one in comparison.differences[1:]) >= sorted(
        one.p for one in comparison.differences[1:]
    )


def test_better_and_worse_follow_the_direction_of_the_measure():
    rows = make_rows(200)
    weak, strong = (make_outputs(rows, {"student": strength}) for strength in (0.5, 3.0))
    up, down = compare(weak, strong), compare(strong, weak)
    for better, worse in zip(up.differences, down.differences, strict=True):
        assert (better.outcome, worse.outcome) == ("better", "worse"), better.measure
        assert (better.change, better.low) == pytest.approx((-worse.change, -worse.high), abs=1e-5)
    assert next(one.change for one in up.differences if one.measure == "student.brier") < 0
    verdict = judge_comparison(up, 0.95)
    first = up.differences[0]
    assert verdict.kind == "better"
    assert f"from {first.old:.3f} to {first.new:.3f}, by +{first.change:.3f}" in verdict.sentence
    assert "excludes 0 (paired over 200 test rows and 3 seeds)." in verdict.sentence
    assert judge_comparison(down, 0.95).kind == "worse"


def test_the_verdict_agrees_with_the_interval():
    rows = make_rows(60)
    kinds = set()
    for strength in np.linspace(1.0, 2.6, 12):
        comparison = compare(make_outputs(rows, {"student": 1.0}), make_outputs(rows, {"student": strength + 0.001}))
        primary = comparison.primary
        kind = judge_comparison(comparison, 0.95).kind
        assert kind == ("better" if primary.low > 0 else "worse" if primary.high < 0 else "no evidence of a difference")
        kinds.add(kind)
    assert {"better", "no evidence of a difference"} <= kinds


def test_one_seed_is_told_to_say_little():
    rows = make_rows(100)
    comparison = compare(make_outputs(rows, {"student": 0.5}, (1,)), make_outputs(rows, {"student": 3.0}, (1,)))
    assert judge_comparison(comparison, 0.95).sentence.endswith(
        "(paired over 100 test rows and one seed). One seed does not show how much training runs differ."
    )


def test_predictions_for_other_rows_are_refused():
    rows = make_rows(60)
    outputs = make_outputs(rows, {"student": 1.0})
    lacking = dataclasses.replace(outputs, table=outputs.table.iloc[1:])
    doubled = dataclasses.replace(outputs, table=pd.concat([outputs.table, outputs.table.head(1)]))
    for broken in (lacking, doubled):
        with pytest.raises(DataError, match=r"predictions of student are not for the rows of data/prepared/test\.csv"):
            stack_pair(outputs, broken, "student", list(rows["id"]))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_by_its_definition(values):
    corrected = correct_p_values(values)
    order = np.argsort(values, kind="stable")
    expected, largest = {}, 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, values[index] * (len(values) - rank)))
        expected[int(index)] = largest
    assert corrected == [expected[index] for index in range(len(values))]
    # Between no correction and Bonferroni's, and never milder than Benjamini and Hochberg's.
    for value, one in zip(values, corrected, strict=True):
        assert value <= one <= min(1.0, len(values) * value)
    if values:
        assert (np.array(corrected) >= false_discovery_control(values) - 1e-12).all()


def test_flips_are_those_of_the_majority():
    rows = make_rows(4).assign(label=["no", "no", "yes", "yes"], question=["q?", "", "", ""])
    old = np.array([[0.9, 0.9, 0.4, 0.2], [0.8, 0.3, 0.6, 0.9], [0.7, 0.9, 0.4, 0.2]])  # of `no`, by seed
    new = np.array([[0.1, 0.9, 0.4, 0.9], [0.2, 0.9, 0.4, 0.8], [0.9, 0.9, 0.4, 0.2]])
    flips = find_flips(rows, *(np.stack([part, 1 - part], axis=2) for part in (old, new)), LABELS)
    assert [(flip.id, flip.old, flip.new, flip.is_right_now) for flip in flips] == [
        ("r000", "no", "yes", False),
        ("r003", "yes", "no", False),
    ]
    assert (flips[0].old_probability, flips[0].new_probability, flips[0].question) == (0.8, 0.4, "q?")
    back = find_flips(rows, *(np.stack([part, 1 - part], axis=2) for part in (new, old)), LABELS)
    assert [flip.is_right_now for flip in back] == [True, True]


def test_a_tied_vote_goes_to_the_higher_mean_probability():
    rows = make_rows(1)
    tied, sure = (np.array(values)[:, None, :] for values in ([[0.9, 0.1], [0.4, 0.6]], [[0.1, 0.9], [0.4, 0.6]]))
    assert len(find_flips(rows, sure, tied, LABELS)) == 1
    assert find_flips(rows, tied, tied, LABELS) == []


def test_verdicts_without_a_comparison():
    old, new = (make_revision(metrics={"student.auc": value}) for value in (0.85, 0.875))
    assert judge_points(old, new, "the rows differ").sentence == (
        "Cannot be said: the rows differ. The student's AUC is 0.850 and 0.875 (+0.025), which may be chance."
    )
    assert judge_points(make_revision(), new, "x").sentence == "Cannot be said: x."
    assert judge_equal(new, []).sentence == (
        "No change: no stage ran anew, and every prediction is the same; the student's AUC is 0.875."
    )
    assert judge_equal(make_revision(), [StageChange("mix", [], [], [])]).sentence == (
        "No change: stages ran anew, but every prediction is the same."
    )
