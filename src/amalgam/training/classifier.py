"""The classifier: a BERT-family encoder, its layers, and the head that reads its first token or the mean of all tokens.

A student ships with mean pooling as one more layer of the encoder, so that it loads anywhere: the classifiers of
`transformers` read the first token. A layer with queries and keys of 0 attends to all tokens equally (in MPNet, only by
distance), so its first token gets their mean. The mean is scaled up until the residual next to it vanishes, and the
normalisation that follows centres and rescales it. The feed-forward part is 0 and changes nothing.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from amalgam.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What the head reads: the first token's vector; the mean of all tokens, scaled to length 1; or the same with the mean
# over components subtracted before scaling, which a layer of the encoder can compute.
Pooling = Literal["cls", "mean", "centred_mean"]

_TOGETHER = 8  # rows of similar length that `Embedder` computes together
_GAIN = 2.0**14  # of the mean over the residual; still within 16-bit floats
_SCALE = 2.0**-6  # of the input to the activation before the head: small enough that tanh leaves it unchanged
_BERT = "attention.self.value", "attention.output.dense"
# What `append_pooling` changes, by encoder type: value and output maps of a layer's attention, the linear map before
# the activation, and what to add there so that the activation changes nothing (ReLU needs positive numbers).
PARTS = {
    "bert": (*_BERT, "bert.pooler.dense", 0.0),
    "roberta": (*_BERT, "classifier.dense", 0.0),
    "xlm-roberta": (*_BERT, "classifier.dense", 0.0),
    "mpnet": ("attention.attn.v", "attention.attn.o", "classifier.dense", 0.0),
    "distilbert": ("attention.v_lin", "attention.out_lin", "pre_classifier", 1.0),
}


class MeanPooled(nn.Module):
    """A classifier whose head reads the mean of the token vectors, using the weights of the wrapped model."""

    def __init__(self, model: "PreTrainedModel", *, centred: bool = False) -> None:
        """Take a model from `load_classifier`; see `Pooling` for `centred`."""
        super().__init__()
        self.model, self.centred = model, centred

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """Return the `logits` [rows, classes]."""
        return {"logits": find_head(self.model)(self.embed(**batch))}

    def embed(self, **batch: Any) -> torch.Tensor:
        """Return the vectors that the head reads [rows, width]."""
        states, mask = self.model.base_model(**batch).last_hidden_state, batch["attention_mask"]
        encoder: Any = getattr(self.model.base_model, "encoder", None)
        if not self.centred or not hasattr(encoder, "compute_position_bias"):
            return pool_mean(states, mask, centred=self.centred)
        # In MPNet, attention depends on how far away a token is from the first one, and so does its weight in the mean.
        bias = encoder.compute_position_bias(states)[:, :, 0].detach()
        shares = (bias + (1 - mask[:, None].to(bias)) * torch.finfo(bias.dtype).min).softmax(-1)
        parts = states.to(shares).unflatten(-1, (shares.shape[1], -1))  # [rows, tokens, heads, width of a head]
        means = (shares.transpose(1, 2).unsqueeze(-1) * parts).sum(1).flatten(1)
        return functional.normalize(means - means.mean(1, keepdim=True), dim=1)


class Embedder(nn.Module):
    """The mean of each row's token vectors, scaled to length 1, as `logits` [rows, width]; rows may have any length."""

    def __init__(self, model: "PreTrainedModel") -> None:
        """Take a model from `load_classifier`."""
        super().__init__()
        self.model = model

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute a few rows of similar length at a time, padded to the longest of them."""
        if batch["attention_mask"].device.type != "cpu":  # there, waiting for lengths costs more than padding
            return {"logits": self._embed(batch)}
        lengths = batch["attention_mask"].sum(dim=1)
        order = lengths.argsort(descending=True, stable=True)
        parts = [
            self._embed({name: tensor[rows][:, : lengths[rows].max()] for name, tensor in batch.items()})
            for rows in order.split(_TOGETHER)
        ]
        return {"logits": torch.cat(parts)[order.argsort()]}

    def _embed(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return pool_mean(self.model.base_model(**batch).last_hidden_state.float(), batch["attention_mask"])


def load_classifier(folder: Path, labels: list[str]) -> "PreTrainedModel":
    """Load an encoder with a classification head for the labels; weights come from safetensors only."""
    from transformers import AutoModelForSequenceClassification

    try:
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
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
    """Return a module that computes the model's logits with this pooling, using the model's own weights."""
    return model if pooling == "cls" else MeanPooled(model, centred=pooling == "centred_mean")


def pool_mean(states: torch.Tensor, mask: torch.Tensor, *, centred: bool = False) -> torch.Tensor:
    """Return the mean of the states [rows, tokens, width] over each row's tokens, scaled to length 1 [rows, width]."""
    weights = mask.unsqueeze(-1).to(states)
    means = (states * weights).sum(1) / weights.sum(1)
    if centred:
        means = means - means.mean(1, keepdim=True)
    return functional.normalize(means, dim=1)


