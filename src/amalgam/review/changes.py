"""What differs between two revisions in files that Git tracks: params, stages, metrics, and requests to the LLM."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amalgam.review.revisions import Revision

_ABSENT = object()
_WORK = {"synthesis": "writing responses", "judge": "grading them", "grader": "grading test rows"}  # of cost.json
_USAGE = {"requests": None, "prompt_tokens": 0, "completion_tokens": 0, "cost_usd": None}  # what it has; defaults


@dataclass(frozen=True, slots=True)
class Change:
    """A param or a metric whose value changed; `kind` is `changed`, `added` or `removed`."""

    name: str
    old: Any
    new: Any
    kind: str


@dataclass(frozen=True, slots=True)
class StageChange:
    """A stage whose entry in dvc.lock changed, so that it ran: which params, dependencies and outputs differ."""

    name: str
    params: list[str]
    deps: list[str]
    outs: list[str]


def compare_mappings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """List the names whose values differ, in the order of the newer mapping, removed ones last."""
    kinds = {name: "changed" if name in old else "added" for name in new}
    kinds |= {name: "removed" for name in old if name not in new}
    return [
        Change(name, old.get(name), new.get(name), kind)
        for name, kind in kinds.items()
        if kind != "changed" or old[name] != new[name]
    ]


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


def find_stale_params(revision: Revision) -> dict[str, list[str]]:
    """Return, by stage, the params that it ran with and that have another value in params.yaml now."""
    stale = {
        name: [key for key, value in _index(stage, "params").items() if _look_up(revision.params, key) != value]
        for name, stage in revision.stages.items()
        if name.split("@")[0] in revision.pipeline  # dvc.lock keeps stages that are gone
    }
    return {name: keys for name, keys in stale.items() if keys}


def list_usage(revision: Revision) -> list[dict[str, Any]]:
    """Read from the metrics what the LLM was asked in all, journal and cache included, by kind of work.

    The cost is in US dollars, and None where a price is not known.
    """
    usage = []
    for section, work in _WORK.items():
        numbers = {name: revision.metrics.get(f"{section}.{name}", default) for name, default in _USAGE.items()}
        if numbers["requests"] is not None:
            usage.append({"work": work} | numbers)
    return usage


def _index(stage: Mapping[str, Any], part: str) -> dict[str, Any]:
    if part == "params":
        return {key: value for values in stage.get(part, {}).values() for key, value in values.items()}
    return {entry["path"]: entry.get("md5") for entry in stage.get(part, [])}


def _look_up(params: Mapping[str, Any], key: str) -> Any:
    """Return a param, or a whole section of them, by its dotted name."""
    value: Any = params
    for name in key.split("."):
        value = value.get(name, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value
