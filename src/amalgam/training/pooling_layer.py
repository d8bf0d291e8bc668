"""Mean pooling as one more layer of the encoder, so that a classifier which reads the mean loads anywhere.

The classifiers of `transformers` read the first token. A layer whose queries and keys are 0 attends to all tokens
alike (in MPNet by their distance alone), so what its first token gets is their mean. It is made so large that the
residual beside it vanishes, and the normalisation that follows centres it and scales it. The feed-forward part is 0 and
changes nothing.
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from amalgam.training.classifier import find_head
from amalgam.training.layers import find_stack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_GAIN = 2.0**14  # of the mean over the residual; still within 16-bit floats
_SCALE = 2.0**-6  # of what passes the activation before the head: small enough for tanh to leave it as it is
_BERT = "attention.self.value", "attention.output.dense"
# By the encoder's type: values and output of a layer's attention, the linear map before the activation, and what to
# add there so that the activation leaves it as it is (ReLU needs positive numbers).
_PARTS = {
    "bert": (*_BERT, "bert.pooler.dense", 0.0),
    "roberta": (*_BERT, "classifier.dense", 0.0),
    "xlm-roberta": (*_BERT, "classifier.dense", 0.0),
    "mpnet": ("attention.attn.v", "attention.attn.o", "classifier.dense", 0.0),
    "distilbert": ("attention.v_lin", "attention.out_lin", "pre_classifier", 1.0),
}


def can_append_pooling(model: "PreTrainedModel") -> bool:
    """Tell whether `append_pooling` knows this type of encoder."""
    return model.config.model_type in _PARTS


@torch.no_grad()
def append_pooling(model: "PreTrainedModel") -> None:
    """Append the layer to a classifier that was trained to read the centred mean; its logits stay what they were."""
    value, output, dense, shift = _PARTS[model.config.model_type]
    owner, name = find_stack(model)
    layers = getattr(owner, name)
    layer = copy.deepcopy(layers[-1])
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
    # A normalised vector has the length of the square root of its width.
    nn.init.eye_(before.weight).mul_(_SCALE / head.in_features**0.5)
    nn.init.constant_(before.bias, shift)
    head.weight.div_(_SCALE)
    head.bias.sub_(shift * head.weight.sum(1))
