"""The teacher: a BERT-family encoder, fine-tuned on a mix of human-coded and synthetic rows, or an ensemble of two."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from amalgam.machine import choose_device, set_seed, show_progress
from amalgam.params import Teacher
from amalgam.tasks.texts import find_units
from amalgam.training.checkpoint import Config, compute_softmax, read_config, save_checkpoint, write_config
from amalgam.training.classifier import Embedder, Pooling, add_pooling, begin_head, load_classifier
from amalgam.training.embeddings import embed_rows, fit_head, index_labels, read_targets
from amalgam.training.encoding import Encoded, compute_logits, encode_rows, hold_lower, load_tokenizer
from amalgam.training.guard import FOLDS, deal_folds, split_folds
from amalgam.training.loop import CrossEntropy, Examples, Outcome, Schedule, grow_steps, measure_auc, train_model
from amalgam.training.parallel import Advance, Job, run_trainings, this_process

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HUMAN_ONLY, MIXED, CONTRASTIVE = "human_only", "mixed", "contrastive"  # names of members
OUT_OF_FOLD = ["id", "unit", "label", "predicted", "probability"]  # the last is that of the predicted label
_CONTRASTIVE_STEPS, _FEW = 40, 51  # steps for that many human rows
_STRENGTH = 1.0  # inverse regularisation of the head fitted last, when vectors of different labels are far apart
_DIGITS = 6


class ContrastiveLoss(nn.Module):
    """Pulls vectors of rows with the same label together, and pushes vectors of different labels apart.

    It is the squared distance of a pair's cosine from 1 if both rows have the same label, otherwise from 0, as sentence
    encoders learn in SetFit (Tunstall et al. 2022, arXiv 2209.11055), but over all pairs of a batch. Both kinds of
    pairs count equally, however many there are of each.
    """

    def __init__(self, classes: np.ndarray, weights: np.ndarray) -> None:
        """Take the class index of each row [rows], and its weight [rows]; a pair's weight is the product."""
        super().__init__()
        self.register_buffer("classes", torch.tensor(classes))
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch's vectors [rows, width], each of length 1."""
        classes, weights = self.get_buffer("classes")[rows], self.get_buffer("weights")[rows]
        pairs, alike = (weights[:, None] * weights).triu(1), (classes[:, None] == classes).to(vectors)
        cosines = vectors @ vectors.T
        near, far = (
            (losses * weights).sum() / weights.sum().clamp(min=1e-9)
            for losses, weights in (((1 - cosines) ** 2, pairs * alike), (cosines**2, pairs * (1 - alike)))
        )
        return near + far


