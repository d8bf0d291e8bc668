"""What a table is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amalgam.report.phrases import (
    Numbers,
    format_count,
    format_difference,
    format_interval,
    format_number,
    format_share,
)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, a smaller text under it, and the strength of the tint behind it (0 to 10)."""

    text: str
    small: str = ""
    shade: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names the rows; `corner` is the head of that column."""

    caption: str
    corner: str
    head: list[str]
    rows: list[tuple[Cell, list[Cell]]]


def write_estimate(values: Numbers, metric: str, *, signed: bool = False) -> Cell:
    """Write a value with its interval below, or an empty cell where there is no such value."""
    if metric not in values:
        return Cell("")
    write = format_difference if signed else format_number
    return Cell(write(values[metric]), format_interval(values, metric, signed=signed))


def tabulate_shares(caption: str, corner: str, found: Sequence[tuple[str, int]], total: int) -> Table:
    """Put counts and their shares of a total into a table."""
    rows = [
        (Cell(name), [Cell(format_count(count)), Cell(format_share(count / max(1, total), 1))]) for name, count in found
    ]
    return Table(caption, corner, ["Rows", "Share"], rows)
