"""Static shapes, which a GPU captures, give what batches of any shape give; shown here without a GPU."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator

from amalgam.machine import set_seed
from amalgam.training.classifier import Embedder, add_pooling, load_classifier
from amalgam.training.embeddings import index_labels
from amalgam.training.encoding import Encoded, draw_batches, encode_rows, freeze_lower, hold_lower, load_tokenizer
from amalgam.training.loop import CrossEntropy, Examples, Loss, Schedule
from amalgam.training.steps import StaticStep, Step
from amalgam.training.student import DistillationLoss
from amalgam.training.teacher import ContrastiveLoss
from tests.pipeline.toy import LABELS

STEPS = 12


def encode(encoder: Path, rows: pd.DataFrame) -> Encoded:
    return encode_rows(load_tokenizer(encoder), rows, 24)


def choose_loss(way: str, rows: pd.DataFrame) -> Loss:
    classes = index_labels(rows, list(LABELS))
    if way == "contrast":
        return ContrastiveLoss(classes, np.ones(len(rows)))
    if way == "distillation":
        logits = np.random.default_rng(1).normal(size=(len(rows), len(LABELS)))
        return DistillationLoss(logits, np.where(np.arange(len(rows)) % 3, classes, -1), temperature=2.0)
    return CrossEntropy(classes)


def take_steps(kind: type[Step], way: str, encoder: Path, rows: pd.DataFrame) -> tuple[list[float], torch.Tensor]:
    """Train with batches of 16, of which one in four is smaller; return the losses and all weights in a row."""
    set_seed(1)
    model = load_classifier(encoder, list(LABELS))
    frozen = way != "all layers"
    freeze_lower(model, 1 if frozen else 9)
    with hold_lower(model, 1) if frozen else nullcontext(lambda encoded: encoded) as read:
        encoded = read(encode(encoder, rows))
        module = Embedder(model) if way == "contrast" else add_pooling(model, "mean")
        schedule = Schedule(STEPS, 1e-3, 16)
        step = kind(module, Examples(encoded, choose_loss(way, rows)), schedule, Accelerator())
        batches = draw_batches(encoded.lengths, 16, np.random.default_rng(1))
        losses = [float(step(next(batches))) for _ in range(STEPS)]
    return losses, torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize("way", ["cross-entropy", "contrast", "distillation", "all layers"])
def test_static_shapes_change_no_result(
    encoder: Path, comments: pd.DataFrame, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)  # its rounding hides 1e-5
    plain, _ = take_steps(Step, way, encoder, comments)
    static, weights = take_steps(StaticStep, way, encoder, comments)
    np.testing.assert_allclose(static, plain, atol=1e-5)
    assert len(set(plain)) == STEPS
    again = take_steps(StaticStep, way, encoder, comments)
    assert again[0] == static
    assert torch.equal(again[1], weights)
