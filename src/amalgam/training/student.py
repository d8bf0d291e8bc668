"""The student: evenly spaced layers of the teacher, trained to see texts as the teacher does."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from amalgam.errors import ModelError
from amalgam.params import Distillation
from amalgam.training.checkpoint import read_note, save_checkpoint
from amalgam.training.device import set_seed
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.loop import Examples, Loss, Outcome, train_model
from amalgam.training.scoring import Scorer
from amalgam.training.teacher import load_classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def distil_student(
    teacher: Path,
    transfer: pd.DataFrame,
    validation: pd.DataFrame,
    params: Distillation,
    *,
    seed: int,
    target: Path,
    advance: Callable[[object], None],
) -> Outcome:
    """Distil a teacher into a student with fewer layers and save it to `target`.

    Args:
        teacher: folder of the trained teacher.
        transfer: the transfer set (text, question, label); label "" where no coder gave one.
        validation: human-coded rows that choose the checkpoint.
        params: the section `distillation`.
        seed: of dropout and the order of batches.
        target: folder to write.
        advance: called once a step.
    """
    set_seed(seed)
    note = read_note(teacher)
    tokenizer = load_tokenizer(teacher)
    scorer = Scorer(teacher)
    student = keep_layers(load_classifier(teacher, note.labels), params.layers)
    learn, held_out = (
        Examples(
            encode_rows(tokenizer, rows, note.max_length),
            DistillationLoss(scorer.compute_logits(rows), index_labels(rows, note.labels), params),
        )
        for rows in (transfer, validation)
    )
    outcome = train_model(
        student,
        tokenizer,
        learn,
        held_out,
        Closeness(held_out.loss),
        params,
        seed=seed,
        curves=target / "curves",
        advance=advance,
    )
    save_checkpoint(student, tokenizer, target, note.labels, note.max_length, uses_question=note.uses_question)
    return outcome


class DistillationLoss:
    """`alpha * T^2 * KL(teacher || student) + (1 - alpha) * CE` (Hinton et al. 2015, arXiv 1503.02531).

    T^2 keeps the gradient of the soft part the same size at every temperature. Rows without a label have the
    soft part alone, with full weight.
    """

    def __init__(self, teacher_logits: np.ndarray, labels: np.ndarray, params: Distillation) -> None:
        """Take the teacher's logits [rows, classes] and the class index of each row, -1 for none."""
        self._logits = torch.tensor(teacher_logits)
        self._labels = torch.tensor(labels)
        self._temperature = params.temperature
        self._alpha = params.alpha

    def __call__(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the mean over the batch."""
        labels = self._labels[rows].to(logits.device)
        soft_teacher = functional.log_softmax(self._logits[rows].to(logits.device) / self._temperature, dim=1)
        soft_student = functional.log_softmax(logits / self._temperature, dim=1)
        soft = functional.kl_div(soft_student, soft_teacher, reduction="none", log_target=True).sum(dim=1)
        hard = functional.cross_entropy(logits, labels, reduction="none", ignore_index=-1)
        alpha = torch.where(labels < 0, 1.0, self._alpha)
        return (alpha * self._temperature**2 * soft + (1 - alpha) * hard).mean()


class Closeness:
    """The negative of a loss: for a student that is to see as its teacher does, the loss is the measure."""

    def __init__(self, loss: Loss) -> None:
        """Take the loss over the validation rows."""
        self._loss = loss

    def __call__(self, logits: np.ndarray) -> tuple[float, float]:
        """Return the negative of the mean loss over all rows; no error, so the later of equals is kept."""
        return -float(self._loss(torch.tensor(logits), np.arange(len(logits)))), 0.0


def index_labels(rows: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """Return the class index of each row, -1 where its label is empty."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index.get(label, -1) for label in rows["label"]], dtype=np.int64)


def choose_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """Return which of the teacher's layers the student takes: evenly spaced, the last one among them.

    Raises:
        ModelError: the student would have more layers than the teacher.
    """
    if student_layers > teacher_layers:
        raise ModelError(f"`distillation.layers` is {student_layers}, but the teacher has {teacher_layers}: lower it")
    return [round((number + 1) * teacher_layers / student_layers) - 1 for number in range(student_layers)]


def keep_layers(model: "PreTrainedModel", count: int) -> "PreTrainedModel":
    """Return a copy of an encoder classifier with `count` of its layers and everything else.

    Raises:
        ModelError: the encoder is not built of a list of layers, as those of the BERT family are.
    """
    student = copy.deepcopy(model)
    stacks = [
        (module, name)
        for module in student.base_model.modules()
        for name, child in module.named_children()
        if name in ("layer", "layers") and isinstance(child, nn.ModuleList)
    ]
    if len(stacks) != 1:
        raise ModelError(f"an encoder of type {model.config.model_type!r} cannot be shortened: choose one like BERT")
    owner, name = stacks[0]
    layers = getattr(owner, name)
    chosen = choose_layers(len(layers), count)
    setattr(owner, name, nn.ModuleList(layers[number] for number in chosen))
    student.config.num_hidden_layers = count
    return student
