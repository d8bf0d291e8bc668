import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from amalgam.errors import ModelError
from amalgam.files import hash_file
from amalgam.training.checkpoint import Config, read_config, save_checkpoint
from amalgam.training.classifier import keep_layers
from amalgam.training.loop import Outcome
from amalgam.training.scoring import Scorer, score_rows
from amalgam.training.student import DistillationLoss, SoftTargets, measure_closeness, train_student
from tests.pipeline.toy import LABELS
from tests.unit.training import DISTILLATION

PARAMS = DISTILLATION
SIZE = {"vocab_size": 30, "num_labels": 3, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
BUILDERS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(num_hidden_layers=6, **SIZE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(num_hidden_layers=6, **SIZE)),
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(num_hidden_layers=6, **SIZE)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=30, num_labels=3, dim=8, n_heads=2, hidden_dim=16, n_layers=6)
    ),
}


def make_loss(teacher: list[list[float]], labels: list[int], **changes: float) -> DistillationLoss:
    settings = {"temperature": 2.0, "alpha": 0.75, **changes}
    return DistillationLoss(np.array(teacher), np.array(labels), **settings)


def compute_loss(
    student: list[list[float]], teacher: list[list[float]], labels: list[int], **changes: float
) -> torch.Tensor:
    loss = make_loss(teacher, labels, **changes)
    return loss(torch.tensor(student, dtype=torch.float64), np.arange(len(labels)))


def test_the_loss_by_hand() -> None:
    # At temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2; without it the student says 1/2 too.
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    teacher, student = [[2 * math.log(3), 0.0]], [[0.0, 0.0]]
    labelled = 0.75 * 2**2 * divergence + 0.25 * math.log(2)
    unlabelled = 2**2 * divergence
    assert float(compute_loss(student, teacher, [1])) == pytest.approx(labelled)
    assert float(compute_loss(student, teacher, [-1])) == pytest.approx(unlabelled)
    both = compute_loss(student * 2, teacher * 2, [1, -1])
    assert float(both) == pytest.approx((labelled + unlabelled) / 2)


def test_alpha_weighs_the_teacher_against_the_labels() -> None:
    student, teacher = [[1.0, -1.0, 0.5]], [[-3.0, 2.0, 0.1]]
    hard = float(compute_loss(student, teacher, [2], alpha=0.0))
    assert hard == pytest.approx(-math.log(math.exp(0.5) / (math.e + 1 / math.e + math.exp(0.5))))
    soft = float(compute_loss(student, teacher, [2], alpha=1.0))
    assert soft == pytest.approx(float(compute_loss(student, teacher, [-1], alpha=0.3)))
    assert float(compute_loss(student, teacher, [2], alpha=0.25)) == pytest.approx(0.25 * soft + 0.75 * hard)


@pytest.mark.parametrize("label", [0, -1])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(label: int) -> None:
    logits = [[1.5, -0.5, 0.25]]
    student = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    loss = make_loss(logits, [label], alpha=1.0)
    value = loss(student, np.array([0]))
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


def test_closeness_is_the_loss_turned_around() -> None:
    loss = make_loss([[1.0, 0.0], [0.0, 2.0]], [0, -1])
    one, other = (float(loss(torch.zeros(1, 2, dtype=torch.float64), np.array([row]))) for row in (0, 1))
    assert one != other
    # The standard error of the mean of two values is half their distance.
    assert measure_closeness(loss, np.zeros((2, 2))) == pytest.approx((-(one + other) / 2, abs(one - other) / 2))
    assert measure_closeness(loss, np.zeros((1, 2))) == pytest.approx((-one, 0.0))


