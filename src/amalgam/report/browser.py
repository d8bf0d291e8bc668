"""Rows to look through in the page: what is taken along, and in which form the page's script gets it.

The rows travel as JSON in a script element that is not run. The script puts each cell into the page as text.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from markupsafe import Markup

LONGEST = 5000  # characters of a text that the page holds
_UNSAFE_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}

Cell = str | tuple[str, str]  # a text, or a text and a smaller one below it


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice among `options`; `column` says which of them a row is, by the row's number among all rows."""

    name: str
    options: list[str]
    column: list[int]


@dataclass(frozen=True, slots=True)
class Browser:
    """A table that is searched, filtered and turned page by page; `data` is what its script reads.

    Attributes:
        key: begins the ids of its elements.
        caption: says which rows these are, and of how many.
        head: of the columns; the first holds free text.
        filters: those of more than one option.
        data: JSON: for each row its cells, then the number of its option in each filter.
    """

    key: str
    caption: str
    head: list[str]
    filters: list[Filter]
    data: Markup


def build_browser(
    key: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], facets: Mapping[str, Sequence[str]]
) -> Browser:
    """Build the table of rows [rows, columns]; `facets` holds by name of a filter what each row is."""
    filters = [
        Filter(name, options, [options.index(value) for value in values])
        for name, values in facets.items()
        if len(options := list(dict.fromkeys(values))) > 1
    ]
    data = [[row, [choice.column[number] for choice in filters]] for number, row in enumerate(rows)]
    return Browser(key, caption, list(head), filters, escape_json(data))


def pick_rows(rows: Iterable[Mapping[str, Any]], column: str, limit: int) -> list[Mapping[str, Any]]:
    """Pick up to `limit` rows, taking turns between the values of `column`, in their order; streams."""
    turns: Counter[Any] = Counter()
    ranked: list[tuple[int, int, Mapping[str, Any]]] = []
    for place, row in enumerate(rows):
        turns[row[column]] += 1
        if turns[row[column]] <= limit:
            ranked.append((turns[row[column]], place, row))
    chosen = sorted(ranked, key=itemgetter(0, 1))[:limit]
    return [row for _, _, row in sorted(chosen, key=itemgetter(1))]


def thin_rows(rows: Sequence[Mapping[str, Any]], limit: int) -> Sequence[Mapping[str, Any]]:
    """Leave out rows evenly, until the rest takes at most `limit` bytes in the page."""
    sizes = [len(escape_json(dict(row)).encode()) for row in rows]
    for stride in range(1, len(rows) + 1):
        if sum(sizes[::stride]) <= limit:
            return rows[::stride]
    return []


def cut_text(text: str) -> str:
    """Cut a text that is too long for the page, and say so."""
    rest = len(text) - LONGEST
    return text if rest <= 0 else f"{text[:LONGEST]} … [{rest} more characters]"


def escape_json(value: Any) -> Markup:
    """Write JSON that no HTML parser can take for markup, to stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Half of a surrogate pair is no character, and could not be written to a file.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return Markup(whole.translate(_UNSAFE_IN_SCRIPT))
