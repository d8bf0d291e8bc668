"""The one training loop, for teacher and student alike."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
_MAX_NORM = 1.0  # of the gradients; the usual bound for encoders
_EVALUATION_BATCH = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run came to; `best_step` is the step whose weights were kept."""

    steps: int
    best_step: int
    validation_loss: float
    train_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self) | {"validation_loss": round(self.validation_loss, 6)}


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to learn from or to validate on, with the loss that says how well a model does on them."""

    encoded: Encoded
    loss: Loss


def train_model(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    train: Examples,
    validation: Examples,
    params: Training,
    *,
    seed: int,
    curves: Path,
    advance: Callable[[object], None],
) -> Outcome:
    """Train for at most `params.steps` optimizer steps and leave the best checkpoint's weights in the model.

    AdamW with warm-up and linear decay (Mosbach et al. 2021, arXiv 2006.04884), clipped gradients, batches of
    similar length, bfloat16 where the hardware has it. The validation rows alone choose the checkpoint.

    Args:
        model: a sequence classifier; changed in place.
        tokenizer: pads the batches.
        train: what to learn from.
        validation: what chooses the checkpoint and stops the training early.
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
    best_loss, best_step, best_weights = math.inf, 0, copy.deepcopy(model.state_dict())
    waited = step = 0
    total = 0.0
    with _open_curves(curves) as live:
        while step < params.steps and waited < params.patience:
            step += 1
            total += _take_step(model, tokenizer, train, next(batches), optimizer, device)
            schedule.step()
            advance(None)
            if step % params.evaluate_every and step < params.steps:
                continue
            loss = measure_loss(model, tokenizer, validation, device)
            _log(live, step, train_loss=total / ((step - 1) % params.evaluate_every + 1), validation_loss=loss)
            total = 0.0
            waited += 1
            if loss < best_loss:
                best_loss, best_step, best_weights, waited = loss, step, copy.deepcopy(model.state_dict()), 0
    model.load_state_dict(best_weights)
    model.eval()
    return Outcome(step, best_step, best_loss, len(train.encoded))


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


@torch.no_grad()
def measure_loss(
    model: nn.Module, tokenizer: "PreTrainedTokenizerBase", examples: Examples, device: torch.device
) -> float:
    """Return the mean loss over all rows, dropout off."""
    model.eval()
    total = 0.0
    for rows in sort_batches(examples.encoded.lengths, _EVALUATION_BATCH):
        batch = {name: tensor.to(device) for name, tensor in pad_batch(tokenizer, examples.encoded, rows).items()}
        with open_autocast(device):
            logits = model(**batch).logits
        total += float(examples.loss(logits.float(), rows)) * len(rows)
    return total / len(examples.encoded)


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
        raise ModelError("the training loss is no longer a number: lower the learning rate of this stage")
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
