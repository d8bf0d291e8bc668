"""Trained models: what their folders hold, and how to load them and score texts.

A folder holds only the weights that training changed; the rest come from the encoder that the model started from.
States of layers that several models left unchanged are computed once for all of them.
"""

import copy
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amalgam.errors import ModelError
from amalgam.files import hash_file, read_json, write_json
from amalgam.machine import choose_device, count_cores, open_autocast
from amalgam.training.parallel import Advance, count_workers, run_trainings, this_process

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from amalgam.training.classifier import Pooling

    Tables = Mapping[str, pd.DataFrame]

_CONFIG, _WEIGHTS = "amalgam.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Config:
    """What scoring needs besides the weights."""

    labels: list[str]  # class names in order
    max_length: int  # tokens per row
    uses_question: bool  # whether the model reads the question with the response
    pooling: "Pooling" = "cls"  # what the head reads
    members: list[str] = field(default_factory=list)  # folders of an ensemble's models, relative to this one
    base: str = ""  # SHA-256 of the weights of the encoder that supplies all weights not saved here


def read_config(folder: Path) -> Config:
    """Read the config of a trained model; ModelError if no training stage wrote the folder."""
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
    """Save weights (safetensors), tokenizer and config; if several processes train together, only the main one saves.

    With `base`, the folder of the encoder the model started from, only weights that differ are saved, in bfloat16.
    """
    import torch
    from safetensors.torch import save_file

    if not this_process().is_main_process:
        return
    model.config._name_or_path = tokenizer.name_or_path = ""  # otherwise a path on this machine would be saved
    model.to("cpu")
    if base:
        before = dict(_load_base(base, tuple(config.labels)).named_parameters())
        changed = {
            name: weight.detach().to(torch.bfloat16)
            for name, weight in model.named_parameters()
            if weight.requires_grad or name not in before or not torch.equal(weight, before[name])
        }
        model.config.save_pretrained(target)
        save_file(changed, target / _WEIGHTS)
    else:
        model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    write_config(target, replace(config, base=identify_weights(base) if base else ""))


def load_trained(folder: Path, bases: Sequence[Path] = (), *, share: bool = False) -> "PreTrainedModel":
    """Load a model that `save_checkpoint` saved; weights that are not in `folder` come from one of the encoders.

    With `share`, models of the same encoder share these weights, which saves memory; none of them may be trained.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig

    from amalgam.training.classifier import keep_layers, load_classifier

    config = read_config(folder)
    if not config.base:
        return load_classifier(folder, config.labels)
    found = [base for base in bases if (base / _WEIGHTS).is_file() and identify_weights(base) == config.base]
    if not found:
        raise ModelError(f"{folder} was trained from an encoder not in {', '.join(map(str, bases))}: run `dvc repro`")
    whole = _load_base(found[0], tuple(config.labels))
    try:
        weights = load_file(folder / _WEIGHTS)
        layers = AutoConfig.from_pretrained(folder, local_files_only=True).num_hidden_layers
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
    from amalgam.training.classifier import load_classifier

    return load_classifier(base, list(labels))


def identify_weights(encoder: Path) -> str:
    """Return the SHA-256 of an encoder's weights; recorded by the stage that fetched it, or else computed."""
    noted = read_json(encoder / _CONFIG).get("files", {}) if (encoder / _CONFIG).is_file() else {}
    return str(noted.get(_WEIGHTS) or hash_file(encoder / _WEIGHTS))


def list_members(folder: Path) -> list[Path]:
    """List the folders of a model's members, perhaps elsewhere; a model that is not an ensemble is its own member."""
    return [Path(os.path.normpath(folder / name)) for name in read_config(folder).members] or [folder]


def measure_size(folder: Path, bases: Sequence[Path] = ()) -> int:
    """Return the bytes of all weights of the model in `folder`, summed over its members, as used in computation."""
    models = (load_trained(member, bases) for member in list_members(folder))
    return sum(weight.nbytes for model in models for weight in model.parameters())


