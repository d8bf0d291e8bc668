"""Score texts with an exported model on ONNX Runtime, without torch or transformers."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from amalgam.errors import ModelError
from amalgam.files import read_json
from amalgam.machine import count_cores
from amalgam.training.checkpoint import compute_softmax, read_config
from amalgam.training.parallel import Advance

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FLOAT, INTEGER = "model.onnx", "model.int8.onnx"  # file names of the two precisions
_SLICE = 1024  # texts that are tokenized together
_BATCH = 16  # rows computed together; more are slower, since they exceed the core's own cache
_GPU, _GPU_BATCH = "CUDAExecutionProvider", 256


class OnnxScorer:
    """An exported model and its tokenizer, loaded once; `labels` are class names in order."""

    def __init__(
        self, model: Path, tokenizer: Path, *, threads: int = 0, temperature: float = 1.0, on_gpu: bool = False
    ) -> None:
        """Load an .onnx file that `amalgam.shipping.export` wrote, and the exported model's tokenizer and labels.

        `threads` batches are computed at once, each by one thread: threads that share a batch halve the speed of small
        models. 0 means all cores that this process may use. Scores do not depend on it. A GPU takes larger batches, one
        after another; see `has_gpu`. The temperature divides the logits: above 1 it makes probabilities less extreme.
        """
        import onnxruntime

        config = read_config(tokenizer)
        self.labels, self.uses_question = tuple(config.labels), config.uses_question
        self._batch_size = _GPU_BATCH if on_gpu else _BATCH
        self._threads, self._temperature = 1 if on_gpu else threads or count_cores(), temperature
        self._tokenizer, self._padding = _load_tokenizer(tokenizer, config.max_length)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        options.enable_mem_pattern = False  # one per shape, and batches differ in shape: 50 MB for no gain in speed
        providers = [*([_GPU] if on_gpu else []), "CPUExecutionProvider"]
        # Load it by its path: its bytes in Python would be a second copy.
        self._session = onnxruntime.InferenceSession(str(model), options, providers=providers)
        self._inputs = [given.name for given in self._session.get_inputs()]

    def score(self, rows: "pd.DataFrame | Mapping[str, Sequence[str]]", advance: Advance = lambda _row: None) -> Floats:
        """Return probabilities [rows, classes] of rows with `text`, and `question` where the model reads it.

        `advance` is called with the number of each row as soon as it is scored.
        """
        return compute_softmax(self.compute_logits(rows, advance), self._temperature)

    def compute_logits(
        self, rows: "pd.DataFrame | Mapping[str, Sequence[str]]", advance: Advance = lambda _row: None
    ) -> Floats:
        """Return logits [rows, classes] in the order given, before the temperature."""
        texts = list(rows["text"])
        # A model trained with questions always gets a pair: no score may depend on other rows' questions.
        given = list(zip(texts, rows["question"], strict=True)) if self.uses_question else texts
        # Ids and types [2, tokens] of each text: the tokenizer's own rows take ten times as much memory.
        encoded = [
            np.array([row.ids, row.type_ids], dtype=np.int32)
            for start in range(0, len(given), _SLICE)
            for row in self._tokenizer.encode_batch_fast(given[start : start + _SLICE])
        ]
        # Rows of similar length share a batch, so that little padding is computed.
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row][0]))
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        logits = np.zeros((len(texts), len(self.labels)))
        with ThreadPoolExecutor(self._threads) as pool:
            outputs = pool.map(lambda batch: self._compute([encoded[row] for row in batch]), batches)
            for batch, output in zip(batches, outputs, strict=True):
                logits[batch] = output
                for row in batch:
                    advance(row)
        return logits

    def _compute(self, encoded: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """Return the logits of a batch, padded to its longest row."""
        shape = (len(encoded), max(row.shape[1] for row in encoded))
        batch = {name: np.zeros(shape, dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        batch["input_ids"][:] = self._padding
        for number, row in enumerate(encoded):
            length = row.shape[1]
            batch["input_ids"][number, :length], batch["token_type_ids"][number, :length] = row
            batch["attention_mask"][number, :length] = 1
        (output,) = self._session.run(["logits"], {name: batch[name] for name in self._inputs})
        return np.asarray(output)


def has_gpu() -> bool:
    """Return whether this is `onnxruntime-gpu`, which computes on a GPU."""
    import onnxruntime

    return _GPU in onnxruntime.get_available_providers()


def decide(probabilities: Floats, threshold: float | None) -> tuple[Ints, Floats]:
    """Return the class index of each row of probabilities [rows, classes], and that class's probability.

    With a threshold, the last of two classes is chosen from this probability on; without one, the most likely class.
    """
    chosen = probabilities.argmax(axis=1) if threshold is None else probabilities[:, 1] >= threshold
    classes = np.asarray(chosen, dtype=np.int64)
    return classes, np.take_along_axis(probabilities, classes[:, None], axis=1)[:, 0]


def _load_tokenizer(folder: Path, max_length: int) -> "tuple[Tokenizer, int]":
    """Load a tokenizer that truncates as in training, and the id of its padding token."""
    from tokenizers import Tokenizer

    path, settings = folder / "tokenizer.json", read_json(folder / "tokenizer_config.json")
    if not path.is_file():
        raise ModelError(f"{path} is missing: choose an encoder that has a fast tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(max_length, settings.get("model_max_length") or max_length))
    padding = settings.get("pad_token")
    name = padding["content"] if isinstance(padding, dict) else padding
    return tokenizer, (tokenizer.token_to_id(name) if name else None) or 0
