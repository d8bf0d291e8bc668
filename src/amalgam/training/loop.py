"""The one training loop, for teacher and student alike."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from amalgam.errors import ModelError
from amalgam.params import Distillation, Teacher
from amalgam.training.encoding import Encoded, compute_logits, draw_batches
from amalgam.training.steps import StaticStep, Step

# Loss of a batch, from the model's logits and the row numbers; a module has its tensors on the model's device.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Validation metric: how good a model is, from its logits for all validation rows, and the standard error.
Metric = Callable[[np.ndarray], tuple[float, float]]
Section = TypeVar("Section", Teacher, Distillation)
_ENOUGH = 200  # human-coded rows up to which the steps of params.yaml are enough


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train; `looks` is how often the validation rows are scored."""

    steps: int
    learning_rate: float
    batch_size: int
    looks: int = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a training run; metric and loss are those of the step kept, None if no rows chose it."""

    steps: int
    best_step: int
    validation_metric: float | None
    validation_loss: float | None
    train_rows: int  # that batches are drawn from

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to learn from, or to validate on with `metric`, and their loss.

    `phases` are sets of row numbers, learned one after another, each for its share of the steps; without them, all rows
    are learned together. Batches hold rows of similar length if `by_length`, otherwise any rows.
    """

    encoded: Encoded
    loss: Loss
    metric: Metric | None = None
    phases: Sequence[np.ndarray] = ()
    by_length: bool = True


def scale_steps(params: Section, human_rows: int) -> Section:
    """Return the section with the steps for that many human-coded rows, whatever the ratio."""
    return params.model_copy(update={"steps": grow_steps(params.steps, human_rows, _ENOUGH)})


def grow_steps(steps: int, human_rows: int, enough: int) -> int:
    """Return the steps for that many human-coded rows: four times `enough` rows take twice as many steps.

    Steps in proportion to the rows would hardly improve the model (docs/findings.md).
    """
    return round(steps * math.sqrt(max(human_rows / enough, 1.0)))


def train_model(
    model: nn.Module,
    train: Examples,
    validation: Examples | None,
    schedule: Schedule,
    *,
    seed: int,
    curves: Path | None,
    advance: Callable[[object], None],
) -> Outcome:
    """Train and leave the best checkpoint's weights in the model.

    The model's output has `logits`. Only the validation rows choose the checkpoint: the last within one standard error
    of the best (the rule of Breiman et al. 1984, Classification and Regression Trees, towards longer training). With
    few validation rows, the best is best by chance; without any, the last step is kept. The seed draws the batches; the
    caller seeds torch before making the model. dvclive's training curves go to the folder `curves`.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from dvclive import Live

    # A head that reads the mean leaves the encoder's own pooling layer without a gradient.
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
    captures = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    take_step = (StaticStep if captures else Step)(model, train, schedule, accelerator)
    best = Outcome(schedule.steps, 0, None, None, sum(map(len, train.phases)) or len(train.encoded))
    weights: dict[str, torch.Tensor] = {}
    highest = good_enough = -math.inf
    looks = {round(schedule.steps * look / schedule.looks) for look in range(1, schedule.looks + 1)}
    losses: list[torch.Tensor] = []
    writes: Any = curves and accelerator.is_main_process
    with Live(str(curves), dvcyaml=None, report=None, save_dvc_exp=False) if writes else nullcontext() as live:
        for step, rows in enumerate(_draw_rows(train, schedule, np.random.default_rng(seed)), start=1):
            losses.append(take_step(rows))
            advance(None)
            if step not in looks:
                continue
            # Read the losses only here, because reading makes a GPU wait. All processes see the same and act alike.
            read = accelerator.reduce(torch.stack(losses), "mean").cpu().numpy()
            losses.clear()
            found, error, loss = 0.0, 0.0, None
            if validation and validation.metric:
                model.eval()
                logits = compute_logits(model, validation.encoded, accelerator.device)
                loss = float(validation.loss(torch.tensor(logits), torch.arange(len(logits))))
                if math.isfinite(loss):
                    found, error = validation.metric(logits)
            if not (finite := np.isfinite([*read, loss or 0.0])).all():
                first = min(step - len(read) + 1 + int(finite.argmin()), step)
                raise ModelError(
                    f"the loss is no longer a number at step {first}: lower the learning rate of this stage"
                )
            if live is not None:  # with 6 decimals and without timestamps
                live.step = step
                for name, value in (("train_loss", float(read.mean(dtype=np.float64))), ("validation_loss", loss)):
                    if value is not None:
                        live.log_metric(name, round(value, 6), timestamp=False)
                live.make_summary()
            if found > highest:
                highest, good_enough = found, found - error
            if found >= good_enough:
                metric = None if loss is None else found
                best = replace(best, best_step=step, validation_metric=metric, validation_loss=loss)
                learned = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
                weights = {name: weight.detach().clone() for name, weight in learned}
    model.load_state_dict(weights, strict=False)
    model.eval()
    return best


class CrossEntropy(nn.Module):
    """Cross-entropy against classes or class distributions; row weights are scaled to a mean of 1."""

    def __init__(self, classes: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take class indices [rows] or distributions [rows, classes] and, if rows count differently, their weights."""
        super().__init__()
        weights, kind = np.ones(len(classes)) if weights is None else weights, (torch.int64, torch.float32)
        self.register_buffer("classes", torch.tensor(classes, dtype=kind[classes.ndim - 1]))
        self.register_buffer("weights", torch.tensor(weights / weights.mean(), dtype=torch.float32))

    def forward(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean over the batch."""
        losses = functional.cross_entropy(logits, self.get_buffer("classes")[rows], reduction="none")
        return (losses * self.get_buffer("weights")[rows]).mean()


def measure_auc(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve, averaged over classes, each against the rest, and its standard error.

    It is a better validation metric than the loss, which on few rows rises with the model's confidence long before the
    ranking gets worse. Classes without a row do not count; with only one class, the area is a half.
    """
    from sklearn.metrics import roc_auc_score

    probabilities = torch.softmax(torch.tensor(logits).double(), dim=1).numpy()
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        return 0.5, 0.5
    areas = [roc_auc_score(labels == number, probabilities[:, number]) for number in classes]
    errors = [estimate_auc_error(area, count, len(logits) - count) for area, count in zip(areas, counts, strict=True)]
    return round(float(np.mean(areas)), 6), float(np.mean(errors))  # values equal up to noise must count as equal


def estimate_auc_error(area: float, positives: int, negatives: int) -> float:
    """Return the standard error of an area under the ROC curve (Hanley and McNeil 1982).

    An area of 1 is reduced by half a pair: on few rows, it does not prove perfection.
    """
    area = min(area, 1 - 0.5 / (positives * negatives))
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (positives - 1) * (both_positive - area**2) + (negatives - 1) * (both_negative - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (positives * negatives)))


def _draw_rows(train: Examples, schedule: Schedule, generator: np.random.Generator) -> Iterator[np.ndarray]:
    phases = train.phases or [np.arange(len(train.encoded))]
    bounds = np.linspace(0, schedule.steps, len(phases) + 1).round().astype(int)
    lengths = train.encoded.lengths if train.by_length else np.zeros(len(train.encoded))
    return chain.from_iterable(
        (phase[rows] for rows in islice(draw_batches(lengths[phase], schedule.batch_size, generator), int(steps)))
        for phase, steps in zip(phases, np.diff(bounds), strict=True)
    )
