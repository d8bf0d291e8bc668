"""`amalgam review`: what a change did, and whether it is more than chance."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from amalgam.dvc import open_repo
from amalgam.errors import DataError, ParamsError
from amalgam.evaluation.bootstrap import WITHOUT_INTERVAL
from amalgam.evaluation.predictions import MODELS
from amalgam.report.phrases import METRIC_NAMES
from amalgam.review.revisions import STUDENT_INT8, WORKSPACE, find_default_base, read_revision
from amalgam.review.text import write_markdown
from amalgam.review.verdict import SAME, Review, review_revisions


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
    with open_repo(folder) as repo:
        old, new = read_revision(repo, base or find_default_base(repo)), read_revision(repo, head or WORKSPACE)
        review = review_revisions(repo, old, new, lambda sentence: print(f"amalgam: {sentence}", file=sys.stderr))
    if as_json:
        print(json.dumps(asdict(review), indent=2, ensure_ascii=False))
    elif as_markdown:
        print(write_markdown(review), end="")
    else:
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(write_markdown(review, folded=False)))
    if fail_if_worse and _is_worse(review, fail_if_worse):
        sys.exit(1)


def _check_measure(measure: str) -> None:
    metrics = [name for name in METRIC_NAMES if name not in WITHOUT_INTERVAL]
    models = [name for name in MODELS if name != STUDENT_INT8]
    model, _, metric = measure.rpartition(".")
    if model.rpartition(".")[2] not in models or metric not in metrics:
        raise ParamsError(
            f"--fail-if-worse: {measure!r} is no measure with an interval: write a model ({', '.join(models)}), "
            f"a dot and a metric ({', '.join(metrics)}), as in student.auc"
        )


def _is_worse(review: Review, measure: str) -> bool:
    compared = review.comparison
    if compared is None and review.verdict.kind == SAME:
        return False
    outcomes = {one.measure: one.outcome for one in compared.differences} if compared else {}
    if measure not in outcomes and not (compared and measure.rpartition(".")[0] in compared.unchanged):
        raise DataError(f"--fail-if-worse: it cannot be said whether {measure} became worse: the review says why")
    return outcomes.get(measure) == "worse"
