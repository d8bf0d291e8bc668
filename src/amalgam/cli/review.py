"""`amalgam review`: what a change did, and whether it is more than chance, as Markdown or JSON.

Texts from data and LLMs, and names and values from files, go into code spans. Nothing in a code span is markup: no HTML
runs, nobody is mentioned and no address becomes a link.
"""

import json
import re
import sys
import unicodedata
from dataclasses import asdict
from pathlib import Path

from amalgam.dvc import open_repo
from amalgam.errors import DataError, ParamsError
from amalgam.evaluation.bootstrap import WITHOUT_INTERVAL
from amalgam.evaluation.predictions import MODEL_NAMES
from amalgam.machine import notify
from amalgam.report import content
from amalgam.report.content import METRIC_NAMES
from amalgam.review.revisions import PRIMARY, STUDENT_INT8, WORKSPACE, find_default_base, read_revision
from amalgam.review.verdict import SAME, Review, phrase_ends, review_revisions

_SHOWN = 10  # flips of each kind, and twice as many of other changes; JSON holds all
_LONGEST = 240  # characters of a text
_PLAIN = re.compile(r"(?!.*(?:www\.|//))[\w .,;:()'`%+/\N{NO-BREAK SPACE}\N{MINUS SIGN}-]*", re.IGNORECASE)


def run_review(
    folder: Path, base: str | None, head: str | None, *, as_markdown: bool, as_json: bool, fail_if_worse: str | None
) -> None:
    """Compare two revisions and print the result; exit code 1 where the named measure became worse."""
    if fail_if_worse:
        _check_measure(fail_if_worse)
    with open_repo(folder) as repo:
        old, new = read_revision(repo, base or find_default_base(repo)), read_revision(repo, head or WORKSPACE)
        review = review_revisions(repo, old, new, lambda sentence: notify(f"amalgam: {sentence}"))
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
    models = [name for name in MODEL_NAMES if name != STUDENT_INT8]
    model, _, metric = measure.rpartition(".")
    if model.rpartition(".")[2] not in models or metric not in metrics:
        raise ParamsError(
            f"--fail-if-worse: {measure!r} is not a measure with an interval: write a model ({', '.join(models)}), "
            f"a dot and a metric ({', '.join(metrics)}), as in student.auc"
        )


def _is_worse(review: Review, measure: str) -> bool:
    compared = review.comparison
    outcomes = {one.measure: one.outcome for one in compared.differences} if compared else {}
    same = measure.rpartition(".")[0] in compared.unchanged if compared else review.verdict.kind == SAME
    if measure not in outcomes and not same:
        raise DataError(f"--fail-if-worse: it is unknown whether {measure} became worse: see the reason in the review")
    return outcomes.get(measure) == "worse"


def write_markdown(review: Review, *, folded: bool = True) -> str:
    """Write a review in GitHub's Markdown; `folded` wraps long lists in HTML that folds them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    named = ((review.old, review.old_commit), (review.new, review.new_commit))
    kind, _, reason = clean_text(review.verdict.sentence, 4 * _LONGEST).partition(": ")
    loader = PackageLoader("amalgam.cli", ".")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "code": quote_code,
        "difference": content.format_difference,
        "ends": phrase_ends,
        "number": content.format_number,
        "share": content.format_share,
        "value": lambda value: clean_text(content.write_value(value), 80),
    }
    text = environment.get_template("review.md.j2").render(
        review=review,
        comparison=review.comparison,
        names=[f"{name} ({commit[:7]})" if commit and not commit.startswith(name) else name for name, commit in named],
        kind=kind,
        # The reason may name a branch or a param, which can be any text.
        reason=reason if _PLAIN.fullmatch(reason) else quote_code(reason, 4 * _LONGEST),
        usage=_pair_usage(review),
        primary=PRIMARY,
        most=_SHOWN,
        folded=folded,
    )
    return re.sub("\n{3,}", "\n\n", text).strip() + "\n"


def _pair_usage(review: Review) -> dict[str, list[tuple[str, str]]]:
    """Return the use of the LLM by both revisions, by kind of work: requests, tokens and cost."""
    used: list[dict[str, list[str]]] = [{}, {}]
    for cells, side in zip(used, (review.old_usage, review.new_usage), strict=True):
        for one in side:
            cost = "unknown" if one["cost_usd"] is None else f"{one['cost_usd']:.2f}"
            counts = [content.format_count(one[name]) for name in ("requests", "prompt_tokens", "completion_tokens")]
            cells[one["work"]] = [*counts, cost]
    none = ["none"] * 4
    return {work: list(zip(*(side.get(work, none) for side in used), strict=True)) for work in used[0] | used[1]}


def clean_text(text: str, longest: int = _LONGEST) -> str:
    """Put a text on one line, cut it, and drop characters that steer a terminal or turn the reading direction."""
    steering = ("Cc", "Cf", "Cs", "Zl", "Zp")
    signs = (" " if unicodedata.category(sign) in steering else sign for sign in text)
    line = re.sub(" +", " ", "".join(signs)).strip(" ")
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def quote_code(text: str, longest: int = _LONGEST) -> str:
    """Put a text on one line, in a code span that it cannot end."""
    line = clean_text(text, longest)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if not line or line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
