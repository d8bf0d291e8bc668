"""`amalgam review`: what a change did, and whether it is more than chance, as Markdown or JSON.

Texts of data and LLMs, and names and values of files, are put into code spans: there nothing is markup, no HTML is
run, nobody is mentioned and no address becomes a link.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from amalgam.dvc import open_repo
from amalgam.errors import DataError, ParamsError
from amalgam.evaluation.bootstrap import WITHOUT_INTERVAL
from amalgam.evaluation.predictions import MODELS
from amalgam.machine import notify
from amalgam.report.content import (
    METRIC_NAMES,
    format_count,
    format_difference,
    format_number,
    format_share,
    write_value,
)
from amalgam.review.paired import PRIMARY, Comparison
from amalgam.review.revisions import STUDENT_INT8, WORKSPACE, Change, find_default_base, read_revision
from amalgam.review.verdict import SAME, Review, phrase_ends, review_revisions

_SHOWN = 10  # flips of each kind, and twice as many of other changes; JSON holds all
_LONGEST = 240  # characters of a text
_PLAIN = re.compile(r"(?!.*(?:www\.|//))[\w .,;:()'`%+/\N{NO-BREAK SPACE}\N{MINUS SIGN}-]*", re.IGNORECASE)


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


def write_markdown(review: Review, *, folded: bool = True) -> str:
    """Write a review in GitHub's Markdown; long lists are folded by HTML, or not."""
    named = ((review.old, review.old_commit), (review.new, review.new_commit))
    names = [f"{name} ({commit[:7]})" if commit and not commit.startswith(name) else name for name, commit in named]
    kind, _, reason = clean_text(review.verdict.sentence, 4 * _LONGEST).partition(": ")
    # The reason may name a branch or a param, and these can be anything.
    shown = reason if _PLAIN.fullmatch(reason) else quote_code(reason, 4 * _LONGEST)
    blocks = [f"### {' → '.join(map(quote_code, names))}", f"**{kind}**: {shown}"]
    if comparison := review.comparison:
        if comparison.differences:
            head = ["measure", "before", "after", "change", f"{format_share(review.confidence)} interval", "p"]
            blocks += ["**Measures**", _write_table(head, _list_measures(comparison))]
        blocks.append(" ".join(_explain(comparison)))
    blocks.append(_list_changes("Params that changed", review.params))
    stages = [(stage.name, _join([*stage.params, *stage.deps] or stage.outs)) for stage in review.stages]
    blocks.append(_write_list("Stages that ran", "{}: {}", stages, len(stages)))
    if usage := list(_pair_usage(review)):
        head = ["work", "requests", "prompt tokens", "answer tokens", "US dollars"]
        blocks += ["**LLM**", _write_table(head, usage)]
    for title, is_right in (("Test rows that became wrong", False), ("Test rows that became right", True)):
        flips = [
            (
                *(flip["id"], flip["label"]),
                " → ".join(format_number(flip[f"{side}_probability"], 2) for side in ("old", "new")),
                *(flip["old"], flip["new"]),
                " / ".join(filter(None, (flip["question"], flip["text"]))),
            )
            for flip in (comparison.flips if comparison else [])
            if (flip["new"] == flip["label"]) == is_right
        ]
        if flips:
            blocks.append(_write_list(title, "{} is {} ({}): {} → {}. {}", flips, _SHOWN, folded=folded))
    if review.metrics:
        blocks.append(_list_changes("Other numbers that changed", review.metrics, folded=folded))
    return "\n\n".join(blocks) + "\n"


def clean_text(text: str, longest: int = _LONGEST) -> str:
    """Put a text on one line, cut it, and drop what steers a terminal or turns the reading direction."""
    steering = ("Cc", "Cf", "Cs", "Zl", "Zp")
    signs = (" " if unicodedata.category(sign) in steering else sign for sign in text)
    line = re.sub(" +", " ", "".join(signs)).strip(" ")
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def quote_code(text: str, longest: int = _LONGEST) -> str:
    """Put a text into a code span that it cannot end, on one line."""
    line = clean_text(text, longest)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if not line or line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ("---", *["---:"] * (len(head) - 1))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _write_list(
    title: str, pattern: str, rows: Sequence[Sequence[str]], shown: int = 2 * _SHOWN, *, folded: bool = False
) -> str:
    """Write the first rows as a list, each cell a code span, below a title that counts all."""
    counted = f"{title}: {shown} of {len(rows)}" if len(rows) > shown else f"{title}: {len(rows) or 'none'}"
    lines = "\n".join(f"- {pattern.format(*map(quote_code, row))}" for row in rows[:shown])
    if folded:
        return f"<details><summary>{counted}</summary>\n\n{lines}\n\n</details>"
    return f"**{counted}**\n\n{lines}".rstrip()


def _list_changes(title: str, changes: Sequence[Change], *, folded: bool = False) -> str:
    rows = []
    for change in changes:
        old, new = (clean_text(write_value(value), 80) for value in (change.old, change.new))
        rows.append(
            (change.name, "(none)" if change.kind == "added" else old, "(none)" if change.kind == "removed" else new)
        )
    return _write_list(title, "{}: {} → {}", rows, folded=folded)


def _join(parts: Sequence[str]) -> str:
    return ", ".join(clean_text(part, 80) for part in parts[:_SHOWN]) + (", …" if len(parts) > _SHOWN else "")


def _list_measures(comparison: Comparison) -> Iterator[list[str]]:
    for one in comparison.differences:
        p = f"{one.corrected:.3f}" if one.corrected >= 0.001 else "< 0.001"
        numbers = [format_number(one.old), format_number(one.new), format_difference(one.change)]
        cells = [one.measure, *numbers, phrase_ends(one), p]
        yield [f"**{cell}**" for cell in cells] if one.measure == PRIMARY else cells


def _explain(comparison: Comparison) -> Iterator[str]:
    rows = f"{comparison.rows} test rows"
    if not comparison.rows == comparison.old_rows == comparison.new_rows:
        rows += f" that both have, of {comparison.old_rows} and {comparison.new_rows}"
    yield f"Before and after are means over seeds on the {rows}."
    if comparison.primary:
        yield f"The verdict rests on {PRIMARY} alone. It was chosen beforehand, so its p-value is not corrected."
    if others := len(comparison.differences) - (comparison.primary is not None):
        yield f"The p-values of the other measures ({others}) are corrected by Holm's method."
    if comparison.unchanged:
        yield f"The predictions of {', '.join(comparison.unchanged)} are the same."
    if comparison.left_out:
        yield f"Only one revision has {', '.join(comparison.left_out)}."


def _pair_usage(review: Review) -> Iterator[list[str]]:
    used: list[dict[str, list[str]]] = [{}, {}]
    for cells, side in zip(used, (review.old_usage, review.new_usage), strict=True):
        for one in side:
            cost = "unknown" if one["cost_usd"] is None else f"{one['cost_usd']:.2f}"
            counts = [format_count(one[name]) for name in ("requests", "prompt_tokens", "completion_tokens")]
            cells[one["work"]] = [*counts, cost]
    for work in used[0] | used[1]:
        pairs = zip(*(side.get(work, ["none"] * 4) for side in used), strict=True)
        yield [work, *(before if before == after else f"{before} → {after}" for before, after in pairs)]