def compute_logits(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.inference_mode():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_lowest_layers_are_kept_and_all_but_layers(kind: str, tmp_path: Path) -> None:
    model = BUILDERS[kind]()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    keep_layers(model, 3)
    after = model.state_dict()
    gone = {name.split(".layer.")[1][0] for name in before.keys() - after.keys()}
    assert gone == {"3", "4", "5"}
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.num_hidden_layers == 3
    torch.testing.assert_close(compute_logits(loaded), compute_logits(model))


def test_what_keeps_all_layers_says_what_it_said() -> None:
    model = BUILDERS["bert"]()
    before = compute_logits(model)
    keep_layers(model, 6)
    assert torch.equal(compute_logits(model), before)
    with pytest.raises(ModelError, match=r"`distillation\.layers` is 7, but the encoder has 6: lower it"):
        keep_layers(model, 7)


def test_an_encoder_that_shares_its_layers_gives_one_sentence() -> None:
    config = AlbertConfig(embedding_size=8, num_hidden_groups=1, num_hidden_layers=2, **SIZE)
    with pytest.raises(ModelError, match="an encoder of type 'albert' cannot be shortened: choose one like BERT"):
        keep_layers(AlbertForSequenceClassification(config), 1)


def ignore(_item: object) -> None:
    """Count no step."""


def train(
    teacher: Path,
    bases: tuple[Path, Path],
    transfer: SoftTargets,
    validation: SoftTargets,
    target: Path,
    *,
    alone: bool = False,
    **changes: object,
) -> Outcome:
    params = PARAMS.model_copy(update=changes)
    return train_student(teacher, bases, transfer, validation, params, 1, target, ignore, alone=alone)


def distil(teacher: Path, rows: pd.DataFrame, target: Path, **changes: object) -> np.ndarray:
    """Distil the toy teacher; return the student's probabilities of praise for the rows."""
    targets = SoftTargets(rows, Scorer(teacher).compute_logits(rows))
    train(teacher, (teacher, teacher), targets, targets.select(np.arange(60) >= 40), target, **changes)
    return score_rows(target, rows, [teacher])[:, 1]


def turn_labels(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(label=rows["label"].map(dict(zip(LABELS, LABELS[::-1], strict=True))))


def test_with_alpha_1_the_student_hears_its_teacher_alone(
    teacher: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    misled = distil(teacher, turn_labels(comments), tmp_path / "misled", alpha=1.0)
    np.testing.assert_array_equal(misled, distil(teacher, comments.assign(label=""), tmp_path / "untold"))
    assert np.corrcoef(misled, score_rows(teacher, comments)[:, 1])[0, 1] > 0.9


def test_with_alpha_0_the_student_hears_the_labels_alone(teacher: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    told = distil(teacher, comments, tmp_path / "told", alpha=0.0)
    misled = distil(teacher, turn_labels(comments), tmp_path / "misled", alpha=0.0)
    praise = comments["label"] == "praise"
    assert told[praise].mean() > misled[praise].mean() + 0.1
    assert told[~praise].mean() < misled[~praise].mean() - 0.1


def test_the_control_learns_and_is_chosen_by_coded_rows_alone(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    logits, bases = Scorer(teacher).compute_logits(comments), (encoder, encoder)
    whole, coded = SoftTargets(comments, logits), SoftTargets(comments.iloc[:9], logits[:9])
    mixed = SoftTargets(comments.assign(label=comments["label"].where(comments.index < 9, "")), logits)
    silent = SoftTargets(comments, np.zeros((60, 2)))  # the control knows nothing of the teacher
    for name, learned, held_out in (("coded", whole, coded), ("mixed", whole, mixed), ("silent", silent, coded)):
        train(teacher, bases, learned, held_out, tmp_path / name, alone=True)
    few = partial(train, teacher, bases, mixed, coded, steps=1)
    assert few(tmp_path / "few", alone=True).train_rows == 9  # those without a label teach it nothing
    assert few(tmp_path / "all").train_rows == 60
    one, other, third = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("coded", "mixed", "silent"))
    assert one == other == third


def test_without_a_row_that_chooses_all_steps_are_taken(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    whole = SoftTargets(comments, Scorer(teacher).compute_logits(comments))
    for alone in (False, True):
        none = whole.select(np.zeros(60, dtype=bool))
        assert train(teacher, (encoder, encoder), whole, none, tmp_path, alone=alone).best_step == PARAMS.steps


def test_one_seed_gives_one_student(teacher: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("one", "two"):
        distil(teacher, comments, tmp_path / name, steps=10)
    for name in ("model.safetensors", "config.json", "amalgam.json", "tokenizer.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    config = replace(read_config(teacher), pooling="centred_mean", base=hash_file(teacher / "model.safetensors"))
    assert read_config(tmp_path / "one") == config


def test_a_student_begins_with_a_head_that_ranks_like_its_teacher(
    teacher: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    # The rows have no labels, and a step of this size changes nothing.
    found = distil(teacher, comments.assign(label=""), tmp_path, steps=1, learning_rate=1e-12)
    says = score_rows(teacher, comments)[:, 1] > 0.5
    assert ((found > 0.5) == says).mean() > 0.95
    assert spearmanr(found, score_rows(teacher, comments)[:, 1]).statistic > 0.8


def test_only_what_is_not_in_the_base_encoder_is_saved(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    # What the toy teacher is to its students, a base encoder is to others.
    logits = Scorer(teacher).compute_logits(comments)
    targets = SoftTargets(comments, logits)
    for name in ("student", "control"):
        alone = name == "control"
        train(teacher, (encoder, encoder), targets, targets, tmp_path / name, alone=alone, layers=2)
    saved = {name: load_file(tmp_path / name / "model.safetensors") for name in ("student", "control")}
    # The teacher trained both layers, and its student the second; the control's first is that of the encoder.
    assert list_layers(saved["student"]) == {0, 1}
    assert list_layers(saved["control"]) == {1}
    for weights in saved.values():
        assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
        assert not any("embeddings" in name for name in weights)


def list_layers(weights: dict[str, torch.Tensor]) -> set[int]:
    return {int(name.split(".layer.")[1].split(".")[0]) for name in weights if ".layer." in name}


def test_a_student_scores_as_it_did_when_its_training_ended(
    teacher: Path, comments: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"

    def save(model: PreTrainedModel, tokenizer: Any, target: Path, config: Config, base: Path) -> None:
        save_checkpoint(model, tokenizer, target, config, base)
        save_checkpoint(model, tokenizer, whole, config)  # with all weights, and none of them rounded

    monkeypatch.setattr("amalgam.training.student.save_checkpoint", save)
    found = distil(teacher, comments, tmp_path / "changes")
    np.testing.assert_allclose(found, score_rows(whole, comments)[:, 1], atol=0.01)
    assert found.std() > 0.1
    assert (tmp_path / "changes/model.safetensors").stat().st_size < (whole / "model.safetensors").stat().st_size / 2


def test_a_student_of_another_base_gives_one_sentence(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    distil(teacher, comments, tmp_path / "student", steps=1)
    with pytest.raises(ModelError, match=r"student was trained from another encoder than .*encoder: run `dvc repro`$"):
        score_rows(tmp_path / "student", comments, [encoder])
    noted = shutil.copytree(encoder, tmp_path / "noted")
    digest = read_config(tmp_path / "student").base
    (noted / "amalgam.json").write_text(json.dumps({"files": {"model.safetensors": digest}}))
    score_rows(tmp_path / "student", comments, [encoder, noted])  # who fetched it has hashed it


def test_an_encoder_of_its_own_may_be_the_student(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    other = shutil.copytree(encoder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: weight * 1.5 for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"})
    targets = SoftTargets(comments, Scorer(teacher).compute_logits(comments))
    changes = {"student": "some-encoder", "layers": 2, "trained_layers": 2, "steps": 90, "alpha": 1.0}
    train(teacher, (encoder, other), targets, targets, tmp_path / "student", **changes)
    assert json.loads((tmp_path / "student/config.json").read_text())["num_hidden_layers"] == 2
    found = score_rows(tmp_path / "student", comments, [encoder, other])[:, 1]
    assert np.corrcoef(found, score_rows(teacher, comments)[:, 1])[0, 1] > 0.8
