import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from amalgam.errors import ModelError
from amalgam.training.checkpoint import score_rows
from amalgam.training.loop import DivergedError
from amalgam.training.teacher import TeacherTrainer
from tests.pipeline.toy import LABELS
from tests.unit.training import TEACHER


def ask(question: str) -> pd.DataFrame:
    return pd.DataFrame({"text": ["rude"], "question": question}, dtype=str)


def test_probabilities_are_in_the_order_of_the_rows(teacher: Path, comments: pd.DataFrame) -> None:
    rows = comments.sample(frac=1, random_state=1)
    whole = score_rows(teacher, rows)
    assert whole.shape == (len(rows), 2)
    np.testing.assert_allclose(whole.sum(axis=1), 1)
    single = np.concatenate([score_rows(teacher, rows.iloc[[number]]) for number in range(0, 60, 10)])
    np.testing.assert_allclose(whole[::10], single, atol=2e-3)  # of bfloat16, whose sums depend on the padding
    assert whole[:, 0].std() > 0.01  # else any order would do


def train(encoder: Path, rows: pd.DataFrame, target: Path, seed: int = 1, **changes: object) -> bytes:
    """Train for a few steps; return the weights as saved."""
    params = TEACHER.model_copy(update={"learning_rate": 1e-3, "steps": 4, **changes})
    mixed = rows.assign(origin="human")
    TeacherTrainer(encoder, mixed, rows, list(LABELS), params).train(seed, target, lambda _item: None)
    return (target / "model.safetensors").read_bytes()


def test_a_model_sees_questions_if_it_learned_with_them(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    train(encoder, comments.assign(question="Why?"), tmp_path)
    for folder, same in ((teacher, True), (tmp_path, False)):
        bare, asked = (score_rows(folder, ask(question), [encoder]) for question in ("", "the coffee"))
        assert np.array_equal(bare, asked) == same


def test_a_trained_model_names_its_labels_and_no_folder(teacher: Path, encoder: Path) -> None:
    config = json.loads((teacher / "config.json").read_text())
    assert config["id2label"] == {"0": "complaint", "1": "praise"}
    note = json.loads((teacher / "amalgam.json").read_text())
    assert note.items() >= {"labels": list(LABELS), "max_length": 24, "uses_question": False}.items()
    for path in teacher.rglob("*.json"):
        for folder in (teacher.parents[1], encoder.parents[1], Path.cwd()):
            assert str(folder) not in path.read_text(), path


def test_a_folder_that_holds_no_trained_model_gives_one_sentence(teacher: Path, encoder: Path, tmp_path: Path) -> None:
    for folder in (encoder, tmp_path):
        with pytest.raises(ModelError, match="is not a trained model: run `dvc repro`, or `dvc pull` to fetch one"):
            score_rows(folder, ask(""))
    broken = shutil.copytree(teacher, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded as a classifier") as caught:
        score_rows(broken, ask(""))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_scores_as_the_model_did(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    learn, params = comments.assign(origin="human"), TEACHER.model_copy(update={"trained_layers": 1})
    trainer = TeacherTrainer(encoder, learn, None, list(LABELS), params)
    scored = trainer.train_and_score(1, comments, lambda _item: None)
    trainer.train(1, tmp_path, lambda _item: None)
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
        with pytest.raises(ModelError, match=r"was trained from another encoder than .*: run `dvc repro`"):
            score_rows(tmp_path, comments, bases)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ModelError, match="cannot be loaded"):
        score_rows(tmp_path, comments, [encoder])


def test_what_diverges_leaves_the_last_good_checkpoint(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    train(encoder, comments, tmp_path / "good", steps=4)
    with pytest.raises(DivergedError, match="lower the learning rate of this stage"):
        train(encoder, comments, tmp_path / "bad", learning_rate=1e30, steps=40)
    assert np.isfinite(score_rows(tmp_path / "bad", comments, [encoder])).all()
