"""Scoring with ONNX Runtime: class probabilities from an exported model, without torch or transformers."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amalgam.errors import ModelError
from amalgam.machine import count_cores
from amalgam.training.checkpoint import read_config

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Encoding, Tokenizer

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class OnnxScorer:
    """An exported model and its tokenizer, loaded once.

    Attributes:
        labels: class names in order.
        uses_question: whether the model reads the question with the response.
    """

    def __init__(
        self, model: Path, tokenizer: Path, *, threads: int = 0, batch_size: int = 16, temperature: float = 1.0
    ) -> None:
        """Load an .onnx file.

        Args:
            model: the file, as `amalgam.shipping.export` writes it.
            tokenizer: folder of the classifier that was exported: its tokenizer and its config.
            threads: batches that are computed at once, each by one thread: small models lose half of their speed
                where threads share a batch. 0 takes the cores that this process may use. No score depends on it.
            batch_size: rows that are computed together; they are of similar length. More than 16 are slower, since
                what is computed of them no longer stays in a core's own memory.
            temperature: divides the logits; above 1 it makes probabilities less extreme.

        Raises:
            ModelError: a file is missing or is no such model.
        """
        import onnxruntime

        config = read_config(tokenizer)
        self.labels = tuple(config.labels)
        self.uses_question = config.uses_question
        self._batch_size = batch_size
        self._threads = threads or count_cores()
        self._temperature = temperature
        self._tokenizer, self._padding = _load_tokenizer(tokenizer, config.max_length)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        try:
            content = model.read_bytes()
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except FileNotFoundError as error:
            raise ModelError(f"{model} is missing: run `dvc repro`, or `dvc pull` to fetch it") from error
        except _list_faults() as error:
            raise ModelError(f"{model} is not a model that ONNX Runtime can read: run `dvc repro` again") from error
        self._inputs = [given.name for given in self._session.get_inputs()]

    def score(self, rows: "pd.DataFrame") -> Floats:
        """Return probabilities [rows, classes], in the order of the rows (with `text` and `question`)."""
        return self.score_texts(rows["text"].tolist(), rows["question"].tolist())

    def score_texts(self, texts: Sequence[str], questions: Sequence[str]) -> Floats:
        """Return probabilities [texts, classes] in the order given; questions count where the model reads them."""
        return compute_probabilities(self.compute_logits(texts, questions), self._temperature)

    def compute_logits(self, texts: Sequence[str], questions: Sequence[str]) -> Floats:
        """Return logits [texts, classes] in the order given, whatever the temperature.

        Texts are sorted by length for the computation, the longest first, so that little padding is computed.
        """
        logits = np.zeros((len(texts), len(self.labels)))
        encoded = self._encode(texts, questions)
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row].ids))
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        with ThreadPoolExecutor(self._threads) as pool:
            outputs = pool.map(lambda rows: self._compute([encoded[row] for row in rows]), batches)
            for rows, output in zip(batches, outputs, strict=True):
                logits[rows] = output
        return logits

    def _compute(self, encoded: "list[Encoding]") -> npt.NDArray[np.float32]:
        (output,) = self._session.run(["logits"], self._pad(encoded))
        return np.asarray(output)

    def _encode(self, texts: Sequence[str], questions: Sequence[str]) -> "list[Encoding]":
        # A model that learned with questions always gets a pair: a score must not depend on other rows' questions.
        given = list(zip(texts, questions, strict=True)) if self.uses_question else list(texts)
        return self._tokenizer.encode_batch(given)

    def _pad(self, encoded: "list[Encoding]") -> dict[str, npt.NDArray[np.int64]]:
        """Make the model's inputs, padded to the longest row and no further."""
        shape = (len(encoded), max(len(row.ids) for row in encoded))
        batch = {
            "input_ids": np.full(shape, self._padding, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            "token_type_ids": np.zeros(shape, dtype=np.int64),
        }
        for number, row in enumerate(encoded):
            length = len(row.ids)
            batch["input_ids"][number, :length] = row.ids
            batch["attention_mask"][number, :length] = 1
            batch["token_type_ids"][number, :length] = row.type_ids
        return {name: batch[name] for name in self._inputs}


def compute_probabilities(logits: Floats, temperature: float) -> Floats:
    """Return the softmax of logits [rows, classes] divided by the temperature."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def decide(probabilities: Floats, threshold: float | None) -> Ints:
    """Return the class index of each row of probabilities [rows, classes].

    With a threshold, the last of two classes is chosen from this probability on; without one, the likeliest class.
    """
    chosen = probabilities.argmax(axis=1) if threshold is None else probabilities[:, 1] >= threshold
    return np.asarray(chosen, dtype=np.int64)


def _load_tokenizer(folder: Path, max_length: int) -> "tuple[Tokenizer, int]":
    """Load a tokenizer that cuts as in training; and the id of the token that fills up rows."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{path} is missing: choose an encoder that has a fast tokenizer")
    settings = _read_settings(folder)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(max_length, settings.get("model_max_length") or max_length))
    padding = settings.get("pad_token")
    name = padding["content"] if isinstance(padding, dict) else padding
    return tokenizer, (tokenizer.token_to_id(name) if name else None) or 0


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return settings


def _list_faults() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented
