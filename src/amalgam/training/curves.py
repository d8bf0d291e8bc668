"""Training curves, recorded by dvclive."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvclive import Live


@contextmanager
def open_curves(folder: Path | None) -> Iterator["Live | None"]:
    """Open the curves in `folder`; None records none."""
    if folder is None:
        yield None
        return
    from dvclive import Live

    with Live(str(folder), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        yield live


def write_losses(live: "Live | None", step: int, **losses: float) -> None:
    """Record losses by name at a step, with 6 decimals and no clock."""
    if live is None:
        return
    live.step = step
    for name, value in losses.items():
        live.log_metric(name, round(value, 6), timestamp=False)
    live.make_summary()
