"""Texts as token ids, or as states of the layers that training leaves unchanged, and batches made of them."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from amalgam.machine import choose_device, choose_dtype, open_autocast
from amalgam.training.classifier import list_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WINDOW = 16  # batches sorted by length together: this saves padding, and the order stays random enough
_TOGETHER = 8  # rows of similar length whose states are computed together
_MOST = 2**30  # bytes of states that are kept; the states of further rows are computed each time


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows."""

    tokenizer: "PreTrainedTokenizerBase"
    features: list[dict[str, list[int]]]  # for each row the tokenizer's lists of ids and masks
    length: int | None = None  # tokens to which every batch is padded; None pads to its longest row

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.features)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens in each row."""
        return np.array([len(feature["input_ids"]) for feature in self.features], dtype=np.int64)

    def pad(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Collect rows into padded tensors."""
        padding = "max_length" if self.length else True
        features = [self.features[row] for row in rows]
        return dict(self.tokenizer.pad(features, padding, self.length, return_tensors="pt"))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model's folder."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


def encode_rows(tokenizer: "PreTrainedTokenizerBase", rows: pd.DataFrame, max_length: int) -> Encoded:
    """Tokenise rows to `max_length` tokens at most; a question is the second segment; the longer one is cut first."""
    texts, questions = rows["text"].tolist(), rows["question"].tolist()
    length = min(max_length, tokenizer.model_max_length)
    pairs = (texts, questions) if any(questions) else (texts,)
    encoded = tokenizer(*pairs, truncation="longest_first", max_length=length)
    return Encoded(tokenizer, [{name: encoded[name][row] for name in encoded} for row in range(len(texts))])