class TeacherTrainer:
    """Trains one member of the teacher, with any seed, on rows that are tokenised once.

    It trains by cross-entropy from a head that is a logistic regression, or by contrast, after which the head is fitted
    to the vectors. The two err on different rows, so one of each is better than two of a kind on most tasks
    (docs/findings.md).
    """

    def __init__(
        self,
        encoder: Path,
        learned: pd.DataFrame,
        held_out: pd.DataFrame | None,
        labels: list[str],
        params: Teacher,
        *,
        contrastive: bool = False,
        vectors: np.ndarray | None = None,
        taught: int | None = None,
    ) -> None:
        """Take what all seeds share.

        `learned` are rows (text, question, label, origin, and `soft` where the LLM gave labels), `vectors` their
        embeddings if known. The human-coded rows `held_out` choose the checkpoint; None keeps the last one. `taught` is
        the number of human-coded rows of the human-only teacher; None means that `learned` has them all. Contrast
        always keeps the last checkpoint: how close rows of one label are says little about how they are ranked. Its
        batches have twice the rows, so that a label has enough pairs.
        """
        self.encoder, self._labels, self._params, self._contrastive = encoder, labels, params, contrastive
        self._paper, self._tokenizer = params.recipe == "paper", load_tokenizer(encoder)
        self._schedule = Schedule(params.steps, params.learning_rate, params.batch_size)
        pooling: Pooling = "cls" if self._paper else "mean"
        self._config = Config(labels, params.max_length, bool(learned["question"].any()), pooling)
        self._classes, human = index_labels(learned, labels), (learned["origin"] == "human").to_numpy()
        if contrastive:  # the same steps at every ratio
            steps = grow_steps(_CONTRASTIVE_STEPS, human.sum() if taught is None else taught, _FEW)
            self._schedule = Schedule(steps, params.learning_rate, 2 * params.batch_size)
        self._weights = balance_classes(self._classes) if params.class_weights else np.ones(len(learned))
        fits_head = not (contrastive or self._paper)
        phases = [np.flatnonzero(human), np.flatnonzero(~human)] if self._paper else []
        targets = read_targets(learned, labels) if fits_head else self._classes
        self._learn = Examples(
            self._encode(learned),
            (ContrastiveLoss if contrastive else CrossEntropy)(targets, self._weights),
            phases=[phase for phase in phases if len(phase)],
            by_length=fits_head,  # if all pairs have similar length, they teach less
        )
        self._held_out: Examples | None = None
        if held_out is not None and not contrastive:
            classes = index_labels(held_out, labels)
            self._held_out = Examples(self._encode(held_out), CrossEntropy(classes), partial(measure_auc, classes))
        self._head = None
        if fits_head:
            vectors = embed_rows(encoder, learned, max_length=params.max_length) if vectors is None else vectors
            first = human if human.any() else ~human
            self._head = fit_head(vectors[first], self._classes[first], len(labels))

    @property
    def steps(self) -> int:
        """Steps of one training."""
        return self._schedule.steps

    def train(self, seed: int, target: Path, advance: Advance, *, curves: Path | None = None) -> Outcome:
        """Fine-tune with this seed, for the head's weights and the order of batches, and save to `target`.

        The training curves go to `curves`, or to a folder of that name in `target`.
        """
        model, outcome = self._fine_tune(seed, advance, curves or target / "curves")
        save_checkpoint(model, self._tokenizer, target, self._config, self.encoder)
        return outcome

    def train_and_score(self, seed: int, rows: pd.DataFrame, advance: Advance) -> np.ndarray:
        """Fine-tune with this seed, save nothing, and return the logits [rows, classes] of other rows."""
        model = self._fine_tune(seed, advance, None)[0]
        device = choose_device()
        return compute_logits(add_pooling(model, self._config.pooling).to(device), self._encode(rows), device)

    def _encode(self, rows: pd.DataFrame) -> Encoded:
        encoded, longest = encode_rows(self._tokenizer, rows, self._params.max_length), self._params.max_length
        return replace(encoded, length=min(longest, self._tokenizer.model_max_length)) if self._paper else encoded

    def _fine_tune(self, seed: int, advance: Advance, curves: Path | None) -> "tuple[PreTrainedModel, Outcome]":
        """Load and train a model; curves go to the folder, or nowhere."""
        set_seed(seed)
        model = load_classifier(self.encoder, self._labels)
        if self._head is not None:
            begin_head(model, *self._head)
        learn, held_out, upper = self._learn, self._held_out, model
        if not self._paper:  # there, all layers learn, with dropout
            upper, read = hold_lower(model, self._params.trained_layers)
            learn = replace(learn, encoded=read(learn.encoded))
            held_out = held_out and replace(held_out, encoded=read(held_out.encoded))
        module = Embedder(upper) if self._contrastive else add_pooling(upper, self._config.pooling)
        outcome = train_model(module, learn, held_out, self._schedule, seed=seed, curves=curves, advance=advance)
        if self._contrastive:
            vectors = compute_logits(module, learn.encoded, choose_device())
            found = fit_head(vectors, self._classes, len(self._labels), self._weights, strength=_STRENGTH)
            begin_head(model, *found)
        return model, outcome


def balance_classes(classes: np.ndarray) -> np.ndarray:
    """Return the weight of each row [rows] that makes all classes present count equally."""
    totals = np.bincount(classes)
    return np.asarray(len(classes) / np.count_nonzero(totals) / totals[classes])


