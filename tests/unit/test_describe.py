import numpy as np
import pandas as pd
import pytest

from amalgam.evaluation.describe import compare_embeddings, describe_texts, measure_distance, run_two_sample_test


def test_distance_by_permutation_is_calibrated_and_finds_a_shift():
    rng = np.random.default_rng(2)
    pairs = [(rng.normal(size=(20, 4)), rng.normal(size=(30, 4))) for _ in range(200)]
    values = np.array([measure_distance(*pair, 0.95)["mmd2_p"] for pair in pairs])
    assert [np.mean(values <= level) for level in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9], abs=0.08)
    far = measure_distance(rng.normal(size=(40, 4)), 1 + rng.normal(size=(40, 4)), 0.95)
    assert far["mmd2_p"] == round(1 / 501, 4)
    assert far["mmd2"] > 3 * far["mmd2_chance"] > 0


def test_rows_of_one_source_cannot_be_told_apart_and_shifted_ones_can():
    rng = np.random.default_rng(3)
    same, shifted = (
        run_two_sample_test(rng.normal(size=(150, 10)), shift + rng.normal(size=(250, 10)), 0.95) for shift in (0, 1.5)
    )
    assert same["auc_low"] < 0.5 < same["auc_high"]
    assert same["auc"] == pytest.approx(0.5, abs=0.08)
    assert shifted["auc"] > 0.98
    assert run_two_sample_test(rng.normal(size=(4, 10)), rng.normal(size=(50, 10)), 0.95) == {}


def test_copies_show_in_the_description():
    things = ["a lamp", "the kettle", "one old chair", "my second phone"]
    people = pd.DataFrame({"text": [f"{thing} is what I bought" for thing in things], "label": ["", "no", "", "no"]})
    copies = people.assign(label="no")
    found = describe_texts(copies, people)
    assert (found["copied_rate"], found["nearest_human"], found["out_of_vocabulary"]) == (1.0, 1.0, 0.0)
    assert found["distinct_2"] == found["human_distinct_2"]
    assert found["words"] == found["human_words"] == 6.5
    assert found["human_nearest_human"] < 1  # a text is not compared with itself
    assert 0 < found["human_self_similarity"] < found["self_similarity"] < 1  # of two coded rows, and of four
    fresh = describe_texts(copies.assign(text="quite new words stand here"), people)
    assert (fresh["copied_rate"], fresh["out_of_vocabulary"], fresh["self_similarity"]) == (0.0, 1.0, 1.0)


def test_embeddings_are_compared_in_all_and_within_labels_that_humans_gave():
    rng = np.random.default_rng(4)
    synthetic, human = rng.normal(size=(60, 5)), rng.normal(size=(80, 5))
    synthetic[30:] += 2
    labels, coded = ["no"] * 30 + ["yes"] * 30, ["no"] * 20 + ["yes"] * 20 + [""] * 40
    found = compare_embeddings(synthetic, human, labels, coded, 0.95)
    sizes = {name: (part["rows"], part["human_rows"]) for name, part in found["mmd"].items()}
    assert sizes == {"all": (60, 80), "no": (30, 20), "yes": (30, 20)}
    assert found["mmd"]["no"]["mmd2_p"] > 0.05 > found["mmd"]["yes"]["mmd2_p"]
    assert found["two_sample_auc_low"] < found["two_sample_auc"] < found["two_sample_auc_high"]
    named = compare_embeddings(synthetic, human, ["all"] * 30 + labels[30:], coded, 0.95)
    assert named["mmd"]["all"] == found["mmd"]["all"]  # of all rows, also if a label has this name
    assert "no" not in compare_embeddings(synthetic, human, labels, [""] * 80, 0.95)["mmd"]
