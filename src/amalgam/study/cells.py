"""The parts of a cell, how missing parts are computed, and the table of results.

A cell's teacher has the members of the pipeline's teacher, so a cell has one or two trainings, and the guard's answer
for its synthetic rows. Cells share trainings: the member that learns only the human rows is the same at every ratio.
Each part has a key, the hash of everything that determines it, and is computed once.

The cells of the recipe `protocol` repeat the protocol of arXiv 2501.09126 with its weaknesses: the test rows choose
the checkpoint, and a mix takes more steps than the human rows alone, in proportion to its rows.
"""

import ast
import functools
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import encode_labels
from amalgam.evaluation.metrics import measure_weighted
from amalgam.files import read_json
from amalgam.machine import notify, show_progress
from amalgam.params import Params, Teacher
from amalgam.study.engine import Board, Store, choose_engine, run_jobs
from amalgam.study.grid import Cell, Data, Experiment, read_data, read_once
from amalgam.synthesis.mix import COLUMNS, count_synthetic, mix_rows
from amalgam.training.transfer import assign_roles

MEMBERS = ("contrast", "entropy")  # of a teacher
_ALL_SYNTHETIC = 0.8  # at ratio 1, the teacher learns the synthetic rows of this ratio without the human ones
_DECIMALS = 6  # of stored numbers
_LEAST = 1e-7  # lower bound of a probability, so that its logarithm is finite
_COLUMNS = ("task", "split", "human_rows", "recipe", "seed", "rows", "ratio", "llm", "temperature", "filter")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One training of a cell, or its question to the guard: do the learned rows agree with `test`?"""

    kind: Literal["entropy", "contrast", "guard"]
    seed: int
    labels: list[str]
    teacher: Teacher
    learned: pd.DataFrame
    held_out: pd.DataFrame | None  # rows that choose the checkpoint, if any do
    test: pd.DataFrame  # rows that are scored
    taught: int | None = None  # human rows that decide the contrastive steps, if they are not those learned


def count_needed(cell: Cell, data: Data, least: int) -> int:
    """Return how many synthetic rows the cell learns."""
    human, _ = assign_roles(data.train, data.validation, least=least)
    return cell.rows or count_synthetic(_ALL_SYNTHETIC if cell.ratio == 1 else cell.ratio, len(human))


def list_parts(
    cell: Cell, data: Data, pool: pd.DataFrame | None, labels: list[str], teacher: Teacher, guard_seed: int
) -> dict[str, Part]:
    """Return the parts of a cell by name: `entropy`, `contrast` in our recipe, and `guard` if there are synthetic rows.

    `pool` has all responses of the cell's LLM (id, text, question, label, shots, reason), with the reason "" for kept
    ones; it is None for a human-only teacher. `teacher` is the section of that name, with its steps scaled.
    `guard_seed` draws the guard's folds. DataError if the pool has too few rows.
    """
    human, held_out = assign_roles(data.train, data.validation, least=teacher.min_validation_rows)
    human = learned = human.assign(group=human.get("group", ""), origin="human", shots="")[COLUMNS]
    parts, taught = dict[str, Part](), None
    if pool is not None:
        wanted = count_needed(cell, data, teacher.min_validation_rows)
        kept = pool["reason"] == ""
        learned = mix_rows(human, pool[kept], pool[~kept], wanted / (wanted + len(human)), labels)
        coded = human if held_out is None else pd.concat([human, held_out], ignore_index=True).fillna("")
        synthetic = learned[learned["origin"] == "synthetic"]
        parts["guard"] = Part("guard", guard_seed, labels, teacher, synthetic, None, coded)
        if cell.ratio == 1:
            taught, human = len(human), synthetic
            learned = synthetic
    if cell.recipe == "protocol":
        steps = round(teacher.steps * len(learned) / len(human))
        teacher, held_out = teacher.model_copy(update={"recipe": "paper", "steps": steps}), data.test
    else:
        teacher = teacher.model_copy(update={"recipe": cell.recipe})
    if teacher.recipe == "amalgam":
        parts["contrast"] = Part("contrast", cell.seed, labels, teacher, human, None, data.test, taught)
    parts["entropy"] = Part("entropy", cell.seed, labels, teacher, learned, held_out, data.test)
    return parts


def compute_part(encoder: Path, part: Part) -> dict[str, Any]:
    """Train and return the `probabilities` [rows, classes] of the test rows, or ask the guard for its `evidence`."""
    from amalgam.training.checkpoint import compute_softmax
    from amalgam.training.embeddings import embed_rows
    from amalgam.training.guard import ask_guard
    from amalgam.training.teacher import TeacherTrainer

    if part.kind == "guard":
        rows = pd.concat([part.test, part.learned], ignore_index=True)
        vectors = embed_rows(encoder, rows, max_length=part.teacher.max_length)
        both = vectors[: len(part.test)], vectors[len(part.test) :]
        evidence = ask_guard(part.test, part.learned, both, part.labels, seed=part.seed)
        return {"evidence": evidence.to_dict() if evidence else {}}
    is_contrast = part.kind == "contrast"
    rows, held_out, labels, teacher = part.learned, part.held_out, part.labels, part.teacher
    trainer = TeacherTrainer(encoder, rows, held_out, labels, teacher, contrastive=is_contrast, taught=part.taught)
    logits = trainer.train_and_score(part.seed, part.test, lambda _step: None)
    return {"probabilities": compute_softmax(logits).round(_DECIMALS).tolist()}


def name_part(part: Part, encoder: str) -> str:
    """Return the key of a part: the hash of its params, its rows, the encoder (a hash) and the code."""
    tables = [part.learned, part.test, *([] if part.held_out is None else [part.held_out])]
    rows = [table[[name for name in COLUMNS if name in table]].to_csv(index=False) for table in tables]
    said = [part.kind, part.seed, part.labels, part.teacher.model_dump(exclude={"model", "guard"}), rows]
    said += [part.taught] if part.taught else []
    return hashlib.sha256(json.dumps([*said, encoder, hash_code()]).encode()).hexdigest()


@functools.cache
def hash_code() -> str:
    """Return the hash of the code that computes parts, without comments and docstrings."""
    paths = sorted((Path(__file__).parents[1] / "training").glob("*.py"))
    texts = [*(path.read_text("utf-8") for path in paths), inspect.getsource(compute_part)]
    return hashlib.sha256("\n".join(map(_strip_code, texts)).encode()).hexdigest()


def _strip_code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


class Grid:
    """The cells of a study with their experiments, and the rows under `target` that they learn and are measured on."""

    def __init__(
        self, cells: Mapping[Cell, list[Experiment]], params: Params, target: Path, labels: Mapping[str, list[str]]
    ) -> None:
        """Take the cells, the params that they leave open, the folder of their rows, and the labels of each task."""
        self.cells, self.labels, self.target = cells, labels, target
        self._params, self._faults = params, read_json(target / "faults.json")
        self._seed = min(cell.seed for cell in cells)  # of the guard's folds, one for the study

    def build(self, cell: Cell) -> dict[str, Part]:
        """Return the parts of a cell; DataError if they cannot be built."""
        from amalgam.training.loop import scale_steps

        if fault := self._faults.get(cell.data) or self._faults.get(cell.pool):
            raise DataError(fault)
        pool = read_once(self.target / cell.pool / f"{cell.filter}.csv") if cell.pool else None
        teacher = scale_steps(self._params.teacher, cell.human_rows)
        return list_parts(cell, read_data(self.target, cell), pool, self.labels[cell.task], teacher, self._seed)


def compute_table(grid: Grid, ray: str | None, store: Store, status: Path, encoder: Path, digest: str) -> pd.DataFrame:
    """Compute the missing parts and return the table; a failed cell has the cause in `fault`.

    `ray` sets where to compute, see `run_jobs`; `store` has the results of parts; `status` is the file that `amalgam
    study status` reads; `digest` is the hash of the encoder.
    """
    engine = choose_engine(ray)
    rows: dict[Cell, dict[str, Any]] = {}
    keys: dict[Cell, dict[str, str]] = {}
    needed: dict[str, tuple[Cell, str]] = {}  # by key: a cell, and the name of the part
    for cell, experiments in grid.cells.items():
        row = rows[cell] = {"experiments": " ".join(experiments)} | {name: getattr(cell, name) for name in _COLUMNS}
        row |= {"human": 0, "synthetic": 0, "fault": ""}
        try:
            parts = grid.build(cell)
        except DataError as error:
            row["fault"] = str(error)
            continue
        keys[cell] = {name: name_part(part, digest) for name, part in parts.items()}
        for name, key in keys[cell].items():
            needed.setdefault(key, (cell, name))
        is_synthetic = parts["entropy"].learned["origin"] == "synthetic"
        row |= {"human": int((~is_synthetic).sum()), "synthetic": int(is_synthetic.sum())}
        row |= {"ratio": round(float(is_synthetic.mean()), 4)}
        row |= {f"{name}_key": keys[cell].get(name, "") for name in MEMBERS}
    missing = {key: f"{cell}: {name}" for key, (cell, name) in needed.items() if not store.has(key)}
    faults = {str(cell): row["fault"] for cell, row in rows.items() if row["fault"]}
    board = Board(status, [frozenset(own.values()) for own in keys.values()], missing, faults)
    board.write()

    def build(key: str) -> tuple[Part]:
        cell, name = needed[key]
        return (grid.build(cell)[name],)

    known = len(needed) - len(missing)
    with show_progress(f"{len(rows)} cells, trainings", total=len(missing), done_before=known) as advance:
        for key, result in run_jobs(list(missing), build, compute_part, encoder, engine, board.begin):
            if isinstance(result, str):
                notify(f"study: {missing[key]}: {result}")
            else:
                store.write(key, result)
            board.end(key, result if isinstance(result, str) else "")
            advance(key)
    board.write()
    for cell, own in keys.items():
        failed = (board.failed.get(missing.get(key, "")) for key in own.values())
        if fault := next(filter(None, failed), ""):
            rows[cell]["fault"] = fault
        else:
            done = {name: store.read(key) for name, key in own.items()}
            rows[cell] |= measure_cell(done, read_data(grid.target, cell).test, grid.labels[cell.task])
    return pd.DataFrame(rows.values())


def measure_cell(found: dict[str, dict[str, Any]], test: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    """Return AUC, kappa and loss on the test rows, and the guard's evidence, from the results of a cell's parts."""
    probabilities = join_members(found)
    actual = encode_labels(test, labels, "the test rows")
    measured = measure_weighted(actual, probabilities, np.ones((1, len(actual))), ("auc", "kappa"))
    likely = np.maximum(probabilities[np.arange(len(actual)), actual], _LEAST)
    evidence = found.get("guard", {}).get("evidence", {})
    return {
        **{name: round(float(values[0]), _DECIMALS) for name, values in measured.items()},
        "loss": round(float(-np.log(likely).mean()), _DECIMALS),
        **{f"guard_{name}": evidence.get(name) for name in ("helps", "label_auc", "difference")},
    }


def join_members(found: dict[str, dict[str, Any]]) -> np.ndarray:
    """Return the mean probabilities [rows, classes] of the members among a cell's parts."""
    return np.asarray(np.mean([found[name]["probabilities"] for name in MEMBERS if name in found], axis=0))


def stack_members(store: Store, rows: pd.DataFrame) -> np.ndarray:
    """Return the probabilities [rows of the table, test rows, classes] of cells that were computed."""
    keys = rows[[f"{name}_key" for name in MEMBERS]].to_numpy()
    found = ({name: store.read(key) for name, key in zip(MEMBERS, one, strict=True) if key} for one in keys)
    return np.stack([join_members(one) for one in found])
