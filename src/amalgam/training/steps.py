"""One optimizer step; on a GPU, it is captured once for each batch shape and replayed from then on.

A step of a BERT-sized encoder is a thousand small kernels. A GPU runs them faster than Python launches them, and so has
to wait. A CUDA graph is launched as a whole.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from amalgam.machine import open_autocast
from amalgam.training.encoding import Encoded, sort_batches

if TYPE_CHECKING:
    from accelerate import Accelerator

    from amalgam.training.loop import Examples, Schedule

_WARMUP = 0.1  # share of the steps with a rising learning rate
_DECAY = 0.01  # of weights
_MAX_NORM = 1.0  # of the gradients; the usual bound for encoders
_ROUND = 64  # tokens: static batches are padded to a multiple, so that few shapes occur
_FILL = 128  # rows that are added to a `Bank` together


class Step:
    """Takes optimizer steps with batches of any shape.

    AdamW with warm-up and linear decay (Mosbach et al. 2021, arXiv 2006.04884), clipped gradients, bfloat16 where the
    hardware supports it. Under `accelerate launch` each process computes its part of a batch; gradients are averaged.
    """

    def __init__(self, model: nn.Module, learn: "Examples", schedule: "Schedule", accelerator: "Accelerator") -> None:
        """Take a classifier, which is changed in place, and the rows that batches are made of."""
        self._accelerator, self._encoded, self._loss = accelerator, learn.encoded, learn.loss
        self._device, steps = accelerator.device, schedule.steps
        if isinstance(learn.loss, nn.Module):
            learn.loss.to(self._device)
        optimizer = _build_optimizer(model, schedule.learning_rate, self._device)
        self._model, self._optimizer = accelerator.prepare(model, optimizer)
        self._rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _scale_rate(step, steps))

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Learn from a batch, given by its row numbers; return this process's loss, still on its device."""
        count = self._accelerator.num_processes
        # With fewer rows than processes, rows are repeated.
        rows = np.resize(rows, max(len(rows), count))[self._accelerator.process_index :: count]
        batch = {name: tensor.to(self._device) for name, tensor in self._encoded.pad(rows).items()}
        loss = self._learn(batch, torch.tensor(rows, device=self._device))
        self._rates.step()
        return loss

    def _learn(self, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        self._model.train()
        with self._open_precision():
            output = self._model(**batch)
        loss = self._loss(output["logits"].float(), rows)
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(self._model.parameters(), _MAX_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _open_precision(self) -> AbstractContextManager[object]:
        return open_autocast(self._device)


class StaticStep(Step):
    """Takes optimizer steps with batches of few shapes, which suits a GPU; on the CPU, the results are those of `Step`.

    All rows are on the device, so a step only needs row numbers. The first batch of a shape is computed directly, which
    also prepares what a capture needs; the second one is captured.
    """

    def __init__(self, model: nn.Module, learn: "Examples", schedule: "Schedule", accelerator: "Accelerator") -> None:
        """Take what `Step` takes; there must be only one process."""
        super().__init__(model, learn, schedule, accelerator)
        self._bank = Bank(learn.encoded, self._device)
        self._inputs: dict[tuple[int, int], torch.Tensor] = {}  # row numbers of a batch, by its shape
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}  # and the loss of each
        on_gpu = self._device.type == "cuda"
        self._stream = torch.cuda.Stream() if on_gpu else None
        self._pool = torch.cuda.graph_pool_handle() if on_gpu else None

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Learn from a batch, given by its row numbers; return the loss, still on its device."""
        if self._stream is None:
            loss = self._take(rows)
        else:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                loss = self._take(rows)
            torch.cuda.current_stream().wait_stream(self._stream)
        self._rates.step()
        return loss

    def _take(self, rows: np.ndarray) -> torch.Tensor:
        shape = len(rows), self._bank.round_length(rows)
        if shape not in self._inputs:
            self._inputs[shape] = torch.tensor(rows, device=self._device)
            return self._compute(shape)
        if self._stream is None:
            self._inputs[shape].copy_(torch.tensor(rows))
            return self._compute(shape)
        self._inputs[shape].copy_(torch.tensor(rows).pin_memory(), non_blocking=True)
        if shape not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                loss = self._compute(shape)
            self._graphs[shape] = graph, loss
        graph, loss = self._graphs[shape]
        graph.replay()
        return loss.clone()  # the next replay of any graph may overwrite it

    def _compute(self, shape: tuple[int, int]) -> torch.Tensor:
        rows = self._inputs[shape]
        with self._device, _MadeThere():
            return self._learn(self._bank.gather(rows, shape[1]), rows)

    def _open_precision(self) -> AbstractContextManager[object]:
        """Choose float32 on a GPU's tensor cores, as bfloat16 casts cost more than they save; and repeatable attention.

        Only one kind of attention has gradients that are the same every time.
        """
        from torch.nn.attention import SDPBackend, sdpa_kernel

        if self._device.type != "cuda":
            return super()._open_precision()
        torch.set_float32_matmul_precision("high")
        return sdpa_kernel(SDPBackend.MATH)


class Bank:
    """All rows of an `Encoded` end to end on a device, so that a batch is a gather of row numbers."""

    def __init__(self, encoded: Encoded, device: torch.device) -> None:
        """Pad the rows a few at a time, then remove the padding."""
        parts: dict[str, list[torch.Tensor]] = {}
        lengths, starts, end = encoded.lengths, np.zeros(len(encoded), dtype=np.int64), 0
        for rows in sort_batches(lengths, _FILL):
            batch = {name: tensor.to(device) for name, tensor in encoded.pad(rows).items()}
            inside = batch.pop("attention_mask").bool()
            for name, values in batch.items():
                values = values[inside]
                parts.setdefault(name, []).append(values.float() if values.is_floating_point() else values)
            starts[rows] = end + np.cumsum(lengths[rows]) - lengths[rows]
            end += lengths[rows].sum()
        self._flat = {name: torch.cat(values) for name, values in parts.items()}
        self._lengths, self._length = lengths, encoded.length
        self._places = torch.tensor(np.stack([starts, lengths]), device=device)

    def round_length(self, rows: np.ndarray) -> int:
        """Return the number of tokens to which a batch of these rows is padded."""
        return self._length or -(-int(self._lengths[rows].max()) // _ROUND) * _ROUND

    def gather(self, rows: torch.Tensor, length: int) -> dict[str, torch.Tensor]:
        """Return a batch [rows, length, ...]; where its mask is 0, the values are arbitrary but finite."""
        starts, lengths = self._places[:, rows].unsqueeze(-1)
        tokens = torch.arange(length, device=rows.device)
        inside = tokens < lengths
        places = starts + tokens * inside
        batch = {name: values[places] for name, values in self._flat.items()}
        return batch | {"attention_mask": inside.long()}


class _MadeThere(TorchFunctionMode):
    """Makes a model fill in numbers that it would copy from the CPU, because a copy cannot be captured."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.tensor and isinstance(args[0], int | float):
            return torch.full((), *args, **kwargs or {})
        return func(*args, **kwargs or {})


def _build_optimizer(model: nn.Module, rate: float, device: torch.device) -> torch.optim.Optimizer:
    """Make AdamW; weight decay applies to matrices, not to biases and norms."""
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    matrices, others = ([one for one in learned if (one.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": matrices, "weight_decay": _DECAY}, {"params": others, "weight_decay": 0.0}]
    on_gpu = device.type == "cuda"  # there, a captured step reads its rate from the device
    lr = torch.tensor(rate, device=device) if on_gpu else rate
    return torch.optim.AdamW(groups, lr=lr, fused=True, capturable=on_gpu)


def _scale_rate(step: int, steps: int) -> float:
    """Return the learning rate at a step as a share of its peak: a linear rise, then a linear fall to 0."""
    warmup = max(round(_WARMUP * steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return max((steps - step) / max(steps - warmup, 1), 0.0)
