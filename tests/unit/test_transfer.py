from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.training.scoring import Scorer, average_logits, score_models
from amalgam.training.transfer import (
    assign_roles,
    build_transfer,
    hold_out_texts,
    read_logits,
    write_logits,
)


def make_rows(prefix: str, count: int, **values: str) -> pd.DataFrame:
    rows = {"id": [f"{prefix}{n}" for n in range(count)], "text": [f"text {prefix}{n}" for n in range(count)]}
    return pd.DataFrame(rows).assign(question="", **values)


def test_labels_count_only_where_the_teacher_learned_them() -> None:
    learned = pd.concat(
        [make_rows("h", 2, label="good", origin="human"), make_rows("s", 2, label="bad", origin="synthetic")]
    )
    pool = make_rows("s", 6, label="bad")
    found = build_transfer(learned, pool, make_rows("u", 3), left_out=3)
    assert found["id"].tolist() == ["h0", "h1", "s0", "s1", "s2", "s3", "s4", "u0", "u1", "u2"]
    assert found["label"].tolist() == ["good"] * 2 + ["bad"] * 2 + [""] * 6
    assert found["origin"].tolist() == ["human"] * 2 + ["synthetic"] * 5 + ["unlabelled"] * 3


def test_texts_that_are_held_out_have_no_label_and_are_learned_by_nobody() -> None:
    learned = make_rows("h", 5, label="good", origin="human")
    whole = build_transfer(learned, make_rows("s", 0), make_rows("u", 25), left_out=0)
    transfer, validation = hold_out_texts(whole, make_rows("v", 2, label="bad"))
    assert validation["id"].tolist() == ["v0", "v1", "u0", "u10", "u20"]
    assert validation["label"].tolist() == ["bad", "bad", "", "", ""]
    assert sorted([*transfer["id"], *validation["id"][2:]]) == sorted(whole["id"])
    assert list(transfer.columns) == list(validation.columns) == list(whole.columns)
    taught = pd.concat([make_rows("v", 1, label="bad"), make_rows("w", 1, label="bad")])
    again = build_transfer(taught[:1].assign(origin="human"), make_rows("s", 0), make_rows("u", 25), left_out=0)
    assert hold_out_texts(again, taught)[1]["id"].tolist()[:2] == ["w0", "u0"]
    many = build_transfer(learned, make_rows("s", 0), make_rows("u", 3000), left_out=0)
    assert len(hold_out_texts(many, make_rows("v", 2, label="bad"))[1]) == 102


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    views = np.log(np.array([[[0.5, 0.5], [0.9, 0.1]], [[0.1, 0.9], [0.7, 0.3]]])) + 3.0
    np.testing.assert_allclose(np.exp(average_logits(views)), [[0.3, 0.7], [0.8, 0.2]])


def test_logits_come_back_as_the_teachers_gave_them(teacher: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    rows = {"transfer": comments.iloc[:12], "validation": comments.iloc[12:15]}
    write_logits(tmp_path / "logits.safetensors", score_models([teacher, teacher], rows, [teacher]))
    found = read_logits(tmp_path / "logits.safetensors")
    assert {name: array.shape for name, array in found.items()} == {"transfer": (2, 12, 2), "validation": (2, 3, 2)}
    np.testing.assert_array_equal(found["transfer"][1], Scorer(teacher).compute_logits(rows["transfer"]))


TRAIN = pd.DataFrame([("h1", "a", "good"), ("h2", "b", "bad")], columns=["id", "text", "label"])
VALIDATION = pd.DataFrame([("v1", "c", "bad")], columns=["id", "text", "label"])


def test_enough_validation_rows_choose() -> None:
    learned, held_out = assign_roles(TRAIN, VALIDATION, least=1)
    assert learned is TRAIN
    assert held_out is VALIDATION


def test_too_few_teach() -> None:
    learned, held_out = assign_roles(TRAIN, VALIDATION, least=2)
    assert held_out is None
    assert learned.to_dict("list") == {
        "id": ["h1", "h2", "v1"],
        "text": ["a", "b", "c"],
        "label": ["good", "bad", "bad"],
    }
