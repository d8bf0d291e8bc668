"""`amalgam tasks`: the tasks of a project side by side, each with its rows, its licence and its last result."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from amalgam.cli import print_table
from amalgam.dvc import list_experiments, open_repo
from amalgam.errors import AmalgamError
from amalgam.machine import notify
from amalgam.review.revisions import STUDENT, STUDENT_INT8, WORKSPACE, read_revision
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import FileSource, GitSource, Task, WheelSource, load_task


@dataclass(frozen=True)
class Listed:
    """A task; `rows` are coded ones, None where they are not on this machine, `student_auc` of the last run."""

    name: str
    rows: int | None
    labels: list[str]
    licence: str
    student_auc: float | None


def run_tasks(project: Path, *, as_json: bool) -> None:
    """Print all tasks of `data/tasks`; one that cannot be read is named with the reason."""
    results, listed = _read_results(project), []
    for folder in sorted(path.parent for path in (project / "data/tasks").glob("*/task.yaml")):
        try:
            task = load_task(folder)
            listed.append(Listed(task.name, None, task.label_names, task.licence, results.get(task.name)))
            rows = _count_rows(task, folder, project / ".cache/downloads")
            listed[-1] = replace(listed[-1], rows=rows)
        except AmalgamError as error:
            notify(f"{folder.name}: {error}")
    if as_json:
        print(json.dumps([asdict(one) for one in listed], indent=2, ensure_ascii=False))
        return
    cells: list[Sequence[str]] = [("task", "rows", "AUC", "labels", "licence")]
    for one in listed:
        labels = ", ".join(one.labels)
        shown = ["-" if value is None else f"{value:,}" for value in (one.rows, one.student_auc)]
        cells.append(
            (one.name, *shown, *(cell if len(cell) < 40 else f"{cell[:39]}…" for cell in (labels, one.licence)))
        )
    print_table(cells)


def _count_rows(task: Task, folder: Path, cache: Path) -> int | None:
    match task.source:
        case FileSource():
            here = True
        case WheelSource() as source:
            here = any((cache / "wheels").glob(f"{source.package}-{source.version}*.whl"))
        case GitSource() as source:
            here = all((cache / "git" / str(file.sha256)).is_file() for file in source.files)
        case source:
            here = source.is_local
    return len(load_task_rows(task, folder, cache).main) if here else None


def _read_results(project: Path) -> dict[str, float]:
    """Return the AUC of the last student by task, from the experiments of HEAD, HEAD and the workspace."""
    results = {}
    try:
        with open_repo(project) as repo:
            for revision in ("HEAD", WORKSPACE, *list_experiments(repo)):
                found = read_revision(repo, revision)
                locked = found.stages.get("evaluate", {}).get("params", {}).get("params.yaml", {})
                shipped = STUDENT_INT8 if found.bits == 8 else STUDENT
                if "task" in locked and (auc := found.metrics.get(f"{shipped}.auc")) is not None:
                    results[str(locked["task"])] = round(auc, 3)
    except AmalgamError as error:
        notify(f"no results are known: {error}")
    return results
