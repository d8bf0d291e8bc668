import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import (
    Estimate,
    Resamples,
    draw_resamples,
    estimate_metrics,
    find_interval,
    subtract_estimates,
    summarise_estimates,
)
from amalgam.evaluation.compare import compare_models, encode_groups, encode_labels, estimate_models
from amalgam.evaluation.predictions import build_predictions, read_predictions, stack_predictions, write_predictions
from amalgam.params import Evaluation


def draw_model(rng, actual, strengths, shared=0.8):
    """Probabilities [seeds, rows, 2] of models whose scores part the classes by `strengths` standard deviations."""
    noise = shared * rng.normal(size=len(actual))
    own = math.sqrt(1 - shared**2) * rng.normal(size=(len(strengths), len(actual)))
    positive = 1 / (1 + np.exp(-(np.asarray(strengths)[:, None] * actual + noise + own)))
    return np.stack([1 - positive, positive], axis=2)


@given(seed=st.integers(0, 1000), seeds=st.integers(1, 4), grouped=st.booleans())
def test_resamples_hold_every_label_and_as_many_units_as_there_are(seed, seeds, grouped):
    rng = np.random.default_rng(seed)
    actual = np.array([0, 0, 0, 0, 0, 0, 1, 2])
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3]) if grouped else None
    resamples = draw_resamples(actual, groups, seeds=seeds, resamples=30, rng=rng)
    for index in range(3):
        assert (resamples.rows[:, actual == index].sum(axis=1) > 0).all()
    assert (resamples.seeds.sum(axis=1) == max(1, seeds - 1)).all()
    assert (resamples.rows.sum(axis=1) == 8).all()
    if grouped:
        assert (resamples.rows[:, 0::2] == resamples.rows[:, 1::2]).all()


def test_draws_equal_scikit_learn_on_the_drawn_rows_and_seeds():
    rng = np.random.default_rng(1)
    actual = np.arange(30) % 2
    probabilities = draw_model(rng, actual, [1.0, 0.5, 2.0])
    resamples = draw_resamples(actual, None, seeds=3, resamples=5, rng=rng)
    auc = estimate_metrics(actual, probabilities, resamples, ordinal=False)["auc"]
    assert auc.value == pytest.approx(np.mean([roc_auc_score(actual, seed[:, 1]) for seed in probabilities]))
    for number in range(5):
        rows = np.repeat(np.arange(30), resamples.rows[number].astype(int))
        drawn = np.repeat(np.arange(3), resamples.seeds[number].astype(int))
        expected = np.mean([roc_auc_score(actual[rows], probabilities[seed, rows, 1]) for seed in drawn])
        assert auc.draws[number] == pytest.approx(expected)


def test_a_model_without_seeds_counts_as_equal_for_each():
    rng = np.random.default_rng(2)
    actual = np.arange(40) % 2
    one = draw_model(rng, actual, [1.0])
    resamples = draw_resamples(actual, None, seeds=3, resamples=50, rng=rng)
    alone = estimate_metrics(actual, one, resamples, ordinal=False)
    thrice = estimate_metrics(actual, np.repeat(one, 3, axis=0), resamples, ordinal=False)
    difference = subtract_estimates(alone, thrice, ["auc", "quadratic_kappa"])
    assert list(difference) == ["auc"]
    assert difference["auc"].value == pytest.approx(0)
    assert difference["auc"].draws == pytest.approx(np.zeros(50))
    with pytest.raises(ValueError, match="2 seeds, but 3 were drawn"):
        estimate_metrics(actual, one.repeat(2, axis=0), resamples, ordinal=False)


def test_interval_covers_the_true_auc_about_95_times_in_100():
    rng = np.random.default_rng(3)
    actual = np.arange(120) % 2
    truth = NormalDist().cdf(1.2 / math.sqrt(2))
    covered = 0
    for _ in range(200):
        probabilities = draw_model(rng, actual, [1.2, 1.2])
        resamples = draw_resamples(actual, None, seeds=2, resamples=200, rng=rng)
        low, high = find_interval(estimate_metrics(actual, probabilities, resamples, ordinal=False)["auc"].draws, 0.95)
        covered += low <= truth <= high
    # 200 trials at 95 % have a standard deviation of 1.5 points: three of them either way.
    assert 0.905 <= covered / 200 <= 0.995


def test_groups_that_depend_on_each_other_widen_the_interval():
    rng = np.random.default_rng(4)
    actual = np.repeat(np.arange(40) % 2, 5)
    groups = np.repeat(np.arange(40), 5)
    probabilities = draw_model(rng, np.arange(40) % 2, [1.0]).repeat(5, axis=1)
    widths = []
    for units in (None, groups):
        resamples = draw_resamples(actual, units, seeds=1, resamples=400, rng=rng)
        low, high = find_interval(estimate_metrics(actual, probabilities, resamples, ordinal=False)["auc"].draws, 0.95)
        widths.append(high - low)
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(5), rel=0.2)


