"""The one training loop, for teacher and student alike."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from amalgam.errors import ModelError
from amalgam.params import Training
from amalgam.training.device import choose_device, open_autocast
from amalgam.training.encoding import Encoded, draw_batches, pad_batch, sort_batches

if TYPE_CHECKING:
    from dvclive import Live
    from transformers import PreTrainedTokenizerBase

# Loss of a batch, from the model's logits and the row numbers.
Loss = Callable[[torch.Tensor, np.ndarray], torch.Tensor]
# How good a model is by its logits for all validation rows, more is better; and the standard error of that.
Merit = Callable[[np.ndarray], tuple[float, float]]
_MAX_NORM = 1.0  # of the gradients; the usual bound for encoders
_DIVERGED = "the loss is no longer a number: lower the learning rate of this stage"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run came to; `best_step` is the step whose weights were kept, and the rest is of that step."""

    steps: int
    best_step: int
    validation_merit: float
    validation_loss: float
    train_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        rounded = {name: round(getattr(self, name), 6) for name in ("validation_merit", "validation_loss")}
        return asdict(self) | rounded


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to learn from or to validate on, with their loss."""

    encoded: Encoded
    loss: Loss


def train_model(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    train: Examples,
    validation: Examples,
    merit: Merit,
    params: Training,
    *,
    seed: int,
    curves: Path,
    advance: Callable[[object], None],
) -> Outcome:
    """Train for at most `params.steps` optimizer steps and leave the best checkpoint's weights in the model.

    AdamW with warm-up and linear decay (Mosbach et al. 2021, arXiv 2006.04884), clipped gradients, batches of
    similar length, bfloat16 where the hardware has it. The validation rows alone choose the checkpoint: the last
    one that is within one standard error of the best (the rule of Breiman et al. 1984, Classification and
    Regression Trees, towards longer training). With few validation rows the best one is so by chance.

    Args:
        model: a sequence classifier; changed in place.
        tokenizer: pads the batches.
        train: what to learn from.
        validation: what chooses the checkpoint and stops the training early.
        merit: by what measure it does.
        params: steps, rates and patience.
        seed: draws the batches; the caller seeds torch before it makes the model.
        curves: folder for dvclive's training curves.
        advance: called once a step, for progress.

    Raises:
        ModelError: the loss is no longer a number.
    """
    device = choose_device()
    model.to(device)
    optimizer = build_optimizer(model, params)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: scale_rate(step, params))
    batches = draw_batches(train.encoded.lengths, params.batch_size, np.random.default_rng(seed))
    best = Outcome(0, 0, -math.inf, math.inf, len(train.encoded))
    weights = copy.deepcopy(model.state_dict())
    highest, good_enough = -math.inf, -math.inf
    waited = step = 0
    losses: list[float] = []
    with _open_curves(curves) as live:
        while step < params.steps and waited < params.patience:
            step += 1
            losses.append(_take_step(model, tokenizer, train, next(batches), optimizer, device))
            schedule.step()
            advance(None)
            if step % params.evaluate_every and step < params.steps:
                continue
            logits = compute_logits(model, tokenizer, validation.encoded, device)
            loss = float(validation.loss(torch.tensor(logits), np.arange(len(logits))))
            if not math.isfinite(loss):
                raise ModelError(_DIVERGED)
            _log(live, step, train_loss=float(np.mean(losses)), validation_loss=loss)
            losses.clear()
            waited += 1
            found, error = merit(logits)
            if found > highest:
                highest, good_enough = found, found - error
            if found >= good_enough:
                best = Outcome(step, step, found, loss, len(train.encoded))
                weights, waited = copy.deepcopy(model.state_dict()), 0
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
def compute_logits(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Encoded,
    device: torch.device,
    batch_size: int = 64,
) -> np.ndarray:
    """Return the logits [rows, classes] of all rows in their order, dropout off."""
    model.eval()
    logits: dict[int, np.ndarray] = {}
    for rows in sort_batches(encoded.lengths, batch_size):
        batch = {name: tensor.to(device) for name, tensor in pad_batch(tokenizer, encoded, rows).items()}
        with open_autocast(device):
            output = model(**batch).logits.float().cpu().numpy()
        logits |= dict(zip(rows.tolist(), output, strict=True))
    return np.stack([logits[row] for row in range(len(encoded))])


def _take_step(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    train: Examples,
    rows: np.ndarray,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> float:
    model.train()
    batch = {name: tensor.to(device) for name, tensor in pad_batch(tokenizer, train.encoded, rows).items()}
    with open_autocast(device):
        logits = model(**batch).logits
    loss = train.loss(logits.float(), rows)
    if not torch.isfinite(loss):
        raise ModelError(_DIVERGED)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), _MAX_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


@contextmanager
def _open_curves(folder: Path) -> Iterator["Live"]:
    from dvclive import Live

    with Live(str(folder), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        yield live


def _log(live: "Live", step: int, **losses: float) -> None:
    live.step = step
    for name, value in losses.items():
        live.log_metric(name, round(value, 6), timestamp=False)
    live.make_summary()
