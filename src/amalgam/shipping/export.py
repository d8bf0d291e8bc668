"""Write a trained classifier to files: ONNX in 32-bit floats and in 8-bit integers, and weights for `transformers`.

The same weights give the same bytes: what the exporter records about the machine, such as paths, is removed.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.onnx import ONNXProgram

from amalgam.shipping.onnx import Floats
from amalgam.training.checkpoint import Config, load_trained, read_config, save_checkpoint
from amalgam.training.classifier import add_pooling, append_pooling
from amalgam.training.encoding import load_tokenizer

if TYPE_CHECKING:
    from onnx import ModelProto

INT8_AUC_LOSS = 0.005  # the most AUC that 8-bit integers may be expected to lose; else 32-bit floats ship
_OPSET = 20  # the first with Gelu


def export_onnx(targets: Mapping[Path, Path], bases: Sequence[Path] = ()) -> None:
    """Write trained classifiers, all of one shape, as ONNX in 32-bit floats; `targets` maps folders to files.

    Inputs are those of the tokenizer, such as `input_ids` and `attention_mask`, each int64 [rows, tokens]; the output
    is `logits`, float32 [rows, classes]. Only the first classifier is traced, because tracing is slow; the weights of
    the others are put into its graph.
    """
    with _silence():
        traced = _trace(next(iter(targets)), bases)
        for folder, target in targets.items():
            program = ONNXProgram(traced.model.clone(), traced.exported_program)
            program.apply_weights(_Logits(folder, bases).state_dict())
            program.optimize()
            target.parent.mkdir(parents=True, exist_ok=True)
            _save(program.model_proto, target)


def quantize_onnx(source: Path, target: Path) -> None:
    """Write an ONNX model with its weights, embeddings included, as 8-bit integers (dynamic quantization).

    Weights have a scale for each output channel. They keep 7 of the 8 bits, since processors without VNNI
    instructions add products of 8 bits with saturation. Activations are scaled when the model runs, over the whole
    batch, so a score depends a little on the other rows of its batch.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silence():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["Gather", "Gemm", "MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    _save(onnx.load(target), target)


def write_weights(student: Path, target: Path, bases: Sequence[Path] = ()) -> None:
    """Write the student as `transformers` loads it; if its head reads the centred mean, a layer computes it."""
    config, model, tokenizer = read_config(student), load_trained(student, bases), load_tokenizer(student)
    if config.pooling == "centred_mean":
        append_pooling(model)
    length = min(config.max_length, tokenizer.model_max_length)
    save_checkpoint(model, tokenizer, target, Config(config.labels, length, config.uses_question))
    # safetensors lets nobody else read its files.
    (target / "model.safetensors").chmod((target / "config.json").stat().st_mode)


def measure_fidelity(exact: Floats, small: Floats) -> dict[str, Any]:
    """Compare the probabilities [texts, classes] of the float and the integer model, without any label.

    `auc_loss` is the AUC that the small model is expected to lose if each text had a label with its exact probability.
    With more than two classes it is the mean over them, each against the rest. Below 0, nothing is lost.
    """
    from sklearn.metrics import roc_auc_score

    labels, losses = np.repeat([1, 0], len(exact)), []
    for n in range(1, 2) if exact.shape[1] == 2 else range(exact.shape[1]):
        measure = partial(roc_auc_score, labels, sample_weight=np.concatenate([exact[:, n], 1 - exact[:, n]]))
        losses.append(measure(np.tile(exact[:, n], 2)) - measure(np.tile(small[:, n], 2)))
    return {
        "texts": len(exact),
        "auc_loss": round(float(np.mean(losses)), 6),
        "allowed_auc_loss": INT8_AUC_LOSS,
        "max_difference": round(float(np.abs(exact - small).max()), 6),
        "decisions_changed": round(float((exact.argmax(axis=1) != small.argmax(axis=1)).mean()), 6),
    }


class _Logits(nn.Module):
    """A trained classifier that takes its inputs in order and returns only its logits."""

    def __init__(self, folder: Path, bases: Sequence[Path]) -> None:
        super().__init__()
        self.names = list(load_tokenizer(folder).model_input_names)
        model = load_trained(folder, bases, share=True)
        model.set_attn_implementation("eager")  # its graph is a quarter smaller than that of fused attention
        self.model = add_pooling(model, read_config(folder).pooling)
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True)))["logits"]
        return logits


def _trace(folder: Path, bases: Sequence[Path]) -> ONNXProgram:
    model = _Logits(folder, bases)
    length = min(read_config(folder).max_length, load_tokenizer(folder).model_max_length)
    shape = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=length)}
    program = torch.onnx.export(
        model,
        tuple(torch.ones((2, 8), dtype=torch.long) for _ in model.names),  # an example; both sizes stay dynamic
        dynamic_shapes=(tuple(shape for _ in model.names),),
        input_names=model.names,
        output_names=["logits"],
        opset_version=_OPSET,
        dynamo=True,
        optimize=False,  # it would fold the weights into constants with other names
        verbose=False,
    )
    assert program is not None
    return program


def _save(model: "ModelProto", target: Path) -> None:
    """Write a model without notes on how it was made, and without inferred shapes, which quantization makes wrong."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    target.write_bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _silence() -> Iterator[None]:
    """Silence what the exporter and the quantizer print for their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
