"""One sentence on what a change did, which rests on the student's AUC alone."""

from dataclasses import dataclass

from amalgam.report.phrases import format_difference, format_number, format_share
from amalgam.review.changes import StageChange
from amalgam.review.paired import PRIMARY, Comparison, Difference
from amalgam.review.revisions import Revision

BETTER, WORSE, UNCLEAR = "better", "worse", "no evidence of a difference"
SAME, UNKNOWN = "no change", "cannot be said"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` is one of this module's constants; the sentence begins with it and gives the numbers."""

    kind: str
    sentence: str


def judge_comparison(comparison: Comparison, confidence: float) -> Verdict:
    """Say what the paired comparison shows."""
    difference = comparison.primary
    if difference is None:
        return Verdict(SAME, f"No change: the student predicts the same for all {comparison.rows} test rows.")
    kind = {"better": BETTER, "worse": WORSE}.get(difference.outcome, UNCLEAR)
    values = f"from {format_number(difference.old)} to {format_number(difference.new)}"
    interval = f"{format_share(confidence)} interval, {phrase_ends(difference)},"
    seeds = f"{difference.seeds} seeds" if difference.seeds > 1 else "one seed"
    caution = "" if difference.seeds > 1 else " One seed does not show how much training runs differ."
    return Verdict(
        kind,
        f"{kind.capitalize()}: the student's AUC went {values}, by {format_difference(difference.change)}; the "
        f"{interval} {'includes' if kind == UNCLEAR else 'excludes'} 0 "
        f"(paired over {comparison.rows} test rows and {seeds}).{caution}",
    )


def judge_equal(new: Revision, stages: list[StageChange]) -> Verdict:
    """Say that nothing changed, by the hashes of the predictions."""
    ran = "stages ran anew, but" if stages else "no stage ran anew, and"
    value = f"; the student's AUC is {format_number(new.metrics[PRIMARY])}" if PRIMARY in new.metrics else ""
    return Verdict(SAME, f"No change: {ran} every prediction is the same{value}.")


def judge_points(old: Revision, new: Revision, reason: str) -> Verdict:
    """Say why there is no verdict, and what the metrics that Git tracks show."""
    return Verdict(UNKNOWN, f"Cannot be said: {reason}.{_phrase_points(old, new)}")


def phrase_ends(difference: Difference) -> str:
    """Write the interval of a difference."""
    low, high = (format_difference(round(end, 3) + 0.0) for end in (difference.low, difference.high))  # no -0.000
    return f"{low} to {high}"


def _phrase_points(old: Revision, new: Revision) -> str:
    if not (PRIMARY in old.metrics and PRIMARY in new.metrics):
        return ""
    first, second = old.metrics[PRIMARY], new.metrics[PRIMARY]
    return (
        f" The student's AUC is {format_number(first)} and {format_number(second)} "
        f"({format_difference(second - first)}), which may be chance."
    )
