"""Scoring with trained models: the states of the layers that none of them changed are computed once for all."""

import os
from collections.abc import Iterator, Mapping, Sequence
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
from amalgam.training.encoding import cut_model, encode_rows, load_tokenizer, round_weights, sort_batches
from amalgam.training.parallel import Advance, count_workers, run_trainings

_BATCH = 64  # rows


def score_models(
    folders: Sequence[Path], tables: Mapping[str, pd.DataFrame], bases: Sequence[Path]
) -> dict[str, np.ndarray]:
    """Return the logits [models, rows, classes] of each table, by its name; see `average_logits` for ensembles.

    A member that several models share is scored once, and so are layers that no member changed. The batches are
    shared out among processes, one a core.

    Args:
        folders: of trained models.
        tables: rows (`text` and `question`) by name.
        bases: folders of the encoders that the models were trained from; the first one is the largest.
    """
    members = list(dict.fromkeys(member for folder in folders for member in list_members(folder)))
    parts = count_workers(count_cores(), bases[0])
    jobs = [partial(_score_part, members, tables, bases, part, parts) for part in range(parts)]
    scored = run_trainings(jobs, bases[0], lambda _: None)
    found: dict[str, np.ndarray] = {}
    for name in tables:
        logits = dict(zip(members, np.sum([part[name] for part in scored], axis=0), strict=True))
        found[name] = np.stack([_join_members(folder, logits) for folder in folders])
    return found


def _score_part(
    members: Sequence[Path],
    tables: Mapping[str, pd.DataFrame],
    bases: Sequence[Path],
    part: int,
    parts: int,
    _advance: Advance,
) -> dict[str, np.ndarray]:
    scorer, number = _MemberScorer(members, bases, _BATCH), count()
    return {name: scorer.score(table, lambda: next(number) % parts == part) for name, table in tables.items()}


class Scorer:
    """A trained model, loaded once."""

    def __init__(self, folder: Path, bases: Sequence[Path] = (), *, batch_size: int = _BATCH) -> None:
        """Load the model in `folder`, which was trained from one of the encoders `bases`; see `load_trained`."""
        self._folder, self._members = folder, list_members(folder)
        self._scorer = _MemberScorer(self._members, bases, batch_size)

    def score(self, rows: pd.DataFrame) -> np.ndarray:
        """Return probabilities [rows, classes], in the order of the rows (with `text` and `question`)."""
        return compute_softmax(self.compute_logits(rows))

    def compute_logits(self, rows: pd.DataFrame) -> np.ndarray:
        """Return logits [rows, classes], in the order of the rows."""
        return _join_members(self._folder, dict(zip(self._members, self._scorer.score(rows), strict=True)))


@dataclass(frozen=True, slots=True)
class _Group:
    """Members that read the same tokens: by its place, each one's module and the layers below that it left unchanged.

    `lower` computes the states of these layers; without it, the modules read token ids.
    """

    folder: Path  # of the tokenizer
    lower: nn.Module | None
    modules: dict[int, tuple[nn.Module, int]]


class _MemberScorer:
    def __init__(self, members: Sequence[Path], bases: Sequence[Path], batch_size: int) -> None:
        self._batch_size, self._device = batch_size, choose_device()
        self._classes, self._count = len(read_config(members[0]).labels), len(members)
        self._open = ExitStack()  # keeps models cut
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, member in enumerate(members):
            config = read_config(member)
            groups.setdefault((config.base or member, config.max_length, config.uses_question), []).append(place)
        self._groups = [self._load({place: members[place] for place in places}, bases) for places in groups.values()]

    def _load(self, members: dict[int, Path], bases: Sequence[Path]) -> _Group:
        lower, deepest, modules = None, 0, {}
        for place, folder in members.items():
            model = load_trained(folder, bases, share=self._device.type == "cpu")
            unchanged = count_unchanged(model, folder)
            below = self._open.enter_context(cut_model(model, unchanged)) if unchanged else None
            if below is not None and unchanged > deepest:
                lower, deepest = below.to(self._device).eval(), unchanged
            module = add_pooling(model, read_config(folder).pooling).to(self._device).eval()
            round_weights(module)
            modules[place] = (module, unchanged if below is not None else 0)
        if lower is not None:
            round_weights(lower)
        return _Group(next(iter(members.values())), lower, modules)

    @torch.inference_mode()
    def score(self, rows: pd.DataFrame, wants: Any = lambda: True) -> np.ndarray:
        """Return logits [members, rows, classes], 0 in the batches that are not wanted."""
        found = np.zeros((self._count, len(rows), self._classes), dtype=np.float32)
        with open_autocast(self._device):
            for group in self._groups if len(rows) else ():
                for numbers, batch in self._draw_batches(group.folder, rows):
                    if wants():
                        for place, logits in _compute(group, batch):
                            found[place, numbers] = logits
        return found

    def _draw_batches(self, folder: Path, rows: pd.DataFrame) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
        config = read_config(folder)
        read = rows if config.uses_question else rows.assign(question="")
        encoded = encode_rows(load_tokenizer(folder), read, config.max_length)
        for numbers in sort_batches(encoded.lengths, self._batch_size):
            yield numbers, {name: tensor.to(self._device) for name, tensor in encoded.pad(numbers).items()}


def _compute(group: _Group, batch: dict[str, torch.Tensor]) -> Iterator[tuple[int, np.ndarray]]:
    states = group.lower(**batch, output_hidden_states=True).hidden_states if group.lower is not None else ()
    mask = batch["attention_mask"]
    for place, (module, unchanged) in group.modules.items():
        given = batch if not unchanged else {"inputs_embeds": states[unchanged], "attention_mask": mask}
        yield place, module(**given).logits.float().cpu().numpy()


def list_members(folder: Path) -> list[Path]:
    """List the folders of a model's members, which may lie elsewhere; a model that is no ensemble is its own member."""
    return [Path(os.path.normpath(folder / name)) for name in read_config(folder).members] or [folder]


def _join_members(folder: Path, logits: Mapping[Path, np.ndarray]) -> np.ndarray:
    found = [logits[member] for member in list_members(folder)]
    return average_logits(np.stack(found)) if len(found) > 1 else found[0]


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


def score_rows(folder: Path, rows: pd.DataFrame, bases: Sequence[Path] = ()) -> np.ndarray:
    """Return the probabilities [rows, classes] that the model in `folder` gives, in the order of the rows."""
    return Scorer(folder, bases).score(rows)


def measure_size(folder: Path, bases: Sequence[Path] = ()) -> int:
    """Return the bytes of all weights of the model in `folder`, of all its members, as it computes with them."""
    members = list_members(folder)
    return sum(weight.nbytes for member in members for weight in load_trained(member, bases).parameters())
