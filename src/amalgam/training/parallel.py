"""Trainings in parallel, one per core, and processes that train one model, as `accelerate launch` starts them."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from amalgam.errors import ModelError
from amalgam.machine import choose_device, count_cores, find_memory

if TYPE_CHECKING:
    from accelerate import PartialState

Advance = Callable[[object], None]
Result = TypeVar("Result")
Job = Callable[[Advance], Result]

_SMALL = 4_000_000  # bytes of weights; training a smaller model takes less time than starting a process
_PROCESS = 1_500_000_000  # bytes of memory that a process takes before it loads a model
_COPIES = 6  # of the weights: gradients and AdamW's two moments of those that learn, checkpoints, activations

_send: Advance


def run_trainings(jobs: Sequence[Job[Result]], encoder: Path, advance: Advance) -> list[Result]:
    """Run trainings in separate processes, as many at once as cores and memory allow; return their results.

    With a GPU, under `accelerate launch`, or with a tiny model, they run in this process, one after another. A job is
    called with a function that counts its steps; job and result can be pickled. Put the longest jobs first, so that no
    core is idle at the end. `encoder` is the folder of the model to train; `advance` is called here once per step.
    """
    workers = count_workers(len(jobs), encoder)
    if workers == 1:
        from torch import OutOfMemoryError  # of a GPU

        try:
            return [job(advance) for job in jobs]
        except OutOfMemoryError as error:
            raise ModelError(
                "the GPU has too little free memory for this encoder: lower `teacher.batch_size` or "
                "`teacher.max_length`, choose a smaller `teacher.model`, or stop other programs on the GPU"
            ) from error
    context = get_context(choose_start())
    steps = context.SimpleQueue()

    def pass_on() -> None:
        while (item := steps.get()) is not None:
            advance(item)

    listener = threading.Thread(target=pass_on, daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, context, _begin, (steps, max(count_cores() // workers, 1)))
    try:
        futures = [pool.submit(_run, job) for job in jobs]
        # The pool checks its processes when it gets a job, before it starts a process for that job. Without this job,
        # it would miss the death of the last process.
        pool.submit(os.getpid)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise ModelError(
            f"one of {workers} parallel trainings was killed, perhaps for lack of memory: choose a smaller model"
        ) from error
    except BaseException:  # a failure or an interrupt: the other results are no longer needed
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        steps.put(None)
        listener.join()


def choose_start() -> Literal["fork", "spawn"]:
    """Return how worker processes start: by a fork, which needs no imports, unless it may hang.

    A fork lacks the threads of a library, and waits for them for ever. Python's own threads do no harm here.
    """
    threads = Path("/proc/self/task")
    return "fork" if threads.is_dir() and len([*threads.iterdir()]) == threading.active_count() else "spawn"


def count_workers(jobs: int, encoder: Path) -> int:
    """Return how many trainings of the model in `encoder` to run at once on this machine.

    That is one per core. Three trainings share two cores, so that no core is idle while the last one runs.
    """
    size = sum(file.stat().st_size for file in encoder.glob("*.safetensors"))
    alone = choose_device().type != "cpu" or int(os.environ.get("WORLD_SIZE", "1")) > 1
    if alone or size < _SMALL:
        return 1
    fitting = find_memory() // (_PROCESS + _COPIES * size)
    cores = count_cores()
    return max(min(jobs if jobs < 2 * cores else cores, fitting), 1)


def this_process() -> "PartialState":
    """Return which of the processes that train together this one is; the main one writes files and reports."""
    from accelerate import PartialState

    return PartialState()


def _begin(steps: Any, threads: int) -> None:
    global _send
    import torch

    _send = steps.put
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the waiting process is interrupted too, and ends this one
    torch.set_num_threads(threads)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Exit when the process that waits for the results ends, even if it was killed."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _run(job: Job[Result]) -> Result:
    return job(lambda _item: _send(1))