def test_summary_leaves_out_what_is_not_defined():
    draws = np.arange(101) / 100
    estimates = {
        "auc": Estimate(float("nan"), draws),
        "accuracy": Estimate(0.51239, draws),
        "ece": Estimate(0.1, draws),
    }
    summary = summarise_estimates(estimates, 0.9)
    assert summary == {"accuracy": 0.5124, "accuracy_low": 0.05, "accuracy_high": 0.95, "ece": 0.1}


def make_estimates(seeds=3, *, grader=True):
    rng = np.random.default_rng(5)
    actual = np.arange(200) % 2
    predictions = {
        "human_only": draw_model(rng, actual, [0.5] * seeds),
        "teacher": draw_model(rng, actual, [3.0] * seeds),
        "tfidf_lr": draw_model(rng, actual, [1.5]),
        "embedding_lr": draw_model(rng, actual, [1.0]),
        "student": draw_model(rng, actual, [3.0] * seeds),
    }
    if grader:
        predictions["llm_grader"] = np.full((1, 200, 2), 0.5)
    params = Evaluation(seed=1, resamples=100, confidence=0.95)
    return actual, predictions, params, estimate_models(actual, None, predictions, params, ordinal=False)


@pytest.mark.parametrize("grader", [True, False])
def test_comparisons_are_paired_and_against_the_strongest_baseline(grader):
    _, _, _, estimates = make_estimates(grader=grader)
    differences = compare_models(estimates, 0.95)
    best = differences["gain_over_best_baseline"]
    assert best["baseline"] == "tfidf_lr"
    assert best["auc"] == pytest.approx(
        estimates["teacher"]["auc"].value - estimates["tfidf_lr"]["auc"].value, abs=1e-4
    )
    assert differences["gain_over_human_only"]["auc_low"] > 0
    assert differences["student_minus_teacher"]["auc_low"] < 0 < differences["student_minus_teacher"]["auc_high"]
    assert "brier" not in best


def test_equal_seed_gives_equal_results_and_one_label_is_refused():
    actual, predictions, params, estimates = make_estimates()
    again = estimate_models(actual, None, predictions, params, ordinal=False)
    assert compare_models(again, 0.95) == compare_models(estimates, 0.95)
    with pytest.raises(DataError, match="the same label"):
        compare_models(estimate_models(actual * 0, None, predictions, params, ordinal=False), 0.95)
    with pytest.raises(DataError, match="different seeds"):
        estimate_models(actual, None, predictions | {"student": predictions["student"][:2]}, params, ordinal=False)


def test_rows_become_indices():
    rows = pd.DataFrame({"id": ["a", "b", "c", "d"], "label": ["no", "yes", "no", "no"], "group": ["x", "", "x", ""]})
    assert encode_labels(rows, ["no", "yes"], "test.csv").tolist() == [0, 1, 0, 0]
    assert encode_groups(rows).tolist() == [0, 1, 0, 2]
    assert encode_groups(rows.drop(columns="group")) is None
    with pytest.raises(DataError, match=r"test\.csv holds the label 'yes'"):
        encode_labels(rows, ["no"], "test.csv")


def test_predictions_survive_the_file_and_are_put_in_order(tmp_path):
    labels = ["no", "yes"]
    probabilities = np.array([[0.25, 0.75], [1 / 3, 2 / 3]])
    path = tmp_path / "predictions.csv"
    write_predictions(path, build_predictions("test", "teacher", 7, ["NA", "01"], probabilities, labels))
    assert path.read_text().splitlines()[1] == "test,teacher,7,NA,0.250000,0.750000"
    stacks = stack_predictions(read_predictions(path, labels), "test", ["01", "NA"], labels)
    assert stacks["teacher"] == pytest.approx(probabilities[None, ::-1], abs=1e-6)
    with pytest.raises(DataError, match="teacher, seed 7"):
        stack_predictions(read_predictions(path, labels), "test", ["01"], labels)
    with pytest.raises(DataError, match="has the columns"):
        read_predictions(path, ["yes", "no"])
    with pytest.raises(DataError, match="missing"):
        read_predictions(tmp_path / "none.csv", labels)


def test_resamples_are_plain_values():
    resamples = Resamples(np.ones((2, 3)), np.ones((2, 1)))
    estimates = estimate_metrics(np.array([0, 1, 1]), np.eye(2)[[[0, 1, 0]]], resamples, ordinal=True)
    assert estimates["accuracy"].draws == pytest.approx([2 / 3, 2 / 3])
