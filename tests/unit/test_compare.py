import math

import numpy as np
import pytest

from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import Estimate
from amalgam.evaluation.compare import compare_models, estimate_models, find_ratio
from amalgam.evaluation.predictions import build_predictions, read_predictions, stack_predictions, write_predictions


def draw_model(rng, actual, strengths, shared=0.8):
    """Probabilities [seeds, rows, 2] of models whose scores part the classes by `strengths` standard deviations."""
    noise = shared * rng.normal(size=len(actual))
    own = math.sqrt(1 - shared**2) * rng.normal(size=(len(strengths), len(actual)))
    positive = 1 / (1 + np.exp(-(np.asarray(strengths)[:, None] * actual + noise + own)))
    return np.stack([1 - positive, positive], axis=2)


def make_estimates(seeds=3):
    rng = np.random.default_rng(5)
    actual = np.arange(200) % 2
    predictions = {
        "human_only": draw_model(rng, actual, [0.5] * seeds),
        "teacher": draw_model(rng, actual, [3.0] * seeds),
        "tfidf_lr": draw_model(rng, actual, [1.5]),
        "embedding_lr": draw_model(rng, actual, [1.0]),
        "student": draw_model(rng, actual, [3.0] * seeds),
        "llm_grader": np.full((1, 200, 2), 0.5),
    }
    return actual, predictions, estimate_models(actual, None, predictions, ordinal=False)


def test_comparisons_are_paired_and_against_the_strongest_baseline():
    _, _, estimates = make_estimates()
    differences = compare_models(estimates, "student", 0.95)
    best, student = differences["gain_over_best_baseline"], differences["student_minus_teacher"]
    assert best["baseline"] == "tfidf_lr"
    gain = estimates["teacher"]["auc"].value - estimates["tfidf_lr"]["auc"].value
    assert best["auc"] == pytest.approx(gain, abs=1e-4)
    assert differences["gain_over_human_only"]["auc_low"] > 0
    assert student["auc_low"] < 0 < student["auc_high"]
    assert "brier" not in best
    assert "int8_minus_student" not in differences


def test_the_control_and_the_quantised_student_are_compared_where_they_are():
    actual, predictions, _ = make_estimates()
    others = {"student_undistilled": predictions["human_only"], "student_int8": predictions["student"]}
    estimates = estimate_models(actual, None, predictions | others, ordinal=False)
    differences = compare_models(estimates, "student_undistilled", 0.95)
    assert differences["student_minus_undistilled"]["auc_low"] > 0
    kept = (estimates["student_undistilled"]["auc"].value - 0.5) / (estimates["teacher"]["auc"].value - 0.5)
    retention = differences["retention"]
    assert retention["auc_above_chance"] == pytest.approx(kept, abs=1e-4)  # of what ships
    assert retention["auc_above_chance_low"] < kept < retention["auc_above_chance_high"]
    assert {differences["int8_minus_student"][f"auc{end}"] for end in ("", "_low", "_high")} == {0.0}


def test_equal_seed_gives_equal_results_and_one_label_is_refused():
    actual, predictions, estimates = make_estimates()
    again = estimate_models(actual, None, predictions, ordinal=False)
    assert compare_models(again, "student", 0.95) == compare_models(estimates, "student", 0.95)
    with pytest.raises(DataError, match="the same label"):
        compare_models(estimate_models(actual * 0, None, predictions, ordinal=False), "student", 0.95)
    with pytest.raises(DataError, match="different seeds"):
        estimate_models(actual, None, predictions | {"student": predictions["student"][:2]}, ordinal=False)


def test_predictions_survive_the_file_and_are_put_in_order(tmp_path):
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
    with pytest.raises(DataError, match="missing"):
        read_predictions(tmp_path / "none.csv", labels)


def draw_pair(rng, top, bottom, error, shared=0.7, resamples=200):
    """Two estimates whose errors go together; the resamples spread around the values as these do around the truth."""
    noise = rng.normal(size=(resamples + 1, 2))
    noise[:, 1] = shared * noise[:, 0] + np.sqrt(1 - shared**2) * noise[:, 1]
    values = np.array([top, bottom]) + error * noise[0]
    drawn = values + error * noise[1:]
    return [Estimate(values[[part]], drawn[:, [part]], 1e6, (0.0, 1.0)) for part in (0, 1)]


def test_an_interval_covers_the_true_ratio_in_about_95_percent():
    rng = np.random.default_rng(1)
    # The denominator is four standard errors above 0, where the usual formula would fail.
    found = [find_ratio(*draw_pair(rng, 0.18, 0.2, 0.05), 0.95, above=0.0) for _ in range(400)]
    finite = [one for one in found if len(one) == 3]
    covered = sum(low <= 0.9 <= high for _, low, high in finite) + len(found) - len(finite)
    assert 0.93 <= covered / 400 <= 0.97
    assert len(finite) > 380


def test_no_finite_interval_where_the_denominator_may_be_0():
    top, bottom = draw_pair(np.random.default_rng(2), 0.1, 0.05, 0.05)
    assert find_ratio(top, bottom, 0.95, above=0.0) == [top.value / bottom.value]
    assert find_ratio(top, bottom, 0.95, above=1.0) == []
