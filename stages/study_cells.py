"""Train and measure the cells of the study that nobody has computed yet."""

from contextlib import suppress
from pathlib import Path

from runtime import run_stage

from amalgam.errors import DataError
from amalgam.params import Params
from amalgam.study.engine import Store
from amalgam.study.grid import expand_grid, load_study
from amalgam.study.table import Grid, compute_table
from amalgam.tasks.schema import load_task
from amalgam.training.checkpoint import identify_weights

ENCODER = Path("study/models/encoder")


def main(_: Params, root: Path) -> None:
    study, params = load_study(Path())
    labels = {}
    for name in study.tasks:
        with suppress(DataError):  # its cells say so
            labels[name] = load_task(Path("data/tasks") / name).label_names
    grid = Grid(expand_grid(study, params), params, Path("study/rows"), labels)
    store = Store(Path("study/cells"), root / ".cache/study")
    table = compute_table(grid, study.ray, store, Path(".cache/study.json"), ENCODER, identify_weights(ENCODER))
    table.to_parquet("study/results.parquet", index=False)


if __name__ == "__main__":
    run_stage("study/dvc.yaml:cells", main)
