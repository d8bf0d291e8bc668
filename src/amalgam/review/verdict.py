"""Put a review together: all that a reviewer of a change needs, and one sentence on what the change did."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from amalgam.dvc import Notify
from amalgam.errors import ParamsError
from amalgam.evaluation.predictions import MODEL_NAMES
from amalgam.params import Evaluation, describe_errors
from amalgam.report.content import flatten, format_difference, format_number, format_share
from amalgam.review import revisions
from amalgam.review.paired import Comparison, Difference, compare_outputs, find_obstacle, read_outputs
from amalgam.review.revisions import PRIMARY, Change, Revision, StageChange, compare_mappings

if TYPE_CHECKING:
    from dvc.repo import Repo

SAME, UNCLEAR, UNKNOWN = "no change", "no evidence of a difference", "cannot be said"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a change did to the student's AUC; the sentence begins with the kind and gives the numbers."""

    kind: str  # `better`, `worse`, or one of the three above
    sentence: str


@dataclass(frozen=True, slots=True)
class Review:
    """What changed from an older revision to a newer one."""

    old: str
    new: str
    old_commit: str  # empty for the workspace
    new_commit: str
    verdict: Verdict
    confidence: float  # of all intervals
    params: list[Change]
    stages: list[StageChange]
    comparison: Comparison | None  # None if it cannot be made or would show nothing
    metrics: list[Change]  # the other numbers in metrics/, for which there is no interval
    old_usage: list[dict[str, Any]]
    new_usage: list[dict[str, Any]]


def review_revisions(repo: "Repo", old: Revision, new: Revision, notify: Notify) -> Review:
    """Compare two revisions as the newer one's params define; `notify` gets a line on what is fetched or damaged."""
    try:
        confidence = Evaluation.model_validate(new.params.get("evaluation")).confidence
    except ValidationError as error:
        raise ParamsError(f"params.yaml of `{new.name}`, section `evaluation`: {describe_errors(error)}") from error
    stages = revisions.compare_stages(old, new)
    found = _compare(repo, old, new, confidence, notify, ran=bool(stages))
    comparison, verdict = (None, found) if isinstance(found, Verdict) else (found, judge_comparison(found, confidence))
    covered = {one.measure for one in comparison.differences} if comparison else set()
    changes = compare_mappings(old.metrics, new.metrics)
    metrics = [one for one in changes if one.name not in covered and not one.name.endswith(("_low", "_high"))]
    return Review(
        old=old.name,
        new=new.name,
        old_commit=old.commit,
        new_commit=new.commit,
        verdict=verdict,
        confidence=confidence,
        params=compare_mappings(flatten(old.params), flatten(new.params)),
        stages=stages,
        comparison=comparison,
        metrics=sorted(metrics, key=lambda change: change.name.split(".")[0] not in MODEL_NAMES),
        old_usage=revisions.list_usage(old),
        new_usage=revisions.list_usage(new),
    )


def _compare(
    repo: "Repo", old: Revision, new: Revision, confidence: float, notify: Notify, *, ran: bool
) -> Comparison | Verdict:
    """Compare the predictions, or return a verdict if they show nothing or cannot be compared."""
    for revision in (old, new):
        for stage, inputs in revisions.find_stale_inputs(revision).items():
            stale = f"stage {stage} of {revision.name} has not run with the current {', '.join(inputs)}"
            return _refuse(old, new, f"{stale}: run `dvc repro`")
    # Equal hashes need no predictions, if the same form of the student ships.
    hashes = [[revision.find_output(path) for path in ("data/predictions", "data/prepared")] for revision in (old, new)]
    if old.student == new.student and hashes[0] == hashes[1] and all(hashes[0]):
        stages = "stages ran again, but" if ran else "no stage ran again, and"
        value = f"; the student's AUC is {format_number(new.metrics[PRIMARY])}" if PRIMARY in new.metrics else ""
        return Verdict(SAME, f"No change: {stages} every prediction is the same{value}.")
    before = read_outputs(repo, old, notify)
    after = before and read_outputs(repo, new, notify)
    if before is None or after is None:
        name = new.name if before else old.name
        where = "neither in DVC's cache nor on its remote, and only the metrics in Git are left"
        return _refuse(old, new, f"the predictions of {name} are {where}")
    if obstacle := find_obstacle(before, after):
        return _refuse(old, new, f"the test rows cannot be compared, since {obstacle}")
    return compare_outputs(before, after, confidence, ordinal=new.ordinal)


def _refuse(old: Revision, new: Revision, reason: str) -> Verdict:
    """Return why nothing can be said, and what the metrics that Git tracks show."""
    points = ""
    if PRIMARY in old.metrics and PRIMARY in new.metrics:
        first, second = old.metrics[PRIMARY], new.metrics[PRIMARY]
        both = f"{format_number(first)} to {format_number(second)} ({format_difference(second - first)})"
        points = f" The student's AUC went from {both}, perhaps by chance."
    return Verdict(UNKNOWN, f"Cannot be said: {reason}.{points}")


def judge_comparison(comparison: Comparison, confidence: float) -> Verdict:
    """Return the verdict of the paired comparison."""
    difference = comparison.primary
    if difference is None:
        return Verdict(SAME, f"No change: the student predicts the same for all {comparison.rows} test rows.")
    kind = UNCLEAR if difference.outcome == "unclear" else difference.outcome
    seeds = f"{difference.seeds} seeds" if difference.seeds > 1 else "one seed"
    caution = "" if difference.seeds > 1 else " One seed does not show how much training runs differ."
    return Verdict(
        kind,
        f"{kind.capitalize()}: the student's AUC went from {format_number(difference.old)} to "
        f"{format_number(difference.new)}, by {format_difference(difference.change)}; the {format_share(confidence)} "
        f"interval, {phrase_ends(difference)}, {'includes' if kind == UNCLEAR else 'excludes'} 0 "
        f"(paired over {comparison.rows} test rows and {seeds}).{caution}",
    )


def phrase_ends(difference: Difference) -> str:
    """Write the interval of a difference as text."""
    low, high = (format_difference(round(end, 3) + 0.0) for end in (difference.low, difference.high))  # no -0.000
    return f"{low} to {high}"
