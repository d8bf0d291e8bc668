"""The classifier: a BERT-family encoder with a classification head, and how the head may begin."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from amalgam.errors import ModelError
from amalgam.training.pooling import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOGETHER = 8  # rows of a batch that are computed together by an `Embedder`


@dataclass(frozen=True, slots=True)
class Output:
    """What a module of ours returns; a dataclass, since several processes look into it for what to differentiate.

    Attributes:
        logits: of the classes, or vectors [rows, width] for a loss that compares them.
    """

    logits: torch.Tensor


class MeanPooled(nn.Module):
    """A classifier whose last layer reads the mean of the token vectors, at length 1, in place of the first one.

    The weights are those of the model inside, and are saved with it.
    """

    def __init__(self, model: "PreTrainedModel", *, centred: bool = False) -> None:
        """Take a model of `load_classifier`; `centred` takes from each mean that of its components.

        The centred mean is what a layer of the encoder can compute too (see pooling_layer.py). In MPNet, attention
        depends on how far a token is away, and so does its weight in that mean.
        """
        super().__init__()
        self.model, self.centred = model, centred

    def forward(self, **batch: Any) -> Output:
        """Return the `logits` [rows, classes]."""
        return Output(find_head(self.model)(self.embed(**batch)))

    def embed(self, **batch: Any) -> torch.Tensor:
        """Return the vectors that the head reads [rows, width]."""
        states, mask = self.model.base_model(**batch).last_hidden_state, batch["attention_mask"]
        encoder: Any = getattr(self.model.base_model, "encoder", None)
        if not self.centred or not hasattr(encoder, "compute_position_bias"):
            return pool_mean(states, mask, centred=self.centred)
        bias = encoder.compute_position_bias(states)[:, :, 0].detach()  # as the first token sees the others
        shares = (bias + (1 - mask[:, None].to(bias)) * torch.finfo(bias.dtype).min).softmax(-1)
        parts = states.to(shares).unflatten(-1, (shares.shape[1], -1))  # [rows, tokens, heads, width of a head]
        means = (shares.transpose(1, 2).unsqueeze(-1) * parts).sum(1).flatten(1)
        return functional.normalize(means - means.mean(1, keepdim=True), dim=1)


class Vectors(nn.Module):
    """What the head of a `MeanPooled` classifier reads, on the model's own weights."""

    def __init__(self, classifier: MeanPooled) -> None:
        """Take the classifier."""
        super().__init__()
        self.classifier = classifier

    def forward(self, **batch: Any) -> Output:
        """Return the vectors [rows, width] as `logits`."""
        return Output(self.classifier.embed(**batch))


class Embedder(nn.Module):
    """The vectors that the head of a `MeanPooled` classifier reads, on the model's own weights."""

    def __init__(self, model: "PreTrainedModel") -> None:
        """Take a model of `load_classifier`."""
        super().__init__()
        self.model = model

    def forward(self, **batch: torch.Tensor) -> Output:
        """Return as `logits` the mean of each row's token vectors, at length 1 [rows, width].

        Rows of similar length are computed together, each few padded to the longest of them.
        """
        lengths = batch["attention_mask"].sum(dim=1)
        order = lengths.argsort(descending=True, stable=True)
        parts = [self._embed({name: tensor[rows] for name, tensor in batch.items()}) for rows in order.split(_TOGETHER)]
        return Output(torch.cat(parts)[order.argsort()])

    def _embed(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        longest = int(batch["attention_mask"].sum(dim=1).max())
        batch = {name: tensor[:, :longest] for name, tensor in batch.items()}
        return pool_mean(self.model.base_model(**batch).last_hidden_state.float(), batch["attention_mask"])


def load_classifier(folder: Path, labels: list[str]) -> "PreTrainedModel":
    """Load an encoder with a classification head for the labels; weights come from safetensors only.

    Raises:
        ModelError: the folder holds no encoder that transformers can make a classifier of.
    """
    from transformers import AutoModelForSequenceClassification

    names = dict(enumerate(labels))
    try:
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=names,
            label2id={name: number for number, name in names.items()},
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} cannot be loaded as a classifier ({error}): choose another `teacher.model`"
        ) from error
    return model


def add_pooling(model: "PreTrainedModel", pooling: Pooling) -> nn.Module:
    """Return a module that computes the model's logits with this pooling, on the model's own weights."""
    return model if pooling == "cls" else MeanPooled(model, centred=pooling == "centred_mean")


def pool_mean(states: torch.Tensor, mask: torch.Tensor, *, centred: bool = False) -> torch.Tensor:
    """Return the mean of the states [rows, tokens, width] over each row's tokens, at length 1 [rows, width]."""
    weights = mask.unsqueeze(-1).to(states)
    means = (states * weights).sum(1) / weights.sum(1)
    if centred:
        means = means - means.mean(1, keepdim=True)
    return functional.normalize(means, dim=1)


def find_head(model: "PreTrainedModel") -> nn.Linear:
    """Return the last layer of a classifier, which gives the logits.

    Raises:
        ModelError: the model has no such layer.
    """
    heads = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not name.startswith(f"{model.base_model_prefix}.")
    ]
    if not heads:
        raise ModelError(f"a classifier of type {model.config.model_type!r} has no head to begin: choose one like BERT")
    return heads[-1]


def begin_head(model: "PreTrainedModel", weights: np.ndarray, biases: np.ndarray) -> None:
    """Begin the head with weights [classes, width] and biases [classes], such as those of a logistic regression."""
    head = find_head(model)
    head.weight.data = torch.tensor(weights, dtype=head.weight.dtype)
    head.bias.data = torch.tensor(biases, dtype=head.bias.dtype)
