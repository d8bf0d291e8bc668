"""The one training loop, for teacher and student alike."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from amalgam.errors import ModelError
from amalgam.machine import open_autocast
from amalgam.params import Training
from amalgam.training.curves import open_curves, write_losses
from amalgam.training.encoding import Encoded, draw_batches, sort_batches
from amalgam.training.processes import share_rows

if TYPE_CHECKING:
    from accelerate import Accelerator

# Loss of a batch, from the model's logits and the row numbers.
Loss = Callable[[torch.Tensor, np.ndarray], torch.Tensor]
# How good a model is by its logits for all validation rows, more is better; and the standard error of that.
Merit = Callable[[np.ndarray], tuple[float, float]]
_MAX_NORM = 1.0  # of the gradients; the usual bound for encoders


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run came to; `best_step` is the step whose weights were kept, and the rest is of that step.

    Merit and loss are None where no rows chose the checkpoint. `train_rows` are those that batches are drawn from.
    """

    steps: int
    best_step: int
    validation_merit: float | None
    validation_loss: float | None
    train_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to learn from or to validate on, with their loss.

    `phases` are sets of row numbers that are learned from one after the other, each for its share of the steps;
    none is all rows together. Batches hold rows of similar length if `by_length`, or else whatever rows are drawn.
    """

    encoded: Encoded
    loss: Loss
    phases: Sequence[np.ndarray] = ()
    by_length: bool = True


class DivergedError(ModelError):
    """The loss is no longer a number; the model has the weights of the last good checkpoint."""


def train_model(
    model: nn.Module,
    train: Examples,
    validation: Examples | None,
    merit: Merit | None,
    params: Training,
    *,
    seed: int,
    curves: Path | None,
    advance: Callable[[object], None],
) -> Outcome:
    """Train for at most `params.steps` optimizer steps and leave the best checkpoint's weights in the model.

    AdamW with warm-up and linear decay (Mosbach et al. 2021, arXiv 2006.04884), clipped gradients, batches of
    similar length, bfloat16 where the hardware has it. The validation rows alone choose the checkpoint: the last
    one that is within one standard error of the best (the rule of Breiman et al. 1984, Classification and
    Regression Trees, towards longer training). With few validation rows the best one is so by chance.

    Under `accelerate launch` each process computes its part of every batch, and the gradients are averaged.

    Args:
        model: a classifier whose output has `logits`; changed in place.
        train: what to learn from.
        validation: what chooses the checkpoint and stops the training early; None takes all steps and keeps the last.
        merit: by what measure it does.
        params: steps, rates and patience.
        seed: draws the batches; the caller seeds torch before it makes the model.
        curves: folder for dvclive's training curves; None writes none.
        advance: called once a step, for progress.

    Raises:
        DivergedError: the loss is no longer a number.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # A head that reads the mean leaves the encoder's own pooling layer without a gradient.
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
    trained, optimizer = accelerator.prepare(model, build_optimizer(model, params))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, lambda step: scale_rate(step, params))
    batches = _draw_phases(train, params, np.random.default_rng(seed))
    drawn = sum(map(len, train.phases)) or len(train.encoded)
    best = Outcome(0, 0, None, None, drawn)
    weights = copy.deepcopy(model.state_dict())
    highest, good_enough = -math.inf, -math.inf
    waited = step = 0
    losses: list[float] = []
    with open_curves(curves if accelerator.is_main_process else None) as live:
        for rows in batches:
            step += 1
            loss = _take_step(trained, train, share_rows(rows, accelerator), optimizer, accelerator)
            if not math.isfinite(loss):
                _give_up(model, weights, best, step)
            losses.append(loss)
            schedule.step()
            advance(None)
            if step % params.evaluate_every and step < params.steps:
                continue
            if validation is None or merit is None:
                write_losses(live, step, train_loss=float(np.mean(losses)))
                losses.clear()
                best, weights = replace(best, best_step=step), copy.deepcopy(model.state_dict())
                continue
            logits = compute_logits(model, validation.encoded, accelerator.device)
            loss = float(validation.loss(torch.tensor(logits), np.arange(len(logits))))
            if not math.isfinite(loss):
                _give_up(model, weights, best, step)
            write_losses(live, step, train_loss=float(np.mean(losses)), validation_loss=loss)
            losses.clear()
            waited += 1
            found, error = merit(logits)
            if found > highest:
                highest, good_enough = found, found - error
            if found >= good_enough:
                best = Outcome(step, step, found, loss, drawn)
                weights, waited = copy.deepcopy(model.state_dict()), 0
            if waited >= params.patience:
                break
    model.load_state_dict(weights)
    model.eval()
    return replace(best, steps=step)


def build_optimizer(model: nn.Module, params: Training) -> torch.optim.Optimizer:
    """Make AdamW; weight decay is for matrices, not for biases and norms."""
    decayed = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": params.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)


def scale_rate(step: int, params: Training) -> float:
    """Return the learning rate at a step as a share of its peak: a linear rise, then a linear fall to 0."""
    warmup = max(round(params.warmup * params.steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return max((params.steps - step) / max(params.steps - warmup, 1), 0.0)


@torch.inference_mode()
def compute_logits(model: nn.Module, encoded: Encoded, device: torch.device, batch_size: int = 64) -> np.ndarray:
    """Return the logits [rows, classes] of all rows in their order, dropout off."""
    model.eval()
    logits: dict[int, np.ndarray] = {}
    with open_autocast(device):  # once, as each time the weights are rounded anew
        for rows in sort_batches(encoded.lengths, batch_size):
            batch = {name: tensor.to(device) for name, tensor in encoded.pad(rows).items()}
            output = model(**batch).logits.float().cpu().numpy()
            logits |= dict(zip(rows.tolist(), output, strict=True))
    return np.stack([logits[row] for row in range(len(encoded))])


def _draw_phases(train: Examples, params: Training, generator: np.random.Generator) -> Iterator[np.ndarray]:
    phases = train.phases or [np.arange(len(train.encoded))]
    bounds = np.linspace(0, params.steps, len(phases) + 1).round().astype(int)
    lengths = train.encoded.lengths if train.by_length else np.zeros(len(train.encoded))
    return chain.from_iterable(
        (phase[rows] for rows in islice(draw_batches(lengths[phase], params.batch_size, generator), int(steps)))
        for phase, steps in zip(phases, np.diff(bounds), strict=True)
    )


def _take_step(
    model: nn.Module, train: Examples, rows: np.ndarray, optimizer: Any, accelerator: "Accelerator"
) -> float:
    """Take one optimizer step, unless the loss is no number; return the loss."""
    model.train()
    device = accelerator.device
    batch = {name: tensor.to(device) for name, tensor in train.encoded.pad(rows).items()}
    with open_autocast(device):
        output = model(**batch)
    loss = train.loss(output.logits.float(), rows)
    value = float(accelerator.reduce(loss.detach(), "mean"))  # the same in all processes, and so is what follows
    if math.isfinite(value):
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), _MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return value


def _give_up(model: nn.Module, weights: dict[str, Any], best: Outcome, step: int) -> None:
    model.load_state_dict(weights)
    model.eval()
    kept = f"the weights of step {best.best_step} are the last good ones" if best.best_step else "no weights are kept"
    raise DivergedError(
        f"the loss is no longer a number at step {step}, and {kept}: lower the learning rate of this stage"
    )
