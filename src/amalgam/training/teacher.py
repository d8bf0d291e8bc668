"""The teacher: a BERT-family encoder, fine-tuned on a mix of human-coded and synthetic rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from amalgam.machine import choose_device, set_seed
from amalgam.params import Teacher
from amalgam.training.checkpoint import save_checkpoint
from amalgam.training.classifier import add_pooling, begin_head, load_classifier
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.frozen import freeze_lower, hold_lower
from amalgam.training.learning import plan_learning
from amalgam.training.loop import Examples, Loss, Outcome, compute_logits, train_model
from amalgam.training.losses import CrossEntropy, encode_targets
from amalgam.training.merits import RankingMerit
from amalgam.training.parallel import Advance, run_trainings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TeacherTrainer:
    """Trains teachers of several seeds on the same rows, which are tokenised and weighed once."""

    _loss: Callable[[np.ndarray, np.ndarray], Loss] = CrossEntropy  # of targets and weights
    _by_length = True  # see `Examples`

    def __init__(
        self,
        encoder: Path,
        mixed: pd.DataFrame,
        validation: pd.DataFrame | None,
        labels: list[str],
        params: Teacher,
    ) -> None:
        """Take what all seeds share.

        Args:
            encoder: folder of the base model.
            mixed: rows to learn from (id, text, question, label, origin, shots).
            validation: human-coded rows (text, question, label) that choose the checkpoint; None keeps the last one.
            labels: class names in order.
            params: the section `teacher`.
        """
        self._encoder, self._labels, self._params = encoder, labels, params
        self._tokenizer = load_tokenizer(encoder)
        self._uses_question = bool(mixed["question"].any())
        self._learning = plan_learning(encoder, mixed, labels, params)
        self._learn = Examples(
            encode_rows(self._tokenizer, mixed, params.max_length),
            self._loss(self._learning.targets, self._learning.weights),
            self._learning.phases,
            self._by_length,
        )
        self._held_out: Examples | None = None
        self._merit: RankingMerit | None = None
        if validation is not None:
            classes = np.array([labels.index(label) for label in validation["label"]], dtype=np.int64)
            encoded = encode_rows(self._tokenizer, validation, params.max_length)
            self._held_out = Examples(encoded, CrossEntropy(encode_targets(classes, len(labels))))
            self._merit = RankingMerit(classes)

    @property
    def steps(self) -> int:
        """Steps of one training, at most."""
        return self._params.steps

    def train(self, seed: int, target: Path, advance: Advance, *, curves: Path | None = None) -> Outcome:
        """Fine-tune with this seed, of the head's weights and the order of batches; save to `target`.

        `advance` is called once a step. The training curves go to `curves`, or to a folder of that name in the target.

        Raises:
            DivergedError: the loss is no longer a number.
        """
        model = self._begin(seed)
        try:
            return self._fine_tune(model, seed, advance, curves or target / "curves")
        finally:  # where the loss is no longer a number, the last good checkpoint is kept
            save_checkpoint(
                model,
                self._tokenizer,
                target,
                self._labels,
                self._params.max_length,
                uses_question=self._uses_question,
                pooling=self._params.pooling,
                base=self._encoder,
            )

    def train_and_score(self, seed: int, rows: pd.DataFrame, advance: Advance) -> np.ndarray:
        """Fine-tune with this seed, keep nothing, and return the logits [rows, classes] of other rows."""
        model = self._begin(seed)
        self._fine_tune(model, seed, advance, None)
        encoded = encode_rows(self._tokenizer, rows, self._params.max_length)
        device = choose_device()
        return compute_logits(add_pooling(model, self._params.pooling).to(device), encoded, device)

    def _begin(self, seed: int) -> "PreTrainedModel":
        """Make the model that this seed begins with."""
        set_seed(seed)
        model = load_classifier(self._encoder, self._labels)
        freeze_lower(model, self._params.trained_layers)
        if self._learning.head is not None:
            begin_head(model, *self._learning.head)
        return model

    def _fine_tune(self, model: "PreTrainedModel", seed: int, advance: Advance, curves: Path | None) -> Outcome:
        """Train the model in place; curves go to the folder, or nowhere."""
        with hold_lower(model, self._params.trained_layers) as read:
            return train_model(
                add_pooling(model, self._params.pooling),
                replace(self._learn, encoded=read(self._learn.encoded)),
                self._held_out and replace(self._held_out, encoded=read(self._held_out.encoded)),
                self._merit,
                self._params,
                seed=seed,
                curves=curves,
                advance=advance,
            )


@dataclass(frozen=True, slots=True)
class Trial:
    """A teacher to train without validation rows, scored on other rows and not kept."""

    learned: pd.DataFrame
    rows: pd.DataFrame
    seed: int


def run_trial(encoder: Path, labels: list[str], params: Teacher, trial: Trial, advance: Advance) -> np.ndarray:
    """Train the trial's teacher and return its logits [rows, classes]."""
    trainer = TeacherTrainer(encoder, trial.learned, None, labels, params)
    return trainer.train_and_score(trial.seed, trial.rows, advance)


def run_trials(
    encoder: Path, labels: list[str], params: Teacher, advance: Advance, trials: Sequence[Trial]
) -> list[np.ndarray]:
    """Run several trials side by side."""
    jobs = [partial(run_trial, encoder, labels, params, trial) for trial in trials]
    return run_trainings(jobs, encoder, advance)
