"""The study's engine: eight equal trainings on one core and on two, and the cost of 10,000 trivial cells.

Run `python -m bench.study` after `dvc repro study/dvc.yaml`, from which it takes encoder and rows. The goals: two cores
are 1.7 times as fast as one; a trivial cell takes 20 ms at most, written to disk, and memory does not grow.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import ray

from amalgam.study.cells import Grid, compute_part
from amalgam.study.engine import Board, Result, Store, run_jobs
from amalgam.study.grid import expand_grid, load_study
from amalgam.tasks.schema import load_task

ENCODER, ROWS = Path("study/models/encoder"), Path("study/rows")
TRAININGS = 8


def measure_trainings(cores: int) -> float:
    """Return the seconds of eight trainings that differ only in their seed; starting the workers does not count."""
    study, params = load_study(Path())
    labels = {name: load_task(Path("data/tasks") / name).label_names for name in study.tasks}
    grid = Grid(expand_grid(study, params), params, ROWS, labels)
    cell = next(cell for cell in grid.cells if cell.ratio == 0.8)
    part = grid.build(cell)["entropy"]

    def run(seeds: range) -> None:
        keys = [str(seed) for seed in seeds]
        for key, found in run_jobs(keys, lambda key: (replace(part, seed=int(key)),), compute_part, ENCODER, "auto"):
            if isinstance(found, str):
                raise RuntimeError(f"training {key}: {found}")  # noqa: TRY004 - a training failed

    ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    try:
        run(range(100, 100 + 2 * cores))
        start = time.monotonic()
        run(range(TRAININGS))
        return time.monotonic() - start
    finally:
        ray.shutdown()


def do_nothing(_encoder: Path, number: int) -> Result:
    """Return what a job was called with."""
    return {"number": number}


def measure_overhead(count: int, engine: str | None) -> tuple[float, float]:
    """Return milliseconds a trivial cell, and the MiB by which the process grew over the last nine tenths of them."""
    process, early = psutil.Process(), 0
    with tempfile.TemporaryDirectory() as temporary:
        keys = [f"{number:08d}" for number in range(count)]
        store = Store(Path(temporary) / "cells", Path(temporary) / "shared")
        names = dict(zip(keys, keys, strict=True))
        board = Board(Path(temporary) / "status.json", [frozenset([key]) for key in keys], names)
        start = time.monotonic()
        for done, (key, found) in enumerate(run_jobs(keys, lambda key: (int(key),), do_nothing, ENCODER, engine)):
            if not isinstance(found, str):
                store.write(key, found)
            board.end(key)
            if done == count // 10:
                early = process.memory_info().rss
        return (time.monotonic() - start) / count * 1000, (process.memory_info().rss - early) / 2**20


def main(count: int) -> None:
    """Measure and print."""
    one, two = measure_trainings(1), measure_trainings(2)
    print(f"{TRAININGS} trainings: {one:.0f} s on one core, {two:.0f} s on two, {one / two:.2f} times as fast")
    for name, engine in (("one process", None), ("Ray", "local")):
        milliseconds, grown = measure_overhead(count, engine)
        print(f"{count} trivial cells, {name}: {milliseconds:.1f} ms each, memory grew by {grown:.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    main(parser.parse_args().cells)
