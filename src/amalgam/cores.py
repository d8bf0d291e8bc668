"""How many processor cores and how much memory this process may use."""

import os
from pathlib import Path

# Limits of the container as Linux gives them; each file may be missing or hold no number.
_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CPU = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processor time in so many microseconds


def count_cores() -> int:
    """Return the number of cores that this process may use; only Linux says which, elsewhere all are counted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _read_limits(_CPU, 2)
    return min(cores, max(quota // period, 1)) if quota and period else cores


def find_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or less where its container has a limit."""
    import psutil

    limits = (_read_limits(path, 1)[0] for path in _MEMORY)
    return min(int(psutil.virtual_memory().total), *filter(None, limits), 2**63)


def _read_limits(path: Path, count: int) -> list[int]:
    """Return the numbers of a file, or as many zeros."""
    try:
        return [int(number) for number in path.read_text().split()]
    except (OSError, ValueError):
        return [0] * count
