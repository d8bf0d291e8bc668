"""The contrastive objective: its loss by hand, and a teacher that learned by it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amalgam.training.checkpoint import find_body, note_members, read_note
from amalgam.training.classifier import Embedder, load_classifier
from amalgam.training.contrastive import ContrastiveTrainer
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.losses import ContrastiveLoss, encode_targets
from amalgam.training.scoring import Scorer
from amalgam.training.teacher import TeacherTrainer
from tests.pipeline.toy import LABELS
from tests.unit.training import TEACHER

STEPS = 60
CONTRASTIVE = TEACHER.model_copy(update={"contrastive_steps": STEPS})
ANGLES = torch.tensor([0.0, 60.0, 90.0]) * np.pi / 180
VECTORS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)  # cosines: 0.5, 0 and the square root of 0.75


def measure(labels: list[int], weights: list[float] | None = None) -> float:
    """Return the loss of the three vectors with these classes."""
    loss = ContrastiveLoss(encode_targets(np.array(labels), 2), np.array(weights or [1.0] * len(labels)))
    return float(loss(VECTORS, np.arange(len(labels))))


def test_the_loss_by_hand() -> None:
    near = (1 - 0.75**0.5) ** 2
    assert measure([0, 0, 1]) == pytest.approx(0.5**2 + (0**2 + 0.75) / 2)
    assert measure([0, 0, 0]) == pytest.approx((0.5**2 + 1 + near) / 3)
    assert measure([0, 1, 1], [1.0, 3.0, 1.0]) == pytest.approx(near + (3 * 0.5**2 + 0) / 4)


def test_a_pair_counts_as_alike_by_the_chance_that_it_is() -> None:
    targets = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    loss = ContrastiveLoss(targets, np.ones(3))(VECTORS, np.arange(3))
    near = 0.75**0.5
    alike = (0.5 * 0.5**2 + 0.5 * (1 - near) ** 2) / 1
    apart = (0.5 * 0.5**2 + 0 + 0.5 * near**2) / 2
    assert float(loss) == pytest.approx(alike + apart)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=12), st.integers(0, 2**16))
def test_the_loss_is_a_number_whatever_the_labels_and_its_order_is_free(labels: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = torch.nn.functional.normalize(torch.tensor(generator.normal(size=(len(labels), 4))), dim=1)
    loss = ContrastiveLoss(encode_targets(np.array(labels), 3), generator.uniform(0, 2, len(labels)))
    order = generator.permutation(len(labels))
    one, other = (float(loss(vectors[rows], rows)) for rows in (np.arange(len(labels)), order))
    assert one == pytest.approx(other)
    assert 0 <= one <= 4 + 1


def test_a_step_draws_one_label_together_and_others_apart() -> None:
    vectors = VECTORS.clone().requires_grad_()
    cosines = torch.nn.functional.normalize(vectors, dim=1)
    ContrastiveLoss(encode_targets(np.array([0, 0, 1]), 2), np.ones(3))(cosines, np.arange(3)).backward()
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
    """Train a teacher; return its probabilities of the rows."""
    trainer = ContrastiveTrainer(encoder, rows.assign(origin="human", shots=""), list(LABELS), CONTRASTIVE)
    outcome = trainer.train(seed, target, lambda _item: None)
    assert (trainer.steps, outcome.steps, outcome.best_step) == (STEPS, STEPS, STEPS)
    assert read_note(target).pooling == "mean"
    return Scorer(target, [encoder]).score(rows)


def test_a_contrastive_teacher_learns_and_a_seed_decides_it(
    encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    one, again, other = (train(encoder, comments, tmp_path / str(n), seed) for n, seed in enumerate((1, 1, 2)))
    assert (one.argmax(axis=1) == [LABELS.index(label) for label in comments["label"]]).mean() > 0.9
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-4


def test_the_only_class_that_has_rows_is_the_likely_one(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    rows = comments[comments["label"] == LABELS[1]].reset_index(drop=True)
    assert train(encoder, rows, tmp_path)[:, 1].min() > 0.99


def test_members_that_read_other_tokens_speak_together(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    mean = train(encoder, comments, tmp_path / "contrastive")
    trainer = TeacherTrainer(encoder, comments.assign(origin="human", shots=""), None, list(LABELS), TEACHER)
    trainer.train(1, tmp_path / "mixed", lambda _item: None)
    assert read_note(tmp_path / "mixed").pooling == "cls"
    first = Scorer(tmp_path / "mixed", [encoder]).score(comments)
    note_members(tmp_path, ["contrastive", "mixed"])
    np.testing.assert_allclose(Scorer(tmp_path, [encoder]).score(comments), (mean + first) / 2, atol=1e-5)
    assert find_body(tmp_path) == tmp_path / "contrastive"
