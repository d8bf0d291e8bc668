"""What a trained model's folder holds, written and read."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import ModelError
from amalgam.files import hash_file, read_json, write_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from amalgam.training.classifier import Pooling

_CONFIG, _WEIGHTS = "amalgam.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Config:
    """What scoring must know beside the weights."""

    labels: list[str]  # class names in order
    max_length: int  # tokens a row
    uses_question: bool  # whether the question is read with the response
    pooling: "Pooling" = "cls"  # what the head reads
    members: list[str] = field(default_factory=list)  # folders, relative to this one, of an ensemble's models
    base: str = ""  # SHA-256 of the weights of the encoder that has all weights which are not here


def read_config(folder: Path) -> Config:
    """Read the config of a trained model; ModelError if the folder is not one that a training stage wrote."""
    if not (folder / _CONFIG).is_file():
        raise ModelError(f"{folder} is not a trained model: run `dvc repro`, or `dvc pull` to fetch one")
    return Config(**read_json(folder / _CONFIG))


def write_config(folder: Path, config: Config) -> None:
    """Write the config of a trained model, or of an ensemble."""
    write_json(folder / _CONFIG, asdict(config))


def save_checkpoint(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    target: Path,
    config: Config,
    base: Path | None = None,
) -> None:
    """Save weights (safetensors), tokenizer and config; of several processes that train together, the main one does.

    With the folder `base` of the encoder that the model was, only weights that differ from it are saved, in bfloat16.
    """
    from amalgam.training.parallel import is_main_process

    if not is_main_process():
        return
    model.config._name_or_path = tokenizer.name_or_path = ""  # else the folder on this machine would be saved
    model.to("cpu")
    if base:
        from safetensors.torch import save_file

        model.config.save_pretrained(target)
        save_file(_find_changes(model, base, config.labels), target / _WEIGHTS)
    else:
        model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    write_json(target / _CONFIG, asdict(config) | {"base": identify_weights(base) if base else ""})


def _find_changes(model: "PreTrainedModel", base: Path, labels: list[str]) -> "dict[str, torch.Tensor]":
    import torch

    before = dict(_load_base(base, tuple(labels)).named_parameters())
    return {
        name: weight.detach().to(torch.bfloat16)
        for name, weight in model.named_parameters()
        if weight.requires_grad or name not in before or not torch.equal(weight, before[name].to(weight.device))
    }


def load_trained(folder: Path, bases: Sequence[Path] = (), *, share: bool = False) -> "PreTrainedModel":
    """Load a model that `save_checkpoint` saved; the weights that are not in `folder` come from one of the encoders.

    With `share`, models of one encoder hold these weights together: it saves memory, and none may be trained.

    Raises:
        ModelError: it cannot be read, or was trained from another encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from amalgam.training.classifier import keep_layers, load_classifier

    config = read_config(folder)
    if not config.base:
        return load_classifier(folder, config.labels)
    base = next((base for base in bases if (base / _WEIGHTS).is_file() and identify_weights(base) == config.base), None)
    if base is None:
        raise ModelError(
            f"{folder} was trained from another encoder than {', '.join(map(str, bases))}: run `dvc repro`"
        )
    whole = _load_base(base, tuple(config.labels))
    try:
        weights, layers = load_file(folder / _WEIGHTS), read_layers(folder)
        common = {id(weight): weight for name, weight in whole.named_parameters() if share and name not in weights}
        model = copy.deepcopy(whole, common)
        if layers < model.config.num_hidden_layers:
            keep_layers(model, layers)
        model.load_state_dict(weights, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be loaded ({error}): delete it and run `dvc repro`") from error
    return model


@functools.lru_cache(maxsize=1)
def _load_base(base: Path, labels: tuple[str, ...]) -> "PreTrainedModel":
    """Load an encoder once, however many models were trained from it."""
    from amalgam.training.classifier import load_classifier

    return load_classifier(base, list(labels))


def count_unchanged(model: "PreTrainedModel", folder: Path) -> int:
    """Count the lowest layers of a model of `folder` that are still those of its base encoder."""
    from safetensors import safe_open

    from amalgam.training.classifier import list_layers

    if not read_config(folder).base:
        return 0
    with safe_open(folder / _WEIGHTS, "pt") as file:
        names = set(file.keys())
    changed = {id(weight) for name, weight in model.named_parameters() if name in names}
    layers = list_layers(model)
    return next((n for n, layer in enumerate(layers) if changed & set(map(id, layer.parameters()))), len(layers))


def read_layers(folder: Path) -> int:
    """Read how many layers a model's encoder has."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder, local_files_only=True).num_hidden_layers)


def identify_weights(encoder: Path) -> str:
    """Return the SHA-256 of an encoder's weights; the stage that fetched it has noted that."""
    noted = read_json(encoder / _CONFIG).get("files", {}) if (encoder / _CONFIG).is_file() else {}
    return str(noted.get(_WEIGHTS) or hash_file(encoder / _WEIGHTS))
