"""The lower layers of an encoder stay as they are, and so do their states of a row: they are computed once."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from amalgam.errors import ModelError
from amalgam.machine import choose_device, choose_dtype, open_autocast
from amalgam.training.encoding import Encoded, sort_batches
from amalgam.training.layers import find_stack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOGETHER = 8  # rows of similar length whose states are computed together
_MOST = 2**30  # bytes of states that are kept; those of further rows are computed each time


class States(Encoded):
    """Tokenised rows whose batches hold the states of the lower layers in place of token ids."""

    def __init__(self, encoded: Encoded, lower: nn.Module) -> None:
        """Take the rows, and what `cut_model` gives."""
        super().__init__(encoded.tokenizer, encoded.features, encoded.labels)
        self._lower, self._room = lower, _MOST
        self._kept: dict[int, torch.Tensor] = {}

    def pad(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the states [rows, tokens, width] as `inputs_embeds`, and the mask; they may be trained on."""
        numbers = rows.tolist()
        found = {row: self._kept[row] for row in numbers if row in self._kept}
        missing = np.array([row for row in numbers if row not in found], dtype=np.int64)
        with torch.inference_mode(False), torch.no_grad():
            lengths = np.array([len(self.features[row]["input_ids"]) for row in missing.tolist()])
            for places in sort_batches(lengths, _TOGETHER):
                for row, states in self._compute(missing[places]):
                    found[row] = states
                    if states.nbytes <= self._room:
                        self._kept[row], self._room = states, self._room - states.nbytes
            ordered = [found[row] for row in numbers]
            masks = [states.new_ones(len(states), dtype=torch.long) for states in ordered]
            padded = (nn.utils.rnn.pad_sequence(parts, batch_first=True) for parts in (ordered, masks))
            return dict(zip(("inputs_embeds", "attention_mask"), padded, strict=True))

    def _compute(self, rows: np.ndarray) -> Iterator[tuple[int, torch.Tensor]]:
        device = choose_device()
        self._lower.to(device)
        batch = {name: tensor.to(device) for name, tensor in super().pad(rows).items()}
        with open_autocast(device):
            states = self._lower(**batch).last_hidden_state.to(choose_dtype(device))
        for row, of_row, mask in zip(rows.tolist(), states, batch["attention_mask"].bool(), strict=True):
            yield row, of_row[mask]


class _PassOn(nn.Module):
    """Stands where a model has its embeddings, and takes the given states for them."""

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return next(one for one in (*args, *kwargs.values()) if torch.is_tensor(one) and one.is_floating_point())


def freeze_lower(model: "PreTrainedModel", trained: int | None) -> None:
    """Leave all as it is but the upper layers, `trained` of them or all, and what is above; switch dropout off.

    Tables, of words as of positions, stay as well: of few rows they learn little.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.Embedding):
            module.requires_grad_(False)
    for part in _find_embeddings(model).values():
        part.requires_grad_(False)
    try:
        layers = getattr(*find_stack(model))
    except ModelError:
        return
    for layer in layers[: _count_frozen(layers, trained)]:
        layer.requires_grad_(False)


@contextmanager
def hold_lower(model: "PreTrainedModel", trained: int | None) -> Iterator[Callable[[Encoded], Encoded]]:
    """Let a model of `freeze_lower` read states while the block runs; what is given makes the rows ready for it.

    Where an encoder is not built as those of the BERT family are, it goes on to read token ids.
    """
    try:
        frozen = _count_frozen(getattr(*find_stack(model)), trained)
    except ModelError:
        frozen = 0
    with cut_model(model, frozen) as lower:
        if lower is None:
            yield lambda encoded: encoded
            return
        round_weights(lower)
        yield partial(States, lower=lower)


def round_weights(module: nn.Module) -> None:
    """Round the weights of linear layers to bfloat16 where autocast would otherwise round them at every call."""
    if choose_dtype(choose_device()) is torch.bfloat16:
        for part in module.modules():
            if isinstance(part, nn.Linear):
                for name, weight in list(part.named_parameters()):
                    setattr(part, name, nn.Parameter(weight.bfloat16(), requires_grad=False))


@contextmanager
def cut_model(model: "PreTrainedModel", frozen: int) -> Iterator[nn.Module | None]:
    """Take the lowest `frozen` layers off a classifier while the block runs; yield them, or None where that fails.

    They are a model of their own, which gives its states as `last_hidden_state`; the classifier takes them as
    `inputs_embeds`. Whether both together do what the model did is tried out.
    """
    base = model.base_model.eval()
    try:
        owner, name = find_stack(model)
    except ModelError:
        yield None
        return
    layers, above = getattr(owner, name), _find_embeddings(model)
    mask = torch.ones(1, 6, dtype=torch.long)
    batch = {"input_ids": torch.arange(4, 10)[None], "attention_mask": mask}
    try:
        with torch.no_grad():
            expected = base(**batch).last_hidden_state
            setattr(owner, name, layers[:frozen])
            # What is frozen is shared with the copy.
            shared = [weight for part in (*above.values(), layers[:frozen]) for weight in part.parameters()]
            lower = copy.deepcopy(base, {id(weight): weight for weight in shared})
            setattr(owner, name, layers[frozen:])
            for part in above:
                setattr(base, part, _PassOn())
            found = base(inputs_embeds=lower(**batch).last_hidden_state, attention_mask=mask).last_hidden_state
        fits = torch.allclose(found, expected, atol=1e-4)
        if fits:
            yield lower
    finally:
        setattr(owner, name, layers)
        for part, module in above.items():
            setattr(base, part, module)
    if not fits:
        yield None


def _find_embeddings(model: "PreTrainedModel") -> dict[str, nn.Module]:
    """Find what makes vectors of token ids, by name; in ELECTRA that are two parts."""
    return {name: part for name, part in model.base_model.named_children() if name.startswith("embeddings")}


def _count_frozen(layers: nn.Module, trained: int | None) -> int:
    count = len(list(layers.children()))
    return max(count - (trained or count), 0)