def score_models(folders: Sequence[Path], tables: "Tables", bases: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the logits [models, rows, classes] of each table (`text` and `question`), by table name.

    A member that several models share is scored once. The batches are divided among processes, one per core. `bases`
    are the encoders that the models were trained from, the largest first.
    """
    owned = [list_members(folder) for folder in folders]
    members = list(dict.fromkeys(chain(*owned)))
    parts = count_workers(count_cores(), bases[0])
    jobs = [functools.partial(_score_part, members, tables, bases, part, parts) for part in range(parts)]
    scored = run_trainings(jobs, bases[0], lambda _item: None)
    sums = {name: np.sum([part[name] for part in scored], axis=0) for name in tables}
    places = [[members.index(member) for member in own] for own in owned]
    return {name: np.stack([_join_members(logits[own]) for own in places]) for name, logits in sums.items()}


def open_model(folder: Path, bases: Sequence[Path] = ()) -> "Callable[[pd.DataFrame], np.ndarray]":
    """Load a model; return a function from rows with `text` and `question` to probabilities [rows, classes]."""
    groups = _load_groups(list_members(folder), bases)
    return lambda rows: compute_softmax(_join_members(_score_groups(groups, rows)))


def average_logits(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the mean probabilities [rows, classes] of logits [models, rows, classes].

    An ensemble predicts the mean of its members' probabilities (Lakshminarayanan et al. 2017, arXiv 1612.01474).
    """
    means = compute_softmax(logits).mean(axis=0)
    return np.asarray(np.log(np.maximum(means, 1e-12)), dtype=np.float32)


def compute_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the probabilities [..., classes], in float64, of logits divided by the temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _join_members(logits: np.ndarray) -> np.ndarray:
    return average_logits(logits) if len(logits) > 1 else np.asarray(logits[0])


def _score_part(
    members: Sequence[Path], tables: "Tables", bases: Sequence[Path], part: int, parts: int, _advance: Advance
) -> dict[str, np.ndarray]:
    groups = _load_groups(members, bases)
    return {name: _score_groups(groups, table, part, parts) for name, table in tables.items()}


class _Group:
    """Models that read the same tokens; the states of lower layers that they left unchanged are computed once."""

    def __init__(self, members: dict[int, Path], bases: Sequence[Path]) -> None:
        from amalgam.training.classifier import add_pooling
        from amalgam.training.encoding import cut_model, round_weights

        self.folder, self.lower, deepest = next(iter(members.values())), None, 0
        # By the model's place among all models, each with its number of unchanged lower layers.
        self.modules: dict[int, tuple[nn.Module, int]] = {}
        for place, folder in members.items():
            model = load_trained(folder, bases, share=True).to(choose_device())
            unchanged = _count_unchanged(model, folder)
            if parts := cut_model(model, unchanged) if unchanged else None:
                below, model = parts
                self.lower, deepest = (below, unchanged) if unchanged > deepest else (self.lower, deepest)
            module = add_pooling(model, read_config(folder).pooling)
            round_weights(module)
            self.modules[place] = module, unchanged if parts else 0
        if self.lower is not None:
            round_weights(self.lower)


def _load_groups(members: Sequence[Path], bases: Sequence[Path]) -> list[_Group]:
    by_tokens: dict[tuple[Any, ...], dict[int, Path]] = {}
    for place, member in enumerate(members):
        config = read_config(member)
        by_tokens.setdefault((config.base or member, config.max_length, config.uses_question), {})[place] = member
    return [_Group(group, bases) for group in by_tokens.values()]


def _count_unchanged(model: "PreTrainedModel", folder: Path) -> int:
    """Count how many of the lowest layers of the model in `folder` are still those of its base encoder."""
    from safetensors import safe_open

    from amalgam.training.classifier import list_layers

    with safe_open(folder / _WEIGHTS, "pt") as file:
        names = set(file.keys())
    changed = {id(weight) for name, weight in model.named_parameters() if name in names}
    layers = list_layers(model)
    return next((n for n, layer in enumerate(layers) if changed & set(map(id, layer.parameters()))), len(layers))


def _score_groups(groups: Sequence[_Group], rows: "pd.DataFrame", part: int = 0, parts: int = 1) -> np.ndarray:
    """Return logits [members, rows, classes]; with several parts, only those of this part, and 0 for the others."""
    import torch

    from amalgam.training.encoding import count_together, encode_rows, load_tokenizer, sort_batches

    device, members = choose_device(), sum(len(group.modules) for group in groups)
    found = torch.zeros((members, len(rows), len(read_config(groups[0].folder).labels)), device=device)
    with torch.inference_mode(), open_autocast(device):
        for group in groups if len(rows) else ():
            config = read_config(group.folder)
            read = rows if config.uses_question else rows.assign(question="")
            encoded = encode_rows(load_tokenizer(group.folder), read, config.max_length)
            for numbers in islice(sort_batches(encoded.lengths, count_together(device)), part, None, parts):
                batch = {name: tensor.to(device) for name, tensor in encoded.pad(numbers).items()}
                states = group.lower(**batch, output_hidden_states=True).hidden_states if group.lower else ()
                places = torch.tensor(numbers, device=device)
                for member, (module, unchanged) in group.modules.items():
                    given = batch
                    if unchanged:
                        given = {"inputs_embeds": states[unchanged], "attention_mask": batch["attention_mask"]}
                    found[member, places] = module(**given)["logits"].float()
    return found.cpu().numpy()
