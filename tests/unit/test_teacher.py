"""How a teacher learns: by contrast, by cross-entropy, and by the paper's recipe."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amalgam.training.checkpoint import read_config
from amalgam.training.classifier import Embedder, load_classifier
from amalgam.training.embeddings import embed_rows, fit_head, index_labels
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.scoring import Scorer, list_members
from amalgam.training.teacher import (
    MIXED,
    ContrastiveLoss,
    TeacherTrainer,
    balance_classes,
    join_members,
    list_trainings,
    make_members,
)
from tests.pipeline.toy import LABELS
from tests.unit.training import TEACHER

ANGLES = torch.tensor([0.0, 60.0, 90.0]) * np.pi / 180
VECTORS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)  # cosines: 0.5, 0 and the square root of 0.75


def measure(labels: list[int], weights: list[float] | None = None) -> float:
    """Return the loss of the three vectors with these classes."""
    loss = ContrastiveLoss(np.array(labels), np.array(weights or [1.0] * len(labels)))
    return float(loss(VECTORS, np.arange(len(labels))))


def test_the_loss_by_hand() -> None:
    near = (1 - 0.75**0.5) ** 2
    assert measure([0, 0, 1]) == pytest.approx(0.5**2 + (0**2 + 0.75) / 2)
    assert measure([0, 0, 0]) == pytest.approx((0.5**2 + 1 + near) / 3)
    assert measure([0, 1, 1], [1.0, 3.0, 1.0]) == pytest.approx(near + (3 * 0.5**2 + 0) / 4)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=12), st.integers(0, 2**16))
def test_the_loss_is_a_number_whatever_the_labels_and_its_order_is_free(labels: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = torch.nn.functional.normalize(torch.tensor(generator.normal(size=(len(labels), 4))), dim=1)
    loss = ContrastiveLoss(np.array(labels), generator.uniform(0, 2, len(labels)))
    order = generator.permutation(len(labels))
    one, other = (float(loss(vectors[rows], rows)) for rows in (np.arange(len(labels)), order))
    assert one == pytest.approx(other)
    assert 0 <= one <= 4 + 1


def test_a_step_draws_one_label_together_and_others_apart() -> None:
    vectors = VECTORS.clone().requires_grad_()
    cosines = torch.nn.functional.normalize(vectors, dim=1)
    ContrastiveLoss(np.array([0, 0, 1]), np.ones(3))(cosines, np.arange(3)).backward()
    assert vectors.grad is not None
    moved = torch.nn.functional.normalize(VECTORS - 0.1 * vectors.grad, dim=1)
    before, after = VECTORS @ VECTORS.T, moved @ moved.T
    assert after[0, 1] > before[0, 1]
    assert after[1, 2] < before[1, 2]


def test_a_vector_does_not_depend_on_the_rows_beside_it(encoder: Path, comments: pd.DataFrame) -> None:
    rows = comments.head(21).reset_index(drop=True)
    rows.loc[0, "text"] = "rude"
    embedder = Embedder(load_classifier(encoder, list(LABELS))).eval()
    encoded = encode_rows(load_tokenizer(encoder), rows, 24)
    with torch.inference_mode():
        together = embedder(**encoded.pad(np.arange(len(rows)))).logits
        alone = torch.cat([embedder(**encoded.pad(np.array([row]))).logits for row in range(21)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(21))


def train(encoder: Path, rows: pd.DataFrame, target: Path, seed: int = 1) -> np.ndarray:
    """Train a member by contrast; return its probabilities of the rows."""
    trainer = TeacherTrainer(encoder, rows.assign(origin="human"), None, list(LABELS), TEACHER, contrastive=True)
    outcome = trainer.train(seed, target, lambda _item: None)
    assert (trainer.steps, outcome.steps, outcome.best_step) == (40, 40, 40)
    return Scorer(target, [encoder]).score(rows)


def test_a_contrastive_teacher_learns_and_a_seed_decides_it(
    encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    one, again, other = (train(encoder, comments, tmp_path / str(n), seed) for n, seed in enumerate((1, 1, 2)))
    assert (one.argmax(axis=1) == index_labels(comments, list(LABELS))).mean() > 0.9
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-4


def test_the_only_class_that_has_rows_is_the_likely_one(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    rows = comments[comments["label"] == LABELS[1]].reset_index(drop=True)
    assert train(encoder, rows, tmp_path)[:, 1].min() > 0.99


def test_members_are_an_ensemble_wherever_they_lie(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    rows = comments.assign(origin="human")
    params = TEACHER.model_copy(update={"steps": 4})
    members = make_members(encoder, rows, None, list(LABELS), params, MIXED)
    assert list(members) == ["contrastive", "mixed"]
    folder = tmp_path / "teacher/seed-3"
    members["contrastive"].train(3, tmp_path / "human_only/seed-3/contrastive", lambda _item: None)
    for job in list_trainings({MIXED: members[MIXED]}, [3], tmp_path / "teacher"):
        job(lambda _item: None)
    join_members(tmp_path / "teacher", [3], ["../../human_only/seed-{seed}/contrastive", MIXED])
    there = tmp_path / "human_only/seed-3/contrastive"
    assert list_members(folder) == [there, folder / MIXED]
    assert (folder / "curves/train_loss.tsv").is_file() or list(folder.rglob("train_loss.tsv"))
    means = np.mean([Scorer(one, [encoder]).score(comments) for one in (there, folder / MIXED)], axis=0)
    np.testing.assert_allclose(Scorer(folder, [encoder]).score(comments), means, atol=1e-5)
    paper = TEACHER.model_copy(update={"recipe": "paper"})
    assert list(make_members(encoder, rows, None, list(LABELS), paper, MIXED)) == ["."]


def test_the_paper_pads_every_batch_and_takes_human_rows_first(
    encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    rows = comments.assign(origin=["synthetic", "synthetic", "human", "human"] * 15)
    trainer = TeacherTrainer(encoder, rows, None, list(LABELS), TEACHER.model_copy(update={"recipe": "paper"}))
    assert [phase.tolist()[:2] for phase in trainer._learn.phases] == [[2, 3], [0, 1]]
    assert trainer._learn.encoded.pad(np.array([0, 1]))["input_ids"].shape == (2, TEACHER.max_length)
    trainer.train(1, tmp_path, lambda _item: None)
    assert read_config(tmp_path).pooling == "cls"
    right = Scorer(tmp_path, [encoder]).score(comments).argmax(axis=1) == index_labels(comments, list(LABELS))
    assert right.mean() > 0.9


def test_class_weights_make_classes_count_alike() -> None:
    weights = balance_classes(np.array([0, 0, 0, 2]), 3)
    assert weights[:3].sum() == pytest.approx(weights[3])
    assert weights.sum() == pytest.approx(4)


def test_the_head_begins_as_the_logistic_regression(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    rows = pd.concat([comments.iloc[:20].assign(origin="human"), comments.iloc[20:].assign(origin="synthetic")])
    params = TEACHER.model_copy(update={"learning_rate": 1e-12, "steps": 1})
    logits = TeacherTrainer(encoder, rows, None, list(LABELS), params).train_and_score(1, rows, lambda _item: None)
    vectors = embed_rows(encoder, rows, max_length=24)
    reference = LogisticRegression(C=10.0, max_iter=2000).fit(vectors[:20], rows["label"][:20]).predict_proba(vectors)
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, reference, atol=0.02)  # of bfloat16


def test_a_class_without_rows_begins_as_unlikely() -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    weights, biases = fit_head(vectors, np.array([0, 2] * 6), 3)
    assert weights.shape == (3, 4)
    assert (biases[1], weights[1].any()) == (-10.0, False)
    weights, biases = fit_head(vectors, np.zeros(12, dtype=int), 3)
    assert (weights.any(), biases.tolist()) == (False, [0, -10, -10])
