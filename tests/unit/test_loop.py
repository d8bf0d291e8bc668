"""The training loop, and the steps of static shapes that a GPU captures, tested here without a GPU."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import roc_auc_score
from transformers import PreTrainedModel

from amalgam.errors import ModelError
from amalgam.machine import set_seed
from amalgam.training.classifier import Embedder, add_pooling, load_classifier
from amalgam.training.embeddings import index_labels
from amalgam.training.encoding import (
    compute_logits,
    draw_batches,
    encode_rows,
    freeze_lower,
    hold_lower,
    load_tokenizer,
)
from amalgam.training.loop import (
    CrossEntropy,
    Examples,
    Loss,
    Metric,
    Outcome,
    Schedule,
    estimate_auc_error,
    measure_auc,
    scale_steps,
    train_model,
)
from amalgam.training.steps import StaticStep, Step
from amalgam.training.teacher import ContrastiveLoss
from tests.pipeline.toy import LABELS
from tests.unit.training import DISTILLATION, TEACHER

SCHEDULE = Schedule(steps=12, learning_rate=2e-3, batch_size=8, looks=4)


class Run:
    """One training of the tiny encoder, and its result."""

    def __init__(self, encoder: Path, rows: pd.DataFrame, folder: Path) -> None:
        self.encoder, self.folder, self.steps = encoder, folder, list[object]()
        self.train, self.held_out = (
            Examples(encode_rows(load_tokenizer(encoder), part, 24), CrossEntropy(index_labels(part, list(LABELS))))
            for part in (rows[:40], rows[40:])
        )

    def __call__(self, metric: Metric | None, *, loss: Loss | None = None, judge: Loss | None = None) -> Outcome:
        set_seed(1)
        self.model: PreTrainedModel = load_classifier(self.encoder, list(LABELS))
        learn = replace(self.train, loss=loss or self.train.loss)
        held_out = replace(self.held_out, loss=judge or self.held_out.loss, metric=metric) if metric else None
        curves, advance = self.folder / "curves", self.steps.append
        return train_model(self.model, learn, held_out, SCHEDULE, seed=1, curves=curves, advance=advance)

    def look(self) -> np.ndarray:
        return compute_logits(self.model, self.held_out.encoded, torch.device("cpu"))


@pytest.fixture
def run(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> Run:
    return Run(encoder, comments, tmp_path)


class Script:
    """A metric with predefined values and a predefined error; it keeps the logits that it was given."""

    def __init__(self, *values: float, error: float = 0.0) -> None:
        self.values, self.error = list(values), error
        self.seen: list[np.ndarray] = []

    def __call__(self, logits: np.ndarray) -> tuple[float, float]:
        self.seen.append(logits)
        return self.values[len(self.seen) - 1], self.error


@pytest.mark.parametrize(
    ("scores", "error", "best"),
    [
        ((1.0, 3.0, 2.0, 0.0), 0.0, 2),
        ((1.0, 1.0, 1.0, 0.0), 0.0, 3),
        ((4.0, 3.0, 2.0, 1.0), 2.0, 3),  # the last within one error of the best
    ],
)
def test_the_best_weights_are_kept(run: Run, scores: tuple[float, ...], error: float, best: int) -> None:
    metric = Script(*scores, error=error)
    outcome = run(metric)
    assert (outcome.steps, outcome.best_step, outcome.validation_metric) == (12, 3 * best, scores[best - 1])
    np.testing.assert_array_equal(run.look(), metric.seen[best - 1])
    assert not np.array_equal(metric.seen[0], metric.seen[1])
    assert outcome.validation_loss == float(run.held_out.loss(torch.tensor(run.look()), torch.arange(20)))
    assert outcome.train_rows == 40


def break_after(count: int) -> Loss:
    """Make a loss that is not a number from the call `count` on."""
    calls = iter(range(10**6))
    return lambda logits, rows: logits.sum() * (math.nan if next(calls) >= count else 0.0)


@pytest.mark.parametrize(
    ("metric", "broken", "words"),
    [(None, {"loss": 4}, "step 5: lower the learning rate of this stage"), (Script(1.0), {"judge": 1}, "step 6")],
)
def test_a_loss_that_is_no_number_gives_one_sentence(run: Run, metric: Any, broken: dict[str, int], words: str) -> None:
    with pytest.raises(ModelError, match=f"the loss is no longer a number at {words}"):
        run(metric, **{name: break_after(count) for name, count in broken.items()})
    assert len(run.steps) == math.ceil(int(words[5]) / 3) * 3  # it is noticed at a look


def test_without_validation_the_last_step_is_kept(run: Run) -> None:
    expected = {"steps": 12, "best_step": 12, "train_rows": 40, "validation_metric": None, "validation_loss": None}
    assert run(None).to_dict() == expected
    assert {path.stem for path in run.folder.rglob("*.tsv")} == {"train_loss"}
    last = run.look()
    run(Script(1.0, 2.0, 3.0, 4.0))
    np.testing.assert_array_equal(run.look(), last)


def test_more_human_rows_take_more_steps() -> None:
    assert scale_steps(TEACHER, 200) == TEACHER
    assert scale_steps(TEACHER, 800) == TEACHER.model_copy(update={"steps": 2 * TEACHER.steps})
    assert scale_steps(DISTILLATION, 450).steps == round(1.5 * DISTILLATION.steps)


def test_the_error_of_an_area_is_the_spread_over_samples() -> None:
    draw = np.random.default_rng(1)
    actual = np.repeat([1, 0], [12, 18])
    areas = [roc_auc_score(actual, draw.normal(actual * 1.2, 1)) for _ in range(800)]
    logits = np.stack([-(scores := draw.normal(actual)), scores], axis=1)
    assert measure_auc(actual, logits)[0] == pytest.approx(roc_auc_score(actual, scores))
    assert measure_auc(np.ones(4, dtype=int), logits[:4])[0] == 0.5  # nothing to rank
    assert estimate_auc_error(float(np.mean(areas)), 12, 18) == pytest.approx(np.std(areas), rel=0.1)
    assert 0 < estimate_auc_error(1.0, 4, 6) < estimate_auc_error(0.8, 4, 6)


STEPS = 12


def take_steps(kind: type[Step], way: str, encoder: Path, rows: pd.DataFrame) -> tuple[list[float], torch.Tensor]:
    """Train with batches of 16, one in four of them smaller; return the losses and all weights in one vector."""
    set_seed(1)
    model, classes = load_classifier(encoder, list(LABELS)), index_labels(rows, list(LABELS))
    encoded, upper = encode_rows(load_tokenizer(encoder), rows, 24), model
    if way == "all layers":
        freeze_lower(model, 9)
    else:
        upper, read = hold_lower(model, 1)
        encoded = read(encoded)
    module = Embedder(upper) if way == "contrast" else add_pooling(upper, "mean")
    loss = ContrastiveLoss(classes, np.ones(len(rows))) if way == "contrast" else CrossEntropy(classes)
    step = kind(module, Examples(encoded, loss), Schedule(STEPS, 1e-3, 16), Accelerator())
    batches = draw_batches(encoded.lengths, 16, np.random.default_rng(1))
    losses = [float(step(next(batches))) for _ in range(STEPS)]
    return losses, torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize("way", ["cross-entropy", "contrast", "all layers"])
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
