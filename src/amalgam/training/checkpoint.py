"""What a trained model's folder holds, written and read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import ModelError
from amalgam.files import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NOTE = "amalgam.json"


@dataclass(frozen=True, slots=True)
class Note:
    """What scoring must know beside the weights: class names in order, tokens a row, and whether questions count."""

    labels: list[str]
    max_length: int
    uses_question: bool


def save_checkpoint(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    target: Path,
    labels: list[str],
    max_length: int,
    *,
    uses_question: bool,
) -> None:
    """Save weights (safetensors), tokenizer and note."""
    model.config._name_or_path = ""  # else the folder on this machine would stand in config.json
    model.to("cpu").save_pretrained(target)
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(target)
    write_json(target / _NOTE, {"labels": labels, "max_length": max_length, "uses_question": uses_question})


def read_note(folder: Path) -> Note:
    """Read the note of a trained model.

    Raises:
        ModelError: the folder is not one that a training stage wrote.
    """
    if not (folder / _NOTE).is_file():
        raise ModelError(f"{folder} is not a trained model: run `dvc repro`, or `dvc pull` to fetch one")
    return Note(**read_json(folder / _NOTE))
