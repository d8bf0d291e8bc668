"""What a Git revision, a DVC experiment or the workspace holds in files that Git tracks."""

import json
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amalgam.errors import DataError

WORKSPACE = "workspace"
STUDENT, STUDENT_INT8 = "student", "student_int8"  # two forms of one model, of which one ships
# Where the first of them is that exists, what a change is compared with unless told otherwise.
_DEFAULT_BASES = ("main", "origin/HEAD", "master")
_SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class Revision:
    """The tracked content of a revision.

    Attributes:
        name: as the user gave it, or `workspace`.
        commit: the commit's full hash; empty for the workspace.
        params: params.yaml.
        pipeline: the names of the stages in dvc.yaml, without what a matrix adds to them.
        stages: dvc.lock, by stage.
        metrics: the numbers in metrics/*.json, by dotted name, but for those that summary.json repeats.
        ordinal: whether the task's labels have an order.
        bits: what a weight of the student that ships takes; None where the revision does not say.
        student: the model that counts as the student, by its name in the predictions.
    """

    name: str
    commit: str
    params: dict[str, Any]
    pipeline: frozenset[str]
    stages: dict[str, Any]
    metrics: dict[str, float]
    ordinal: bool
    bits: int | None = None
    student: str = STUDENT

    def find_output(self, path: str) -> str:
        """Return the hash that dvc.lock has for an output; empty where it has none."""
        outputs = (output for stage in self.stages.values() for output in stage.get("outs", []))
        return next((output.get("md5", "") for output in outputs if output["path"] == path), "")


@dataclass(frozen=True, slots=True)
class Project:
    """The DVC project that revisions are read from.

    Attributes:
        folder: its top folder.
        cache: the folder of DVC's cached files.
        remote: the name of the default remote to fetch from; empty where there is none.
    """

    folder: Path
    cache: Path
    remote: str
    _repo: Any

    def read(self, name: str) -> Revision:
        """Read a revision by its name: a branch, tag, commit, experiment, or `workspace`.

        Raises:
            DataError: there is no such revision, or it holds files that cannot be read.
        """
        if name == WORKSPACE:
            from dvc.fs import localfs

            return _read_files(name, "", localfs, str(self.folder))
        commit = self._resolve(name)
        if not commit:
            raise DataError(
                f"there is no branch, tag, commit or experiment `{name}` in this clone: look at `git branch --all` "
                "and `dvc exp list`, and at `git fetch --unshallow` where the clone is shallow"
            )
        scm = self._repo.scm
        return _read_files(name, commit, scm.get_fs(commit), self.folder.relative_to(Path(scm.root_dir)).as_posix())

    def list_experiments(self) -> list[str]:
        """List the commits of the experiments that began at HEAD, the oldest first."""
        found = self._repo.experiments.ls()
        commits = [commit for experiments in found.values() for _, commit in experiments]
        return sorted(commits, key=lambda commit: (self._repo.scm.resolve_commit(commit).commit_time, commit))

    def find_default_base(self) -> str:
        """Return the name of the branch that changes are made for.

        Raises:
            DataError: none of the usual ones exists.
        """
        for name in _DEFAULT_BASES:
            if self._resolve(name):
                return name
        raise DataError(
            "there is neither a branch `main` or `master` nor a default branch of `origin` to compare with: "
            "name a revision, as in `amalgam review HEAD~1`"
        )

    def _resolve(self, name: str) -> str:
        from dvc.scm import SCMError, resolve_rev

        try:
            return str(resolve_rev(self._repo.scm, name))
        except SCMError:
            return ""


@contextmanager
def open_project(folder: Path) -> Iterator[Project]:
    """Open the DVC project in a folder.

    Raises:
        DataError: it is none, or Git does not track it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import NoSCM

    try:
        repo = Repo(str(folder))
    except DvcException as error:
        raise DataError(f"DVC cannot read the project ({error}): run this in its top folder") from error
    with repo:
        if isinstance(repo.scm, NoSCM):
            raise DataError("the project is not in a Git repository, so there are no revisions to compare: `git init`")
        cache, remote = Path(repo.cache.local.path), repo.config["core"].get("remote", "")
        yield Project(Path(repo.root_dir), cache, remote, repo)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name; a list is a leaf."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, part in value.items()
        for name, leaf in flatten(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def choose_students(old: Revision, new: Revision) -> tuple[Revision, Revision]:
    """Let the student of each revision be the form that ships, and leave out the other one.

    Where one revision does not say which it is, the student is that in 32 bits in both.
    """
    known = old.bits is not None and new.bits is not None
    first, second = (_choose_student(revision, known and revision.bits == 8) for revision in (old, new))
    return first, second


def _choose_student(revision: Revision, is_int8: bool) -> Revision:
    forms = {name: value for name, value in revision.metrics.items() if f".{STUDENT_INT8}." in f".{name}"}
    metrics = {name: value for name, value in revision.metrics.items() if name not in forms}
    if is_int8:
        metrics |= {name.replace(STUDENT_INT8, STUDENT): value for name, value in forms.items()}
    return replace(revision, metrics=metrics, student=STUDENT_INT8 if is_int8 else STUDENT)


def _read_files(name: str, commit: str, files: Any, top: str) -> Revision:
    params = _read_yaml(name, files, top, "params.yaml")
    if not params:
        raise DataError(f"`{name}` holds no params.yaml: it is no revision of this pipeline")
    task = _read_yaml(name, files, top, f"data/tasks/{params.get('task')}/task.yaml")
    pipeline = _read_yaml(name, files, top, "dvc.yaml").get("stages", {})
    metrics = _read_metrics(name, files, posixpath.join(top, "metrics"))
    bits = metrics.pop(_SUMMARY, {}).get("student.bits")
    return Revision(
        name=name,
        commit=commit,
        params=params,
        pipeline=frozenset(pipeline),
        stages=_read_yaml(name, files, top, "dvc.lock").get("stages", {}),
        metrics={key: value for numbers in metrics.values() for key, value in numbers.items()},
        ordinal=str(task.get("ordinal")).lower() == "true",
        bits=None if bits is None else int(bits),
    )


def _read_metrics(name: str, files: Any, folder: str) -> dict[str, dict[str, float]]:
    """Read the numbers of each file by dotted name."""
    metrics: dict[str, dict[str, float]] = {}
    paths = files.ls(folder, detail=False) if files.isdir(folder) else []
    for path in sorted(path for path in paths if path.endswith(".json")):
        try:
            with files.open(path, "r", encoding="utf-8") as stream:
                leaves = flatten(json.load(stream))
        except ValueError as error:
            raise DataError(f"metrics/{posixpath.basename(path)} of `{name}` is not valid JSON ({error})") from error
        numbers = {key: leaf for key, leaf in leaves.items() if isinstance(leaf, int | float)}
        metrics[posixpath.basename(path)] = numbers
    return metrics


def _read_yaml(name: str, files: Any, top: str, path: str) -> dict[str, Any]:
    """Read a mapping; a file that is not there is an empty one."""
    from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml

    full = posixpath.join(top, path)
    if not files.exists(full):
        return {}
    try:
        with files.open(full, "r", encoding="utf-8") as stream:
            content = parse_yaml(stream.read(), path)  # as DVC does: for others 5e-05 is a text
    except (ValueError, YAMLFileCorruptedError) as error:
        raise DataError(f"{path} of `{name}` is not valid YAML: `dvc status` says where") from error
    if content is not None and not isinstance(content, dict):
        raise DataError(f"{path} of `{name}` is not a mapping: mend it first")
    return content or {}
