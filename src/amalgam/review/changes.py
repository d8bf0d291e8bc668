"""What differs between two revisions in files that Git tracks: params, stages, metrics, and what the LLM took."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amalgam.review.revisions import Revision, flatten

_ABSENT = object()
# In metrics/cost.json, before that in metrics/synthetic.json, each section counts its requests by one of these names.
_REQUESTS = ("requests", "completions", "rows")
_SECTIONS = {"synthesis": "writing responses", "judge": "grading them", "grader": "grading test rows"}


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


@dataclass(frozen=True, slots=True)
class Usage:
    """What one kind of work took of the LLM, in all; the cost in US dollars, None where a price is not known."""

    work: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


def compare_mappings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """List the names whose values differ, in the order of the newer mapping, removed ones last."""
    changes = []
    for name in [*new, *(name for name in old if name not in new)]:
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before is _ABSENT:
            changes.append(Change(name, None, after, "added"))
        elif after is _ABSENT:
            changes.append(Change(name, before, None, "removed"))
        elif before != after:
            changes.append(Change(name, before, after, "changed"))
    return changes


def compare_params(old: Revision, new: Revision) -> list[Change]:
    """List the params whose values differ."""
    return compare_mappings(flatten(old.params), flatten(new.params))


def compare_stages(old: Revision, new: Revision) -> list[StageChange]:
    """List the stages of the newer revision whose entry in dvc.lock differs, in its order."""
    changes = []
    for name, after in new.stages.items():
        before = old.stages.get(name, {})
        parts = {part: _list_changed(before, after, part) for part in ("params", "deps", "outs")}
        if any(parts.values()) or before.get("cmd") != after.get("cmd"):
            changes.append(StageChange(name, **parts))
    return changes


def find_stale_params(revision: Revision) -> dict[str, list[str]]:
    """Return, by stage, the params that it ran with and that have another value in params.yaml now."""
    stale = {
        name: [key for key, value in _index_part(stage, "params").items() if _look_up(revision.params, key) != value]
        for name, stage in revision.stages.items()
        if name.split("@")[0] in revision.pipeline  # dvc.lock keeps stages that are gone
    }
    return {name: keys for name, keys in stale.items() if keys}


def list_usage(revision: Revision) -> list[Usage]:
    """Read from the metrics what the LLM was asked in all, journal and cache included."""
    usages = []
    for section, work in _SECTIONS.items():
        numbers = {
            name.removeprefix(f"{section}."): value
            for name, value in revision.metrics.items()
            if name.startswith(f"{section}.")
        }
        requests = next((numbers[name] for name in _REQUESTS if name in numbers), None)
        if requests is not None:
            prompt, completion = (int(numbers.get(f"{kind}_tokens", 0)) for kind in ("prompt", "completion"))
            usages.append(Usage(work, int(requests), prompt, completion, numbers.get("cost_usd")))
    return usages


def _list_changed(before: Mapping[str, Any], after: Mapping[str, Any], part: str) -> list[str]:
    old, new = _index_part(before, part), _index_part(after, part)
    return sorted(name for name in old.keys() | new.keys() if old.get(name, _ABSENT) != new.get(name, _ABSENT))


def _index_part(stage: Mapping[str, Any], part: str) -> dict[str, Any]:
    if part == "params":
        return {key: value for values in stage.get(part, {}).values() for key, value in values.items()}
    return {entry["path"]: entry.get("md5") for entry in stage.get(part, [])}


def _look_up(params: Mapping[str, Any], key: str) -> Any:
    """Return a param, or a whole section of them, by its dotted name."""
    value: Any = params
    for name in key.split("."):
        value = value.get(name, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value
