"""What a trained model's folder holds, written and read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import ModelError
from amalgam.files import hash_file, read_json, write_json
from amalgam.training.pooling import Pooling
from amalgam.training.processes import is_main_process

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NOTE, _WEIGHTS = "amalgam.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Note:
    """What scoring must know beside the weights.

    Attributes:
        labels: class names in order.
        max_length: tokens a row.
        uses_question: whether the question is read with the response.
        pooling: what the head reads; see pooling.py.
        members: folders in this one whose models give their mean view together; none where it is one model itself.
        base: SHA-256 of the weights of the encoder that all weights come from which are not here; "" where all are.
    """

    labels: list[str]
    max_length: int
    uses_question: bool
    pooling: Pooling = "cls"
    members: list[str] = field(default_factory=list)
    base: str = ""


def save_checkpoint(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    target: Path,
    labels: list[str],
    max_length: int,
    *,
    uses_question: bool,
    pooling: Pooling = "cls",
    base: Path | None = None,
) -> None:
    """Save weights (safetensors), tokenizer and note; of several processes that train together, the main one does.

    With the folder `base` of the encoder that the model was, only weights that are not frozen are saved, in bfloat16.
    """
    if not is_main_process():
        return
    model.config._name_or_path = ""  # else the folder on this machine would stand in config.json
    if base:
        import torch
        from safetensors.torch import save_file

        model.config.save_pretrained(target)
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        save_file(
            {name: weight.detach().to("cpu", torch.bfloat16) for name, weight in trained.items()}, target / _WEIGHTS
        )
    else:
        model.to("cpu").save_pretrained(target)
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(target)
    digest = hash_file(base / _WEIGHTS) if base else ""
    write_json(target / _NOTE, asdict(Note(labels, max_length, uses_question, pooling, base=digest)))


def load_trained(folder: Path, base: Path | None) -> "PreTrainedModel":
    """Load a model that `save_checkpoint` saved; the weights that are not in `folder` come from the encoder `base`.

    Raises:
        ModelError: it cannot be read, or was trained from another encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from amalgam.training.classifier import load_classifier

    note = read_note(folder)
    if not note.base:
        return load_classifier(folder, note.labels)
    if base is None or not (base / _WEIGHTS).is_file() or hash_file(base / _WEIGHTS) != note.base:
        raise ModelError(f"{folder} was trained from another encoder than {base}: run `dvc repro`")
    model = load_classifier(base, note.labels)
    try:
        model.load_state_dict(load_file(folder / _WEIGHTS), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be loaded ({error}): delete it and run `dvc repro`") from error
    return model


def read_note(folder: Path) -> Note:
    """Read the note of a trained model.

    Raises:
        ModelError: the folder is not one that a training stage wrote.
    """
    if not (folder / _NOTE).is_file():
        raise ModelError(f"{folder} is not a trained model: run `dvc repro`, or `dvc pull` to fetch one")
    return Note(**read_json(folder / _NOTE))


def note_members(target: Path, names: Sequence[str]) -> None:
    """Note that the models in these folders of `target` speak together; the first gives its layers to students."""
    if is_main_process():
        write_json(target / _NOTE, asdict(replace(read_note(target / names[0]), members=list(names))))


def find_body(folder: Path) -> Path:
    """Return the folder of a classifier's own weights; of several members, those of the first."""
    members = read_note(folder).members
    return folder / members[0] if members else folder
