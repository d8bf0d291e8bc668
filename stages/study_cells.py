"""Train and measure the cells of the study that nobody has computed yet."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from runtime import run_stage

from amalgam.errors import DataError
from amalgam.params import Params
from amalgam.study.cells import Grid, compute_table
from amalgam.study.engine import Store
from amalgam.study.grid import expand_grid, load_study
from amalgam.tasks.schema import load_task
from amalgam.training.checkpoint import identify_weights

ENCODER, ROWS, CELLS = Path("study/models/encoder"), Path("study/rows"), Path("study/cells")


def main(_: Params, root: Path) -> None:
    study, params = load_study(Path())
    labels = {}
    for name in study.tasks:
        with suppress(DataError):  # its cells say so
            labels[name] = load_task(Path("data/tasks") / name).label_names
    grid = Grid(expand_grid(study, params), params, ROWS, labels)
    store = Store(CELLS, root / ".cache/study")
    table = compute_table(grid, study.ray, store, Path(".cache/study.json"), ENCODER, identify_weights(ENCODER))
    table.to_parquet("study/results.parquet", index=False)
    share()


def share() -> None:
    """Put the answers of LLMs beside the trainings, and let DVC track both for `dvc push`."""
    for path in sorted(ROWS.rglob("[0-9]*.jsonl")):
        target = CELLS / "answers" / path.relative_to(ROWS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # it may be a link into DVC's cache
        shutil.copyfile(path, target)
    if "DVC_STAGE" in os.environ:
        subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", str(CELLS)], check=True)


if __name__ == "__main__":
    run_stage("study/dvc.yaml:cells", main)
