"""The predictions of a revision and the rows that they are for, out of DVC's cache or its remote."""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from amalgam.evaluation.predictions import read_predictions
from amalgam.review.revisions import STUDENT, STUDENT_INT8, Project, Revision
from amalgam.rows import read_rows

PREDICTIONS, PREPARED = "data/predictions", "data/prepared"
_TABLE = "predictions.csv"
_SETS = ("test", "transfer_test")


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a revision's models say of its test rows.

    Attributes:
        labels: in the task's order.
        table: as `amalgam.evaluation.predictions` describes it.
        rows: by set (`test`, perhaps `transfer_test`), the rows with their labels.
    """

    labels: list[str]
    table: pd.DataFrame
    rows: dict[str, pd.DataFrame]


def have_equal_outputs(first: Revision, second: Revision) -> bool:
    """Whether two revisions have, by their hashes, the same predictions of the same rows, and ship the same form."""
    return first.student == second.student and all(
        first.find_output(path) == second.find_output(path) != "" for path in (PREDICTIONS, PREPARED)
    )


def read_outputs(project: Project, revision: Revision, notify: Callable[[str], None]) -> Outputs | None:
    """Read the predictions and their rows; None where they are not to be had.

    Raises:
        DataError: they are not in the form in which they are written.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = _find_file(project, revision, PREDICTIONS, _TABLE, Path(folder), notify)
        if found is None:
            return None
        labels = [name.removeprefix("p_") for name in pd.read_csv(found, nrows=0).columns[4:]]
        table = _keep_student(read_predictions(found, labels), revision.student)
        rows = {}
        for name in (name for name in _SETS if (table["set"] == name).any()):
            path = _find_file(project, revision, PREPARED, f"{name}.csv", Path(folder), notify)
            if path is None:
                return None
            rows[name] = read_rows(path)
    return Outputs(labels, table, rows)


def _keep_student(table: pd.DataFrame, student: str) -> pd.DataFrame:
    """Call the form of the student that ships `student`, and leave out the other one."""
    other = STUDENT if student == STUDENT_INT8 else STUDENT_INT8
    kept = table[table["model"] != other]
    return kept.assign(model=kept["model"].replace(STUDENT_INT8, STUDENT))


def _find_file(
    project: Project, revision: Revision, output: str, name: str, folder: Path, notify: Callable[[str], None]
) -> Path | None:
    """Return where a file of an output is: in the cache, or fetched into a folder."""
    tree = _find_object(project.cache, revision.find_output(output))
    if tree is not None:
        hashes = {entry["relpath"]: entry["md5"] for entry in json.loads(tree.read_bytes())}
        cached = _find_object(project.cache, hashes.get(name, ""))
        if cached is not None:
            return cached
    if not revision.find_output(output) or not project.remote:
        return None
    notify(f"fetching {output}/{name} of {revision.name} from DVC's remote")
    target = folder / name
    # A process of its own: DVC prints, and its remotes raise whatever their libraries do.
    command = [sys.executable, "-m", "dvc", "get", "--quiet", str(project.folder), f"{output}/{name}"]
    command += [
        "--out",
        str(target),
        "--remote",
        project.remote,
        *(["--rev", revision.commit] if revision.commit else []),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return target if done.returncode == 0 and target.is_file() else None


def _find_object(cache: Path, name: str) -> Path | None:
    """Return a cached file by its hash; None where it is missing, or damaged."""
    path = cache / name[:2] / name[2:]
    if not name or not path.is_file():
        return None
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return path if digest == name.removesuffix(".dir") else None