def make_members(
    encoder: Path,
    learned: pd.DataFrame,
    held_out: pd.DataFrame | None,
    labels: list[str],
    params: Teacher,
    last: str,
    vectors: np.ndarray | None = None,
    taught: int | None = None,
) -> dict[str, TeacherTrainer]:
    """Return the trainer of each member, by the member's folder. The paper's recipe has one member, ".".

    The first member gives its layers to students: they start, and end, closer to the teacher than with the layers of a
    member that learned by cross-entropy (docs/findings.md). The last one learns all rows by cross-entropy.
    """
    trainer = TeacherTrainer(encoder, learned, held_out, labels, params, vectors=vectors)
    if params.recipe == "paper":
        return {".": trainer}
    contrast = TeacherTrainer(encoder, learned, None, labels, params, contrastive=True, taught=taught)
    return {CONTRASTIVE: contrast, last: trainer}


def train_members(
    title: str,
    members: dict[str, TeacherTrainer],
    seeds: Sequence[int],
    target: Path,
    trials: Sequence[Job[np.ndarray]] = (),
    shared: str = "",
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Train each member with each seed into `target/seed-<seed>`, where they become an ensemble; then run the trials.

    The folder `shared`, in which `{seed}` is the seed, is the ensemble's first member if it was trained elsewhere.
    Return the outcomes of the last member by seed, and the results of the trials.
    """
    last = list(members)[-1]
    trainings = [
        partial(trainer.train, seed, folder / name, curves=folder / ("" if name == last else name) / "curves")
        for name, trainer in members.items()
        for seed in seeds
        for folder in [target / f"seed-{seed}"]
    ]
    steps = sum(member.steps for member in members.values()) * len(seeds) + members[last].steps * len(trials)
    jobs: list[Job[Any]] = [*trainings, *trials]
    with show_progress(title, total=steps) as advance:
        found = run_trainings(jobs, members[last].encoder, advance)
    for seed in seeds if this_process().is_main_process and last != "." else ():
        folder, names = target / f"seed-{seed}", [*filter(None, [shared.format(seed=seed)]), *members]
        write_config(folder, replace(read_config(folder / names[0]), members=names))
    outcomes = found[: len(trainings)][-len(seeds) :]
    by_seed = {str(seed): outcome.to_dict() for seed, outcome in zip(seeds, outcomes, strict=True)}
    return by_seed, found[len(trainings) :]


def deal_human(human: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """Return the fold of each human-coded row [rows]: one of five, or of fewer if there are fewer groups of rows."""
    return deal_folds(index_labels(human, labels), find_units(human), FOLDS)


def list_trials(
    encoder: Path, human: pd.DataFrame, labels: list[str], params: Teacher, seed: int
) -> list[Job[np.ndarray]]:
    """List trainings of human-only teachers, each of which scores one fold [rows, classes] and learns other texts.

    Each learns by cross-entropy for all its steps and is not saved. `seed` is that of the first fold.
    """
    marked, folds = human.assign(origin="human"), split_folds(human, deal_human(human, labels))
    return [
        partial(_run_trial, (encoder, marked[kept], None, labels, params), marked[out], seed + fold)
        for fold, (out, kept) in enumerate(folds)
    ]


def _run_trial(learn: tuple[Any, ...], rows: pd.DataFrame, seed: int, advance: Advance) -> np.ndarray:
    return TeacherTrainer(*learn).train_and_score(seed, rows, advance)


def label_out_of_fold(human: pd.DataFrame, labels: list[str], logits: Sequence[np.ndarray]) -> pd.DataFrame:
    """Label each human-coded row by the trial that did not learn it; return a table with the columns `OUT_OF_FOLD`.

    Rows of one `unit` depend on each other. Synthetic rows are not involved, so the table holds for every ratio; if
    they help, it is too pessimistic. `logits` are the results of `list_trials`.
    """
    probabilities, folds = np.zeros((len(human), len(labels))), split_folds(human, deal_human(human, labels))
    for (out, _), found in zip(folds, logits, strict=True):
        probabilities[out] = compute_softmax(found)
    predicted = [labels[number] for number in probabilities.argmax(axis=1)]
    certainty = probabilities.max(axis=1).round(_DIGITS)
    judged = human[["id", "label"]].assign(unit=find_units(human), predicted=predicted, probability=certainty)
    return judged[OUT_OF_FOLD]
