import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from amalgam.files import hash_file
from amalgam.training.checkpoint import read_config
from amalgam.training.loop import Outcome
from amalgam.training.student import DistillationLoss, SoftTargets, choose_depth, train_student
from amalgam.training.transfer import assign_roles, build_transfer, hold_out_texts
from tests.pipeline.toy import LABELS
from tests.unit.training import DISTILLATION, score_rows


@pytest.mark.parametrize("label", [1, -1])
def test_the_loss_by_hand(label: int) -> None:
    # At temperature 2 the teacher gives 3/4 and 1/4, the student 1/2 and 1/2; without it the student gives 1/2 too.
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = math.log(2) if label == 1 else 2**2 * divergence
    teacher = np.array([[0.0, 9.0], [2 * math.log(3), 0.0]])
    loss = DistillationLoss(teacher, np.array([0, label]), temperature=2.0)
    student = torch.zeros((1, 2), dtype=torch.float64)
    assert float(loss(student, np.array([1]))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "rows", "layers", "expected"),
    [
        ((None, None), 300, 12, (6, 3)),
        ((None, None), 299, 12, (12, 6)),  # few texts: nothing of the teacher is cut away
        ((None, None), 1000, 4, (4, 2)),
        ((3, None), 100, 12, (3, 2)),
        ((None, 1), 100, 12, (12, 1)),
    ],
)
def test_a_small_transfer_set_takes_a_deep_student_unless_the_params_say_more(
    given: tuple[int | None, int | None], rows: int, layers: int, expected: tuple[int, int]
) -> None:
    params = DISTILLATION.model_copy(update=dict(zip(("layers", "trained_layers"), given, strict=True)))
    assert choose_depth(params, rows, layers) == expected


def train(*given: Any, target: Path, alone: bool = False, **changes: object) -> Outcome:
    """Train the teacher's student from its bases, the transfer set and the validation rows, in this order."""
    params = DISTILLATION.model_copy(update=changes)
    return train_student(*given, params, 1, target, lambda _item: None, alone=alone)


def distil(teacher: Path, rows: pd.DataFrame, target: Path) -> np.ndarray:
    """Distil the toy teacher; return the student's probabilities of praise for the rows."""
    rows = rows if "origin" in rows else rows.assign(origin="human")
    targets = SoftTargets(rows, np.log(score_rows(teacher, rows)))
    train(teacher, (teacher, teacher), targets, targets.select(np.arange(60) >= 40), target=target)
    return score_rows(target, rows, [teacher])[:, 1]


