"""Attributes of a response, such as its length or its register, that vary from one request to the next."""

import random
from functools import lru_cache

from amalgam.tasks.schema import Label, Task


def draw_attributes(task: Task, label: Label, seed: int, slot: int) -> dict[str, str]:
    """Draw a value of each attribute by the number of the slot, whatever is drawn for other slots.

    The list of an attribute is gone through in shuffled order, again and again and in another order each time, so
    that its values come equally often. Each attribute and label has orders of its own, so that combinations vary.

    Args:
        task: its attributes apply to every label.
        label: its attributes come on top, or instead of those of the same name.
        seed: `prompts.seed`.
        slot: number of the request among those of the label.
    """
    attributes = task.prompts.attributes | label.attributes
    return {
        name: _shuffle_values(f"{seed}/{label.name}/{name}/{slot // len(values)}", tuple(values))[slot % len(values)]
        for name, values in attributes.items()
    }


def phrase_attribute(name: str, value: str) -> str:
    """Say what is wanted of a response, as a sentence."""
    words = name.replace("_", " ")
    end = "" if value.endswith((".", "!", "?")) else "."
    return f"{words[0].upper()}{words[1:]}: {value}{end}"


@lru_cache(maxsize=1024)
def _shuffle_values(seed: str, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(random.Random(seed).sample(values, len(values)))
