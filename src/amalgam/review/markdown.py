"""A review as Markdown for a pull request.

Texts of data and LLMs, and names and values of files, stand in code spans: there nothing is markup, no HTML is run,
nobody is mentioned and no address becomes a link.
"""

import re
from collections.abc import Iterable

from amalgam.report.phrases import format_number, format_share
from amalgam.review.changes import Change
from amalgam.review.flips import Flip
from amalgam.review.paired import PRIMARY, Comparison
from amalgam.review.review import Review
from amalgam.review.wording import (
    HEAD,
    LONGEST,
    SHOWN,
    USAGE_HEAD,
    clean_text,
    explain_table,
    list_cells,
    list_usage_cells,
    name_revision,
    phrase_stage,
    write_change,
    write_text,
)

_PLAIN = re.compile(r"(?!.*(?:www\.|//))[\w .,;:()'`%+/\N{NO-BREAK SPACE}\N{MINUS SIGN}-]*", re.IGNORECASE)


def write_markdown(review: Review) -> str:
    """Write a review in GitHub's Markdown."""
    old, new = name_revision(review.old, review.old_commit), name_revision(review.new, review.new_commit)
    kind, _, reason = clean_text(review.verdict.sentence, 4 * LONGEST).partition(": ")
    # It may name a branch or a param, and these can be anything.
    blocks = [
        f"### {quote_code(old)} → {quote_code(new)}",
        f"**{kind}**: {reason if _PLAIN.fullmatch(reason) else quote_code(reason, 4 * LONGEST)}",
    ]
    if review.comparison:
        blocks += _write_comparison(review.comparison, review.confidence)
    blocks += ["**Params**", _list_changes(review.params)]
    stages = [f"- {quote_code(stage.name)}: {quote_code(phrase_stage(stage))}" for stage in review.stages]
    blocks += ["**Stages that ran**", "\n".join(stages) or "None."]
    usage = list_usage_cells(review)
    if usage:
        blocks.append(_write_table(USAGE_HEAD, usage))
    if review.comparison and review.comparison.flips:
        blocks += _write_flips(review.comparison.flips)
    if review.metrics:
        blocks.append(_fold(f"{len(review.metrics)} other numbers changed", _list_changes(review.metrics, 4 * SHOWN)))
    return "\n\n".join(blocks) + "\n"


def quote_code(text: str, longest: int = LONGEST) -> str:
    """Put a text into a code span that it cannot end, on one line."""
    line = clean_text(text, longest)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if not line or line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _write_comparison(comparison: Comparison, confidence: float) -> list[str]:
    note = " ".join(explain_table(comparison))
    if not comparison.differences:
        return [note]
    head = [name.replace("interval", f"{format_share(confidence)} interval") for name in HEAD]
    rows = [list_cells(difference) for difference in comparison.differences]
    marked = [tuple(f"**{cell}**" for cell in row) if row[0] == PRIMARY else row for row in rows]
    return [_write_table(head, marked), note]


def _write_flips(flips: list[Flip]) -> list[str]:
    right = [flip for flip in flips if flip.is_right_now]
    wrong = [flip for flip in flips if not flip.is_right_now]
    blocks = [f"**Test rows of the student that flipped**: {len(right)} became right, {len(wrong)} became wrong."]
    for title, part in (("Became wrong", wrong), ("Became right", right)):
        if part:
            shown = f"{title}: {len(part)}" if len(part) <= SHOWN else f"{title}: {SHOWN} of {len(part)}"
            blocks.append(_fold(shown, "\n".join(map(_write_flip, part[:SHOWN]))))
    return blocks


def _write_flip(flip: Flip) -> str:
    labels = f"{quote_code(flip.old)} → {quote_code(flip.new)}"
    chances = f"{format_number(flip.old_probability, 2)} → {format_number(flip.new_probability, 2)}"
    return f"- {quote_code(flip.id)} is {quote_code(flip.label)} ({chances}): {labels}. {quote_code(write_text(flip))}"


def _list_changes(changes: list[Change], shown: int = 2 * SHOWN) -> str:
    lines = []
    for change in changes[:shown]:
        old, new = (quote_code(value) if value else "nothing" for value in write_change(change))
        lines.append(f"- {quote_code(change.name)}: {old} → {new}")
    if len(changes) > shown:
        lines.append(f"- and {len(changes) - shown} more")
    return "\n".join(lines) or "None changed."


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _write_table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    names = list(head)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
