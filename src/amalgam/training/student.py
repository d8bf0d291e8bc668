"""The student: a small encoder, trained on the teacher's soft targets."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from amalgam.machine import choose_device, set_seed
from amalgam.params import Distillation
from amalgam.training.checkpoint import list_members, load_trained, read_config, save_checkpoint
from amalgam.training.classifier import PARTS, MeanPooled, add_pooling, begin_head, keep_layers, load_classifier
from amalgam.training.embeddings import fit_head, index_labels
from amalgam.training.encoding import compute_logits, encode_rows, hold_lower, load_tokenizer
from amalgam.training.loop import CrossEntropy, Examples, Loss, Outcome, Schedule, measure_auc, train_model
from amalgam.training.parallel import Advance
from amalgam.training.transfer import FEW

_BATCH = 16  # rows per step
_STRENGTH = 1.0  # inverse regularisation of the head that a student starts with
_LAYERS = 6  # enough to preserve what the teacher knows, unless the transfer set is small (docs/findings.md)


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """Rows (text, question, label, origin; label "" where there is none) and the teacher's logits [rows, classes]."""

    rows: pd.DataFrame
    logits: np.ndarray

    def select(self, chosen: np.ndarray) -> "SoftTargets":
        """Return the rows that a mask [rows] selects."""
        return SoftTargets(self.rows[chosen], self.logits[chosen])


class DistillationLoss(nn.Module):
    """Cross-entropy for rows that a human coded; `T^2 * KL(teacher || student)` for all others.

    T^2 keeps the gradient of the soft part the same size at every temperature (Hinton et al. 2015, arXiv 1503.02531).
    In that paper, each row has both parts. But about rows that it learned, the teacher knows little more than their
    codes, and if there are no other texts, its soft targets for them harm the student (docs/findings.md).
    """

    def __init__(self, teacher_logits: np.ndarray, labels: np.ndarray, *, temperature: float) -> None:
        """Take the teacher's logits [rows, classes] and the class index of each row, -1 where no human coded it."""
        super().__init__()
        self.register_buffer("teacher_logits", torch.tensor(teacher_logits, dtype=torch.float32))
        self.register_buffer("labels", torch.tensor(labels))
        self._temperature = temperature

    def forward(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean over the batch."""
        labels = self.get_buffer("labels")[rows]
        soft_teacher = functional.log_softmax(self.get_buffer("teacher_logits")[rows] / self._temperature, dim=1)
        soft_student = functional.log_softmax(logits / self._temperature, dim=1)
        soft = functional.kl_div(soft_student, soft_teacher, reduction="none", log_target=True).sum(dim=1)
        hard = functional.cross_entropy(logits, labels, reduction="none", ignore_index=-1)
        return torch.where(labels < 0, self._temperature**2 * soft, hard).mean()


def measure_closeness(loss: Loss, logits: np.ndarray) -> tuple[float, float]:
    """Return a student's negative mean loss over the validation rows [rows, classes], and its standard error."""
    scores = torch.tensor(logits)
    losses = [float(loss(scores[row : row + 1], torch.tensor([row]))) for row in range(len(scores))]
    error = float(np.std(losses, ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
    return -float(np.mean(losses)), error


def choose_depth(params: Distillation, rows: int, layers: int) -> tuple[int, int]:
    """Return how many of an encoder's `layers` the student has, and how many of them learn.

    If the params leave the depth open, six layers are used, which preserve what the teacher knows if the transfer set
    has enough `rows`; with fewer rows, all layers. If the params do not set how many learn, the upper half does.
    """
    count = params.layers or (layers if rows < FEW else min(_LAYERS, layers))
    return count, params.trained_layers or -(-count // 2)


def train_student(
    teacher: Path,
    bases: tuple[Path, Path],
    transfer: SoftTargets,
    validation: SoftTargets,
    params: Distillation,
    seed: int,
    target: Path,
    advance: Advance,
    *,
    alone: bool = False,
) -> Outcome:
    """Distil a student of this seed from the transfer set, and save it to the folder `target`.

    The teacher's first member provides the layers. `bases` are the folders of the encoder that the teacher started
    from, and of the encoder that `distillation.student` names, if any. The validation rows choose the checkpoint. With
    `alone`, the same student learns only the labels, from layers that the teacher never trained: the control.
    """
    body, own = list_members(teacher)[0], params.student == "layers"
    base = bases[0] if own else bases[1]  # supplies the student's weights, except the learned ones
    config, tokenizer = read_config(body), load_tokenizer(base)
    rows = len(transfer.rows)
    if alone:
        transfer, validation = (part.select((part.rows["label"] != "").to_numpy()) for part in (transfer, validation))
    set_seed(seed)  # also for weights that loading initialises
    student = load_trained(body, bases[:1]) if own and not alone else load_classifier(base, config.labels)
    count, trained = choose_depth(params, rows, student.config.num_hidden_layers)
    keep_layers(student, count)
    config = replace(config, pooling="centred_mean" if student.config.model_type in PARTS else "cls")
    upper, read = hold_lower(student, trained)
    module = add_pooling(upper, config.pooling)

    def prepare(part: SoftTargets) -> Examples:
        rows = part.rows if config.uses_question else part.rows.assign(question="")
        encoded, labels = read(encode_rows(tokenizer, rows, config.max_length)), index_labels(rows, config.labels)
        if alone:
            return Examples(encoded, CrossEntropy(labels), partial(measure_auc, labels))
        coded = np.where(rows["origin"] == "human", labels, -1)
        loss = DistillationLoss(part.logits, coded, temperature=params.temperature)
        return Examples(encoded, loss, partial(measure_closeness, loss))

    learn, held_out = prepare(transfer), prepare(validation) if len(validation.rows) else None
    if isinstance(module, MeanPooled):  # a random head hardly learns in so few steps (docs/findings.md)
        module.to(device := choose_device())
        vectors = compute_logits(module.embed, learn.encoded, device)
        classes = index_labels(transfer.rows, config.labels) if alone else transfer.logits.argmax(axis=1)
        begin_head(student, *fit_head(vectors, classes, len(config.labels), strength=_STRENGTH))
    schedule = Schedule(params.steps, params.learning_rate, _BATCH, looks=2)
    curves = target / "curves"
    outcome = train_model(module, learn, held_out, schedule, seed=seed, curves=curves, advance=advance)
    save_checkpoint(student, tokenizer, target, config, base)
    return outcome
