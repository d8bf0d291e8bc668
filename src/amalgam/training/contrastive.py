"""A teacher that learns by contrast: rows of one label are drawn together, then a logistic regression is fitted."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from amalgam.machine import choose_device
from amalgam.params import Teacher
from amalgam.training.classifier import Embedder, begin_head
from amalgam.training.frozen import hold_lower
from amalgam.training.learning import fit_head
from amalgam.training.loop import Outcome, compute_logits, train_model
from amalgam.training.losses import ContrastiveLoss
from amalgam.training.parallel import Advance
from amalgam.training.teacher import TeacherTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_STRENGTH = 1.0  # inverse regularisation of the head, the usual one: vectors of other labels are far away by now


class ContrastiveTrainer(TeacherTrainer):
    """Trains teachers as SetFit does (Tunstall et al. 2022, arXiv 2209.11055), with all pairs of a batch.

    The encoder learns in `contrastive_steps` steps, each of two batches' rows, so that a label has enough pairs; then
    the head is fitted to the vectors that it gives. It errs on other rows than one trained by cross-entropy does, so
    the mean view of both is better than that of two alike on most tasks (bench/).
    """

    _loss = ContrastiveLoss
    _by_length = False  # pairs of similar length alone teach less

    def __init__(self, encoder: Path, learned: pd.DataFrame, labels: list[str], params: Teacher) -> None:
        """Take what all seeds share, as `TeacherTrainer` does.

        No rows choose the checkpoint: how near validation rows of one label are says little of how they are ranked.
        The head reads the mean of all tokens, which is what sentence encoders shape, whatever `params` say.
        """
        changes = {"pooling": "mean", "head": "random", "steps": params.contrastive_steps}
        params = params.model_copy(update=changes | {"batch_size": 2 * params.batch_size})
        super().__init__(encoder, learned, None, labels, params)

    def _fine_tune(self, model: "PreTrainedModel", seed: int, advance: Advance, curves: Path | None) -> Outcome:
        with hold_lower(model, self._params.trained_layers) as read:
            learn = replace(self._learn, encoded=read(self._learn.encoded))
            outcome = train_model(
                Embedder(model), learn, None, None, self._params, seed=seed, curves=curves, advance=advance
            )
            vectors = compute_logits(Embedder(model), learn.encoded, choose_device())
        weights = self._learning.weights
        learned = weights > 0
        classes = self._learning.targets[learned].argmax(axis=1)
        count = len(self._labels)
        begin_head(model, *fit_head(vectors[learned], classes, count, weights[learned], strength=_STRENGTH))
        return outcome
