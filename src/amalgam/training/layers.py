"""The layers of an encoder, and an encoder with fewer of them."""

from typing import TYPE_CHECKING

from torch import nn

from amalgam.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def keep_layers(model: "PreTrainedModel", count: int) -> None:
    """Leave an encoder classifier its lowest `count` layers and everything else.

    What lies above them is not missed: each layer still gets what it learned to read. Of layers that are evenly
    spaced none does, and few rows do not teach it anew (bench/).

    Raises:
        ModelError: it has fewer, or is not built of a list of layers, as those of the BERT family are.
    """
    owner, name = find_stack(model)
    layers = getattr(owner, name)
    if count > len(layers):
        raise ModelError(f"`distillation.layers` is {count}, but the encoder has {len(layers)}: lower it")
    setattr(owner, name, nn.ModuleList(layers[:count]))
    model.config.num_hidden_layers = count


def find_stack(model: "PreTrainedModel") -> tuple[nn.Module, str]:
    """Return the module that holds the list of layers, and the name of the list in it.

    Raises:
        ModelError: there is no such list, or there are several.
    """
    stacks = [
        (module, name)
        for module in model.base_model.modules()
        for name, child in module.named_children()
        if name in ("layer", "layers") and isinstance(child, nn.ModuleList)
    ]
    if len(stacks) != 1:
        raise ModelError(f"an encoder of type {model.config.model_type!r} cannot be shortened: choose one like BERT")
    return stacks[0]
