"""From a grid to the table of results: a row a cell, computed where nobody has computed it yet."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.files import read_json, read_rows
from amalgam.machine import notify, show_progress
from amalgam.params import Params
from amalgam.study.cells import (
    MEMBERS,
    Data,
    Part,
    Tables,
    compute_part,
    join_members,
    list_parts,
    measure_cell,
    name_part,
)
from amalgam.study.engine import Board, Store, choose_engine, run_jobs
from amalgam.study.grid import Cell, Experiment
from amalgam.study.pools import name_pool, read_data

_COLUMNS = ("task", "split", "human_rows", "recipe", "seed", "rows", "ratio", "llm", "temperature", "filter")


class Grid:
    """The cells of a study with their experiments, and the rows below `target` that they learn and are measured on."""

    def __init__(
        self, cells: Mapping[Cell, list[Experiment]], params: Params, target: Path, labels: Mapping[str, list[str]]
    ) -> None:
        """Take the cells, all that they leave open, the folder of their rows, and the labels of each task."""
        self.cells, self.labels = cells, labels
        self._params, self._target, self._faults = params, target, read_json(target / "faults.json")
        self._seed = min(cell.seed for cell in cells)  # of the guard's folds, one for the study
        self._read = lru_cache(maxsize=64)(read_rows)

    def build(self, cell: Cell) -> dict[str, tuple[Part, Tables]]:
        """Return the parts of a cell; DataError if it cannot be had."""
        from amalgam.training.loop import scale_steps

        name = name_pool(cell)
        if fault := self._faults.get(cell.data) or self._faults.get(name):
            raise DataError(fault)
        pool = self._read(self._target / name / f"{cell.filter}.csv") if name else None
        teacher = scale_steps(self._params.teacher, cell.human_rows)
        return list_parts(cell, self.read_data(cell), pool, self.labels[cell.task], teacher, self._seed)

    def read_data(self, cell: Cell) -> Data:
        """Read the split rows of a cell."""
        return read_data(self._target, cell, self._read)


def compute_table(grid: Grid, ray: str | None, store: Store, status: Path, encoder: Path, digest: str) -> pd.DataFrame:
    """Compute what is missing and return the table; a cell that failed has its cause in `fault`.

    Args:
        grid: the cells and their rows.
        ray: where to compute, see `run_jobs`.
        store: of the results of parts.
        status: the file for `amalgam study status`.
        encoder: folder of the base model.
        digest: its hash.
    """
    engine = choose_engine(ray)
    rows = {cell: _describe_cell(cell, names) for cell, names in grid.cells.items()}
    keys: dict[Cell, dict[str, str]] = {}
    needed: dict[str, tuple[Cell, str]] = {}  # by key a cell, and which part of it
    for cell, row in rows.items():
        try:
            found = grid.build(cell)
        except DataError as error:
            row["fault"] = str(error)
            continue
        keys[cell] = {name: name_part(*part, digest) for name, part in found.items()}
        needed |= {key: (cell, name) for name, key in keys[cell].items() if key not in needed}
        row |= _count_rows(found["entropy"][1]) | {f"{name}_key": keys[cell].get(name, "") for name in MEMBERS}
    missing = [key for key in needed if not store.has(key)]
    names = {key: f"{needed[key][0]}: {needed[key][1]}" for key in missing}
    failed = {str(cell): row["fault"] for cell, row in rows.items() if row["fault"]}
    board, faults = Board(status, [frozenset(one.values()) for one in keys.values()], names, failed=failed), {}
    board.write()

    def build(key: str) -> tuple[Any, ...]:
        cell, name = needed[key]
        return grid.build(cell)[name]

    with show_progress(
        f"{len(rows)} cells, trainings", total=len(missing), done_before=len(needed) - len(missing)
    ) as advance:
        for key, result in run_jobs(missing, build, compute_part, encoder, engine, board.begin):
            if isinstance(result, str):
                faults[key] = result
                notify(f"study: {names[key]}: {result}")
            else:
                store.write(key, result)
            board.end(key, faults.get(key, ""))
            advance(key)
    board.write()
    for cell, own in keys.items():
        if fault := next((faults[key] for key in own.values() if key in faults), ""):
            rows[cell]["fault"] = fault
        else:
            done = {name: store.read(key) for name, key in own.items()}
            rows[cell] |= measure_cell(done, grid.read_data(cell).test, grid.labels[cell.task])
    return pd.DataFrame(rows.values())


def _describe_cell(cell: Cell, experiments: list[Experiment]) -> dict[str, Any]:
    row = {"experiments": " ".join(experiments)} | {name: getattr(cell, name) for name in _COLUMNS}
    return row | {"human": 0, "synthetic": 0, "fault": ""}


def _count_rows(tables: Tables) -> dict[str, float]:
    """Count the rows that a cell learns by their origin, and the synthetic share of them."""
    origins = tables.learned["origin"]
    human, synthetic = (int((origins == origin).sum()) for origin in ("human", "synthetic"))
    return {"human": human, "synthetic": synthetic, "ratio": round(synthetic / (human + synthetic), 4)}


def stack_members(store: Store, rows: pd.DataFrame) -> np.ndarray:
    """Return the probabilities [rows of the table, test rows, classes] of cells that were computed."""
    keys = rows[[f"{name}_key" for name in MEMBERS]].to_numpy()
    found = ({name: store.read(key) for name, key in zip(MEMBERS, one, strict=True) if key} for one in keys)
    return np.stack([join_members(one) for one in found])
