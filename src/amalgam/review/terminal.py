"""A review as tables on a terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amalgam.report.phrases import format_number, format_share
from amalgam.review.changes import Change
from amalgam.review.flips import Flip
from amalgam.review.review import Review
from amalgam.review.verdict import BETTER, WORSE
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

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLOURS = {BETTER: "bold green", WORSE: "bold red"}


def print_review(review: Review, console: "Console") -> None:
    """Print a review; texts of data are never read as markup."""
    from rich.text import Text

    old, new = name_revision(review.old, review.old_commit), name_revision(review.new, review.new_commit)
    console.print(Text(f"{clean_text(old)} → {clean_text(new)}", style="bold"))
    console.print(
        Text(clean_text(review.verdict.sentence, 4 * LONGEST), style=_COLOURS.get(review.verdict.kind, "bold"))
    )
    if review.comparison:
        head = [name.replace("interval", f"{format_share(review.confidence)} interval") for name in HEAD]
        if review.comparison.differences:
            console.print(_make_table(head, map(list_cells, review.comparison.differences)))
        console.print(Text(" ".join(explain_table(review.comparison)), style="dim"))
    _print_changes(review.params, "params", console)
    if review.stages:
        console.print(
            _make_table(("stage that ran", "since"), ((one.name, phrase_stage(one)) for one in review.stages))
        )
    usage = list_usage_cells(review)
    if usage:
        console.print(_make_table(USAGE_HEAD, usage))
    if review.comparison:
        right = [flip for flip in review.comparison.flips if flip.is_right_now]
        wrong = [flip for flip in review.comparison.flips if not flip.is_right_now]
        _print_flips(wrong, "became wrong", console)
        _print_flips(right, "became right", console)
    _print_changes(review.metrics, "other numbers", console)


def _print_changes(changes: list[Change], title: str, console: "Console") -> None:
    if changes:
        rows = [(change.name, *write_change(change)) for change in changes[: 2 * SHOWN]]
        console.print(_make_table((_count_shown(title, len(changes), 2 * SHOWN), "before", "after"), rows))


def _print_flips(flips: list[Flip], title: str, console: "Console") -> None:
    if flips:
        rows = [
            (
                flip.id,
                f"{flip.label}: {format_number(flip.old_probability, 2)} → {format_number(flip.new_probability, 2)}",
                write_text(flip),
            )
            for flip in flips[:SHOWN]
        ]
        console.print(_make_table((_count_shown(f"rows that {title}", len(flips), SHOWN), "probability", "text"), rows))


def _count_shown(title: str, count: int, shown: int) -> str:
    return f"{title}: {count}" if count <= shown else f"{title}: {shown} of {count}"


def _make_table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean_text(cell)) for cell in row))
    return table
