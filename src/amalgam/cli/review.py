"""`amalgam review`: what a change did, and whether it is more than chance."""

import sys
from pathlib import Path

from amalgam.errors import DataError, ParamsError
from amalgam.evaluation.bootstrap import WITHOUT_DIFFERENCE
from amalgam.evaluation.predictions import MODELS
from amalgam.report.phrases import METRIC_NAMES
from amalgam.review.review import Review, review_revisions
from amalgam.review.revisions import STUDENT_INT8, WORKSPACE, open_project
from amalgam.review.verdict import SAME


def run_review(
    folder: Path, base: str | None, head: str | None, *, as_markdown: bool, as_json: bool, fail_if_worse: str | None
) -> None:
    """Compare two revisions and print the result; exit code 1 where the named measure became worse.

    Raises:
        ParamsError: there is no such measure.
        DataError: the revisions cannot be read, or it cannot be said whether the measure became worse.
    """
    if fail_if_worse:
        _check_measure(fail_if_worse)
    with open_project(folder) as project:
        old, new = project.read(base or project.find_default_base()), project.read(head or WORKSPACE)
        review = review_revisions(project, old, new, _notify)
    _print_review(review, as_markdown=as_markdown, as_json=as_json)
    if fail_if_worse and _is_worse(review, fail_if_worse):
        sys.exit(1)


def _check_measure(measure: str) -> None:
    metrics = [name for name in METRIC_NAMES if name not in WITHOUT_DIFFERENCE]
    *_, model, metric = ["", *measure.split(".")]
    models = [name for name in MODELS if name != STUDENT_INT8]
    if model not in models or metric not in metrics:
        raise ParamsError(
            f"--fail-if-worse: {measure!r} is no measure with an interval: write a model ({', '.join(models)}), "
            f"a dot and a metric ({', '.join(metrics)}), as in student.auc"
        )


def _print_review(review: Review, *, as_markdown: bool, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(review.to_dict(), indent=2, ensure_ascii=False))
    elif as_markdown:
        from amalgam.review.markdown import write_markdown

        print(write_markdown(review), end="")
    else:
        from rich.console import Console

        from amalgam.review.terminal import print_review

        print_review(review, Console())


def _is_worse(review: Review, measure: str) -> bool:
    if review.verdict.kind == SAME and review.comparison is None:
        return False
    compared = review.comparison.differences if review.comparison else []
    unchanged = review.comparison.unchanged if review.comparison else []
    outcome = next((difference.outcome for difference in compared if difference.measure == measure), None)
    if outcome is None and measure.rpartition(".")[0] not in unchanged:
        raise DataError(f"--fail-if-worse: it cannot be said whether {measure} became worse: the review says why")
    return outcome == "worse"


def _notify(sentence: str) -> None:
    print(f"amalgam: {sentence}", file=sys.stderr)
