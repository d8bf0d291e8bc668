"""Words and numbers that the terminal and Markdown have in common."""

import re
import unicodedata
from typing import Any

from amalgam.report.phrases import format_count, format_difference, format_number
from amalgam.review.changes import Change, StageChange, Usage
from amalgam.review.flips import Flip
from amalgam.review.paired import Comparison, Difference
from amalgam.review.review import Review
from amalgam.review.verdict import phrase_ends

SHOWN = 10  # flips of each kind, and twice as many of other changes; JSON holds all
LONGEST = 240  # characters of a text

HEAD = ("measure", "before", "after", "change", "interval", "p")
USAGE_HEAD = ("LLM", "requests", "prompt tokens", "answer tokens", "US dollars")


def clean_text(text: str, longest: int = LONGEST) -> str:
    """Put a text on one line, cut it, and drop what steers a terminal or turns the reading direction."""
    line = re.sub(" +", " ", "".join(" " if _is_steering(sign) else sign for sign in text)).strip(" ")
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def list_cells(difference: Difference) -> tuple[str, ...]:
    """Return a difference as the cells of a row under `HEAD`."""
    return (
        difference.measure,
        format_number(difference.old),
        format_number(difference.new),
        format_difference(difference.change),
        phrase_ends(difference),
        f"{difference.corrected:.3f}" if difference.corrected >= 0.001 else "< 0.001",
    )


def list_usage_cells(review: Review) -> list[tuple[str, ...]]:
    """Return what the LLM was asked, before and after, as rows under `USAGE_HEAD`."""
    before = {usage.work: usage for usage in review.old_usage}
    after = {usage.work: usage for usage in review.new_usage}
    return [
        (work, *(_pair(old, new) for old, new in zip(_count(before.get(work)), _count(after.get(work)), strict=True)))
        for work in dict.fromkeys([*before, *after])
    ]


def explain_table(comparison: Comparison) -> list[str]:
    """Say what the table of differences is, and what it leaves out."""
    others = len(comparison.differences) - (comparison.primary is not None)
    sentences = [f"Before and after are means over seeds on the {_phrase_rows(comparison)}."]
    if comparison.primary:
        sentences.append("The verdict rests on student.auc alone, chosen beforehand: its p-value stands for itself.")
    if others:
        sentences.append(f"Those of the {others} other measures are corrected for their number by Holm's method.")
    if comparison.unchanged:
        sentences.append(f"The predictions of {', '.join(comparison.unchanged)} are the same.")
    if comparison.left_out:
        sentences.append(f"Only one side has {', '.join(comparison.left_out)}.")
    return sentences


def phrase_stage(stage: StageChange) -> str:
    """Say what of a stage changed: params by name, files by path."""
    parts = [*stage.params, *stage.deps] or stage.outs
    return ", ".join(clean_text(part, 80) for part in parts[:SHOWN]) + (", …" if len(parts) > SHOWN else "")


def write_value(value: Any) -> str:
    """Write a param's or metric's value as YAML would, on one line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return clean_text(f"{value:.6g}" if isinstance(value, float) else str(value), 80)


def write_text(flip: Flip) -> str:
    """Return a row's text, after the question where it has one, on one line."""
    return clean_text(f"{flip.question} / {flip.text}" if flip.question else flip.text)


def write_change(change: Change) -> tuple[str, str]:
    """Return both values of a change as text, empty where there is none."""
    old = "" if change.kind == "added" else write_value(change.old)
    new = "" if change.kind == "removed" else write_value(change.new)
    return old, new


def name_revision(name: str, commit: str) -> str:
    """Return a revision's name, with its short hash where that says more."""
    return f"{name} ({commit[:7]})" if commit and not commit.startswith(name) else name


def _is_steering(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _phrase_rows(comparison: Comparison) -> str:
    if comparison.rows == comparison.old_rows == comparison.new_rows:
        return f"{comparison.rows} test rows"
    return f"{comparison.rows} test rows that both have, of {comparison.old_rows} and {comparison.new_rows}"


def _count(usage: Usage | None) -> tuple[str, ...]:
    if usage is None:
        return ("none",) * 4
    counts = (usage.requests, usage.prompt_tokens, usage.completion_tokens)
    return (*map(format_count, counts), "unknown" if usage.cost_usd is None else f"{usage.cost_usd:.2f}")


def _pair(old: str, new: str) -> str:
    return old if old == new else f"{old} → {new}"
