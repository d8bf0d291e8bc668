"""The machine: its cores and memory, where torch computes, and messages to the person at the terminal."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Limits of the container as Linux gives them.
_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CPU = Path("/sys/fs/cgroup/cpu.max")  # processor time per period, both in microseconds
_LOG_EVERY = 15.0  # seconds between two lines in a log


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _read_limits(_CPU, 2)
    return min(cores, max(quota // period, 1)) if quota and period else cores


def find_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or less where its container has a limit."""
    import psutil

    limits = (_read_limits(path, 1)[0] for path in _MEMORY)
    return min(int(psutil.virtual_memory().total), *filter(None, limits), 2**63)


def _read_limits(path: Path, count: int) -> list[int]:
    try:
        return [int(number) for number in path.read_text().split()]
    except (OSError, ValueError):
        return [0] * count


def choose_device() -> "torch.device":
    """Choose a GPU if there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(device: "torch.device") -> "torch.dtype":
    """Choose bfloat16 if the hardware supports it, else float32."""
    import torch

    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # torch for Macs is built without this operation
        able = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)()
    return torch.bfloat16 if able else torch.float32


def open_autocast(device: "torch.device") -> AbstractContextManager[object]:
    """Compute in bfloat16 if the hardware supports it, two to four times as fast; weights stay in float32."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=choose_dtype(device) is torch.bfloat16)


def set_seed(seed: int) -> None:
    """Seed torch on all devices; on a GPU, also ask for deterministic operations."""
    import torch

    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Otherwise a third of a step's kernels would fill memory that nothing reads before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def notify(sentence: str) -> None:
    """Print a sentence for the person at the terminal."""
    print(sentence, file=sys.stderr, flush=True)


@contextmanager
def show_progress(title: str, *, total: int, done_before: int = 0) -> Iterator[Callable[[object], None]]:
    """Yield a function to call once for each finished item: a bar on a terminal, a line now and then elsewhere.

    `done_before` items cost nothing now and are only mentioned.
    """
    known = f" ({done_before} known already)" if done_before else ""
    if total and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), speed_estimate_period=60) as bar:
            task = bar.add_task(title + known, total=total)
            yield lambda _item: bar.advance(task)
        return
    notify(f"{title}: {total} to do{known}")
    done, start = 0, time.monotonic()
    written = start

    def write_line() -> None:
        nonlocal written
        written = time.monotonic()
        rate = done / max(written - start, 1e-9)
        notify(f"{title}: {done} of {total}, {rate:.1f}/s, {(total - done) / rate:.0f} s left")

    def advance(_item: object) -> None:
        nonlocal done
        done += 1
        if time.monotonic() - written >= _LOG_EVERY:
            write_line()

    yield advance
    if done:
        write_line()
