"""Scoring with trained models: the states of the layers that none of them changed are computed once for all."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from amalgam.machine import choose_device, count_cores, open_autocast
from amalgam.training.checkpoint import count_unchanged, load_trained, read_config
from amalgam.training.classifier import add_pooling
from amalgam.training.encoding import (
    count_together,
    cut_model,
    encode_rows,
    load_tokenizer,
    round_weights,
    sort_batches,
)
from amalgam.training.parallel import Advance, count_workers, run_trainings


@dataclass(frozen=True, slots=True)
class _Group:
    """Models that read the same tokens: by place, each one's module and the layers below that it left unchanged.

    `lower` computes the states of these layers; without it, the modules read token ids.
    """

    folder: Path  # of the tokenizer
    lower: nn.Module | None
    modules: dict[int, tuple[nn.Module, int]]
    cuts: ExitStack  # closed, it makes the models whole again


def score_models(
    folders: Sequence[Path], tables: Mapping[str, pd.DataFrame], bases: Sequence[Path]
) -> dict[str, np.ndarray]:
    """Return the logits [models, rows, classes] of each table (`text` and `question`), by its name.

    A member that several models share is scored once, and so are layers that no member changed. The batches are
    shared out among processes, one a core. `bases` are the encoders that the models were trained from, the largest
    one first.
    """
    members = list(dict.fromkeys(member for folder in folders for member in list_members(folder)))
    parts = count_workers(count_cores(), bases[0])
    jobs = [partial(_score_part, members, tables, bases, part, parts) for part in range(parts)]
    scored = run_trainings(jobs, bases[0], lambda _: None)
    found: dict[str, np.ndarray] = {}
    for name in tables:
        logits = dict(zip(members, np.sum([part[name] for part in scored], axis=0), strict=True))
        found[name] = np.stack(
            [_join_members(np.stack([logits[one] for one in list_members(folder)])) for folder in folders]
        )
    return found


def open_model(folder: Path, bases: Sequence[Path] = ()) -> Callable[[pd.DataFrame], np.ndarray]:
    """Load a model; what comes back gives probabilities [rows, classes] of rows with `text` and `question`."""
    groups = _load_groups(list_members(folder), bases)
    return lambda rows: compute_softmax(_join_members(_score_groups(groups, rows)))


def score_rows(folder: Path, rows: pd.DataFrame, bases: Sequence[Path] = ()) -> np.ndarray:
    """Return the probabilities [rows, classes] that the model in `folder` gives, in the order of the rows."""
    return open_model(folder, bases)(rows)


def list_members(folder: Path) -> list[Path]:
    """List the folders of a model's members, which may lie elsewhere; a model that is no ensemble is its own member."""
    return [Path(os.path.normpath(folder / name)) for name in read_config(folder).members] or [folder]


def average_logits(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the mean probabilities [rows, classes] of logits [models, rows, classes].

    The mean of probabilities is what an ensemble says (Lakshminarayanan et al. 2017, arXiv 1612.01474).
    """
    means = compute_softmax(logits).mean(axis=0)
    return np.asarray(np.log(np.maximum(means, 1e-12)), dtype=np.float32)


def compute_softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities [..., classes] in float64."""
    logits = logits.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def measure_size(folder: Path, bases: Sequence[Path] = ()) -> int:
    """Return the bytes of all weights of the model in `folder`, of all its members, as it computes with them."""
    members = list_members(folder)
    return sum(weight.nbytes for member in members for weight in load_trained(member, bases).parameters())


def _join_members(logits: np.ndarray) -> np.ndarray:
    return average_logits(logits) if len(logits) > 1 else np.asarray(logits[0])


def _score_part(
    members: Sequence[Path],
    tables: Mapping[str, pd.DataFrame],
    bases: Sequence[Path],
    part: int,
    parts: int,
    _advance: Advance,
) -> dict[str, np.ndarray]:
    groups, number = _load_groups(members, bases), count()
    return {name: _score_groups(groups, table, lambda: next(number) % parts == part) for name, table in tables.items()}


def _load_groups(members: Sequence[Path], bases: Sequence[Path]) -> list[_Group]:
    by_tokens: dict[tuple[Any, ...], list[int]] = {}
    for place, member in enumerate(members):
        config = read_config(member)
        by_tokens.setdefault((config.base or member, config.max_length, config.uses_question), []).append(place)
    return [_load_group({place: members[place] for place in places}, bases) for places in by_tokens.values()]


def _load_group(members: dict[int, Path], bases: Sequence[Path]) -> _Group:
    lower, deepest, modules, device, cuts = None, 0, {}, choose_device(), ExitStack()
    for place, folder in members.items():
        model = load_trained(folder, bases, share=True).to(device)
        unchanged = count_unchanged(model, folder)
        below = cuts.enter_context(cut_model(model, unchanged)) if unchanged else None
        if below is not None and unchanged > deepest:
            lower, deepest = below.eval(), unchanged
        module = add_pooling(model, read_config(folder).pooling).eval()
        round_weights(module)
        modules[place] = (module, unchanged if below is not None else 0)
    if lower is not None:
        round_weights(lower)
    return _Group(next(iter(members.values())), lower, modules, cuts)


@torch.inference_mode()
def _score_groups(groups: Sequence[_Group], rows: pd.DataFrame, wants: Callable[[], bool] = lambda: True) -> np.ndarray:
    """Return logits [members, rows, classes], 0 in the batches that are not wanted."""
    device = choose_device()
    classes = len(read_config(groups[0].folder).labels)
    members = sum(len(group.modules) for group in groups)
    found = torch.zeros((members, len(rows), classes), device=device)
    with open_autocast(device):
        for group in groups if len(rows) else ():
            config = read_config(group.folder)
            read = rows if config.uses_question else rows.assign(question="")
            encoded = encode_rows(load_tokenizer(group.folder), read, config.max_length)
            for numbers in sort_batches(encoded.lengths, count_together(device)):
                if wants():
                    batch = {name: tensor.to(device) for name, tensor in encoded.pad(numbers).items()}
                    places = torch.tensor(numbers, device=device)
                    for member, logits in _compute(group, batch):
                        found[member, places] = logits
    return found.cpu().numpy()


def _compute(group: _Group, batch: dict[str, torch.Tensor]) -> Iterator[tuple[int, torch.Tensor]]:
    states = group.lower(**batch, output_hidden_states=True).hidden_states if group.lower is not None else ()
    mask = batch["attention_mask"]
    for place, (module, unchanged) in group.modules.items():
        given = batch if not unchanged else {"inputs_embeds": states[unchanged], "attention_mask": mask}
        yield place, module(**given).logits.float()
