"""The student: a small encoder, trained to see texts as the teacher does."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from torch import nn

from amalgam.errors import ModelError
from amalgam.params import OWN_STUDENTS, Distillation
from amalgam.training.architectures import build_student
from amalgam.training.checkpoint import find_body, load_trained, read_note, save_checkpoint
from amalgam.training.classifier import add_pooling, freeze_embeddings, load_classifier
from amalgam.training.device import set_seed
from amalgam.training.encoding import Encoded, encode_rows, load_tokenizer
from amalgam.training.guidance import Guided
from amalgam.training.loop import Examples, Loss, Merit, Outcome, train_model
from amalgam.training.losses import CrossEntropy, DistillationLoss, encode_targets
from amalgam.training.merits import Closeness, RankingMerit
from amalgam.training.parallel import Advance
from amalgam.training.pooling import Pooling
from amalgam.training.pooling_layer import can_append_pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Views:
    """Rows and what the teacher says of each: logits [rows, classes]."""

    rows: pd.DataFrame
    logits: np.ndarray


class Distiller:
    """Distils one teacher into students; the texts are tokenised once, whatever the seeds."""

    def __init__(
        self,
        teacher: Path,
        base: Path,
        encoder: Path,
        transfer: Views,
        validation: Views,
        params: Distillation,
    ) -> None:
        """Take what all students of the teacher share.

        Args:
            teacher: folder of the trained teacher; of several members, the first gives the layers.
            base: folder of the encoder that the teacher was before it was trained.
            encoder: folder of the encoder that `distillation.student` names, where it names one.
            transfer: the transfer set (text, question, label); label "" where no coder gave one.
            validation: rows that choose the checkpoint: human-coded ones, and texts with label ""; without any, the
                last step is kept.
            params: the section `distillation`.

        Raises:
            ModelError: the student is to learn from inside a teacher that reads other tokens.
        """
        own = params.student in OWN_STUDENTS
        if not own and (params.hidden or params.relations):
            raise ModelError(
                f"a student {params.student!r} cuts texts into other tokens than its teacher: "
                "set `distillation.hidden` and `distillation.relations` to 0"
            )
        self._note = read_note(teacher)
        self._params, self._base, self._encoder = params, base, encoder
        teacher = find_body(teacher)
        self._teacher = load_trained(teacher, base)
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(teacher if own else encoder)
        self._transfer, self._validation = transfer, validation
        self._learn = self._encode(transfer)

    def distil(self, seed: int, target: Path, advance: Advance) -> Outcome:
        """Distil a student of this seed and save it to `target`; `advance` is called once a step."""
        learn = Examples(self._learn, self._weigh_views(self._transfer))
        if self._validation.rows.empty:
            return self._train(seed, target, learn, None, None, self._teacher, advance)
        held_out = Examples(self._encode(self._validation), self._weigh_views(self._validation))
        return self._train(seed, target, learn, held_out, Closeness(held_out.loss), self._teacher, advance)

    def train_alone(self, seed: int, target: Path, advance: Advance) -> Outcome:
        """Train the same student on the labels alone, from layers that the teacher never trained: the control."""
        labelled = np.flatnonzero(index_labels(self._transfer.rows, self._note.labels) >= 0)
        learn = Examples(self._learn, self._weigh_labels(self._transfer), [labelled])
        coded = np.flatnonzero(index_labels(self._validation.rows, self._note.labels) >= 0)
        if not len(coded):
            return self._train(seed, target, learn, None, None, None, advance)
        validation = Views(self._validation.rows.iloc[coded], self._validation.logits[coded])
        held_out = Examples(self._encode(validation), self._weigh_labels(validation))
        merit = RankingMerit(index_labels(validation.rows, self._note.labels))
        return self._train(seed, target, learn, held_out, merit, None, advance)

    def _encode(self, views: Views) -> Encoded:
        return encode_rows(self._tokenizer, self._drop_question(views.rows), self._note.max_length)

    def _drop_question(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows if self._note.uses_question else rows.assign(question="")

    def _weigh_views(self, views: Views) -> Loss:
        labels = index_labels(views.rows, self._note.labels)
        return DistillationLoss(views.logits, labels, temperature=self._params.temperature, alpha=self._params.alpha)

    def _weigh_labels(self, views: Views) -> Loss:
        # A row without a label is never drawn; the first class stands in its place.
        labels = np.maximum(index_labels(views.rows, self._note.labels), 0)
        return CrossEntropy(encode_targets(labels, len(self._note.labels)))

    def _train(
        self,
        seed: int,
        target: Path,
        learn: Examples,
        held_out: Examples | None,
        merit: Merit | None,
        teacher: "PreTrainedModel | None",
        advance: Advance,
    ) -> Outcome:
        set_seed(seed)
        params, note = self._params, self._note
        begin = teacher or load_classifier(self._base, note.labels)
        student = build_student(params.student, begin, self._encoder, note.labels, params.layers)
        if not params.train_embeddings and params.student != "tiny":  # whose embeddings are new to it
            freeze_embeddings(student)
        pooling = choose_pooling(student, params.pooling)
        if teacher and (params.hidden or params.relations):
            guides = {"hidden": params.hidden, "relations": params.relations}
            trained: nn.Module = Guided(student, teacher, **guides, pooling=pooling)
        else:
            trained = add_pooling(student, pooling)
        outcome = train_model(
            trained,
            learn,
            held_out,
            merit,
            params,
            seed=seed,
            curves=target / "curves",
            advance=advance,
        )
        save_checkpoint(
            student,
            self._tokenizer,
            target,
            note.labels,
            note.max_length,
            uses_question=note.uses_question,
            pooling=pooling,
        )
        return outcome


def choose_pooling(student: "PreTrainedModel", wanted: Literal["cls", "mean"] | None) -> Pooling:
    """Return what the student's head reads: as wanted, or the mean where that can ship as a layer of the encoder.

    Raises:
        ModelError: the mean is wanted of an encoder that no layer can be appended to.
    """
    if wanted == "cls" or (wanted is None and not can_append_pooling(student)):
        return "cls"
    if not can_append_pooling(student):
        raise ModelError(
            f"a student of type {student.config.model_type!r} cannot take the mean of its tokens along when it ships: "
            "set `distillation.pooling` to cls"
        )
    return "centred_mean"


def index_labels(rows: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """Return the class index of each row, -1 where its label is empty."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index.get(label, -1) for label in rows["label"]], dtype=np.int64)
