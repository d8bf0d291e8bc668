"""A review: everything that a reviewer of a change needs to know, as plain values."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from amalgam.errors import ParamsError
from amalgam.evaluation.predictions import MODELS
from amalgam.params import Evaluation, describe_errors
from amalgam.review.changes import (
    Change,
    StageChange,
    Usage,
    compare_mappings,
    compare_params,
    compare_stages,
    find_stale_params,
    list_usage,
)
from amalgam.review.matching import find_obstacle
from amalgam.review.outputs import have_equal_outputs, read_outputs
from amalgam.review.paired import Comparison, compare_outputs
from amalgam.review.revisions import Project, Revision, choose_students
from amalgam.review.verdict import Verdict, judge_comparison, judge_equal, judge_points


@dataclass(frozen=True, slots=True)
class Review:
    """What changed from an older revision to a newer one.

    Attributes:
        old: the older revision's name.
        new: the newer one's.
        old_commit: its hash, as is `new_commit`; empty for the workspace.
        verdict: what it comes to.
        confidence: of all intervals.
        params: those that changed.
        stages: those that ran.
        comparison: of the predictions, row by row; None where it cannot be made or would show nothing.
        metrics: the other numbers in metrics/ that changed, for which there is no interval.
        old_usage: what the older revision took of the LLM, in all.
        new_usage: what the newer one took.
    """

    old: str
    new: str
    old_commit: str
    new_commit: str
    verdict: Verdict
    confidence: float
    params: list[Change]
    stages: list[StageChange]
    comparison: Comparison | None
    metrics: list[Change]
    old_usage: list[Usage]
    new_usage: list[Usage]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


def review_revisions(project: Project, old: Revision, new: Revision, notify: Callable[[str], None]) -> Review:
    """Compare two revisions; the newer one's params say how.

    Args:
        project: where they are from.
        old: what the change is compared with.
        new: what it leads to.
        notify: is told in whole sentences what is fetched.

    Raises:
        ParamsError: the newer revision's params.yaml does not say how results are measured.
        DataError: an output of a revision is not in the form in which it is written.
    """
    old, new = choose_students(old, new)
    params, stages = read_evaluation(new), compare_stages(old, new)
    comparison, verdict = None, _find_unfinished(old, new)
    if verdict is None and have_equal_outputs(old, new):
        verdict = judge_equal(new, stages)
    if verdict is None:
        comparison, verdict = _compare_predictions(project, old, new, params, notify)
    covered = {difference.measure for difference in comparison.differences} if comparison else set()
    return Review(
        old=old.name,
        new=new.name,
        old_commit=old.commit,
        new_commit=new.commit,
        verdict=verdict,
        confidence=params.confidence,
        params=compare_params(old, new),
        stages=stages,
        comparison=comparison,
        metrics=[change for change in _compare_metrics(old, new) if change.name not in covered],
        old_usage=list_usage(old),
        new_usage=list_usage(new),
    )


def read_evaluation(revision: Revision) -> Evaluation:
    """Read how a revision measures results."""
    try:
        # Earlier versions had more keys.
        given = revision.params.get("evaluation", {})
        return Evaluation.model_validate({name: given[name] for name in Evaluation.model_fields if name in given})
    except ValidationError as error:
        raise ParamsError(
            f"params.yaml of `{revision.name}`, section `evaluation`: {describe_errors(error)}"
        ) from error


def _find_unfinished(old: Revision, new: Revision) -> Verdict | None:
    for revision in (old, new):
        for stage, keys in find_stale_params(revision).items():
            reason = f"stage {stage} of {revision.name} has not run with its {', '.join(keys)}: `dvc repro` first"
            return judge_points(old, new, reason)
    return None


def _compare_predictions(
    project: Project, old: Revision, new: Revision, params: Evaluation, notify: Callable[[str], None]
) -> tuple[Comparison | None, Verdict]:
    before = read_outputs(project, old, notify)
    after = before and read_outputs(project, new, notify)
    if before is None or after is None:
        reason = (
            f"the predictions of {new.name if before else old.name} are neither in DVC's cache nor to be had from its "
            "remote, so there are only the metrics that Git tracks"
        )
        return None, judge_points(old, new, reason)
    if obstacle := find_obstacle(before, after):
        return None, judge_points(old, new, f"the test rows cannot be compared, since {obstacle}")
    comparison = compare_outputs(before, after, params, ordinal=new.ordinal)
    return comparison, judge_comparison(comparison, params.confidence)


def _compare_metrics(old: Revision, new: Revision) -> list[Change]:
    """List the metrics that changed but for the ends of intervals, those of models first."""
    changes = compare_mappings(old.metrics, new.metrics)
    points = [change for change in changes if not change.name.endswith(("_low", "_high"))]
    return sorted(points, key=lambda change: change.name.split(".")[0] not in MODELS)
