"""Writes a review as Markdown for a pull request, or on a terminal, from the same parts.

Markdown puts texts of data and LLMs, and names and values of files, into code spans: there nothing is markup, no HTML
is run, nobody is mentioned and no address becomes a link.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amalgam.report.phrases import format_count, format_difference, format_number, format_share
from amalgam.review.changes import Change, StageChange
from amalgam.review.paired import PRIMARY, Comparison, Difference, Flip
from amalgam.review.verdict import BETTER, WORSE, Review, phrase_ends

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 10  # flips of each kind, and twice as many of other changes; JSON holds all
_LONGEST = 240  # characters of a text
_PLAIN = re.compile(r"(?!.*(?:www\.|//))[\w .,;:()'`%+/\N{NO-BREAK SPACE}\N{MINUS SIGN}-]*", re.IGNORECASE)


Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A table, or in Markdown a list where its cells hold texts of others."""

    title: str
    head: Row
    rows: Sequence[Row]
    pattern: str = ""  # of a line of the list; empty for a table of this module's own words
    folded: bool = False


def list_parts(review: Review) -> Iterator[Part | str]:
    """Yield the tables of a review, and sentences on them."""
    comparison = review.comparison
    if comparison:
        head = ("measure", "before", "after", "change", f"{format_share(review.confidence)} interval", "p")
        if comparison.differences:
            yield Part("Measures", head, [_list_cells(difference) for difference in comparison.differences])
        yield " ".join(_explain(comparison))
    yield _list_changes("Params that changed", review.params)
    stages = [(stage.name, _phrase_stage(stage)) for stage in review.stages]
    yield Part(_count("Stages that ran", stages), ("stage", "since"), stages, "{}: {}")
    if usage := _pair_usage(review):
        yield Part("LLM", ("work", "requests", "prompt tokens", "answer tokens", "US dollars"), usage)
    for title, is_right in (("Test rows that became wrong", False), ("Test rows that became right", True)):
        if flips := [flip for flip in (comparison.flips if comparison else []) if (flip.new == flip.label) == is_right]:
            head, cells = ("row", "label", "probability", "before", "after", "text"), map(_write_flip, flips[:_SHOWN])
            yield Part(_count(title, flips, _SHOWN), head, list(cells), "{} is {} ({}): {} → {}. {}", folded=True)
    if review.metrics:
        yield _list_changes("Other numbers that changed", review.metrics, folded=True)


def write_markdown(review: Review) -> str:
    """Write a review in GitHub's Markdown."""
    kind, _, reason = clean_text(review.verdict.sentence, 4 * _LONGEST).partition(": ")
    # The reason may name a branch or a param, and these can be anything.
    shown = reason if _PLAIN.fullmatch(reason) else quote_code(reason, 4 * _LONGEST)
    blocks = [f"### {' → '.join(map(quote_code, _name_revisions(review)))}", f"**{kind}**: {shown}"]
    for part in list_parts(review):
        if isinstance(part, str):
            blocks.append(part)
            continue
        if part.pattern:
            rows = (map(quote_code, row) for row in part.rows)
            content = "\n".join(f"- {part.pattern.format(*row)}" for row in rows)
        else:
            bold = [tuple(f"**{cell}**" for cell in row) if row[0] == PRIMARY else row for row in part.rows]
            rule = ("---", *["---:"] * (len(part.head) - 1))
            content = "\n".join(f"| {' | '.join(row)} |" for row in (part.head, rule, *bold))
        if part.folded:
            blocks.append(f"<details><summary>{part.title}</summary>\n\n{content}\n\n</details>")
        else:
            blocks += [f"**{part.title}**", content] if part.rows else [f"**{part.title}**"]
    return "\n\n".join(blocks) + "\n"