def draw_batches(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the row numbers of one batch after another, epoch after epoch, without end.

    Rows are shuffled, then sorted by length within a few batches, so that a batch holds rows of similar length.
    """
    while True:
        order = generator.permutation(len(lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), batch_size * _WINDOW):
            window = order[start : start + batch_size * _WINDOW]
            window = window[np.argsort(lengths[window], kind="stable")]
            batches += [window[first : first + batch_size] for first in range(0, len(window), batch_size)]
        for number in generator.permutation(len(batches)):
            yield batches[number]


def sort_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield every row once, longest first, in batches of similar length."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def count_together(device: torch.device, on_cpu: int = 64) -> int:
    """Return how many rows to compute together: a CPU has a small cache, and a GPU must not wait for work."""
    return on_cpu if device.type == "cpu" else 128


@torch.inference_mode()
def compute_logits(compute: Callable[..., Any], encoded: Encoded, device: torch.device) -> np.ndarray:
    """Return the logits [rows, classes] of all rows in order; `compute` is, or acts like, a model without dropout."""
    order, parts = list(sort_batches(encoded.lengths, count_together(device))), []
    with open_autocast(device):  # entered once, because each time the weights are rounded again
        for rows in order:
            output = compute(**{name: tensor.to(device) for name, tensor in encoded.pad(rows).items()})
            parts.append((output if torch.is_tensor(output) else output["logits"]).float())
    return np.asarray(torch.cat(parts).cpu().numpy()[np.argsort(np.concatenate(order))])


class States(Encoded):
    """Tokenised rows whose batches hold the states of the lower layers instead of token ids."""

    def __init__(self, encoded: Encoded, lower: nn.Module) -> None:
        """Take the rows, and the lower layers from `cut_model`."""
        super().__init__(encoded.tokenizer, encoded.features)
        self._lower = lower
        self._room = _MOST if choose_device().type == "cpu" else 0  # on a GPU, steps read each row once, into a `Bank`
        self._kept: dict[int, torch.Tensor] = {}

    def pad(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the states [rows, tokens, width] as `inputs_embeds`, and the mask; training may use them."""
        found = {row: self._kept[row] for row in rows.tolist() if row in self._kept}
        missing = rows[[row not in found for row in rows.tolist()]]
        with torch.inference_mode(False), torch.no_grad():
            for places in sort_batches(self.lengths[missing], count_together(choose_device(), _TOGETHER)):
                found |= self._compute(missing[places])
            ordered = [found[row] for row in rows.tolist()]
            masks = [states.new_ones(len(states), dtype=torch.long) for states in ordered]
            padded = (nn.utils.rnn.pad_sequence(parts, batch_first=True) for parts in (ordered, masks))
            return dict(zip(("inputs_embeds", "attention_mask"), padded, strict=True))

    def _compute(self, rows: np.ndarray) -> dict[int, torch.Tensor]:
        device, found = choose_device(), dict[int, torch.Tensor]()
        self._lower.to(device)
        batch = {name: tensor.to(device) for name, tensor in super().pad(rows).items()}
        with open_autocast(device):
            together = self._lower(**batch).last_hidden_state.to(choose_dtype(device))
        for row, states, mask in zip(rows.tolist(), together, batch["attention_mask"].bool(), strict=True):
            found[row] = states[mask]
            if found[row].nbytes <= self._room:
                self._kept[row], self._room = found[row], self._room - found[row].nbytes
        return found


class _PassOn(nn.Module):
    """Replaces the embeddings of a model, and returns the states that it is given."""

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return next(one for one in (*args, *kwargs.values()) if torch.is_tensor(one) and one.is_floating_point())


def freeze_lower(model: "PreTrainedModel", trained: int) -> None:
    """Let only the upper `trained` layers, and the parts above them, learn; switch dropout off.

    Embedding tables, of words and of positions, are frozen too: few rows teach them little.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.Embedding):
            module.requires_grad_(False)
    for part in _find_embeddings(model).values():
        part.requires_grad_(False)
    for layer in list_layers(model)[: _count_frozen(model, trained)]:
        layer.requires_grad_(False)


def hold_lower(model: "PreTrainedModel", trained: int) -> tuple["PreTrainedModel", Callable[[Encoded], Encoded]]:
    """Freeze a model; return its learning part, which reads states, and a function that prepares rows for it.

    They share the model's weights. A model not built like the BERT family is returned as is and reads token ids.
    """
    freeze_lower(model, trained)
    parts = cut_model(model, _count_frozen(model, trained))
    if parts is None:
        return model, lambda encoded: encoded
    lower, upper = parts
    round_weights(lower)
    return upper, partial(States, lower=lower)


def round_weights(module: nn.Module) -> None:
    """Round the weights of linear layers to bfloat16 where autocast would otherwise round them at every call."""
    if choose_dtype(choose_device()) is torch.bfloat16:
        for part in module.modules():
            if isinstance(part, nn.Linear):
                for name, weight in list(part.named_parameters()):
                    setattr(part, name, nn.Parameter(weight.bfloat16(), requires_grad=False))


def cut_model(model: "PreTrainedModel", frozen: int) -> "tuple[nn.Module, PreTrainedModel] | None":
    """Return the lowest `frozen` layers of a classifier and all above them, sharing its weights; None if that fails.

    The lower part returns its states as `last_hidden_state`; the upper part takes them as `inputs_embeds`. A trial run
    checks that both together compute what the model computes.
    """
    if not list_layers(model):
        return None
    weights = {id(weight): weight for weight in model.parameters()}
    lower, upper = (copy.deepcopy(part, dict(weights)) for part in (model.base_model.eval(), model))
    del list_layers(lower)[frozen:], list_layers(upper)[:frozen]
    for name in _find_embeddings(upper):
        setattr(upper.base_model, name, _PassOn())
    mask = torch.ones(1, 6, dtype=torch.long, device=model.device)
    batch = {"input_ids": torch.arange(4, 10, device=model.device)[None], "attention_mask": mask}
    with torch.no_grad():
        expected, states = (part(**batch).last_hidden_state for part in (model.base_model, lower))
        found = upper.base_model(inputs_embeds=states, attention_mask=mask).last_hidden_state
    return (lower, upper) if torch.allclose(found, expected, atol=1e-4) else None


def _find_embeddings(model: "PreTrainedModel") -> dict[str, nn.Module]:
    """Find the modules that turn token ids into vectors, by name; ELECTRA has two."""
    return {name: part for name, part in model.base_model.named_children() if name.startswith("embeddings")}


def _count_frozen(model: "PreTrainedModel", trained: int) -> int:
    return max(len(list_layers(model)) - trained, 0)
