"""A trained classifier as ONNX, in 32-bit floats and in 8-bit integers.

The same weights give the same bytes: what the exporter notes of this machine, such as paths of source files, is
taken out.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from amalgam.training.checkpoint import load_trained, read_config
from amalgam.training.classifier import add_pooling
from amalgam.training.encoding import load_tokenizer

if TYPE_CHECKING:
    from onnx import ModelProto

FLOAT, INTEGER = "model.onnx", "model.int8.onnx"
_OPSET = 20  # the first with Gelu
_EXAMPLE = (2, 8)  # rows and tokens of what the exporter traces; both stay free


def export_onnx(folder: Path, target: Path, bases: Sequence[Path] = ()) -> None:
    """Write the trained classifier in `folder` as ONNX in 32-bit floats; for `bases` see `load_trained`.

    Inputs are those of the tokenizer, such as `input_ids` and `attention_mask`, each int64 [rows, tokens]; the output
    is `logits`, float32 [rows, classes].

    Raises:
        ModelError: the folder holds no trained classifier.
    """
    import onnx

    config = read_config(folder)
    tokenizer = load_tokenizer(folder)
    model = load_trained(folder, bases)
    model.set_attn_implementation("eager")  # its graph is a quarter smaller than that of fused attention
    names = list(tokenizer.model_input_names)
    length = min(config.max_length, tokenizer.model_max_length)
    shape = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=length)}
    target.parent.mkdir(parents=True, exist_ok=True)
    with _be_quiet():
        torch.onnx.export(
            _Logits(add_pooling(model, config.pooling), names).eval(),
            tuple(torch.ones(_EXAMPLE, dtype=torch.long) for _ in names),
            target,
            dynamic_shapes=(tuple(shape for _ in names),),
            input_names=names,
            output_names=["logits"],
            opset_version=_OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    _save(onnx.load(target), target)


def quantize_onnx(source: Path, target: Path) -> None:
    """Write an ONNX model with its weights, embeddings included, as 8-bit integers (dynamic quantization).

    Weights have a scale for each output channel. They keep 7 of the 8 bits, since processors without VNNI
    instructions add products of 8 bits with saturation. Activations are scaled when the model runs, over the whole
    batch, so that a score depends a little on the rows beside it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _be_quiet():
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


class _Logits(nn.Module):
    """A classifier that takes its inputs in order and returns nothing but its logits."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def _save(model: "ModelProto", target: Path) -> None:
    """Write a model without notes on how it was made, and without inferred shapes, which quantization falsifies."""
    import onnx

    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _be_quiet() -> Iterator[None]:
    """Silence what exporter and quantizer say to their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