def print_review(review: Review, console: "Console") -> None:
    """Print a review; texts of data are never read as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    colour = {BETTER: "bold green", WORSE: "bold red"}.get(review.verdict.kind, "bold")
    console.print(Text(" → ".join(map(clean_text, _name_revisions(review))), style="bold"))
    console.print(Text(clean_text(review.verdict.sentence, 4 * _LONGEST), style=colour))
    for part in list_parts(review):
        if isinstance(part, str):
            console.print(Text(part, style="dim"))
            continue
        console.print(Text(f"\n{part.title}", style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in part.head:
            table.add_column(Text(name), overflow="fold")
        for row in part.rows:
            table.add_row(*(Text(clean_text(cell)) for cell in row))
        if part.rows:
            console.print(table)


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


def write_value(value: Any) -> str:
    """Write a param's or metric's value as YAML would, on one line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return clean_text(f"{value:.6g}" if isinstance(value, float) else str(value), 80)


def _list_changes(title: str, changes: list[Change], *, folded: bool = False) -> Part:
    rows = [
        (
            change.name,
            "(none)" if change.kind == "added" else write_value(change.old),
            "(none)" if change.kind == "removed" else write_value(change.new),
        )
        for change in changes[: 2 * _SHOWN]
    ]
    return Part(_count(title, changes, 2 * _SHOWN), ("name", "before", "after"), rows, "{}: {} → {}", folded)


def _count(title: str, found: list[Any], shown: int | None = None) -> str:
    if shown and len(found) > shown:
        return f"{title}: {shown} of {len(found)}"
    return f"{title}: {len(found) or 'none'}"


def _list_cells(difference: Difference) -> Row:
    return (
        difference.measure,
        format_number(difference.old),
        format_number(difference.new),
        format_difference(difference.change),
        phrase_ends(difference),
        f"{difference.corrected:.3f}" if difference.corrected >= 0.001 else "< 0.001",
    )


def _explain(comparison: Comparison) -> Iterator[str]:
    if comparison.rows == comparison.old_rows == comparison.new_rows:
        rows = f"{comparison.rows} test rows"
    else:
        rows = f"{comparison.rows} test rows that both have, of {comparison.old_rows} and {comparison.new_rows}"
    yield f"Before and after are means over seeds on the {rows}."
    if comparison.primary:
        yield f"The verdict rests on {PRIMARY} alone. It was chosen beforehand, so its p-value is not corrected."
    if others := len(comparison.differences) - (comparison.primary is not None):
        yield f"The p-values of the other measures ({others}) are corrected by Holm's method."
    if comparison.unchanged:
        yield f"The predictions of {', '.join(comparison.unchanged)} are the same."
    if comparison.left_out:
        yield f"Only one revision has {', '.join(comparison.left_out)}."


def _phrase_stage(stage: StageChange) -> str:
    """Say what of a stage changed: params by name, files by path."""
    parts = [*stage.params, *stage.deps] or stage.outs
    return ", ".join(clean_text(part, 80) for part in parts[:_SHOWN]) + (", …" if len(parts) > _SHOWN else "")


def _write_flip(flip: Flip) -> Row:
    probabilities = f"{format_number(flip.old_probability, 2)} → {format_number(flip.new_probability, 2)}"
    text = f"{flip.question} / {flip.text}" if flip.question else flip.text
    return flip.id, flip.label, probabilities, flip.old, flip.new, text


def _pair_usage(review: Review) -> Sequence[Row]:
    used = [{usage["work"]: _count_usage(usage) for usage in one} for one in (review.old_usage, review.new_usage)]
    none = ("none",) * 4
    pairs = {work: zip(*(side.get(work, none) for side in used), strict=True) for work in used[0] | used[1]}
    return [
        (work, *(before if before == after else f"{before} → {after}" for before, after in pair))
        for work, pair in pairs.items()
    ]


def _count_usage(usage: dict[str, Any]) -> Row:
    counts = [format_count(usage[name]) for name in ("requests", "prompt_tokens", "completion_tokens")]
    return *counts, "unknown" if usage["cost_usd"] is None else f"{usage['cost_usd']:.2f}"


def _name_revisions(review: Review) -> list[str]:
    """Return the names of both revisions, with the short hash where that says more."""
    named = ((review.old, review.old_commit), (review.new, review.new_commit))
    return [f"{name} ({commit[:7]})" if commit and not commit.startswith(name) else name for name, commit in named]
