"""What a commit, a DVC experiment or the workspace holds in files that Git tracks."""

import json
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from amalgam.dvc import find_commit, open_files, parse_yaml
from amalgam.errors import DataError

if TYPE_CHECKING:
    from dvc.repo import Repo

WORKSPACE = "workspace"
STUDENT, STUDENT_INT8 = "student", "student_int8"  # two forms of one model, of which one ships
_DEFAULT_BASES = ("main", "origin/HEAD", "master")  # the first one that exists is what a change is compared with


@dataclass(frozen=True, slots=True)
class Revision:
    """The tracked content of a revision."""

    name: str  # as the user gave it, or `workspace`
    commit: str  # its full hash; empty for the workspace
    params: dict[str, Any]
    pipeline: frozenset[str]  # the names of the stages in dvc.yaml, without what a matrix adds to them
    stages: dict[str, Any]  # dvc.lock, by stage
    metrics: dict[str, float]  # the numbers in metrics/*.json by dotted name, but for those that summary.json repeats
    ordinal: bool  # whether the task's labels have an order
    bits: int | None = None  # of a weight of the student that ships; None where the revision does not say
    student: str = STUDENT  # the model that counts as the student, by its name in the predictions

    def find_output(self, path: str) -> str:
        """Return the hash that dvc.lock has for an output; empty where it has none."""
        outputs = (output for stage in self.stages.values() for output in stage.get("outs", []))
        return next((output.get("md5", "") for output in outputs if output["path"] == path), "")


def read_revision(repo: "Repo", name: str) -> Revision:
    """Read a branch, tag, commit, experiment, or `workspace`.

    Raises:
        DataError: there is no such revision, or it holds files that cannot be read.
    """
    commit = "" if name == WORKSPACE else find_commit(repo, name)
    if not commit and name != WORKSPACE:
        raise DataError(
            f"there is no branch, tag, commit or experiment `{name}` in this clone: look at `git branch --all` "
            "and `dvc exp list`, and at `git fetch --unshallow` where the clone is shallow"
        )
    files, top = open_files(repo, commit)

    def read(path: str) -> dict[str, Any]:
        full = posixpath.join(top, path)
        if not files.exists(full):
            return {}
        form, parse = ("JSON", json.loads) if path.endswith(".json") else ("YAML", lambda text: parse_yaml(text, path))
        try:
            content = parse(files.cat_file(full).decode()) or {}
        except ValueError as error:
            raise DataError(f"{path} of `{name}` is not valid {form}: `dvc status` says where") from error
        if not isinstance(content, dict):
            raise DataError(f"{path} of `{name}` is not a mapping: mend it first")
        return content

    params = read("params.yaml")
    if not params:
        raise DataError(f"`{name}` holds no params.yaml: it is no revision of this pipeline")
    folder = posixpath.join(top, "metrics")
    found = sorted(map(posixpath.basename, files.ls(folder, detail=False) if files.isdir(folder) else []))
    numbers = {file: flatten(read(f"metrics/{file}")) for file in found if file.endswith(".json")}
    bits = numbers.pop("summary.json", {}).get("student.bits")
    leaves = {name: leaf for values in numbers.values() for name, leaf in values.items()}
    return Revision(
        name=name,
        commit=commit,
        params=params,
        pipeline=frozenset(read("dvc.yaml").get("stages", {})),
        stages=read("dvc.lock").get("stages", {}),
        metrics={name: leaf for name, leaf in leaves.items() if isinstance(leaf, int | float)},
        ordinal=str(read(f"data/tasks/{params.get('task')}/task.yaml").get("ordinal")).lower() == "true",
        bits=None if bits is None else int(bits),
    )


def find_default_base(repo: "Repo") -> str:
    """Return the name of the branch that changes are made for.

    Raises:
        DataError: none of the usual ones exists.
    """
    for name in _DEFAULT_BASES:
        if find_commit(repo, name):
            return name
    raise DataError(
        "there is neither a branch `main` or `master` nor a default branch of `origin` to compare with: "
        "name a revision, as in `amalgam review HEAD~1`"
    )


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name; a list is a leaf."""
    if not isinstance(value, dict):
        return {prefix: value}
    parts = (flatten(part, f"{prefix}.{key}" if prefix else str(key)) for key, part in value.items())
    return {name: leaf for part in parts for name, leaf in part.items()}


def choose_students(old: Revision, new: Revision) -> tuple[Revision, Revision]:
    """Let the student of each revision be the form that ships, and leave out the other one.

    Where one revision does not say which it is, the student is that in 32 bits in both.
    """
    known = None not in (old.bits, new.bits)
    return _choose_student(old, known and old.bits == 8), _choose_student(new, known and new.bits == 8)


def _choose_student(revision: Revision, is_int8: bool) -> Revision:
    forms = {name: value for name, value in revision.metrics.items() if f".{STUDENT_INT8}." in f".{name}"}
    metrics = {name: value for name, value in revision.metrics.items() if name not in forms}
    if is_int8:
        metrics |= {name.replace(STUDENT_INT8, STUDENT): value for name, value in forms.items()}
    return replace(revision, metrics=metrics, student=STUDENT_INT8 if is_int8 else STUDENT)
