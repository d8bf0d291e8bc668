"""Trainings side by side, one a core; and processes that train one model, as `accelerate launch` starts them."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from amalgam.errors import ModelError
from amalgam.machine import choose_device, count_cores, find_memory

if TYPE_CHECKING:
    from accelerate import PartialState

Advance = Callable[[object], None]
Result = TypeVar("Result")
Job = Callable[[Advance], Result]

_SMALL = 4_000_000  # bytes of weights; a smaller model is trained before a process has started
_PROCESS = 1_500_000_000  # bytes of memory that a process takes before it has a model
_COPIES = 6  # of the weights: gradients and AdamW's two moments of those that learn, checkpoints, activations

_send: Advance


def run_trainings(jobs: Sequence[Job[Result]], encoder: Path, advance: Advance) -> list[Result]:
    """Run trainings in processes of their own, as many at once as there are cores and memory for; return their results.

    With a GPU, under `accelerate launch`, or with a tiny model they run in this process, one after another. A job is
    called with what counts its steps; it and its result can be pickled. The longest jobs come first, so that no core
    waits at the end. `encoder` is the folder of the model that is trained, and `advance` is called here once a step.

    Raises:
        ModelError: a process was killed, or the GPU has too little memory.
    """
    workers = count_workers(len(jobs), encoder)
    if workers == 1:
        from torch import OutOfMemoryError  # of a GPU

        try:
            return [job(advance) for job in jobs]
        except OutOfMemoryError as error:
            raise ModelError(
                "the GPU has too little free memory for this encoder: lower `teacher.batch_size` or "
                "`teacher.max_length`, choose a smaller `teacher.model`, or end what else runs on the GPU"
            ) from error
    context = get_context("spawn")  # a fork of a process in which torch has threads may hang
    steps = context.SimpleQueue()

    def pass_on() -> None:
        while (item := steps.get()) is not None:
            advance(item)

    listener = threading.Thread(target=pass_on, daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, context, _begin, (steps, max(count_cores() // workers, 1)))
    try:
        futures = [pool.submit(_run, job) for job in jobs]
        # The pool looks at its processes when it gets a job, before it starts the one for it, so it would miss the
        # death of the last one.
        pool.submit(os.getpid)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise ModelError(
            f"one of {workers} trainings at once was killed, perhaps for want of memory: choose a smaller model"
        ) from error
    except BaseException:  # a failure or an interrupt: nobody waits for what the others would bring
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        steps.put(None)
        listener.join()


def count_workers(jobs: int, encoder: Path) -> int:
    """Return how many trainings of the model in `encoder` to run at once on this machine.

    That is one a core. Three trainings share two cores, so that none waits while the last one runs.
    """
    size = sum(file.stat().st_size for file in encoder.glob("*.safetensors"))
    alone = choose_device().type != "cpu" or int(os.environ.get("WORLD_SIZE", "1")) > 1
    if alone or size < _SMALL:
        return 1
    fitting = find_memory() // (_PROCESS + _COPIES * size)
    cores = count_cores()
    return max(min(jobs if jobs < 2 * cores else cores, fitting), 1)


def this_process() -> "PartialState":
    """Say which one this is of the processes that train together; the main one writes files and reports."""
    from accelerate import PartialState

    return PartialState()


def _begin(steps: Any, threads: int) -> None:
    global _send
    import torch

    _send = steps.put
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits is interrupted too, and ends this one
    torch.set_num_threads(threads)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the process that waits for the results, also when it was killed."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _run(job: Job[Result]) -> Result:
    return job(lambda _item: _send(1))
