"""How many processor cores this process may use."""

import os


def count_cores() -> int:
    """Return the number of cores that this process may use; only Linux says which, elsewhere all are counted."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
