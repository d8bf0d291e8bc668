"""What a cell consists of, and how that is computed.

A cell's teacher has the members of the pipeline's teacher, so a cell has one or two trainings, and the guard's answer
for its synthetic rows. Cells share trainings: the member that learns the human rows alone is the same at every ratio.
Each part has a key, the hash of all that decides it, and is computed once.

The cells of the recipe `paper` repeat the protocol of arXiv 2501.09126 with its weaknesses: the test rows choose the
checkpoint, and a mix takes more steps than the human rows alone, in proportion to its rows.
"""

import ast
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import encode_labels
from amalgam.evaluation.metrics import measure_weighted
from amalgam.params import Teacher
from amalgam.study.grid import Cell
from amalgam.synthesis.mix import COLUMNS, assign_roles, count_synthetic, mix_rows

MEMBERS = ("contrast", "entropy")  # of a teacher
_ALL_SYNTHETIC = 0.8  # at ratio 1, the synthetic rows of this ratio learn without the human ones
_DECIMALS = 6  # of what is kept
_LEAST = 1e-7  # probability of which there is a logarithm


class Tables(NamedTuple):
    """The rows that are learned, those that choose the checkpoint, if any do, and those that are scored."""

    learned: pd.DataFrame
    held_out: pd.DataFrame | None
    test: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Part:
    """One training of a cell, or its question to the guard."""

    kind: Literal["entropy", "contrast", "guard"]
    seed: int
    labels: tuple[str, ...]
    teacher: Teacher


class Data(NamedTuple):
    """The split rows of a task: those for training, those for validation, and those that are scored."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def count_needed(cell: Cell, data: Data, least: int) -> int:
    """Return how many synthetic rows the cell learns."""
    human, _ = assign_roles(data.train, data.validation, least=least)
    return cell.rows or count_synthetic(_ALL_SYNTHETIC if cell.ratio == 1 else cell.ratio, len(human))


def list_parts(
    cell: Cell, data: Data, pool: pd.DataFrame | None, labels: list[str], teacher: Teacher, guard_seed: int
) -> dict[str, tuple[Part, Tables]]:
    """Return the parts of a cell by name: `entropy`, mostly `contrast`, and `guard` where there are synthetic rows.

    Args:
        cell: the setting.
        data: the human-coded rows.
        pool: all responses of its LLM (id, text, question, label, shots, reason), the reason "" where it is kept;
            None for a human-only teacher.
        labels: class names in order.
        teacher: the section `teacher`, its steps scaled.
        guard_seed: deals the guard's folds: one for all seeds.

    Raises:
        DataError: the pool has not enough rows.
    """
    human, held_out = assign_roles(data.train, data.validation, least=teacher.min_validation_rows)
    human = human.assign(group=human.get("group", ""), origin="human", shots="")[COLUMNS]
    learned = human
    if pool is not None:
        wanted = count_needed(cell, data, teacher.min_validation_rows)
        kept = pool["reason"] == ""
        learned = mix_rows(human, pool[kept], pool[~kept], wanted / (wanted + len(human)), labels)
    parts: dict[str, tuple[Part, Tables]] = {}
    if pool is not None:
        coded = human if held_out is None else pd.concat([human, held_out], ignore_index=True).fillna("")
        asked = Tables(learned[learned["origin"] == "synthetic"], None, coded)
        parts["guard"] = Part("guard", guard_seed, tuple(labels), teacher), asked
    if cell.ratio == 1:
        human = learned = learned[learned["origin"] == "synthetic"]
    if cell.recipe == "paper":
        steps = round(teacher.steps * len(learned) / len(human))
        teacher = teacher.model_copy(update={"recipe": "paper", "steps": steps})
        parts["entropy"] = Part("entropy", cell.seed, tuple(labels), teacher), Tables(learned, data.test, data.test)
        return parts
    part = functools.partial(Part, seed=cell.seed, labels=tuple(labels), teacher=teacher)
    parts["contrast"] = part("contrast"), Tables(human, None, data.test)
    parts["entropy"] = part("entropy"), Tables(learned, held_out, data.test)
    return parts


def compute_part(encoder: Path, part: Part, tables: Tables) -> dict[str, Any]:
    """Train and return the `probabilities` [rows, classes] of the test rows, or ask the guard for its `evidence`."""
    from amalgam.training.checkpoint import compute_softmax
    from amalgam.training.embeddings import embed_rows
    from amalgam.training.guard import ask_guard
    from amalgam.training.teacher import TeacherTrainer

    labels = list(part.labels)
    if part.kind == "guard":
        synthetic, human = tables.learned, tables.test
        rows = pd.concat([human, synthetic], ignore_index=True)
        vectors = embed_rows(encoder, rows, max_length=part.teacher.max_length)
        both = vectors[: len(human)], vectors[len(human) :]
        evidence = ask_guard(human, synthetic, both, labels, seed=part.seed)
        return {"evidence": evidence.to_dict() if evidence else {}}
    is_contrast = part.kind == "contrast"
    trainer = TeacherTrainer(encoder, *tables[:2], labels, part.teacher, contrastive=is_contrast)
    logits = trainer.train_and_score(part.seed, tables.test, lambda _step: None)
    return {"probabilities": compute_softmax(logits).round(_DECIMALS).tolist()}


def name_part(part: Part, tables: Tables, encoder: str) -> str:
    """Return the key of a part: the hash of its params, its rows, the encoder (a hash) and the code."""
    rows = [None if table is None else _hash_table(table) for table in tables]
    said = [part.kind, part.seed, part.labels, part.teacher.model_dump(exclude={"model", "guard"}), rows]
    return hashlib.sha256(json.dumps([*said, encoder, hash_code()]).encode()).hexdigest()


def measure_cell(found: dict[str, dict[str, Any]], test: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    """Return AUC, kappa and loss on the test rows, and what the guard said, of what a cell's parts came to."""
    probabilities = join_members(found)
    actual = encode_labels(test, labels, "the test rows")
    measured = measure_weighted(actual, probabilities, np.ones((1, len(actual))), ("auc", "kappa"))
    likely = np.maximum(probabilities[np.arange(len(actual)), actual], _LEAST)
    evidence = found.get("guard", {}).get("evidence", {})
    return {
        **{name: round(float(values[0]), _DECIMALS) for name, values in measured.items()},
        "loss": round(float(-np.log(likely).mean()), _DECIMALS),
        "guard_helps": evidence.get("helps"),
        "guard_label_auc": evidence.get("label_auc"),
        "guard_difference": evidence.get("difference"),
    }


def join_members(found: dict[str, dict[str, Any]]) -> np.ndarray:
    """Return the mean probabilities [rows, classes] of the members among a cell's parts."""
    return np.asarray(np.mean([found[name]["probabilities"] for name in MEMBERS if name in found], axis=0))


@functools.cache
def hash_code() -> str:
    """Return the hash of the code that computes parts: training and this module, without comments and docstrings."""
    package = Path(__file__).parents[1]
    paths = [*sorted((package / "training").glob("*.py")), Path(__file__)]
    return hashlib.sha256("\n".join(_strip_code(path.read_text("utf-8")) for path in paths).encode()).hexdigest()


def _strip_code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _hash_table(table: pd.DataFrame) -> str:
    columns = [name for name in COLUMNS if name in table]
    return hashlib.sha256(table[columns].to_csv(index=False).encode()).hexdigest()
