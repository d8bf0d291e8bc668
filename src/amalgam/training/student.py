"""The student: a small encoder, trained to see texts as the teacher does."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from amalgam.machine import choose_device, set_seed
from amalgam.params import Distillation
from amalgam.training.checkpoint import find_body, load_trained, read_note, save_checkpoint
from amalgam.training.classifier import MeanPooled, Vectors, add_pooling, begin_head, load_classifier
from amalgam.training.encoding import Encoded, encode_rows, load_tokenizer
from amalgam.training.frozen import freeze_lower, hold_lower
from amalgam.training.layers import keep_layers
from amalgam.training.learning import fit_head
from amalgam.training.loop import Examples, Loss, Merit, Outcome, compute_logits, train_model
from amalgam.training.losses import CrossEntropy, DistillationLoss, encode_targets
from amalgam.training.merits import Closeness, RankingMerit
from amalgam.training.parallel import Advance
from amalgam.training.pooling import Pooling
from amalgam.training.pooling_layer import can_append_pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_STRENGTH = 1.0  # inverse regularisation of the head that a student begins with


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
        """
        self._note = read_note(teacher)
        self._params, self._teacher = params, find_body(teacher)
        self._own = params.student == "layers"
        self._base = base if self._own else encoder  # what the student consists of, but for what it learns
        self._encoder = base
        self._tokenizer = load_tokenizer(self._base)
        self._transfer, self._validation = transfer, validation

    def distil(self, seed: int, target: Path, advance: Advance) -> Outcome:
        """Distil a student of this seed and save it to `target`; `advance` is called once a step."""
        set_seed(seed)  # also of weights that loading makes
        learn = Examples(self._encode(self._transfer), self._weigh_views(self._transfer))
        classes = self._transfer.logits.argmax(axis=1)
        begin = load_trained(self._teacher, [self._encoder]) if self._own else self._load_base()
        if self._validation.rows.empty:
            return self._train(begin, classes, seed, target, learn, None, None, advance)
        held_out = Examples(self._encode(self._validation), self._weigh_views(self._validation))
        return self._train(begin, classes, seed, target, learn, held_out, Closeness(held_out.loss), advance)

    def train_alone(self, seed: int, target: Path, advance: Advance) -> Outcome:
        """Train the same student on the labels alone, from layers that the teacher never trained: the control."""
        set_seed(seed)
        labelled = np.flatnonzero(index_labels(self._transfer.rows, self._note.labels) >= 0)
        learned = Views(self._transfer.rows.iloc[labelled], self._transfer.logits[labelled])
        learn = Examples(self._encode(learned), self._weigh_labels(learned))
        classes, begin = index_labels(learned.rows, self._note.labels), self._load_base()
        coded = np.flatnonzero(index_labels(self._validation.rows, self._note.labels) >= 0)
        if not len(coded):
            return self._train(begin, classes, seed, target, learn, None, None, advance)
        validation = Views(self._validation.rows.iloc[coded], self._validation.logits[coded])
        held_out = Examples(self._encode(validation), self._weigh_labels(validation))
        merit = RankingMerit(index_labels(validation.rows, self._note.labels))
        return self._train(begin, classes, seed, target, learn, held_out, merit, advance)

    def _load_base(self) -> "PreTrainedModel":
        return load_classifier(self._base, self._note.labels)

    def _encode(self, views: Views) -> Encoded:
        return encode_rows(self._tokenizer, self._drop_question(views.rows), self._note.max_length)

    def _drop_question(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows if self._note.uses_question else rows.assign(question="")

    def _weigh_views(self, views: Views) -> Loss:
        labels = index_labels(views.rows, self._note.labels)
        return DistillationLoss(views.logits, labels, temperature=self._params.temperature, alpha=self._params.alpha)

    def _weigh_labels(self, views: Views) -> Loss:
        return CrossEntropy(encode_targets(index_labels(views.rows, self._note.labels), len(self._note.labels)))

    def _train(
        self,
        student: "PreTrainedModel",
        classes: np.ndarray,
        seed: int,
        target: Path,
        learn: Examples,
        held_out: Examples | None,
        merit: Merit | None,
        advance: Advance,
    ) -> Outcome:
        """Shorten the model, train it and save it; the classes of the rows that it learns say where its head begins."""
        params, note = self._params, self._note
        keep_layers(student, params.layers)
        freeze_lower(student, params.trained_layers)
        pooling = choose_pooling(student)
        module = add_pooling(student, pooling)
        with hold_lower(student, params.trained_layers) as read:
            learn = replace(learn, encoded=read(learn.encoded))
            if isinstance(module, MeanPooled):
                _begin_head(module, learn, classes, len(note.labels))
            outcome = train_model(
                module,
                learn,
                held_out and replace(held_out, encoded=read(held_out.encoded)),
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
            base=self._base,
        )
        return outcome


def _begin_head(module: MeanPooled, learn: Examples, classes: np.ndarray, count: int) -> None:
    """Begin with the head that logistic regression finds: a random one hardly learns in so few steps (bench/)."""
    device = choose_device()
    vectors = compute_logits(Vectors(module).to(device), learn.encoded, device)
    begin_head(module.model, *fit_head(vectors, classes, count, strength=_STRENGTH))


def choose_pooling(student: "PreTrainedModel") -> Pooling:
    """Return what its head reads: the mean, where that can ship as a layer of the encoder, or the first token."""
    return "centred_mean" if can_append_pooling(student) else "cls"


def index_labels(rows: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """Return the class index of each row, -1 where its label is empty."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index.get(label, -1) for label in rows["label"]], dtype=np.int64)
