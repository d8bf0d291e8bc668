"""Read what a revision holds in files that Git tracks (params, stages, metrics), and compare two revisions."""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amalgam.dvc import find_commit, open_files, parse_yaml
from amalgam.errors import DataError
from amalgam.report.content import flatten

if TYPE_CHECKING:
    from dvc.repo import Repo

WORKSPACE = "workspace"
STUDENT, STUDENT_INT8 = "student", "student_int8"  # two forms of one model, of which one ships
PRIMARY = f"{STUDENT}.auc"  # the measure of the verdict
_DEFAULT_BASES = ("main", "origin/HEAD", "master")  # a change is compared with the first one that exists
_WORK = {  # of cost.json, without the sum
    "synthesis": "writing responses",
    "judge": "grading them",
    "label": "labelling real texts",
    "grader": "grading test rows",
}
_USAGE = {"requests": None, "prompt_tokens": 0, "completion_tokens": 0, "cost_usd": None}  # keys of each, with defaults


@dataclass(frozen=True, slots=True)
class Revision:
    """The tracked content of a commit, a DVC experiment or the workspace."""

    name: str  # as the user gave it, or `workspace`
    commit: str  # its full hash; empty for the workspace
    params: dict[str, Any]
    stages: dict[str, Any]  # dvc.lock, by stage, without stages that dvc.yaml no longer has
    # The numbers in metrics/*.json by dotted name, except those that summary.json repeats and those of the form of the
    # student that does not ship.
    metrics: dict[str, float]
    ordinal: bool  # whether the task's labels have an order
    student: str  # the form that ships, by its name in the predictions

    def find_output(self, path: str) -> str:
        """Return the hash that dvc.lock has for an output; empty if it has none."""
        return next((found for stage in self.stages.values() if (found := _index(stage, "outs").get(path))), "")


@dataclass(frozen=True, slots=True)
class Change:
    """A param or a metric whose value changed; `kind` is `changed`, `added` or `removed`."""

    name: str
    old: Any
    new: Any
    kind: str


@dataclass(frozen=True, slots=True)
class StageChange:
    """A stage that ran, as its entry in dvc.lock changed: the params, dependencies and outputs that differ."""

    name: str
    params: list[str]
    deps: list[str]
    outs: list[str]


def read_revision(repo: "Repo", name: str) -> Revision:
    """Read a branch, tag, commit, experiment, or `workspace`; DataError if that cannot be done."""
    commit = "" if name == WORKSPACE else find_commit(repo, name)
    if not commit and name != WORKSPACE:
        raise DataError(
            f"there is no branch, tag, commit or experiment `{name}` in this clone: look at `git branch --all` "
            "and `dvc exp list`, and run `git fetch --unshallow` if the clone is shallow"
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
            raise DataError(f"{path} of `{name}` is not valid {form}: `dvc status` shows where") from error
        if not isinstance(content, dict):
            raise DataError(f"{path} of `{name}` is not a mapping: fix it first")
        return content

    params = read("params.yaml")
    if not params:
        raise DataError(f"`{name}` holds no params.yaml: it is not a revision of this pipeline")
    folder = posixpath.join(top, "metrics")
    found = sorted(map(posixpath.basename, files.ls(folder, detail=False) if files.isdir(folder) else []))
    numbers = {file: flatten(read(f"metrics/{file}")) for file in found if file.endswith(".json")}
    ships_int8 = numbers.pop("summary.json", {}).get("student.bits") == 8
    metrics: dict[str, float] = {}
    for values in numbers.values():
        metrics |= {name: leaf for name, leaf in values.items() if isinstance(leaf, int | float)}
    int8 = {name: metrics.pop(name) for name in list(metrics) if STUDENT_INT8 in name.split(".")}
    if ships_int8:
        metrics |= {name.replace(STUDENT_INT8, STUDENT): leaf for name, leaf in int8.items()}
    locked, pipeline = (read(file).get("stages", {}) for file in ("dvc.lock", "dvc.yaml"))
    return Revision(
        name=name,
        commit=commit,
        params=params,
        # A matrix appends its item, after an @, to the name of a stage.
        stages={stage: entry for stage, entry in locked.items() if stage.split("@")[0] in pipeline},
        metrics=metrics,
        ordinal=str(read(f"data/tasks/{params.get('task')}/task.yaml").get("ordinal")).lower() == "true",
        student=STUDENT_INT8 if ships_int8 else STUDENT,
    )


def find_default_base(repo: "Repo") -> str:
    """Return the name of the branch that changes are meant for; DataError if none of the usual ones exists."""
    if found := next((name for name in _DEFAULT_BASES if find_commit(repo, name)), ""):
        return found
    raise DataError(
        "there is no branch `main` or `master` and no default branch of `origin` to compare with: "
        "name a revision, as in `amalgam review HEAD~1`"
    )


def compare_mappings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """List the names whose values differ, in the order of the newer mapping, removed ones last."""
    kept = [
        Change(name, old.get(name), value, "changed" if name in old else "added")
        for name, value in new.items()
        if name not in old or old[name] != value
    ]
    return kept + [Change(name, value, None, "removed") for name, value in old.items() if name not in new]


def compare_stages(old: Revision, new: Revision) -> list[StageChange]:
    """List the stages of the newer revision whose entry in dvc.lock differs, in its order."""
    changes = []
    for name, after in new.stages.items():
        before = old.stages.get(name, {})
        parts = {
            part: sorted(change.name for change in compare_mappings(_index(before, part), _index(after, part)))
            for part in ("params", "deps", "outs")
        }
        if any(parts.values()) or before.get("cmd") != after.get("cmd"):
            changes.append(StageChange(name, **parts))
    return changes


def find_stale_inputs(revision: Revision) -> dict[str, list[str]]:
    """Return, by stage, the params and other stages' outputs that are no longer those that the stage ran with."""

    def look_up(key: str) -> Any:
        """Return a leaf or a whole section by its dotted name."""
        found: Any = revision.params
        for name in key.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    made = {path: md5 for stage in revision.stages.values() for path, md5 in _index(stage, "outs").items()}
    stale = {
        name: [key for key, ran_with in _index(stage, "params").items() if look_up(key) != ran_with]
        + [path for path, md5 in _index(stage, "deps").items() if made.get(path, md5) != md5]
        for name, stage in revision.stages.items()
    }
    return {name: inputs for name, inputs in stale.items() if inputs}


def list_usage(revision: Revision) -> list[dict[str, Any]]:
    """Read the total LLM usage from the metrics by kind of work; the cost in US dollars is None if it is not known."""
    return [
        {"work": work} | {name: revision.metrics.get(f"{section}.{name}", default) for name, default in _USAGE.items()}
        for section, work in _WORK.items()
        if f"{section}.requests" in revision.metrics
    ]


def _index(stage: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the params of a stage in dvc.lock by key, or its dependencies' or outputs' hashes by path."""
    if part == "params":
        return {key: value for values in stage.get(part, {}).values() for key, value in values.items()}
    return {entry["path"]: entry.get("md5") for entry in stage.get(part, [])}
