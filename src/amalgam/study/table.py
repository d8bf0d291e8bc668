"""From a grid to the table of results: a row a cell, computed where nobody has computed it yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.files import read_json
from amalgam.machine import notify, show_progress
from amalgam.params import Params
from amalgam.rows import read_rows
from amalgam.study import cells as parts
from amalgam.study.engine import Board, Store, choose_engine, run_jobs
from amalgam.study.grid import Cell, Experiment, Study
from amalgam.study.pools import name_pool, read_data

_COLUMNS = ["task", "split", "human_rows", "recipe", "seed", "rows", "llm", "temperature", "filter"]


@dataclass
class Plan:
    """The parts of each cell that can be computed, by name their key; why others cannot; and who needs a key."""

    parts: dict[Cell, dict[str, str]] = field(default_factory=dict)
    faults: dict[Cell, str] = field(default_factory=dict)
    needed: dict[str, tuple[Cell, str]] = field(default_factory=dict)  # by key


class Grid:
    """The cells of a study, and the rows below `target` that they learn and are measured on."""

    def __init__(
        self, cells: Mapping[Cell, list[Experiment]], params: Params, target: Path, labels: Mapping[str, list[str]]
    ) -> None:
        """Take the cells with their experiments, and the labels of each task in class order."""
        self.cells, self._params, self._target, self._labels = cells, params, target, labels
        self._faults = read_json(target / "faults.json")
        self._tables: dict[str, Any] = {}

    def build(self, cell: Cell) -> dict[str, tuple[parts.Part, parts.Tables]]:
        """Return the parts of a cell; DataError if it cannot be had."""
        from amalgam.training.loop import scale_steps

        pool = name_pool(cell)
        if fault := self._faults.get(cell.data) or self._faults.get(pool):
            raise DataError(fault)
        synthetic = self._read(f"{pool}/{cell.filter}", lambda name: read_rows(self._target / f"{name}.csv"))
        teacher = scale_steps(self._params.teacher, cell.human_rows)
        return parts.list_parts(cell, self.read_data(cell), synthetic, self.find_labels(cell), teacher, self.guard_seed)

    @property
    def guard_seed(self) -> int:
        """The seed that deals the guard's folds, one for the study."""
        return min(cell.seed for cell in self.cells)

    def find_labels(self, cell: Cell) -> list[str]:
        """Return the labels of a cell's task, in class order; of one that could not be loaded, none."""
        return self._labels.get(cell.task, [])

    def read_data(self, cell: Cell) -> parts.Data:
        """Read the split rows of a cell, once."""
        data: parts.Data = self._read(cell.data, lambda _: read_data(self._target, cell))
        return data

    def plan(self, encoder: str) -> Plan:
        """Find the key of each part of each cell; `encoder` is a hash."""
        plan = Plan()
        for cell in self.cells:
            try:
                found = self.build(cell)
            except DataError as error:
                plan.faults[cell] = str(error)
                continue
            plan.parts[cell] = {name: parts.name_part(*part, encoder) for name, part in found.items()}
            for name, key in plan.parts[cell].items():
                plan.needed.setdefault(key, (cell, name))
        return plan

    def _read(self, name: str, read: Any) -> Any:
        if name.startswith("/"):  # a human-only teacher has no pool
            return None
        if name not in self._tables:
            self._tables[name] = read(name)
        return self._tables[name]


def compute_table(grid: Grid, study: Study, store: Store, status: Path, encoder: Path, digest: str) -> pd.DataFrame:
    """Compute what is missing and return the table; a cell that failed has its cause in `fault`.

    Args:
        grid: the cells and their rows.
        study: where to compute.
        store: of the results of parts.
        status: the file for `amalgam study status`.
        encoder: folder of the base model.
        digest: its hash.
    """
    engine, plan = choose_engine(study.ray), grid.plan(digest)
    missing = [key for key in plan.needed if not store.has(key)]
    lacking = set(missing)
    open_cells = [frozenset(keys.values()) & lacking for keys in plan.parts.values() if lacking & {*keys.values()}]
    names = {key: f"{plan.needed[key][0]}: {plan.needed[key][1]}" for key in missing}
    board = Board(status, open_cells, len(plan.parts) - len(open_cells), names)
    faults: dict[str, str] = {}

    def begin(key: str) -> None:
        board.running[key] = pd.Timestamp.now().timestamp()

    def build(key: str) -> tuple[Any, ...]:
        cell, name = plan.needed[key]
        return grid.build(cell)[name]

    title = f"{len(grid.cells)} cells, trainings"
    with show_progress(title, total=len(missing), done_before=len(plan.needed) - len(missing)) as advance:
        for key, found in run_jobs(missing, build, parts.compute_part, encoder, engine, begin):
            if isinstance(found, str):
                faults[key] = found
                notify(f"study: {names[key]}: {found}")
            else:
                store.write(key, found)
            board.end(key, faults.get(key, ""))
            advance(key)
    board.failed |= {str(cell): fault for cell, fault in plan.faults.items()}
    board.write(force=True)
    return build_table(grid, plan, store, faults)


def build_table(grid: Grid, plan: Plan, store: Store, faults: Mapping[str, str]) -> pd.DataFrame:
    """Put the cells' settings, metrics, keys and faults together."""
    rows = []
    for cell, experiments in grid.cells.items():
        row: dict[str, Any] = {"experiments": " ".join(experiments)}
        row |= {name: getattr(cell, name) for name in _COLUMNS}
        row |= {"ratio": cell.ratio, "human": 0, "synthetic": 0, "fault": plan.faults.get(cell, "")}
        if not row["fault"]:
            keys = plan.parts[cell]
            row |= {f"{name}_key": keys.get(name, "") for name in parts.MEMBERS}
            row |= count_rows(grid.build(cell)) | {"fault": _find_fault(keys, faults)}
            if not row["fault"]:
                found = {name: store.read(key) for name, key in keys.items()}
                row |= parts.measure_cell(found, grid.read_data(cell).test, grid.find_labels(cell))
        rows.append(row)
    return pd.DataFrame(rows).astype({"fault": str})


def count_rows(found: Mapping[str, tuple[parts.Part, parts.Tables]]) -> dict[str, float]:
    """Count the rows that a cell learns by their origin, and the synthetic share of them."""
    origins = found["entropy"][1].learned["origin"]
    human, synthetic = (int((origins == origin).sum()) for origin in ("human", "synthetic"))
    return {"human": human, "synthetic": synthetic, "ratio": round(synthetic / (human + synthetic), 4)}


def _find_fault(keys: Mapping[str, str], faults: Mapping[str, str]) -> str:
    return next((faults[key] for key in keys.values() if key in faults), "")


def stack_members(store: Store, rows: pd.DataFrame) -> np.ndarray:
    """Return the probabilities [rows of the table, test rows, classes] of cells that were computed."""
    keys = rows[[f"{name}_key" for name in parts.MEMBERS]].to_numpy()
    found = ({name: store.read(key) for name, key in zip(parts.MEMBERS, one, strict=True) if key} for one in keys)
    return np.stack([parts.join_members(one) for one in found])