def find_head(model: "PreTrainedModel") -> nn.Linear:
    """Return the last layer of a classifier, which gives the logits."""
    above = (part for name, part in model.named_modules() if not name.startswith(f"{model.base_model_prefix}."))
    linear = [part for part in above if isinstance(part, nn.Linear) and part.out_features == model.config.num_labels]
    if not linear:
        raise ModelError(f"a classifier of type {model.config.model_type!r} has no linear head: choose one like BERT")
    return linear[-1]


def begin_head(model: "PreTrainedModel", weights: np.ndarray, biases: np.ndarray) -> None:
    """Initialise the head with weights [classes, width] and biases [classes]."""
    head = find_head(model)
    head.weight.data = torch.tensor(weights, dtype=head.weight.dtype)
    head.bias.data = torch.tensor(biases, dtype=head.bias.dtype)


def list_layers(model: "PreTrainedModel") -> nn.ModuleList:
    """Return the layers of an encoder; none if they are not one list, as in ALBERT, which repeats a single layer."""
    named = (part for name, part in model.base_model.named_modules() if name.rpartition(".")[2] in ("layer", "layers"))
    lists = [part for part in named if isinstance(part, nn.ModuleList)]
    return lists[0] if len(lists) == 1 else nn.ModuleList()


def keep_layers(model: "PreTrainedModel", count: int) -> None:
    """Keep only the lowest `count` layers of a classifier's encoder; ModelError if it has fewer, or no layer list."""
    layers = list_layers(model)
    if not layers:
        raise ModelError(f"an encoder of type {model.config.model_type!r} cannot be shortened: choose one like BERT")
    if count > len(layers):
        raise ModelError(f"`distillation.layers` is {count}, but the encoder has {len(layers)}: lower it")
    del layers[count:]
    model.config.num_hidden_layers = count


@torch.no_grad()
def append_pooling(model: "PreTrainedModel") -> None:
    """Append the pooling layer to a classifier that reads the centred mean; its logits do not change."""
    value, output, dense, shift = PARTS[model.config.model_type]
    layers = list_layers(model)
    layer: Any = copy.deepcopy(layers[-1])
    for weight in layer.parameters():
        weight.zero_()
    for module in layer.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
    nn.init.eye_(layer.get_submodule(value).weight)
    nn.init.eye_(layer.get_submodule(output).weight).mul_(_GAIN)
    layers.append(layer)
    model.config.num_hidden_layers = len(layers)

    head, before = find_head(model), model.get_submodule(dense)
    # The length of a normalised vector is the square root of its width.
    nn.init.eye_(before.weight).mul_(_SCALE / head.in_features**0.5)
    nn.init.constant_(before.bias, shift)
    head.weight.div_(_SCALE)
    head.bias.sub_(shift * head.weight.sum(1))
