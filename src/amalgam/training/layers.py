"""Which layers of a teacher a student takes."""

import copy
from typing import TYPE_CHECKING

from torch import nn

from amalgam.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    owner, name = find_stack(student)
    layers = getattr(owner, name)
    chosen = choose_layers(len(layers), count)
    setattr(owner, name, nn.ModuleList(layers[number] for number in chosen))
    student.config.num_hidden_layers = count
    return student


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