def test_coded_rows_teach_their_codes_and_all_others_what_the_teacher_says(
    teacher: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    says = score_rows(teacher, comments)[:, 1]
    turned = comments.assign(label=comments["label"].map(dict(zip(LABELS, LABELS[::-1], strict=True))))
    written = distil(teacher, turned.assign(origin="synthetic"), tmp_path / "written")
    texts = comments.assign(label="", origin="unlabelled")
    np.testing.assert_array_equal(written, distil(teacher, texts, tmp_path / "untold"))  # one seed gives one student
    config = replace(read_config(teacher), pooling="centred_mean", base=hash_file(teacher / "model.safetensors"))
    assert read_config(tmp_path / "written") == config
    assert np.corrcoef(written, says)[0, 1] > 0.9
    told, misled = (distil(teacher, rows, tmp_path / "told") for rows in (comments, turned))
    praise = comments["label"] == "praise"
    assert told[praise].mean() > misled[praise].mean() + 0.1
    assert told[~praise].mean() < misled[~praise].mean() - 0.1


def test_the_control_uses_coded_rows_alone(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    logits, bases = np.log(score_rows(teacher, comments)), (encoder, encoder)
    comments = comments.assign(origin="human")
    whole, coded = SoftTargets(comments, logits), SoftTargets(comments.iloc[:9], logits[:9])
    mixed = SoftTargets(comments.assign(label=comments["label"].where(comments.index < 9, "")), logits)
    silent = SoftTargets(comments, np.zeros((60, 2)))  # the control does not see the teacher
    for name, learned, held_out in (("coded", whole, coded), ("mixed", whole, mixed), ("silent", silent, coded)):
        train(teacher, bases, learned, held_out, target=tmp_path / name, alone=True)
    few = train(teacher, bases, mixed, coded, target=tmp_path / "few", steps=1, alone=True)
    assert few.train_rows == 9  # those without a label teach it nothing
    one, other, third = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("coded", "mixed", "silent"))
    assert one == other == third


def test_another_encoder_may_be_the_student(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    other, student = shutil.copytree(encoder, tmp_path / "other"), tmp_path / "student"
    weights = {name: weight * 1.5 for name, weight in load_file(other / "model.safetensors").items()}
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    says = score_rows(teacher, comments)
    targets = SoftTargets(comments.assign(origin="synthetic"), np.log(says))
    changes = {"student": "some-encoder", "layers": 2, "trained_layers": 2, "steps": 90}
    train(teacher, (encoder, other), targets, targets, target=student, **changes)
    assert json.loads((student / "config.json").read_text())["num_hidden_layers"] == 2
    assert np.corrcoef(score_rows(student, comments, [encoder, other])[:, 1], says[:, 1])[0, 1] > 0.8


def make_rows(prefix: str, count: int, **values: str) -> pd.DataFrame:
    rows = {"id": [f"{prefix}{n}" for n in range(count)], "text": [f"text {prefix}{n}" for n in range(count)]}
    return pd.DataFrame(rows).assign(question="", **values)


def test_labels_count_only_where_the_teacher_learned_them() -> None:
    learned = pd.concat(
        [make_rows("h", 2, label="good", origin="human"), make_rows("s", 2, label="bad", origin="synthetic")]
    )
    found = build_transfer(learned, make_rows("s", 6, label="bad"), make_rows("u", 3), left_out=3)
    assert found["id"].tolist() == ["h0", "h1", "s0", "s1", "s2", "s3", "s4", "u0", "u1", "u2"]
    assert found["label"].tolist() == ["good"] * 2 + ["bad"] * 2 + [""] * 6
    assert found["origin"].tolist() == ["human"] * 2 + ["synthetic"] * 5 + ["unlabelled"] * 3
    told = learned.assign(soft=["", "", "[0.2, 0.8]", ""])  # by the LLM, whose label counts only if there is no other
    for part, labels in ((told, ["good", "good", "", "bad"]), (told[2:3], ["bad"])):
        assert build_transfer(part, told[:0], told[:0], left_out=0)["label"].tolist() == labels


@pytest.mark.parametrize(("human", "uncoded", "seen"), [(51, 800, 0), (51, 0, 199), (200, 40, 10)])
def test_what_the_guard_refused_fills_up_a_small_set_alone(human: int, uncoded: int, seen: int) -> None:
    learned, pool = make_rows("h", human, label="good", origin="human"), make_rows("s", 300)
    found = build_transfer(learned, pool, make_rows("u", uncoded), left_out=1000, helps=False)
    assert found["origin"].value_counts().get("synthetic", 0) == seen


def test_texts_that_are_held_out_have_no_label_and_are_learned_by_nobody() -> None:
    validation, none = make_rows("v", 2, label="bad"), make_rows("s", 0)

    def hold_out(count: int, taught: str) -> list[pd.DataFrame]:
        learned = make_rows(taught, 5, label="good", origin="human")
        whole = build_transfer(learned, none, make_rows("u", count), left_out=0)
        return [whole, *hold_out_texts(whole, validation)]

    whole, transfer, held_out = hold_out(25, "h")
    assert held_out["id"].tolist() == ["v0", "v1", "u0", "u10", "u20"]
    assert held_out["label"].tolist() == ["bad", "bad", "", "", ""]
    assert sorted([*transfer["id"], *held_out["id"][2:]]) == sorted(whole["id"])
    assert list(transfer.columns) == list(held_out.columns) == list(whole.columns)
    assert hold_out(25, "v")[2]["id"].tolist() == ["u0", "u10", "u20"]  # those that taught are left out
    assert len(hold_out(3000, "h")[2]) == 102


def test_validation_rows_teach_where_they_are_too_few_to_choose() -> None:
    train, validation = make_rows("h", 2, label="good"), make_rows("v", 1, label="bad")
    assert assign_roles(train, validation, least=1) == (train, validation)
    learned, held_out = assign_roles(train, validation, least=2)
    assert held_out is None
    assert learned[["id", "label"]].to_numpy().tolist() == [["h0", "good"], ["h1", "good"], ["v0", "bad"]]
