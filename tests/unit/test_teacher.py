"""How a teacher learns, by contrast, by cross-entropy and by the paper's recipe, and how its folder scores texts."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from amalgam.errors import ModelError
from amalgam.training.checkpoint import Config, list_members, read_config, write_config
from amalgam.training.embeddings import index_labels
from amalgam.training.teacher import (
    MIXED,
    ContrastiveLoss,
    TeacherTrainer,
    balance_classes,
    make_members,
    train_members,
)
from tests.pipeline.toy import LABELS
from tests.unit.training import TEACHER, score_rows

ANGLES = torch.tensor([0.0, 60.0, 90.0]) * np.pi / 180
VECTORS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)  # cosines: 0.5, 0 and the square root of 0.75
NEAR = (1 - 0.75**0.5) ** 2


def test_class_weights_make_classes_count_alike() -> None:
    assert balance_classes(np.array([0, 0, 0, 2])) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


@pytest.mark.parametrize(
    ("labels", "weights", "expected"),
    [
        ([0, 0, 0], [1.0, 1.0, 1.0], (0.5**2 + 1 + NEAR) / 3),
        ([0, 1, 1], [1.0, 3.0, 1.0], NEAR + (3 * 0.5**2 + 0) / 4),
    ],
)
def test_the_loss_by_hand(labels: list[int], weights: list[float], expected: float) -> None:
    loss = ContrastiveLoss(np.array(labels), np.array(weights))
    assert float(loss(VECTORS, torch.arange(3))) == pytest.approx(expected)


def make_trainer(
    encoder: Path,
    rows: pd.DataFrame,
    held_out: pd.DataFrame | None = None,
    *,
    contrastive: bool = False,
    **changes: object,
) -> TeacherTrainer:
    rows, params = rows if "origin" in rows else rows.assign(origin="human"), TEACHER.model_copy(update=changes)
    return TeacherTrainer(encoder, rows, held_out, list(LABELS), params, contrastive=contrastive)


def ignore(_item: object) -> None:
    pass


def contrast(encoder: Path, rows: pd.DataFrame, target: Path, seed: int = 1) -> np.ndarray:
    """Train a member by contrast; return its probabilities of the rows."""
    trainer = make_trainer(encoder, rows, contrastive=True)
    outcome = trainer.train(seed, target, ignore)
    steps = 43 if len(rows) == 60 else 40  # for up to 51 human rows
    assert (trainer.steps, outcome.steps, outcome.best_step) == (steps, steps, steps)
    return score_rows(target, rows, [encoder])


def test_a_contrastive_teacher_learns(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    one, again, other = (contrast(encoder, comments, tmp_path / str(n), seed) for n, seed in enumerate((1, 1, 2)))
    assert (one.argmax(axis=1) == index_labels(comments, list(LABELS))).mean() > 0.9
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-4
    # The only class that has rows is the likely one.
    rows = comments[comments["label"] == LABELS[1]].reset_index(drop=True)
    assert contrast(encoder, rows, tmp_path / "alone")[:, 1].min() > 0.99


def test_members_are_an_ensemble_wherever_they_lie(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    rows, params = comments.assign(origin="human"), TEACHER.model_copy(update={"steps": 4})
    members = make_members(encoder, rows, None, list(LABELS), params, MIXED)
    assert list(members) == ["contrastive", "mixed"]
    there, folder = tmp_path / "human_only/seed-3/contrastive", tmp_path / "teacher/seed-3"
    members["contrastive"].train(3, there, ignore)
    shared, trial = "../../human_only/seed-{seed}/contrastive", lambda _advance: np.ones(2)
    outcomes, (found,) = train_members("", {MIXED: members[MIXED]}, [3], tmp_path / "teacher", [trial], shared)
    assert (list(outcomes), found.sum()) == (["3"], 2)
    assert list_members(folder) == [there, folder / MIXED]
    assert [path.parent.name for path in folder.iterdir() if path.name == "curves"] == ["seed-3"]
    means = np.mean([score_rows(one, comments, [encoder]) for one in (there, folder / MIXED)], axis=0)
    np.testing.assert_allclose(score_rows(folder, comments, [encoder]), means, atol=1e-5)
    alone = make_members(encoder, rows.assign(origin="synthetic"), None, list(LABELS), params, MIXED, taught=204)
    assert alone["contrastive"].steps == 80  # at ratio 1, as many as with those human rows
    paper = TEACHER.model_copy(update={"recipe": "paper"})
    assert list(make_members(encoder, rows, None, list(LABELS), paper, MIXED)) == ["."]


def test_a_stage_run_by_hand_writes_over_earlier_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, there = Path(__file__).parents[2] / "stages", Path("models/human_only/seed-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(stages)
    (there / "curves").mkdir(parents=True)
    write_config(there, Config(list(LABELS), 24, False, members=["contrastive", "human_only"]))
    stage = runpy.run_path(str(stages / "teacher.py"))
    for _ in range(2):
        stage["take_human_only"]([1])
    assert list_members(Path("models/teacher/seed-1")) == [there / "contrastive", there / "human_only"]


def test_the_recipe_of_the_paper(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    rows = comments.assign(origin=["synthetic", "synthetic", "human", "human"] * 15)
    trainer = make_trainer(encoder, rows, recipe="paper", trained_layers=1)
    assert [phase.tolist()[:2] for phase in trainer._learn.phases] == [[2, 3], [0, 1]]
    assert trainer._learn.encoded.pad(np.array([0, 1]))["input_ids"].shape == (2, TEACHER.max_length)
    longer = make_trainer(encoder, rows, recipe="paper", max_length=1000)
    assert longer._learn.encoded.pad(np.array([0]))["input_ids"].shape == (1, 64)  # the encoder's positions
    trainer.train(1, tmp_path, ignore)
    assert read_config(tmp_path).pooling == "cls"
    base, learned = (load_file(folder / "model.safetensors") for folder in (encoder, tmp_path))
    lowest = [name for name in base if name.startswith(("embeddings.word", "encoder.layer.0."))]
    assert all((learned[f"bert.{name}"] != base[name]).any() for name in lowest if "key.bias" not in name)
    right = score_rows(tmp_path, comments, [encoder]).argmax(axis=1) == index_labels(comments, list(LABELS))
    assert right.mean() > 0.9


def make_question(question: str) -> pd.DataFrame:
    return pd.DataFrame({"text": ["rude"], "question": question}, dtype=str)


def test_probabilities_are_in_the_order_of_the_rows(teacher: Path, comments: pd.DataFrame) -> None:
    whole = score_rows(teacher, comments)
    single = np.concatenate([score_rows(teacher, comments.iloc[[number]]) for number in range(0, 60, 10)])
    np.testing.assert_allclose(whole[::10], single, atol=2e-3)  # of bfloat16, whose sums depend on the padding
    assert whole[:, 0].std() > 0.01  # else any order would do


def test_a_model_sees_questions_if_it_learned_with_them(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    rows = comments.assign(question="Why?")
    make_trainer(encoder, rows, rows, learning_rate=1e-3, steps=4).train(1, tmp_path, ignore)
    for folder, same in ((teacher, True), (tmp_path, False)):
        bare, asked = (score_rows(folder, make_question(question), [encoder]) for question in ("", "the coffee"))
        assert np.array_equal(bare, asked) == same


def test_a_folder_that_holds_no_trained_model_gives_one_sentence(teacher: Path, encoder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(teacher, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    missing = r"^[^\n]* is not a trained model: run `dvc repro`, or `dvc pull` to fetch one$"
    unread = r"^[^\n]* cannot be loaded as a classifier [^\n]*$"
    for folder, words in ((encoder, missing), (tmp_path, missing), (broken, unread)):
        with pytest.raises(ModelError, match=words):
            score_rows(folder, make_question(""))


def test_a_checkpoint_scores_as_the_model_did(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    trainer = make_trainer(encoder, comments, trained_layers=1)
    scored = trainer.train_and_score(1, comments, ignore)
    trainer.train(1, tmp_path, ignore)
    weights = load_file(tmp_path / "model.safetensors")
    assert {name.split(".layer.")[-1][:2] for name in weights if ".layer." in name} == {"1."}
    assert not any("embeddings" in name for name in weights)
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    found = score_rows(tmp_path, comments, [encoder])
    np.testing.assert_allclose(found, torch.tensor(scored).softmax(1).numpy(), atol=0.02)
    assert found[:, 0].std() > 0.1
    other = shutil.copytree(encoder, tmp_path / "other")
    save_file({"x": torch.zeros(1)}, other / "model.safetensors")
    for bases in ([other], [tmp_path / "none", other]):
        with pytest.raises(ModelError, match=r"was trained from an encoder not in .*: run `dvc repro`"):
            score_rows(tmp_path, comments, bases)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ModelError, match="cannot be loaded"):
        score_rows(tmp_path, comments, [encoder])
