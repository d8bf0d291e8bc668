"""Several processes that train together, as `accelerate launch` starts them; one alone is the usual case."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from accelerate import Accelerator


def share_rows(rows: np.ndarray, accelerator: "Accelerator") -> np.ndarray:
    """Return this process's part of a batch; where there are fewer rows than processes, rows come twice."""
    count = accelerator.num_processes
    if len(rows) < count:
        rows = np.resize(rows, count)
    return rows[accelerator.process_index :: count]


def is_main_process() -> bool:
    """Whether this process is the one that writes files and reports."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def wait_for_all() -> None:
    """Wait until all processes are here."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()
