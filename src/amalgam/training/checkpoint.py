"""What a trained model's folder holds, written and read."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import ModelError
from amalgam.files import read_json, write_json
from amalgam.training.pooling import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NOTE = "amalgam.json"


@dataclass(frozen=True, slots=True)
class Note:
    """What scoring must know beside the weights.

    Attributes:
        labels: class names in order.
        max_length: tokens a row.
        uses_question: whether the question is read with the response.
        pooling: what the head reads: the first token, or the mean of all.
    """

    labels: list[str]
    max_length: int
    uses_question: bool
    pooling: Pooling = "cls"


def save_checkpoint(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    target: Path,
    labels: list[str],
    max_length: int,
    *,
    uses_question: bool,
    pooling: Pooling = "cls",
) -> None:
    """Save weights (safetensors), tokenizer and note."""
    model.config._name_or_path = ""  # else the folder on this machine would stand in config.json
    model.to("cpu").save_pretrained(target)
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(target)
    write_json(target / _NOTE, asdict(Note(labels, max_length, uses_question, pooling)))


def read_note(folder: Path) -> Note:
    """Read the note of a trained model.

    Raises:
        ModelError: the folder is not one that a training stage wrote.
    """
    if not (folder / _NOTE).is_file():
        raise ModelError(f"{folder} is not a trained model: run `dvc repro`, or `dvc pull` to fetch one")
    return Note(**read_json(folder / _NOTE))
